#include "store/make_checkpoint_models.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "base/byte_order.h"
#include "base/prng.h"

// What the three models' checkpoints look like: names, types, shapes, sharding and
// config of the tensors of their Engram layers.

namespace tiercel {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint64_t kV41Hidden = 5120;
constexpr std::uint64_t kQwenHidden = 2560;
constexpr std::uint64_t kDemoHidden = 1024;
constexpr std::uint64_t kStreams = 4;  // All three models have 4 residual streams.
constexpr std::uint64_t kConvKernel = 4;
constexpr std::uint64_t kQwenShards = 128;
constexpr std::uint64_t kQwenFiles = 8;
/// The scale of a published FP8 checkpoint, 1.9931793212890625e-04.
constexpr std::uint16_t kQwenScaleBf16 = 0x3951;

/// A pseudo layer for each tensor that is no table, so that no two have one content.
std::uint32_t LayerOfName(std::string_view name) {
  std::uint64_t hash = 0;
  for (const char c : name) hash = SplitMix64(hash ^ static_cast<unsigned char>(c));
  return static_cast<std::uint32_t>(hash) | 0x80000000U;
}

std::uint64_t Product(const std::vector<std::uint64_t>& shape) {
  std::uint64_t product = 1;
  for (const std::uint64_t dimension : shape) product *= dimension;
  return product;
}

/// `row_count` rows of a table, from `first_row` on, or one part of them.
PlannedTensor TableRows(const SyntheticTable& table, std::uint32_t part, std::string name,
                        TensorType type, std::uint64_t first_row, std::uint64_t row_count) {
  const std::uint32_t row_bytes = SyntheticPartSizeBytes(table.shape, part);
  PlannedTensor tensor;
  tensor.name = std::move(name);
  tensor.type = type;
  tensor.shape = {row_count, row_bytes / (SizeBits(type) / 8)};
  tensor.size_bytes = row_count * row_bytes;
  tensor.source = table;
  tensor.part = part;
  tensor.first_row = first_row;
  return tensor;
}

/// Integers that the model keeps as a buffer.
PlannedTensor Integers(std::string name, const std::vector<std::uint64_t>& values) {
  PlannedTensor tensor;
  tensor.name = std::move(name);
  tensor.type = TensorType::kI64;
  tensor.shape = {values.size()};
  tensor.size_bytes = 8 * values.size();
  tensor.literal.resize(tensor.size_bytes);
  for (std::size_t i = 0; i < values.size(); ++i) {
    StoreLittleEndian<std::uint64_t>(tensor.literal.data() + 8 * i, values[i]);
  }
  return tensor;
}

/// 48 shards, of which the last two hold the two Engram layers and nothing else.
std::vector<PlannedFile> PlanV41(const MakeCheckpointOptions& options, const Recipe& recipe) {
  std::vector<PlannedFile> files;
  std::uint32_t number = 47;
  for (const LayerRecipe& layer : recipe.layers) {
    const SyntheticTable table{
        .seed = options.seed,
        .layer_id = layer.layer_id,
        .shape = {.format = RowFormat::kE4M3Block32, .value_count = recipe.parameters.head_dim}};
    const std::string at = fmt::format("layers.{}.engram.", layer.layer_id);
    PlannedFile file;
    file.name = fmt::format("model-{:05}-of-00048.safetensors", number++);
    file.tensors.push_back(
        TableRows(table, 0, at + "embed.weight", TensorType::kF8E4M3, 0, layer.row_count));
    file.tensors.push_back(
        TableRows(table, 1, at + "embed.scale", TensorType::kF8E8M0, 0, layer.row_count));
    if (!options.tables_only) {
      const std::uint64_t out = (kStreams + 1) * kV41Hidden;  // Four keys and a value.
      const std::uint64_t in = std::uint64_t{recipe.column_count()} * recipe.parameters.head_dim;
      file.tensors.push_back(
          FillerTensor(options.seed, at + "wkv.weight", TensorType::kF8E4M3, {out, in}));
      file.tensors.push_back(
          FillerTensor(options.seed, at + "wkv.scale", TensorType::kF8E8M0, {out / 32, in / 32}));
      for (const std::string_view norm : {"q_weight", "k_weight"}) {
        file.tensors.push_back(FillerTensor(options.seed, fmt::format("{}{}", at, norm),
                                            TensorType::kBf16, {kStreams, kV41Hidden}));
      }
    }
    files.push_back(std::move(file));
  }
  return files;
}

std::vector<PlannedTensor> QwenProjections(std::uint64_t seed, const std::string& at,
                                           std::uint64_t in) {
  const std::uint64_t plane = kStreams * kQwenHidden;
  std::vector<PlannedTensor> tensors;
  tensors.push_back(FillerTensor(seed, at + "key_proj.weight", TensorType::kBf16, {plane, in}));
  tensors.push_back(
      FillerTensor(seed, at + "value_proj.weight", TensorType::kBf16, {kQwenHidden, in}));
  tensors.push_back(
      FillerTensor(seed, at + "conv1d.weight", TensorType::kBf16, {plane, 1, kConvKernel}));
  for (const std::string_view norm : {"norm_key", "norm_query", "norm_conv"}) {
    tensors.push_back(
        FillerTensor(seed, fmt::format("{}{}.weight", at, norm), TensorType::kBf16, {plane}));
  }
  return tensors;
}

std::vector<PlannedFile> PlanQwen(const MakeCheckpointOptions& options, const Recipe& recipe) {
  const LayerRecipe& layer = recipe.layers.front();
  const std::uint32_t head_dim = recipe.parameters.head_dim;
  const SyntheticTable table{
      .seed = options.seed,
      .layer_id = layer.layer_id,
      .shape = {.format = options.fp8 ? RowFormat::kE4M3Tensor : RowFormat::kBf16,
                .value_count = head_dim}};
  const TensorType type = options.fp8 ? TensorType::kF8E4M3 : TensorType::kBf16;
  const std::string ple = fmt::format("model.language_model.layers.{}.ple.", layer.layer_id);
  const std::string embedding = ple + "ple_embedding.";
  std::vector<PlannedFile> files(kQwenFiles);
  for (std::uint64_t i = 0; i < kQwenFiles; ++i) {
    files[i].name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, kQwenFiles);
  }
  // The padded row count is a multiple of the number of shards.
  const std::uint64_t shard_rows = layer.row_count / kQwenShards;
  for (std::uint64_t i = 0; i < kQwenShards; ++i) {
    files[i * kQwenFiles / kQwenShards].tensors.push_back(
        TableRows(table, 0, fmt::format("{}ngram_embedding.shard_{}.weight", embedding, i), type,
                  i * shard_rows, shard_rows));
  }
  std::vector<PlannedTensor>& first = files.front().tensors;
  first.push_back(Integers(embedding + "layer_multipliers", layer.multipliers));
  first.push_back(Integers(embedding + "ngram_heads_vocab_sizes", layer.head_sizes));
  first.push_back(Integers(embedding + "ngram_heads_offsets", layer.offsets));
  if (options.fp8) {
    PlannedTensor scale;
    scale.name = embedding + "ngram_embedding.weight_scale";
    scale.type = TensorType::kBf16;
    scale.shape = {1};
    scale.size_bytes = 2;
    scale.literal.resize(2);
    StoreLittleEndian<std::uint16_t>(scale.literal.data(), kQwenScaleBf16);
    first.push_back(std::move(scale));
  }
  if (!options.tables_only) {
    const std::uint64_t in = std::uint64_t{recipe.column_count()} * head_dim;
    for (PlannedTensor& tensor : QwenProjections(options.seed, ple, in)) {
      first.push_back(std::move(tensor));
    }
  }
  return files;
}

