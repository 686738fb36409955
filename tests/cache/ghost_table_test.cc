// Goal: the ghost table remembers as many groups as it has entries, about, forgets
// older ones, and seldom takes one group for another.
//
// Method: hashes in order of a mixer; ages are counted in additions.

#include "cache/ghost_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/prng.h"

namespace tiercel::testing {
namespace {

constexpr std::uint32_t kBuckets = 2048;
constexpr std::uint32_t kEntries = kBuckets * GhostTable::Bucket::kWays;

TEST(GhostTableTest, RemembersTheLatestAndForgetsThemWhenTaken) {
  std::vector<GhostTable::Bucket> buckets(kBuckets);
  GhostTable table(buckets);
  for (std::uint32_t i = 0; i < 1000; ++i) table.Add(SplitMix64(i), i % 6);
  for (std::uint32_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(table.Take(SplitMix64(i)), 1 + std::min(i % 6, GhostTable::kUsesMax));
  }
  for (std::uint32_t i = 0; i < 1000; ++i) EXPECT_EQ(table.Take(SplitMix64(i)), 0u);
}

TEST(GhostTableTest, ALifetimeIsAboutTheNumberOfEntries) {
  std::vector<GhostTable::Bucket> buckets(kBuckets);
  GhostTable table(buckets);
  for (std::uint64_t i = 0; i < 4 * kEntries; ++i) table.Add(SplitMix64(i), 0);
  std::uint32_t young = 0;
  std::uint32_t old = 0;
  for (std::uint64_t i = 1; i <= 1000; ++i) {
    young += table.Take(SplitMix64(4 * kEntries - 20 * i)) != 0 ? 1 : 0;
    old += table.Take(SplitMix64(2 * kEntries + 20 * i)) != 0 ? 1 : 0;
  }
  EXPECT_GT(young, 990u);
  EXPECT_LT(old, 20u);
}

TEST(GhostTableTest, AStrangerIsSeldomTakenForAGhost) {
  std::vector<GhostTable::Bucket> buckets(kBuckets);
  GhostTable table(buckets);
  for (std::uint64_t i = 0; i < 2 * kEntries; ++i) table.Add(SplitMix64(i), 0);
  std::uint32_t mistaken = 0;
  for (std::uint64_t i = 0; i < 20'000; ++i) mistaken += table.Take(SplitMix64(~i)) != 0 ? 1 : 0;
  EXPECT_GT(mistaken, 0u);
  EXPECT_LT(mistaken, 90u);  // 31 / 16,384 of 20,000 is 38.
}

TEST(GhostTableTest, OneBucketIsEnough) {
  std::vector<GhostTable::Bucket> buckets(1);
  GhostTable table(buckets);
  for (std::uint64_t i = 0; i < 100; ++i) table.Add(SplitMix64(i), 0);
  EXPECT_EQ(table.Take(SplitMix64(99)), 1u);
  EXPECT_EQ(table.Take(SplitMix64(69)), 1u);
  EXPECT_EQ(table.Take(SplitMix64(68)), 0u) << "32 groups ago";
}

}  // namespace
}  // namespace tiercel::testing
