// Goal: what is expected is remembered until each expectation is undone, in the order of
// its times; a full table says so; nothing is left when all is undone.
// Method: hashes of a mixer beside a map of counts, up to the table's size.

#include "cache/expectation_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <vector>

#include "base/prng.h"

namespace tiercel::testing {
namespace {

using Table = ExpectationTable;

std::uint64_t Seed() {
  const char* const text = std::getenv("TIERCEL_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 0) : 20261124;
}

struct Fixture {
  explicit Fixture(std::uint64_t group_count)
      : buckets(Table::BucketCount(group_count)), table(buckets, group_count) {}
  std::vector<Table::Bucket> buckets;
  Table table;
};

TEST(ExpectationTableTest, TimesWrapAround) {
  EXPECT_TRUE(Table::IsLater(Table::TimeOf(5), Table::TimeOf(4)));
  EXPECT_FALSE(Table::IsLater(Table::TimeOf(4), Table::TimeOf(4)));
  EXPECT_TRUE(Table::IsLater(Table::TimeOf(0x8003), Table::TimeOf(0x7FF0)));
  EXPECT_FALSE(Table::IsLater(Table::TimeOf(0x7FF0), Table::TimeOf(0x8003)));
}

TEST(ExpectationTableTest, TheNextReadingMovesFromTheFirstToTheLast) {
  Fixture f(100);
  for (const std::uint64_t step : {40, 10, 20}) ASSERT_TRUE(f.table.Add(7, Table::TimeOf(step)));
  EXPECT_EQ(f.table.NextOf(7), Table::TimeOf(10));
  EXPECT_TRUE(f.table.Remove(7));
  EXPECT_EQ(f.table.NextOf(7), Table::TimeOf(25)) << "halfway to the last";
  EXPECT_TRUE(f.table.Remove(7));
  EXPECT_EQ(f.table.NextOf(7), Table::TimeOf(40));
  EXPECT_TRUE(f.table.Remove(7));
  EXPECT_EQ(f.table.NextOf(7), Table::kNever);
  EXPECT_FALSE(f.table.Remove(7));
}

TEST(ExpectationTableTest, AFullTableTakesNoMoreUntilThereIsRoom) {
  constexpr std::uint64_t kGroups = 20'000;
  Fixture f(kGroups);
  std::uint64_t taken = 0;
  while (taken < 2 * kGroups && f.table.Add(SplitMix64(taken), Table::TimeOf(1))) ++taken;
  EXPECT_GE(taken, kGroups * 99 / 100) << "full too early";
  EXPECT_LE(f.table.group_count(), kGroups);
  EXPECT_LT(taken, kGroups * 101 / 100) << "more than it may hold";
  EXPECT_TRUE(f.table.Add(SplitMix64(0), Table::TimeOf(2))) << "known already: needs no room";
  EXPECT_TRUE(f.table.Remove(SplitMix64(1)));
  EXPECT_TRUE(f.table.Add(SplitMix64(taken), Table::TimeOf(1)));
}

TEST(ExpectationTableTest, NothingIsLeftWhenAllIsUndone) {
  SCOPED_TRACE(::testing::Message() << "TIERCEL_TEST_SEED=" << Seed());
  constexpr std::uint64_t kGroups = 3000;
  Fixture f(kGroups);
  Prng prng(Seed());
  std::vector<std::uint64_t> expected;
  std::uint64_t refused = 0;
  for (int i = 0; i < 200'000; ++i) {
    if (expected.empty() || prng.Below(expected.size()) < 2000) {
      const std::uint64_t hash = SplitMix64(prng.Below(4 * kGroups));
      if (f.table.Add(hash, Table::TimeOf(static_cast<std::uint64_t>(i) / 64))) {
        expected.push_back(hash);
      } else {
        ++refused;
      }
    } else {
      std::swap(expected[prng.Below(expected.size())], expected.back());
      ASSERT_TRUE(f.table.Remove(expected.back()));
      expected.pop_back();
    }
    if (!expected.empty()) {
      ASSERT_NE(f.table.NextOf(expected[prng.Below(expected.size())]), Table::kNever);
    }
  }
  EXPECT_LT(refused, 100'000u);
  for (const std::uint64_t hash : expected) ASSERT_TRUE(f.table.Remove(hash));
  EXPECT_EQ(f.table.group_count(), 0u);
  for (const Table::Bucket& bucket : f.buckets) {
    EXPECT_EQ(bucket.overflow, 0u);
    for (const Table::Entry& entry : bucket.entries) EXPECT_EQ(entry.count, 0u);
  }
}

TEST(ExpectationTableTest, AnEmptyTableKnowsNothing) {
  Table table({}, 0);
  EXPECT_FALSE(table.Add(1, Table::TimeOf(1)));
  EXPECT_FALSE(table.Remove(1));
  EXPECT_EQ(table.NextOf(1), Table::kNever);
}

}  // namespace
}  // namespace tiercel::testing
