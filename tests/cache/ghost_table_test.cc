// Goal: the ghost table remembers as many groups as it has entries, about, forgets
// older ones, and seldom takes one group for another.
//
// Method: hashes in order of a mixer; ages are counted in additions.

#include "cache/ghost_table.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/prng.h"

namespace tiercel::testing {
namespace {

constexpr std::uint32_t kBuckets = 1 << 12;
constexpr std::uint32_t kEntries = kBuckets * GhostTable::Bucket::kWays;

TEST(GhostTableTest, RemembersTheLatestAndForgetsThemWhenTaken) {
  std::vector<GhostTable::Bucket> buckets(kBuckets);
  GhostTable table(buckets);
  for (std::uint32_t i = 0; i < 1000; ++i) table.Add(SplitMix64(i), 1 + i % 7);
  for (std::uint32_t i = 0; i < 1000; ++i) EXPECT_EQ(table.Take(SplitMix64(i)), 1 + i % 7);
  for (std::uint32_t i = 0; i < 1000; ++i) EXPECT_EQ(table.Take(SplitMix64(i)), 0u);
}

TEST(GhostTableTest, ALifetimeIsTheNumberOfEntries) {
  std::vector<GhostTable::Bucket> buckets(kBuckets);
  GhostTable table(buckets);
  for (std::uint64_t i = 0; i < 4 * kEntries; ++i) table.Add(SplitMix64(i));
  std::uint32_t young = 0;
  std::uint32_t old = 0;
  for (std::uint64_t i = 1; i <= 1000; ++i) {
    young += table.Take(SplitMix64(4 * kEntries - 10 * i)) != 0 ? 1 : 0;
    old += table.Take(SplitMix64(2 * kEntries + 10 * i)) != 0 ? 1 : 0;
  }
  EXPECT_GT(young, 990u);
  EXPECT_LT(old, 10u);
}

TEST(GhostTableTest, AStrangerIsSeldomTakenForAGhost) {
  std::vector<GhostTable::Bucket> buckets(kBuckets);
  GhostTable table(buckets);
  for (std::uint64_t i = 0; i < 2 * kEntries; ++i) table.Add(SplitMix64(i));
  std::uint32_t mistaken = 0;
  for (std::uint64_t i = 0; i < 100'000; ++i) mistaken += table.Take(SplitMix64(~i)) != 0 ? 1 : 0;
  EXPECT_LT(mistaken, 60u);  // 25 / 131,072 of 100,000 is 19.
}

TEST(GhostTableTest, OneBucketIsEnough) {
  std::vector<GhostTable::Bucket> buckets(1);
  GhostTable table(buckets);
  for (std::uint64_t i = 0; i < 100; ++i) table.Add(SplitMix64(i));
  EXPECT_EQ(table.Take(SplitMix64(99)), 1u);
  EXPECT_EQ(table.Take(SplitMix64(75)), 1u);
  EXPECT_EQ(table.Take(SplitMix64(74)), 0u) << "26 groups ago";
  EXPECT_EQ(table.Take(SplitMix64(3)), 0u);
}

}  // namespace
}  // namespace tiercel::testing
