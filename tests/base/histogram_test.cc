// Goal: percentiles are within one bucket (1/32) above the truth, never below it,
// over all of 64 bits; merging loses nothing.
//
// Method: exact percentiles of sorted values are the model; values are seeded and
// spread over all magnitudes. TIERCEL_TEST_SEED repeats one seed.

#include "base/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <vector>

#include "base/prng.h"

namespace tiercel {
namespace {

std::vector<std::uint64_t> Seeds() {
  if (const char* const seed = std::getenv("TIERCEL_TEST_SEED")) {
    return {std::strtoull(seed, nullptr, 10)};
  }
  return {1, 2, 3, 4, 5, 6, 7, 8};
}

/// The smallest value that at least `fraction` of `sorted` do not exceed.
std::uint64_t ExactPercentile(const std::vector<std::uint64_t>& sorted, double fraction) {
  const auto wanted = std::max(1.0, std::ceil(fraction * static_cast<double>(sorted.size())));
  return sorted[static_cast<std::size_t>(wanted) - 1];
}

TEST(Histogram, EmptyIsZero) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0U);
  EXPECT_EQ(histogram.max(), 0U);
  EXPECT_EQ(histogram.mean(), 0.0);
  EXPECT_EQ(histogram.Percentile(0.5), 0U);
}

TEST(Histogram, SmallValuesAreExact) {
  Histogram histogram;
  for (std::uint64_t value = 0; value < 64; ++value) histogram.Add(value);
  EXPECT_EQ(histogram.Percentile(0.0), 0U);
  EXPECT_EQ(histogram.Percentile(0.5), 31U);
  EXPECT_EQ(histogram.Percentile(1.0), 63U);
  EXPECT_EQ(histogram.mean(), 31.5);
}

TEST(Histogram, OneValueIsEveryPercentile) {
  for (const std::uint64_t value :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1000}, std::uint64_t{1} << 63,
        std::numeric_limits<std::uint64_t>::max()}) {
    Histogram histogram;
    histogram.Add(value);
    // The bucket's bound lies above the value, but never above max().
    EXPECT_EQ(histogram.Percentile(0.0), value);
    EXPECT_EQ(histogram.Percentile(0.999), value);
    EXPECT_EQ(histogram.max(), value);
  }
}

TEST(Histogram, PercentilesAgainstSortedValues) {
  for (const std::uint64_t seed : Seeds()) {
    SCOPED_TRACE(seed);
    Prng prng(seed);
    Histogram histogram;
    std::vector<std::uint64_t> values(1 + prng.Below(5000));
    for (std::uint64_t& value : values) {
      value = prng() >> prng.Below(64);  // All magnitudes alike.
      histogram.Add(value);
    }
    std::sort(values.begin(), values.end());
    EXPECT_EQ(histogram.count(), values.size());
    EXPECT_EQ(histogram.max(), values.back());
    for (const double fraction : {0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0}) {
      const std::uint64_t exact = ExactPercentile(values, fraction);
      const std::uint64_t found = histogram.Percentile(fraction);
      EXPECT_GE(found, exact) << fraction;
      EXPECT_LE(found - exact, exact / 32) << fraction << ": " << found << " for " << exact;
    }
  }
}

TEST(Histogram, MergeEqualsAddingAll) {
  Prng prng(9);
  Histogram all;
  Histogram parts[3];
  for (int i = 0; i < 3000; ++i) {
    const std::uint64_t value = prng() >> prng.Below(64);
    all.Add(value);
    parts[prng.Below(3)].Add(value);
  }
  Histogram merged;
  for (const Histogram& part : parts) merged.Merge(part);
  EXPECT_EQ(merged.count(), all.count());
  EXPECT_EQ(merged.max(), all.max());
  EXPECT_NEAR(merged.mean(), all.mean(), all.mean() * 1e-12);
  for (int i = 0; i <= 1000; ++i) {
    EXPECT_EQ(merged.Percentile(i / 1000.0), all.Percentile(i / 1000.0)) << i;
  }
}

}  // namespace
}  // namespace tiercel
