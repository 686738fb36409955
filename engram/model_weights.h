#ifndef TIERCEL_ENGRAM_MODEL_WEIGHTS_H_
#define TIERCEL_ENGRAM_MODEL_WEIGHTS_H_

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engram/attention.h"
#include "engram/feed_forward.h"
#include "engram/fusion_shape.h"
#include "engram/hyper_connections.h"
#include "tiercel/reference_model.h"

namespace tiercel {

template <typename T>
struct BlockWeights {
  FusionWeights<T> engram;  ///< Empty in a block without, and once a layer is made of it.
  HyperWeights<T> attention_hyper;
  std::vector<T> attention_norm;  ///< Shape [dim].
  AttentionWeights<T> attention;
  HyperWeights<T> feed_forward_hyper;
  std::vector<T> feed_forward_norm;  ///< Shape [dim].
  FeedForwardWeights<T> dense;       ///< Of a leading block.
  MoeWeights<T> moe;                 ///< Of the others.
};

template <typename T>
struct ModelWeights {
  std::vector<T> embedding;  ///< Shape [vocab_size, dim].
  std::vector<BlockWeights<T>> blocks;
  std::vector<T> norm;  ///< Shape [dim].
  std::vector<T> head;  ///< Shape [vocab_size, dim].
};

/// Errors: kInvalidArgument (sizes that do not fit together).
[[nodiscard]] Status CheckModelConfig(const ModelConfig& config);
[[nodiscard]] FusionShape FusionShapeOf(const ModelConfig& config);
[[nodiscard]] bool HasEngram(const ModelConfig& config, std::uint32_t block);

/// What a tensor is for: how a model without training begins.
enum class WeightRole : std::uint8_t {
  kMatrix,  ///< Random, of a size that keeps the size of what it multiplies.
  kNorm,    ///< About 1; about 0 where norms are zero-centred.
  kBias,    ///< Small.
  kMixing,  ///< Hyper-connections: streams stay apart for the most part.
  kGain,    ///< A small constant.
};

/// A tensor of a model: its name in a file, its place.
template <typename T>
struct ModelTensor {
  std::string name;
  std::vector<std::uint64_t> shape;
  WeightRole role = WeightRole::kMatrix;
  std::vector<T>* values = nullptr;
};

template <typename T>
using TensorList = std::vector<ModelTensor<T>>;

template <typename T>
void ListFeedForward(const std::string& at, std::uint64_t dim, std::uint64_t width,
                     FeedForwardWeights<T>& weights, TensorList<T>& list) {
  if (width == 0) return;
  list.push_back({at + "gate", {width, dim}, WeightRole::kMatrix, &weights.gate});
  list.push_back({at + "up", {width, dim}, WeightRole::kMatrix, &weights.up});
  list.push_back({at + "down", {dim, width}, WeightRole::kMatrix, &weights.down});
}

template <typename T>
void ListHyper(const std::string& at, const ModelConfig& config, HyperWeights<T>& weights,
               TensorList<T>& list) {
  const std::uint64_t n = config.stream_count;
  const std::uint64_t outputs = 2 * n + n * n;
  list.push_back(
      {at + "projection", {outputs, n * config.dim}, WeightRole::kMatrix, &weights.projection});
  list.push_back({at + "bias", {outputs}, WeightRole::kMixing, &weights.bias});
  list.push_back({at + "scale", {3}, WeightRole::kGain, &weights.scale});
}

template <typename T>
void ListFusion(const std::string& at, const ModelConfig& config, FusionWeights<T>& weights,
                TensorList<T>& list) {
  const FusionShape shape = FusionShapeOf(config);
  const std::uint64_t outputs = shape.plane() + shape.dim;
  const std::vector<std::uint64_t> plane = {shape.stream_count, shape.dim};
  list.push_back(
      {at + "kv", {outputs, shape.embedding_dim}, WeightRole::kMatrix, &weights.kv_weight});
  if (shape.kind == RecipeKind::kEngramDemo) {
    list.push_back({at + "kv_bias", {outputs}, WeightRole::kBias, &weights.kv_bias});
  }
  const WeightRole norm = shape.kind == RecipeKind::kQwen38 ? WeightRole::kBias : WeightRole::kNorm;
  list.push_back({at + "key_norm", plane, norm, &weights.key_norm});
  list.push_back({at + "query_norm", plane, norm, &weights.query_norm});
  if (!shape.has_conv()) return;
  list.push_back({at + "conv_norm", plane, norm, &weights.conv_norm});
  list.push_back(
      {at + "conv", {shape.plane(), shape.conv_kernel}, WeightRole::kMatrix, &weights.conv_weight});
}

template <typename T>
void ListBlock(std::uint32_t index, const ModelConfig& config, BlockWeights<T>& block,
               TensorList<T>& list) {
  const std::string at = fmt::format("blocks.{}.", index);
  const std::uint64_t dim = config.dim;
  const std::uint64_t width = std::uint64_t{config.head_count} * config.head_dim;
  const std::uint64_t kv_width = std::uint64_t{config.kv_head_count} * config.head_dim;
  if (HasEngram(config, index)) ListFusion(at + "engram.", config, block.engram, list);
  ListHyper(at + "attention_hyper.", config, block.attention_hyper, list);
  list.push_back({at + "attention_norm", {dim}, WeightRole::kNorm, &block.attention_norm});
  AttentionWeights<T>& attention = block.attention;
  list.push_back({at + "attention.query", {width, dim}, WeightRole::kMatrix, &attention.query});
  list.push_back({at + "attention.key", {kv_width, dim}, WeightRole::kMatrix, &attention.key});
  list.push_back({at + "attention.value", {kv_width, dim}, WeightRole::kMatrix, &attention.value});
  list.push_back({at + "attention.output", {dim, width}, WeightRole::kMatrix, &attention.output});
  ListHyper(at + "feed_forward_hyper.", config, block.feed_forward_hyper, list);
  list.push_back({at + "feed_forward_norm", {dim}, WeightRole::kNorm, &block.feed_forward_norm});
  if (index < config.dense_layer_count) {
    ListFeedForward(at + "dense.", dim, config.dense_dim, block.dense, list);
    return;
  }
  const std::uint64_t experts = config.expert_count;
  list.push_back({at + "router", {experts, dim}, WeightRole::kMatrix, &block.moe.router});
  list.push_back({at + "router_bias", {experts}, WeightRole::kBias, &block.moe.router_bias});
  block.moe.experts.resize(experts);
  for (std::uint64_t expert = 0; expert < experts; ++expert) {
    ListFeedForward(fmt::format("{}experts.{}.", at, expert), dim, config.expert_dim,
                    block.moe.experts[expert], list);
  }
  ListFeedForward(at + "shared.", dim,
                  std::uint64_t{config.shared_expert_count} * config.expert_dim, block.moe.shared,
                  list);
}

/// All tensors of a model, in the order of their use; vectors of parts are sized.
template <typename T>
[[nodiscard]] TensorList<T> ListTensors(const ModelConfig& config, ModelWeights<T>& weights) {
  TensorList<T> list;
  const std::vector<std::uint64_t> table = {config.vocab_size, config.dim};
  list.push_back({"embedding", table, WeightRole::kMatrix, &weights.embedding});
  weights.blocks.resize(config.layer_count);
  for (std::uint32_t i = 0; i < config.layer_count; ++i) {
    ListBlock(i, config, weights.blocks[i], list);
  }
  list.push_back({"norm", {config.dim}, WeightRole::kNorm, &weights.norm});
  list.push_back({"head", table, WeightRole::kMatrix, &weights.head});
  return list;
}

template <typename T>
struct ReferenceModel<T>::Impl {
  ModelConfig config;
  ModelWeights<T> weights;
  std::vector<std::optional<EngramFusion<T>>> fusions;  ///< Shape [layer_count].

  /// Takes the Engram layers out of `weights`.
  [[nodiscard]] static Result<std::unique_ptr<Impl>> Make(const ModelConfig& config,
                                                          ModelWeights<T> weights) {
    auto impl = std::make_unique<Impl>();
    impl->config = config;
    impl->weights = std::move(weights);
    impl->fusions.resize(config.layer_count);
    for (const std::uint32_t layer : config.engram_layer_ids) {
      Result<EngramFusion<T>> fusion = EngramFusion<T>::Create(
          FusionShapeOf(config), std::exchange(impl->weights.blocks[layer].engram, {}));
      if (!fusion.ok()) return std::move(fusion).TakeStatus();
      impl->fusions[layer] = std::move(fusion).value();
    }
    return impl;
  }
};

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_MODEL_WEIGHTS_H_
