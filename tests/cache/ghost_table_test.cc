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

constexpr std::uint32_t kEntries = 1 << 16;

TEST(GhostTableTest, RemembersTheLatestAndForgetsThemWhenTaken) {
  std::vector<std::uint32_t> entries(kEntries);
  GhostTable table(entries);
  for (std::uint64_t i = 0; i < 1000; ++i) table.Add(SplitMix64(i));
  for (std::uint64_t i = 0; i < 1000; ++i) EXPECT_TRUE(table.Take(SplitMix64(i)));
  for (std::uint64_t i = 0; i < 1000; ++i) EXPECT_FALSE(table.Take(SplitMix64(i)));
}

TEST(GhostTableTest, ALifetimeIsTheNumberOfEntries) {
  std::vector<std::uint32_t> entries(kEntries);
  GhostTable table(entries);
  for (std::uint64_t i = 0; i < 4 * kEntries; ++i) table.Add(SplitMix64(i));
  std::uint32_t young = 0;
  std::uint32_t old = 0;
  for (std::uint64_t i = 1; i <= 1000; ++i) {
    young += table.Take(SplitMix64(4 * kEntries - 10 * i)) ? 1 : 0;
    old += table.Take(SplitMix64(2 * kEntries + 10 * i)) ? 1 : 0;
  }
  EXPECT_GT(young, 990u);
  EXPECT_LT(old, 10u);
}

TEST(GhostTableTest, AStrangerIsSeldomTakenForAGhost) {
  std::vector<std::uint32_t> entries(kEntries);
  GhostTable table(entries);
  for (std::uint64_t i = 0; i < 2 * kEntries; ++i) table.Add(SplitMix64(i));
  std::uint32_t mistaken = 0;
  for (std::uint64_t i = 0; i < 100'000; ++i) mistaken += table.Take(SplitMix64(~i)) ? 1 : 0;
  EXPECT_LT(mistaken, 60u);  // 16 / 65,536 of 100,000 is 24.
}

TEST(GhostTableTest, OneBucketIsEnough) {
  std::vector<std::uint32_t> entries(GhostTable::kWays);
  GhostTable table(entries);
  for (std::uint64_t i = 0; i < 100; ++i) table.Add(SplitMix64(i));
  EXPECT_TRUE(table.Take(SplitMix64(99)));
  EXPECT_FALSE(table.Take(SplitMix64(3)));
}

}  // namespace
}  // namespace tiercel::testing
