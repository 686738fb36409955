#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "engram/model_weights.h"

namespace tiercel {
namespace {

// Nothing that a reference on a CPU is used for needs more; their products do not overflow.
constexpr std::uint32_t kModelDimMax = 1U << 16;
constexpr std::uint32_t kModelVocabMax = 1U << 24;
constexpr std::uint32_t kModelBlocksMax = 1024;
constexpr std::uint32_t kModelExpertsMax = 4096;

Status BadModel(std::string what) {
  return Status(StatusCode::kInvalidArgument, "model config: " + std::move(what));
}

/// The sizes that are ranges alone.
Status CheckModelRanges(const ModelConfig& config) {
  const struct {
    const char* name;
    std::uint32_t value;
    std::uint32_t least;
    std::uint32_t most;
  } ranges[] = {{"vocab_size", config.vocab_size, 1, kModelVocabMax},
                {"layer_count", config.layer_count, 1, kModelBlocksMax},
                {"dim", config.dim, 1, kModelDimMax},
                {"stream_count", config.stream_count, 1, 64},
                {"head_count", config.head_count, 1, 1024},
                {"kv_head_count", config.kv_head_count, 1, 1024},
                {"head_dim", config.head_dim, 2, 4096},
                {"dense_dim", config.dense_dim, 0, 1U << 20},
                {"expert_count", config.expert_count, 0, kModelExpertsMax},
                {"shared_expert_count", config.shared_expert_count, 0, kModelExpertsMax},
                {"expert_dim", config.expert_dim, 0, kModelDimMax}};
  for (const auto& range : ranges) {
    if (range.value >= range.least && range.value <= range.most) continue;
    return BadModel(fmt::format("{} is {}; it must be in [{}, {}]", range.name, range.value,
                                range.least, range.most));
  }
  return {};
}

}  // namespace

std::string_view Name(ModelPreset preset) noexcept {
  switch (preset) {
    case ModelPreset::kEngramDemo:
      return "engram-demo";
    case ModelPreset::kEngram27B:
      return "engram-27b";
    case ModelPreset::kDeepSeekV41:
      return "deepseek-v4.1";
  }
  return "unknown";
}

ModelConfig PresetConfig(ModelPreset preset, const Recipe& recipe) {
  ModelConfig config{.kind = recipe.parameters.kind,
                     .engram_layer_ids = recipe.parameters.layer_ids,
                     .engram_embedding_dim = recipe.column_count() * recipe.parameters.head_dim,
                     .vocab_size = 4096};
  // As many blocks as it takes to have one behind the last Engram layer.
  for (const std::uint32_t layer : config.engram_layer_ids) {
    config.layer_count = std::max(config.layer_count, layer + 2);
  }
  config.layer_count = std::max(config.layer_count, 2U);
  config.head_dim = 16;
  config.dense_layer_count = 1;
  switch (preset) {
    case ModelPreset::kEngramDemo:  // dim 1024.
      config.dim = 64;
      config.head_count = 4;
      config.kv_head_count = 2;
      config.dense_dim = 128;
      config.expert_count = 8;
      config.active_expert_count = 2;
      config.shared_expert_count = 1;
      config.expert_dim = 32;
      break;
    case ModelPreset::kEngram27B:  // dim 2560; 55 experts, 6 active, 2 shared.
      config.dim = 160;
      config.head_count = 10;
      config.kv_head_count = 2;
      config.dense_dim = 320;
      config.expert_count = 55;
      config.active_expert_count = 6;
      config.shared_expert_count = 2;
      config.expert_dim = 16;
      break;
    case ModelPreset::kDeepSeekV41:  // dim 5120.
      config.dim = 128;
      config.head_count = 8;
      config.kv_head_count = 2;
      config.dense_dim = 256;
      config.expert_count = 16;
      config.active_expert_count = 4;
      config.shared_expert_count = 1;
      config.expert_dim = 32;
      config.rounding = FusionRounding::kDeepSeekV41;
      break;
  }
  return config;
}

Status CheckModelConfig(const ModelConfig& config) {
  if (Status status = CheckModelRanges(config); !status.ok()) return status;
  if (config.head_count % config.kv_head_count != 0 || config.head_dim % 2 != 0) {
    return BadModel(
        fmt::format("{} query heads do not share {} heads of keys, or {} values of a "
                    "head are not even",
                    config.head_count, config.kv_head_count, config.head_dim));
  }
  if (config.dense_layer_count > 0 && config.dense_dim == 0) {
    return BadModel("dense blocks need dense_dim");
  }
  if (config.dense_layer_count < config.layer_count &&
      (config.expert_dim == 0 || config.active_expert_count == 0 ||
       config.active_expert_count > config.expert_count)) {
    return BadModel(fmt::format("{} active experts of {}, {} wide, make no mixture",
                                config.active_expert_count, config.expert_count,
                                config.expert_dim));
  }
  for (std::size_t i = 0; i < config.engram_layer_ids.size(); ++i) {
    const std::uint32_t id = config.engram_layer_ids[i];
    const auto first = config.engram_layer_ids.begin();
    if (id >= config.layer_count || std::find(first, first + i, id) != first + i) {
      return BadModel(
          fmt::format("engram_layer_ids names {}, which is not one of {} blocks, or "
                      "names it twice",
                      id, config.layer_count));
    }
  }
  return config.engram_layer_ids.empty() ? Status() : CheckFusionShape(FusionShapeOf(config));
}

FusionShape FusionShapeOf(const ModelConfig& config) {
  FusionShape shape = PublishedFusionShape(config.kind, config.dim, config.engram_embedding_dim);
  shape.stream_count = config.stream_count;
  shape.rounding = config.rounding;
  return shape;
}

bool HasEngram(const ModelConfig& config, std::uint32_t block) {
  return std::ranges::find(config.engram_layer_ids, block) != config.engram_layer_ids.end();
}

}  // namespace tiercel
