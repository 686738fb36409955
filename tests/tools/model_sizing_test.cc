// Goal: a budget of parameters is shared out as the published models share theirs.
//
// Method: the three models of the Engram paper's Table 5 and DeepSeek-V4.1 come out of the
// formulas; budgets that make no model are refused.

#include "tools/model_sizing.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace tiercel::tools {
namespace {

SizedModel Sized(const SizingOptions& options) {
  Result<SizedModel> model = SizeModel(options);
  EXPECT_TRUE(model.ok()) << model.status().ToString();
  return std::move(model).value();
}

SizedModel SizedLike(const char* name) {
  return Sized(PublishedSizing(name).value());
}

TEST(ModelSizingTest, Engram27B) {
  const SizedModel model = SizedLike("engram-27b");
  EXPECT_EQ(model.engram_slots, 2'262'400U);
  EXPECT_EQ(model.routed_expert_count, 55U);
  EXPECT_EQ(model.engram_params, 2'262'400.0 * 1280 * 2);
  EXPECT_NEAR(model.engram_params / 1e9, 5.79, 0.005);  // "5.7B"
  EXPECT_EQ(model.row.value_count, 80U);
  EXPECT_EQ(model.rows_per_token(), 32U);
}

TEST(ModelSizingTest, Engram40B) {
  const SizedModel model = SizedLike("engram-40b");
  EXPECT_EQ(model.engram_slots, 7'239'680U);
  EXPECT_EQ(model.routed_expert_count, 55U);
  EXPECT_NEAR(model.engram_params / 1e9, 18.53, 0.005);  // "18.5B"
}

TEST(ModelSizingTest, Moe27BHasNoTables) {
  const SizedModel model = SizedLike("moe-27b");
  EXPECT_EQ(model.routed_expert_count, 72U);
  EXPECT_EQ(model.engram_slots, 0U);
  EXPECT_EQ(model.row_count(), 0U);
  EXPECT_EQ(model.rows_per_token(), 0U);
}

TEST(ModelSizingTest, V41sTotals) {
  const SizedModel model = SizedLike("deepseek-v4.1-flash");
  ASSERT_EQ(model.recipe.layers.size(), 2U);
  EXPECT_EQ(model.recipe.layers[0].row_count, 384'006'168U);
  EXPECT_EQ(model.recipe.layers[1].row_count, 384'016'682U);
  EXPECT_EQ(model.recipe.layers[0].head_sizes[0], 16'000'057U);
  EXPECT_EQ(model.recipe.layers[1].head_sizes.back(), 16'000'889U);
  EXPECT_EQ(model.row.row_size_bytes(), 264U);
  EXPECT_EQ(model.table_bytes(), (384'006'168ULL + 384'016'682ULL) * 264);  // 202.8 GB
  EXPECT_EQ(model.rows_per_token(), 48U);
}

TEST(ModelSizingTest, HeadSizesAreDistinctPrimesFromTheSlotsOn) {
  const SizedModel model = SizedLike("engram-27b");
  std::set<std::uint64_t> seen;
  for (const LayerRecipe& layer : model.recipe.layers) {
    std::uint64_t sum = 0;
    for (const std::uint64_t size : layer.head_sizes) {
      EXPECT_GE(size, model.engram_slots);
      EXPECT_TRUE(seen.insert(size).second) << size;
      sum += size;
    }
    EXPECT_EQ(sum, layer.row_count);
  }
  EXPECT_EQ(seen.size(), 32U);
}

// More for tables is less for experts; the sum stays within half an expert a block of it.
TEST(ModelSizingTest, TheBudgetIsKept) {
  SizingOptions options = PublishedSizing("moe-27b").value();
  std::uint64_t experts = 1000;
  for (const double ratio : {0.0, 0.1, 0.2, 0.25, 0.4, 0.7, 1.0}) {
    options.ratio = ratio;
    const SizedModel model = Sized(options);
    EXPECT_LT(model.routed_expert_count, experts) << ratio;
    experts = model.routed_expert_count;
    const double blocks = options.block_count - options.dense_block_count;
    const double inactive = static_cast<double>(experts - options.active_expert_count);
    const double used = model.engram_params + inactive * blocks * model.expert_params;
    EXPECT_NEAR(used, model.sparse_params, 0.501 * blocks * model.expert_params + 1.0) << ratio;
    EXPECT_NEAR(model.engram_params, ratio * model.sparse_params, 64640.0 / 2 * 1280 * 2) << ratio;
  }
}

// Where nobody says how many are active, an estimate is near enough for the same tables.
TEST(ModelSizingTest, ActiveParametersAreEstimated) {
  SizingOptions options = PublishedSizing("engram-27b").value();
  options.active_params.reset();
  EXPECT_NEAR(EstimateActive(options) / 1e9, 3.8, 0.2);
  EXPECT_EQ(Sized(options).engram_slots, 2'262'400U);
}

TEST(ModelSizingTest, WhatMakesNoModelIsRefused) {
  const auto refused = [](const SizingOptions& options) {
    return SizeModel(options).status().code() == StatusCode::kInvalidArgument;
  };
  SizingOptions options;
  EXPECT_TRUE(refused(options));  // No budget.
  options = PublishedSizing("engram-27b").value();
  options.total_params = 3.9e9;
  EXPECT_TRUE(refused(options));
  options = PublishedSizing("engram-27b").value();
  options.memory_dim = 1281;
  EXPECT_TRUE(refused(options));
  options = PublishedSizing("engram-27b").value();
  options.layer_ids = {1, 30};
  EXPECT_TRUE(refused(options));
  options = PublishedSizing("engram-27b").value();
  options.engram_slots = 20'000'000;
  EXPECT_TRUE(refused(options));  // Tables of more than all.
  options = PublishedSizing("engram-27b").value();
  options.row_format = RowFormat::kE4M3Block32;
  EXPECT_TRUE(refused(options));  // 80 values.
  EXPECT_FALSE(PublishedSizing("engram-28b").ok());
}

TEST(ModelSizingTest, NumbersOfParameters) {
  EXPECT_EQ(ParseParams("26.7B").value(), 26.7e9);
  EXPECT_EQ(ParseParams("950M").value(), 950e6);
  EXPECT_EQ(ParseParams("1000").value(), 1000);
  for (const char* const text : {"", "B", "-1B", "1.5X", "0", "nan", "1e30", "1B "}) {
    EXPECT_FALSE(ParseParams(text).ok()) << text;
  }
}

}  // namespace
}  // namespace tiercel::tools
