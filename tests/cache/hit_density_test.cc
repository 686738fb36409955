// Goal: densities are what the counted lives say, classes with little evidence lean on
// the rest, nothing learned means LRU, and old evidence fades.
//
// Method: made-up counts whose densities are known by hand.

#include "cache/hit_density.h"

#include <gtest/gtest.h>

#include <vector>

namespace tiercel::testing {
namespace {

TEST(HitDensityTest, AgeBucketsCoverAllAgesInOrder) {
  std::uint32_t last = 0;
  for (std::uint32_t age = 0; age < 70'000; ++age) {
    const std::uint32_t bucket = HitDensity::AgeBucket(age);
    ASSERT_LT(bucket, HitDensity::kAgeCount);
    ASSERT_TRUE(bucket == last || bucket == last + 1) << age;
    ASSERT_GE(age, HitDensity::AgeOfBucket(bucket));
    if (age < 4096) {
      ASSERT_LT(age, HitDensity::AgeOfBucket(bucket + 1));
    }
    last = bucket;
  }
  EXPECT_EQ(last, HitDensity::kAgeCount - 1);
}

TEST(HitDensityTest, KnowsNothingAndPrefersTheYoung) {
  std::vector<HitDensity::Cell> cells(2 * HitDensity::kAgeCount);
  HitDensity density(cells);
  for (int refreshes = 0; refreshes < 2; ++refreshes) {
    for (std::uint32_t age = 1; age < HitDensity::kAgeCount; ++age) {
      EXPECT_LT(density.Density(1, age), density.Density(1, age - 1));
    }
    density.Refresh();
  }
}

TEST(HitDensityTest, IsHitsOverTheTicksToCome) {
  std::vector<HitDensity::Cell> cells(1 * HitDensity::kAgeCount);
  HitDensity density(cells);
  for (int i = 0; i < 10'000; ++i) {  // Half are hit at age 0, half are dropped at age 3.
    density.CountHit(0, 0);
    density.CountDrop(0, 3);
  }
  density.Refresh();
  // From age 0: one tick for all, three more for half of them: 2.5 ticks, 0.5 hits.
  EXPECT_NEAR(density.Density(0, 0), 0.2, 0.001);
  EXPECT_LT(density.Density(0, 1), 0.001) << "nobody was ever hit that late";
}

TEST(HitDensityTest, OneOddEventDoesNotDecideForAClass) {
  std::vector<HitDensity::Cell> cells(2 * HitDensity::kAgeCount);
  HitDensity density(cells);
  for (int i = 0; i < 10'000; ++i) density.CountHit(0, 1);
  density.CountDrop(1, 1);
  density.Refresh();
  EXPECT_GT(density.Density(1, 0), density.Density(0, 0) / 2);
  for (int i = 0; i < 10'000; ++i) density.CountDrop(1, 1);
  density.Refresh();
  EXPECT_LT(density.Density(1, 0), density.Density(0, 0) / 100);
}

TEST(HitDensityTest, OldEvidenceFades) {
  std::vector<HitDensity::Cell> cells(1 * HitDensity::kAgeCount);
  HitDensity density(cells);
  for (int i = 0; i < 1'000; ++i) density.CountHit(0, 0);
  density.Refresh();
  const float good_times = density.Density(0, 0);
  for (int refreshes = 0; refreshes < 30; ++refreshes) {
    for (int i = 0; i < 100; ++i) density.CountDrop(0, 0);
    density.Refresh();
  }
  EXPECT_LT(density.Density(0, 0), good_times / 10);
}

}  // namespace
}  // namespace tiercel::testing
