// Goal: ranges on loan never overlap, lie within the capacity, and what is given back can
// be taken again as one piece.
//
// Method: a seeded model keeps the ranges on loan in a map.

#include "base/range_allocator.h"

#include <gtest/gtest.h>

#include <map>

#include "base/prng.h"

namespace tiercel {
namespace {

TEST(RangeAllocatorTest, RoundsUpAndRefusesWhatDoesNotFit) {
  RangeAllocator ranges(130, 64, 4);
  EXPECT_EQ(ranges.capacity(), 128U);
  const auto first = ranges.Take(1);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->size, 64U);
  EXPECT_FALSE(ranges.Take(65).has_value());
  EXPECT_FALSE(ranges.Take(~std::uint64_t{0}).has_value());
  const auto second = ranges.Take(64);
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(ranges.used(), 128U);
  EXPECT_FALSE(ranges.Take(1).has_value());
  ranges.Give(*first);
  ranges.Give(*second);
  EXPECT_TRUE(ranges.Take(128).has_value());
}

TEST(RangeAllocatorTest, NothingTakesNothing) {
  RangeAllocator none(0, 64, 4);
  EXPECT_TRUE(none.Take(0).has_value());
  EXPECT_FALSE(none.Take(1).has_value());
}

TEST(RangeAllocatorTest, LendsNoMoreThanItsNumber) {
  RangeAllocator ranges(1024, 1, 2);
  EXPECT_TRUE(ranges.Take(1).has_value());
  EXPECT_TRUE(ranges.Take(1).has_value());
  EXPECT_FALSE(ranges.Take(1).has_value());
}

TEST(RangeAllocatorTest, RandomLoansNeverOverlap) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    Prng prng(seed);
    RangeAllocator ranges(4096, 16, 32);
    std::map<std::uint64_t, std::uint64_t> lent;  // First, size.
    for (int step = 0; step < 2000; ++step) {
      if (prng.Below(2) == 0) {
        const auto range = ranges.Take(1 + prng.Below(600));
        if (!range.has_value()) continue;
        ASSERT_LE(range->first + range->size, 4096U);
        const auto next = lent.lower_bound(range->first);
        ASSERT_TRUE(next == lent.end() || range->first + range->size <= next->first);
        if (next != lent.begin()) {
          const auto previous = std::prev(next);
          ASSERT_LE(previous->first + previous->second, range->first);
        }
        lent[range->first] = range->size;
      } else if (!lent.empty()) {
        const auto victim =
            std::next(lent.begin(), static_cast<std::ptrdiff_t>(prng.Below(lent.size())));
        ranges.Give({victim->first, victim->second});
        lent.erase(victim);
      }
    }
    for (const auto& [first, size] : lent) ranges.Give({first, size});
    EXPECT_EQ(ranges.used(), 0U);
    EXPECT_TRUE(ranges.Take(4096).has_value());
  }
}

}  // namespace
}  // namespace tiercel