/// One file: a torch state dict of engram_demo_v1.py, saved as safetensors.
std::vector<PlannedFile> PlanDemo(const MakeCheckpointOptions& options, const Recipe& recipe) {
  PlannedFile file;
  file.name = "model.safetensors";
  for (const LayerRecipe& layer : recipe.layers) {
    const SyntheticTable table{
        .seed = options.seed,
        .layer_id = layer.layer_id,
        .shape = {.format = RowFormat::kFp32, .value_count = recipe.parameters.head_dim}};
    const std::string at = fmt::format("layers.{}.engram.", layer.layer_id);
    file.tensors.push_back(TableRows(table, 0, at + "multi_head_embedding.embedding.weight",
                                     TensorType::kF32, 0, layer.row_count));
    file.tensors.push_back(Integers(at + "multi_head_embedding.offsets", layer.offsets));
    if (options.tables_only) continue;
    const auto add = [&](std::string name, std::vector<std::uint64_t> shape) {
      file.tensors.push_back(
          FillerTensor(options.seed, std::move(name), TensorType::kF32, std::move(shape)));
    };
    const std::uint64_t in = std::uint64_t{recipe.column_count()} * recipe.parameters.head_dim;
    add(at + "value_proj.weight", {kDemoHidden, in});
    add(at + "value_proj.bias", {kDemoHidden});
    for (std::uint64_t stream = 0; stream < kStreams; ++stream) {
      add(fmt::format("{}key_projs.{}.weight", at, stream), {kDemoHidden, in});
      add(fmt::format("{}key_projs.{}.bias", at, stream), {kDemoHidden});
      add(fmt::format("{}norm1.{}.weight", at, stream), {kDemoHidden});
      add(fmt::format("{}norm2.{}.weight", at, stream), {kDemoHidden});
      add(fmt::format("{}short_conv.norms.{}.weight", at, stream), {kDemoHidden});
    }
    add(at + "short_conv.conv.weight", {kStreams * kDemoHidden, 1, kConvKernel});
  }
  return {std::move(file)};
}

