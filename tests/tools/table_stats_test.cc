// Goal: the statistics of rows are what the rows are.
// Method: rows by hand, with sums that are known.

#include "tools/table_stats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tools/table_stats_report.h"

namespace tiercel::tools {
namespace {

constexpr RowShape kFloats{.format = RowFormat::kFp32, .value_count = 4};

void AddRow(const std::vector<float>& row, RowStats& stats) {
  std::vector<std::byte> bytes(row.size() * 4);
  std::memcpy(bytes.data(), row.data(), bytes.size());
  std::vector<float> values(row.size());
  stats.Add(kFloats, bytes, values);
}

TEST(TableStatsTest, CountsEachRowOnce) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  RowStats stats;
  AddRow({3, 0, 0, 4}, stats);  // Norm 5, in [4, 8).
  AddRow({0, -2, 0, 0}, stats);
  AddRow({0, -0.0F, 0, 0}, stats);
  AddRow({nan, inf, 0, 0}, stats);
  AddRow({-inf, 1, 0, 0}, stats);
  EXPECT_EQ(stats.row_count, 5U);
  EXPECT_EQ(stats.zero_count, 1U);
  EXPECT_EQ(stats.nan_count, 1U);
  EXPECT_EQ(stats.inf_count, 1U);
  EXPECT_EQ(stats.norm_count(), 2U);
  EXPECT_EQ(stats.norm_low, 2.0);
  EXPECT_EQ(stats.norm_high, 5.0);
  EXPECT_EQ(stats.norm_sum, 7.0);
  for (std::size_t i = 0; i < kNormBucketCount; ++i) {
    const double low = NormBucketLow(i);
    EXPECT_EQ(stats.norms[i], low == 4.0 || low == 2.0 ? 1U : 0U) << low;
  }
}

TEST(TableStatsTest, NormsBeyondTheBucketsAreInTheLastOnes) {
  RowStats stats;
  AddRow({1e-30F, 0, 0, 0}, stats);
  AddRow({3e38F, 3e38F, 3e38F, 3e38F}, stats);
  EXPECT_EQ(stats.norms.front(), 1U);
  EXPECT_EQ(stats.norms.back(), 1U);
  EXPECT_TRUE(std::isfinite(stats.norm_high));
  RowStats sum;
  sum.Add(stats);
  sum.Add(stats);
  EXPECT_EQ(sum.norms.back(), 2U);
  EXPECT_EQ(sum.row_count, 4U);
}

TEST(TableStatsTest, ADrawingNeedsANorm) {
  StatsReport report{.path = "x", .sample = {}, .seconds = 0, .layers = {}};
  LayerStats& layer = report.layers.emplace_back();
  layer.shape = kFloats;
  layer.head_count = 1;
  layer.columns.resize(2);
  AddRow({0, 0, 0, 0}, layer.columns[0]);
  EXPECT_EQ(StatsSvg(report).status().code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(report.has_findings());
  AddRow({1, 0, 0, 0}, layer.columns[1]);
  const Result<std::string> svg = StatsSvg(report);
  ASSERT_TRUE(svg.ok()) << svg.status().ToString();
  EXPECT_NE(svg.value().find("3-grams"), std::string::npos);
  layer.columns[0].unreadable_count = ++layer.columns[0].row_count - 1;
  EXPECT_TRUE(report.has_findings());
  EXPECT_NE(StatsText(report).find("no norms"), std::string::npos);
}

}  // namespace
}  // namespace tiercel::tools
