// Goal: the planner's arithmetic: hit rates between measured points, reads a token, which
// of disk and cores is the bound, the least memory for a target.
// Method: curves and machines of round numbers, against figures worked out by hand.

#include "tools/plan_model.h"

#include <gtest/gtest.h>

#include "tiercel/synthetic.h"
#include "tools/reference_curve.h"

namespace tiercel::tools {
namespace {

PlanModel ModelOf(CheckpointModel model) {
  Result<RecipeParameters> parameters = ModelParameters(model, 1);
  EXPECT_TRUE(parameters.ok());
  Result<Recipe> recipe = BuildRecipe(parameters.value());
  EXPECT_TRUE(recipe.ok());
  return PlanModelOf(recipe.value(), RowSizesOf(parameters.value()), std::string(Name(model)));
}

const HitCurve kCurve = {.source = "made up",
                         .points = {{1'000, 0.2}, {100'000, 0.6}, {10'000'000, 0.7}}};

TEST(PlanModelTest, KnowsTheModels) {
  const PlanModel v41 = ModelOf(CheckpointModel::kDeepSeekV41Flash);
  EXPECT_EQ(v41.rows_per_token, 48U);
  EXPECT_EQ(v41.rows_per_group, 8U);
  EXPECT_EQ(v41.row.row_size_bytes, 264U);
  EXPECT_EQ(v41.scale_bytes(), 8 * (384'006'168ULL + 384'016'682ULL));
  EXPECT_EQ(v41.table_bytes(), 264 * (384'006'168ULL + 384'016'682ULL));
  const PlanModel qwen = ModelOf(CheckpointModel::kQwen38FlashNext);
  EXPECT_EQ(qwen.rows_per_token, 16U);
  EXPECT_EQ(qwen.row.row_size_bytes, 320U);
  EXPECT_EQ(qwen.scale_bytes(), 0U);
}

TEST(HitCurveTest, IsStraightInTheLogarithm) {
  EXPECT_DOUBLE_EQ(kCurve.HitRate(0), 0.0);
  EXPECT_DOUBLE_EQ(kCurve.HitRate(500), 0.1);
  EXPECT_DOUBLE_EQ(kCurve.HitRate(1'000), 0.2);
  EXPECT_NEAR(kCurve.HitRate(10'000), 0.4, 1e-12);
  EXPECT_NEAR(kCurve.HitRate(1'000'000), 0.65, 1e-12);
  EXPECT_DOUBLE_EQ(kCurve.HitRate(1e12), 0.7);
}

TEST(PlanTest, TheDiskIsTheBoundAndThenTheCores) {
  const PlanModel qwen = ModelOf(CheckpointModel::kQwen38FlashNext);
  const HitCurve half = {.source = "half", .points = {{1, 0.5}}};
  PlanMachine machine{.reads_per_second = 80'000.0,
                      .core_count = 1,
                      .copy_bytes_per_second = 5.12e9,
                      .cpu_ns_per_read = 1000.0};
  Result<PlanPoint> point =
      PlanFor(qwen, half, machine, ScalePlacement::kAuto, std::uint64_t{1} << 30);
  ASSERT_TRUE(point.ok());
  EXPECT_DOUBLE_EQ(point.value().reads_per_token, 8.0);
  EXPECT_DOUBLE_EQ(point.value().tokens_per_second(), 10'000.0);
  EXPECT_TRUE(point.value().disk_bound());
  // 16 x 320 B at 5.12 GB/s are 1 us, 8 reads of 1 us are 8: 9 us a token.
  EXPECT_NEAR(point.value().cpu_tokens_per_second, 1e6 / 9, 1.0);
  machine.reads_per_second = 1e9;
  point = PlanFor(qwen, half, machine, ScalePlacement::kAuto, std::uint64_t{1} << 30);
  ASSERT_TRUE(point.ok());
  EXPECT_FALSE(point.value().disk_bound());
  EXPECT_NEAR(point.value().tokens_per_second(), 1e6 / 9, 1.0);
}

TEST(PlanTest, ScalesTakeMemoryOrASecondRead) {
  const PlanModel v41 = ModelOf(CheckpointModel::kDeepSeekV41Flash);
  const HitCurve none = {.source = "none", .points = {{1, 0.0}}};
  const PlanMachine machine{.reads_per_second = 96'000.0};
  const std::uint64_t dram_bytes = std::uint64_t{16} << 30;
  const Result<PlanPoint> resident = PlanFor(v41, none, machine, ScalePlacement::kAuto, dram_bytes);
  const Result<PlanPoint> disk = PlanFor(v41, none, machine, ScalePlacement::kDisk, dram_bytes);
  const Result<PlanPoint> small = PlanFor(v41, none, machine, ScalePlacement::kAuto, 1 << 30);
  ASSERT_TRUE(resident.ok() && disk.ok() && small.ok());
  EXPECT_EQ(resident.value().scale_bytes, v41.scale_bytes());
  EXPECT_EQ(resident.value().cache_bytes, dram_bytes - v41.scale_bytes());
  EXPECT_DOUBLE_EQ(resident.value().tokens_per_second(), 2'000.0);
  EXPECT_EQ(disk.value().cache_bytes, dram_bytes);
  EXPECT_DOUBLE_EQ(disk.value().tokens_per_second(), 1'000.0);
  EXPECT_EQ(small.value().scale_bytes, 0U);
  EXPECT_EQ(PlanFor(v41, none, machine, ScalePlacement::kResident, 1 << 30).status().code(),
            StatusCode::kResourceExhausted);
}

TEST(PlanTest, FindsTheLeastMemoryForATarget) {
  const PlanModel qwen = ModelOf(CheckpointModel::kQwen38FlashNext);
  const PlanMachine machine{.reads_per_second = 80'000.0};
  // 60 % hits leave 6.4 reads a token: 12,500 tokens/s.
  const std::optional<PlanPoint> point =
      PlanForTarget(qwen, kCurve, machine, ScalePlacement::kAuto, 12'500.0, 100'000'000'000);
  ASSERT_TRUE(point.has_value());
  EXPECT_NEAR(static_cast<double>(point->ngram_count), 100'000.0, 1'500.0);
  EXPECT_FALSE(
      PlanForTarget(qwen, kCurve, machine, ScalePlacement::kAuto, 20'000.0, 100'000'000'000)
          .has_value());
}

TEST(ReferenceCurveTest, Rises) {
  for (const RecipeKind kind :
       {RecipeKind::kDeepSeekV41, RecipeKind::kQwen38, RecipeKind::kEngramDemo}) {
    const HitCurve curve = ReferenceCurve(kind);
    ASSERT_GE(curve.points.size(), 4U);
    for (std::size_t i = 1; i < curve.points.size(); ++i) {
      EXPECT_GT(curve.points[i].ngram_count, curve.points[i - 1].ngram_count);
      EXPECT_GT(curve.points[i].hit_rate, curve.points[i - 1].hit_rate);
    }
    EXPECT_LT(curve.points.back().hit_rate, 1.0);
  }
}

}  // namespace
}  // namespace tiercel::tools