Json V41Config(const Recipe& recipe) {
  const RecipeParameters& p = recipe.parameters;
  std::vector<std::uint64_t> row_counts;
  for (const LayerRecipe& layer : recipe.layers) row_counts.push_back(layer.row_count);
  const Json text = {{"model_type", "deepseek_v41_text"},
                     {"engram_layer_ids", p.layer_ids},
                     {"engram_num_embeddings", row_counts},
                     {"engram_max_ngram_size", p.order_max},
                     {"engram_n_heads", p.head_count},
                     {"engram_head_dim", p.head_dim},
                     {"engram_vocab_size", p.head_size_bases.front()},
                     {"engram_compressed_vocab_size", p.compressed_vocab_size},
                     {"engram_pad_token_id", p.pad_token},
                     {"vocab_size", p.vocab_size},
                     {"hidden_size", kV41Hidden},
                     {"hc_mult", kStreams},
                     {"num_hidden_layers", 40},
                     {"rms_norm_eps", 1e-20}};
  return {{"architectures", Json::array({"DeepseekV41ForConditionalGeneration"})},
          {"model_type", "deepseek_v41"},
          {"text_config", text},
          {"quantization_config",
           {{"quant_method", "fp8"}, {"weight_block_size", {32, 32}}, {"scale_fmt", "ue8m0"}}}};
}

Json QwenConfig(const Recipe& recipe) {
  const RecipeParameters& p = recipe.parameters;
  std::vector<std::uint64_t> ids_from_one;
  for (const std::uint32_t id : p.layer_ids) ids_from_one.push_back(std::uint64_t{id} + 1);
  const Json text = {{"model_type", "qwen4_exp_text"},
                     {"vocab_size", p.vocab_size},
                     {"hidden_size", kQwenHidden},
                     {"hc_count", kStreams},
                     {"num_hidden_layers", 48},
                     {"ple_layer_ids", ids_from_one},
                     {"ple_embed_dim", recipe.column_count() * p.head_dim},
                     {"ngram_size", p.order_max},
                     {"heads_per_ngram", p.head_count},
                     {"ngram_vocab_size_base", p.head_size_bases.front()},
                     {"make_ngram_vocab_size_divisible_by", p.row_count_multiple},
                     {"split_ngram_parts", kQwenShards},
                     {"seed", p.seed},
                     {"ple_conv_kernel_size", kConvKernel},
                     {"eos_token_id", p.eos_token},
                     {"rms_norm_eps", 1e-6}};
  return {{"architectures", Json::array({"Qwen4ExpForConditionalGeneration"})},
          {"model_type", "qwen4_exp"},
          {"text_config", text}};
}

Json DemoConfig(const Recipe& recipe) {
  const RecipeParameters& p = recipe.parameters;
  return {{"model_type", "engram_demo"},
          {"engram_vocab_size", p.head_size_bases},
          {"max_ngram_size", p.order_max},
          {"n_embed_per_ngram", p.head_count * p.head_dim},
          {"n_head_per_ngram", p.head_count},
          {"layer_ids", p.layer_ids},
          {"pad_id", p.pad_token},
          {"seed", p.seed},
          {"kernel_size", kConvKernel},
          {"engram_compressed_vocab_size", p.compressed_vocab_size},
          {"vocab_size", p.vocab_size},
          {"hidden_size", kDemoHidden},
          {"hc_mult", kStreams},
          {"num_layers", 30}};
}

}  // namespace

