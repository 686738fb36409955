// Goal: a model whose Engram rows come from a store on disk gives the same logits however a
// sequence is cut into calls, and those rows are what it computes with.
//
// Method: checkpoints of all three kinds, made by MakeCheckpoint and served by stores that
// are too small for them. Bits are compared in double; what the layer should have added is
// computed again from rows that are made from nothing.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/reference_model.h"
#include "tiercel/row_format.h"

namespace tiercel::testing {
namespace {

constexpr std::size_t kTokens = 24;
constexpr std::uint32_t kVocab = 300;

std::unique_ptr<Store> OpenSmall(const MadeCheckpoint& made) {
  StoreOptions options;
  options.dram_budget_bytes = 24 << 20;
  options.prefetch.tickets_max = 8;
  options.prefetch.tokens_max = 1024;
  options.log = [](std::string_view) {};
  Result<std::unique_ptr<Store>> store = Store::Open(made.path(), options);
  EXPECT_TRUE(store.ok()) << store.status().ToString();
  return store.ok() ? std::move(store).value() : nullptr;
}

ModelConfig SmallConfig(ModelPreset preset, const MadeCheckpoint& made) {
  ModelConfig config = PresetConfig(preset, made.info().recipe);
  config.vocab_size = kVocab;
  config.dim = 32;
  config.stream_count = 2;
  return config;
}

std::vector<std::int32_t> TokensOf(const ModelConfig& config, std::uint64_t seed) {
  Prng prng(seed);
  std::vector<std::int32_t> tokens(kTokens);
  for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(prng.Below(kVocab));
  if (config.kind != RecipeKind::kEngramDemo) tokens[7] = tokens[8] = kDeadToken;
  return tokens;
}

template <typename T>
std::vector<T> LogitsInCuts(const ReferenceModel<T>& model, Store& store,
                            std::span<const std::int32_t> tokens,
                            const std::vector<std::size_t>& cuts) {
  typename ReferenceModel<T>::Sequence sequence;
  std::vector<T> logits(tokens.size() * model.config().vocab_size);
  std::size_t at = 0;
  for (const std::size_t count : cuts) {
    const Status status =
        model.Forward(store, sequence, tokens.subspan(at, count),
                      std::span(logits).subspan(at * model.config().vocab_size,
                                                count * model.config().vocab_size));
    EXPECT_TRUE(status.ok()) << status.ToString();
    at += count;
  }
  EXPECT_EQ(sequence.token_count(), tokens.size());
  return logits;
}

struct Case {
  CheckpointModel like;
  ModelPreset preset;
  std::uint64_t shrink;
};

class ReferenceModelTest : public ::testing::TestWithParam<Case> {};

TEST_P(ReferenceModelTest, PrefillIsDecodeBitForBit) {
  const MadeCheckpoint made({.like = GetParam().like, .shrink = GetParam().shrink});
  const std::unique_ptr<Store> store = OpenSmall(made);
  ASSERT_NE(store, nullptr);
  const ModelConfig config = SmallConfig(GetParam().preset, made);
  Result<ReferenceModel<double>> model = ReferenceModel<double>::Seeded(config, 5);
  ASSERT_TRUE(model.ok()) << model.status().ToString();
  const std::vector<std::int32_t> tokens = TokensOf(config, 1);
  const std::vector<double> whole = LogitsInCuts(model.value(), *store, tokens, {kTokens});
  EXPECT_TRUE(std::ranges::all_of(whole, [](double x) { return std::isfinite(x); }));
  EXPECT_EQ(LogitsInCuts(model.value(), *store, tokens, std::vector<std::size_t>(kTokens, 1)),
            whole);
  EXPECT_EQ(LogitsInCuts(model.value(), *store, tokens, {1, 10, 2, 11}), whole);
  // Of the last token alone.
  ReferenceModel<double>::Sequence sequence;
  std::vector<double> last(kVocab);
  ForwardReport report;
  ASSERT_TRUE(model.value().Forward(*store, sequence, tokens, last, &report).ok());
  EXPECT_TRUE(std::equal(last.begin(), last.end(), whole.end() - kVocab));
  EXPECT_LE(report.waited, report.total);
  const std::uint64_t chosen = config.active_expert_count * kTokens;
  for (std::size_t block = 0; block < config.layer_count; ++block) {
    std::uint64_t sum = 0;
    for (std::size_t e = 0; e < config.expert_count; ++e) {
      sum += report.expert_tokens[block * config.expert_count + e];
    }
    EXPECT_EQ(sum, block < config.dense_layer_count ? 0 : chosen) << block;
  }
}

TEST_P(ReferenceModelTest, FloatIsNearDouble) {
  const MadeCheckpoint made({.like = GetParam().like, .shrink = GetParam().shrink});
  const std::unique_ptr<Store> store = OpenSmall(made);
  ASSERT_NE(store, nullptr);
  ModelConfig config = SmallConfig(GetParam().preset, made);
  config.rounding = FusionRounding::kNone;  // A rounding that falls the other way is far off.
  const ReferenceModel<double> exact = ReferenceModel<double>::Seeded(config, 5).value();
  const ReferenceModel<float> single = ReferenceModel<float>::Seeded(config, 5).value();
  const std::vector<std::int32_t> tokens = TokensOf(config, 2);
  const std::vector<double> wanted = LogitsInCuts(exact, *store, tokens, {kTokens});
  const std::vector<float> logits = LogitsInCuts(single, *store, tokens, {kTokens});
  double largest = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    largest = std::max(largest, std::fabs(wanted[i] - static_cast<double>(logits[i])));
  }
  EXPECT_LT(largest, 1e-3);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, ReferenceModelTest,
    ::testing::Values(Case{CheckpointModel::kEngramDemo, ModelPreset::kEngramDemo, 500},
                      Case{CheckpointModel::kEngramDemo, ModelPreset::kEngram27B, 500},
                      Case{CheckpointModel::kDeepSeekV41Flash, ModelPreset::kDeepSeekV41, 20000},
                      Case{CheckpointModel::kQwen38FlashNext, ModelPreset::kEngramDemo, 20000}),
    [](const auto& param_info) {
      std::string name(Name(param_info.param.like));
      name += "_" + std::string(Name(param_info.param.preset));
      std::ranges::replace_if(
          name, [](char c) { return c == '-' || c == '.'; }, '_');
      return name;
    });

/// A model of two blocks whose last has the Engram layer of block 1.
ModelConfig TwoBlocks(const MadeCheckpoint& made) {
  ModelConfig config = SmallConfig(ModelPreset::kEngramDemo, made);
  config.engram_layer_ids = {1};
  config.layer_count = 2;
  return config;
}

// Logits follow from the table's rows: the same table in another place gives the same, one
// with other head sizes, whose rows are others, does not.
TEST(ReferenceModelStoreTest, RowsAreThoseOfTheTokens) {
  const MadeCheckpoint made({.like = CheckpointModel::kEngramDemo, .shrink = 500});
  const MadeCheckpoint again({.like = CheckpointModel::kEngramDemo, .shrink = 500});
  const MadeCheckpoint other({.like = CheckpointModel::kEngramDemo, .shrink = 501});
  const ModelConfig config = TwoBlocks(made);
  const ReferenceModel<double> model = ReferenceModel<double>::Seeded(config, 9).value();
  const std::vector<std::int32_t> tokens = TokensOf(config, 3);
  const std::vector<double> logits = LogitsInCuts(model, *OpenSmall(made), tokens, {kTokens});
  EXPECT_EQ(LogitsInCuts(model, *OpenSmall(again), tokens, {kTokens}), logits);
  EXPECT_NE(LogitsInCuts(model, *OpenSmall(other), tokens, {kTokens}), logits);
}

// The Engram layer of a checkpoint, all of it from disk: weights by LoadFusion(), rows through
// the store. The same from rows that are made from nothing is the same to the bit.
TEST(ReferenceModelStoreTest, LayerOfACheckpointThroughTheStore) {
  const MadeCheckpoint made(
      {.like = CheckpointModel::kEngramDemo, .shrink = 500, .tables_only = false});
  Result<LoadedFusion> loaded = LoadFusion(made.path(), 15);
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  EXPECT_EQ(loaded.value().shape.dim, 1024U);
  EXPECT_EQ(loaded.value().shape.stream_count, 4U);
  const EngramFusion<float> layer =
      EngramFusion<float>::Create(loaded.value().shape, loaded.value().weights).value();
  const std::unique_ptr<Store> store = OpenSmall(made);
  const std::vector<std::int32_t> tokens = made.RandomTokens(4, 3);
  const TokenRun run = {.history = {}, .tokens = tokens};
  const std::size_t columns = made.info().recipe.column_count();
  LayerBuffers buffers(*store, 15, tokens.size() * columns, RowOutput::kStored);
  const LayerOutput output = buffers.Output();
  ASSERT_TRUE(store->Lookup({&run, 1}, {&output, 1}).ok());
  const RowShape shape = made.info().layers[1].shape;
  const std::vector<RowId> ids = RowIdsOf(*store, 15, run);
  std::vector<float> served(ids.size() * shape.value_count);
  std::vector<float> wanted(served.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    DequantizeToFloat(shape, buffers.Row(i),
                      std::span(served).subspan(i * shape.value_count, shape.value_count));
    DequantizeToFloat(shape, made.Row(15, ids[i]),
                      std::span(wanted).subspan(i * shape.value_count, shape.value_count));
  }
  Prng prng(8);
  std::vector<float> hidden(tokens.size() * loaded.value().shape.plane());
  for (float& value : hidden) value = static_cast<float>(prng.Unit() - 0.5);
  std::vector<float> from_store(hidden.size());
  std::vector<float> from_nothing(hidden.size());
  FusionState<float> state;
  FusionState<float> other;
  ASSERT_TRUE(layer.Forward(served, hidden, {}, state, from_store).ok());
  ASSERT_TRUE(layer.Forward(wanted, hidden, {}, other, from_nothing).ok());
  EXPECT_EQ(from_store, from_nothing);
  EXPECT_NE(from_store, hidden);
  EXPECT_TRUE(std::ranges::all_of(from_store, [](float x) { return std::isfinite(x); }));

  EXPECT_EQ(LoadFusion(made.path(), 3).status().code(), StatusCode::kNotFound);
  const MadeCheckpoint tables({.like = CheckpointModel::kEngramDemo, .shrink = 500});
  EXPECT_EQ(LoadFusion(tables.path(), 15).status().code(), StatusCode::kNotFound);
}

TEST(ReferenceModelStoreTest, SavedAndLoaded) {
  const MadeCheckpoint made({.like = CheckpointModel::kEngramDemo, .shrink = 500});
  const ScratchDir scratch;
  const std::string path = scratch.path() + "/model.safetensors";
  const ModelConfig config = TwoBlocks(made);
  const ReferenceModel<float> model = ReferenceModel<float>::Seeded(config, 9).value();
  ASSERT_TRUE(model.Save(path).ok());
  Result<ReferenceModel<float>> loaded = ReferenceModel<float>::Load(config, path);
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  const std::unique_ptr<Store> store = OpenSmall(made);
  const std::vector<std::int32_t> tokens = TokensOf(config, 3);
  EXPECT_EQ(LogitsInCuts(loaded.value(), *store, tokens, {kTokens}),
            LogitsInCuts(model, *store, tokens, {kTokens}));
  ModelConfig wider = config;
  wider.dense_dim += 1;
  const Result<ReferenceModel<float>> wrong = ReferenceModel<float>::Load(wider, path);
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(wrong.status().message().find("dense.gate"), std::string_view::npos)
      << wrong.status().message();
}

TEST(ReferenceModelStoreTest, WhatDoesNotFitIsTold) {
  const MadeCheckpoint made({.like = CheckpointModel::kEngramDemo, .shrink = 500});
  const std::unique_ptr<Store> store = OpenSmall(made);
  ModelConfig config = TwoBlocks(made);
  ReferenceModel<float> model = ReferenceModel<float>::Seeded(config, 1).value();
  ReferenceModel<float>::Sequence sequence;
  std::vector<float> logits(kVocab);
  const std::vector<std::int32_t> beyond = {1, static_cast<std::int32_t>(kVocab)};
  EXPECT_EQ(model.Forward(*store, sequence, beyond, logits).code(), StatusCode::kInvalidArgument);
  const std::vector<std::int32_t> tokens = {1, 2};
  EXPECT_EQ(model.Forward(*store, sequence, tokens, std::span(logits).first(5)).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(sequence.token_count(), 0U);
  EXPECT_TRUE(model.Forward(*store, sequence, tokens, logits).ok());
  EXPECT_EQ(model.BalanceExperts({}, 0.1F).code(), StatusCode::kInvalidArgument);

  config.engram_layer_ids = {0};  // No table.
  model = ReferenceModel<float>::Seeded(config, 1).value();
  ReferenceModel<float>::Sequence other;
  EXPECT_EQ(model.Forward(*store, other, tokens, logits).code(), StatusCode::kInvalidArgument);
  config.engram_layer_ids = {7};
  EXPECT_EQ(ReferenceModel<float>::Seeded(config, 1).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tiercel::testing
