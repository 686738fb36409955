// Goal: the generator is the published SplitMix64, its helpers stay in range, and
// a seed repeats its stream.
//
// Method: the reference outputs of Vigna's splitmix64.c for seed 1234567; counts
// over ranges.

#include "base/prng.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <set>
#include <vector>

namespace tiercel {
namespace {

static_assert(std::uniform_random_bit_generator<Prng>);

TEST(Prng, IsSplitMix64) {
  Prng prng(1234567);
  const std::array<std::uint64_t, 5> expected = {6457827717110365317U, 3203168211198807973U,
                                                 9817491932198370423U, 4593380528125082431U,
                                                 16408922859458223821U};
  for (const std::uint64_t value : expected) EXPECT_EQ(prng(), value);
}

TEST(Prng, SameSeedSameStream) {
  Prng first(3);
  Prng second(3);
  Prng other(4);
  int differing = 0;
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t value = first();
    EXPECT_EQ(value, second());
    differing += value != other() ? 1 : 0;
  }
  EXPECT_EQ(differing, 100);
}

TEST(Prng, BelowStaysBelowAndReachesAll) {
  Prng prng(5);
  EXPECT_EQ(prng.Below(1), 0U);
  std::array<int, 7> counts{};
  for (int i = 0; i < 70000; ++i) ++counts.at(prng.Below(7));
  // 10,000 expected; a fair draw strays by 500 (5 sigma) once in a million.
  for (const int count : counts) EXPECT_NEAR(count, 10000, 500);
  const std::uint64_t bound = (std::uint64_t{1} << 63) + 1;
  for (int i = 0; i < 1000; ++i) EXPECT_LT(prng.Below(bound), bound);
}

TEST(Prng, UnitIsInTheHalfOpenInterval) {
  Prng prng(6);
  double sum = 0;
  for (int i = 0; i < 10000; ++i) {
    const double value = prng.Unit();
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    sum += value;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.015);
}

TEST(Prng, DrivesStandardAlgorithms) {
  std::vector<int> values(100);
  for (int i = 0; i < 100; ++i) values[static_cast<std::size_t>(i)] = i;
  std::vector<int> shuffled = values;
  std::shuffle(shuffled.begin(), shuffled.end(), Prng(1));
  EXPECT_NE(shuffled, values);
  EXPECT_EQ(std::set<int>(shuffled.begin(), shuffled.end()).size(), 100U);
}

}  // namespace
}  // namespace tiercel