PlannedTensor FillerTensor(std::uint64_t seed, std::string name, TensorType type,
                           std::vector<std::uint64_t> shape) {
  PlannedTensor tensor;
  tensor.size_bytes = Product(shape) * SizeBits(type) / 8;
  tensor.source.seed = seed;
  tensor.source.layer_id = LayerOfName(name);
  const auto columns = static_cast<std::uint32_t>(shape.back());
  switch (type) {
    case TensorType::kF8E4M3:
      tensor.source.shape = {.format = RowFormat::kE4M3Tensor, .value_count = columns};
      break;
    case TensorType::kF8E8M0:
      tensor.source.shape = {.format = RowFormat::kE4M3Block32, .value_count = 32 * columns};
      tensor.part = 1;
      break;
    case TensorType::kBf16:
      tensor.source.shape = {.format = RowFormat::kBf16, .value_count = columns};
      break;
    default:
      tensor.source.shape = {.format = RowFormat::kFp32, .value_count = columns};
      break;
  }
  tensor.name = std::move(name);
  tensor.type = type;
  tensor.shape = std::move(shape);
  return tensor;
}

std::string_view Name(CheckpointModel model) noexcept {
  switch (model) {
    case CheckpointModel::kDeepSeekV41Flash:
      return "deepseek-v4.1-flash";
    case CheckpointModel::kQwen38FlashNext:
      return "qwen3.8-flash-next";
    case CheckpointModel::kEngramDemo:
      return "engram-demo";
  }
  return "unknown";
}

Result<RecipeParameters> ModelParameters(CheckpointModel model, std::uint64_t shrink) {
  RecipeParameters p;
  std::uint64_t base = 0;
  switch (model) {
    case CheckpointModel::kDeepSeekV41Flash:
      p = {.kind = RecipeKind::kDeepSeekV41, .layer_ids = {1, 14}, .order_max = 4};
      p.head_dim = 256;
      p.vocab_size = 129280;
      p.compressed_vocab_size = 99092;
      p.pad_token = 2;
      base = 16'000'000;
      break;
    case CheckpointModel::kQwen38FlashNext:
      p = {.kind = RecipeKind::kQwen38, .layer_ids = {1}, .order_max = 3};
      p.head_dim = 160;
      p.vocab_size = 248320;
      p.eos_token = 248044;
      p.seed = 1234;
      p.row_count_multiple = kQwenShards;
      base = 20'000'000;
      break;
    case CheckpointModel::kEngramDemo:
      p = {.kind = RecipeKind::kEngramDemo, .layer_ids = {1, 15}, .order_max = 3};
      p.head_dim = 64;
      p.vocab_size = 129280;
      p.compressed_vocab_size = 98627;
      p.pad_token = 2;
      base = 646'400;
      break;
  }
  if (shrink == 0 || shrink > base / 2) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("shrink is {}; for {} it must be in [1, {}], so that a head has rows",
                              shrink, Name(model), base / 2));
  }
  p.head_count = 8;
  p.head_size_bases.assign(p.order_max - 1, base / shrink);
  return p;
}

std::vector<PlannedFile> PlanModelFiles(const MakeCheckpointOptions& options,
                                        const Recipe& recipe) {
  switch (options.like) {
    case CheckpointModel::kDeepSeekV41Flash:
      return PlanV41(options, recipe);
    case CheckpointModel::kQwen38FlashNext:
      return PlanQwen(options, recipe);
    case CheckpointModel::kEngramDemo:
      return PlanDemo(options, recipe);
  }
  return {};
}

std::string ModelConfigText(const MakeCheckpointOptions& options, const Recipe& recipe) {
  switch (options.like) {
    case CheckpointModel::kDeepSeekV41Flash:
      return V41Config(recipe).dump(2) + "\n";
    case CheckpointModel::kQwen38FlashNext:
      return QwenConfig(recipe).dump(2) + "\n";
    case CheckpointModel::kEngramDemo:
      return DemoConfig(recipe).dump(2) + "\n";
  }
  return {};
}

}  // namespace tiercel
