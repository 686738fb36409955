#include "store/make_checkpoint_gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/byte_order.h"
#include "store/gguf.h"
#include "store/gguf_checkpoint.h"
#include "store/gguf_files.h"
#include "store/make_checkpoint_models.h"
#include "tiercel/recipe.h"

namespace tiercel {
namespace {

constexpr std::string_view kMadeArchitecture = "deepseek41";
constexpr std::uint64_t kMadeAlignment = 32;
constexpr std::uint64_t kMadeHidden = 5120;
constexpr std::uint64_t kMadeStreams = 4;
constexpr std::uint32_t kSplitCountMax = 1000;

/// A tensor with what GGUF says of it.
struct GgufPlannedTensor {
  PlannedTensor tensor;
  std::uint32_t type = 0;
  std::vector<std::uint64_t> dimensions;  ///< Innermost first.
};

/// Writes metadata: keys, types and values one after another.
///
/// Threading: one thread at a time.
class GgufMetadata {
 public:
  void Text(std::string_view key, std::string_view value) {
    Key(key, GgufValueType::kString);
    PutText(value);
  }
  void U16(std::string_view key, std::uint16_t value) {
    Key(key, GgufValueType::kU16);
    Put(value);
  }
  void U32(std::string_view key, std::uint64_t value) {
    Key(key, GgufValueType::kU32);
    Put(static_cast<std::uint32_t>(value));
  }
  void I32(std::string_view key, std::uint64_t value) {
    Key(key, GgufValueType::kI32);
    Put(static_cast<std::uint32_t>(value));
  }
  void U64(std::string_view key, std::uint64_t value) {
    Key(key, GgufValueType::kU64);
    Put(value);
  }
  void U64s(std::string_view key, std::span<const std::uint64_t> values) {
    Array(key, GgufValueType::kU64, values.size());
    for (const std::uint64_t value : values) Put(value);
  }
  void I32s(std::string_view key, std::span<const std::uint32_t> values) {
    Array(key, GgufValueType::kI32, values.size());
    for (const std::uint32_t value : values) Put(value);
  }

  /// The start of a file: what was written so far, and the tensors, each of which lies at
  /// the next multiple of the alignment after the one before it.
  [[nodiscard]] std::string Header(std::span<const GgufPlannedTensor> tensors) const {
    GgufMetadata header;
    header.bytes_ = "GGUF";
    header.Put(std::uint32_t{3});
    header.Put(std::uint64_t{tensors.size()});
    header.Put(key_count_);
    header.bytes_ += bytes_;
    std::uint64_t offset_bytes = 0;
    for (const GgufPlannedTensor& planned : tensors) {
      header.PutText(planned.tensor.name);
      header.Put(static_cast<std::uint32_t>(planned.dimensions.size()));
      for (const std::uint64_t dimension : planned.dimensions) header.Put(dimension);
      header.Put(planned.type);
      header.Put(offset_bytes);
      offset_bytes += planned.tensor.size_bytes + PaddingOf(planned.tensor.size_bytes);
    }
    header.bytes_.append(PaddingOf(header.bytes_.size()), '\0');
    return std::move(header.bytes_);
  }

  static std::uint64_t PaddingOf(std::uint64_t size_bytes) noexcept {
    return (kMadeAlignment - size_bytes % kMadeAlignment) % kMadeAlignment;
  }

 private:
  template <typename T>
  void Put(T value) {
    char bytes[sizeof(T)];
    StoreLittleEndian(bytes, value);
    bytes_.append(bytes, sizeof(T));
  }
  void PutText(std::string_view text) {
    Put(std::uint64_t{text.size()});
    bytes_ += text;
  }
  void Key(std::string_view key, GgufValueType type) {
    ++key_count_;
    PutText(key);
    Put(static_cast<std::uint32_t>(type));
  }
  void Array(std::string_view key, GgufValueType type, std::uint64_t count) {
    Key(key, GgufValueType::kArray);
    Put(static_cast<std::uint32_t>(type));
    Put(count);
  }

  std::string bytes_;
  std::uint64_t key_count_ = 0;
};

/// The class of each token: that of the options, or of the model's sizes.
std::vector<std::uint32_t> ClassesOf(const MakeCheckpointOptions& options,
                                     const RecipeParameters& parameters) {
  if (options.gguf_token_map != nullptr) {
    const std::span<const std::uint32_t> classes = options.gguf_token_map->classes();
    return {classes.begin(), classes.end()};
  }
  std::vector<std::uint32_t> classes(parameters.vocab_size);
  for (std::uint32_t i = 0; i < classes.size(); ++i) {
    classes[i] = i % parameters.compressed_vocab_size;
  }
  return classes;
}

GgufMetadata ModelMetadata(const MakeCheckpointOptions& options, const Recipe& recipe) {
  const RecipeParameters& p = recipe.parameters;
  const auto key = [](std::string_view name) {
    return fmt::format("{}.{}", kMadeArchitecture, name);
  };
  GgufMetadata metadata;
  metadata.Text("general.architecture", kMadeArchitecture);
  metadata.Text("general.name", "made by tiercel make-checkpoint");
  metadata.U32(key("vocab_size"), p.vocab_size);
  metadata.U32(key("embedding_length"), kMadeHidden);
  metadata.U32(key("block_count"), 40);
  std::vector<std::uint64_t> multipliers;
  std::vector<std::uint64_t> primes;
  std::vector<std::uint64_t> offsets;
  std::vector<std::uint64_t> row_counts;
  for (const LayerRecipe& layer : recipe.layers) {
    multipliers.insert(multipliers.end(), layer.multipliers.begin(), layer.multipliers.end());
    primes.insert(primes.end(), layer.head_sizes.begin(), layer.head_sizes.end());
    offsets.insert(offsets.end(), layer.offsets.begin(), layer.offsets.end());
    row_counts.push_back(layer.row_count);
  }
  metadata.I32s(key("engram.layer_ids"), p.layer_ids);
  metadata.U32(key("engram.head_count"), p.head_count);
  metadata.U32(key("engram.key_length"), p.head_dim);
  metadata.U32(key("engram.max_ngram_size"), p.order_max);
  metadata.U32(key("engram.pad_id"), static_cast<std::uint64_t>(p.pad_token));
  metadata.U32(key("engram.vocab_size"), p.head_size_bases.front());
  metadata.U32(key("engram.compressed_vocab_size"), p.compressed_vocab_size);
  metadata.U64s(key("engram.num_embeddings"), row_counts);
  metadata.U64s(key("engram.multipliers"), multipliers);
  metadata.U64s(key("engram.primes"), primes);
  metadata.U64s(key("engram.offsets"), offsets);
  metadata.I32s(key("engram.token_map"), ClassesOf(options, p));
  metadata.U64(kGgufSeedKey, options.seed);
  metadata.U32(kGgufGeneratorKey, kSyntheticGenerator);
  return metadata;
}

/// Rows and what stands beside them, layer by layer.
std::vector<GgufPlannedTensor> ModelTensors(const MakeCheckpointOptions& options,
                                            const Recipe& recipe, const GgufTensorType& type) {
  std::vector<GgufPlannedTensor> tensors;
  const std::uint64_t in = std::uint64_t{recipe.column_count()} * recipe.parameters.head_dim;
  for (const LayerRecipe& layer : recipe.layers) {
    const RowShape shape{.format = options.gguf_row_format,
                         .value_count = recipe.parameters.head_dim};
    GgufPlannedTensor& rows = tensors.emplace_back();
    rows.tensor.name = GgufTableName(layer.layer_id);
    rows.tensor.size_bytes = layer.row_count * shape.row_size_bytes();
    rows.tensor.source = {.seed = options.seed, .layer_id = layer.layer_id, .shape = shape};
    rows.type = type.id;
    rows.dimensions = {shape.value_count, layer.row_count};
    if (options.tables_only) continue;
    const auto add = [&](std::string_view name, TensorType as, std::string_view gguf_type,
                         std::uint64_t inner, std::uint64_t outer) {
      tensors.push_back(
          {.tensor = FillerTensor(options.seed,
                                  fmt::format("blk.{}.engram_{}.weight", layer.layer_id, name), as,
                                  {outer, inner}),
           .type = FindGgufTensorType(gguf_type)->id,
           .dimensions = {inner, outer}});
    };
    add("q", TensorType::kF32, "F32", kMadeHidden, kMadeStreams);
    add("k", TensorType::kF32, "F32", kMadeHidden, kMadeStreams);
    add("wkv", TensorType::kBf16, "BF16", in, (kMadeStreams + 1) * kMadeHidden);
  }
  return tensors;
}

PlannedFile PlanPart(std::string name, const GgufMetadata& metadata,
                     std::span<GgufPlannedTensor> tensors) {
  PlannedFile file;
  file.name = std::move(name);
  file.header = metadata.Header(tensors);
  file.size_bytes = file.header.size();
  for (GgufPlannedTensor& planned : tensors) {
    const std::uint64_t size_bytes = planned.tensor.size_bytes;
    file.tensors.push_back(std::move(planned.tensor));
    const std::uint64_t padding_bytes = GgufMetadata::PaddingOf(size_bytes);
    file.size_bytes += size_bytes + padding_bytes;
    if (padding_bytes == 0) continue;
    PlannedTensor& padding = file.tensors.emplace_back();
    padding.literal.assign(padding_bytes, '\0');
    padding.size_bytes = padding_bytes;
  }
  return file;
}

Result<RecipeParameters> GgufParameters(const MakeCheckpointOptions& options) {
  if (options.like != CheckpointModel::kDeepSeekV41Flash || options.fp8) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("GGUF is made like {} alone, without fp8",
                              Name(CheckpointModel::kDeepSeekV41Flash)));
  }
  if (options.gguf_split_count < 1 || options.gguf_split_count > kSplitCountMax) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("gguf_split_count is {}; it must be in [1, {}]",
                              options.gguf_split_count, kSplitCountMax));
  }
  Result<RecipeParameters> parameters = ModelParameters(options.like, options.shrink);
  if (parameters.ok() && options.gguf_token_map != nullptr) {
    RecipeParameters& p = parameters.value();
    const std::span<const std::uint32_t> classes = options.gguf_token_map->classes();
    p.vocab_size = static_cast<std::uint32_t>(classes.size());
    p.compressed_vocab_size = options.gguf_token_map->class_count();
    const std::size_t pad = std::min<std::size_t>(2, classes.size() - 1);
    p.pad_token = static_cast<std::int32_t>(classes[pad]);
  }
  return parameters;
}

}  // namespace

Result<CheckpointPlan> PlanGguf(const MakeCheckpointOptions& options) {
  Result<RecipeParameters> parameters = GgufParameters(options);
  if (!parameters.ok()) return std::move(parameters).TakeStatus();
  const std::optional<GgufTensorType> type = GgufTypeOf(options.gguf_row_format);
  if (!type) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("gguf_row_format is {}, which no type of GGUF's is",
                              Name(options.gguf_row_format)));
  }
  Result<Recipe> recipe = BuildRecipe(parameters.value());
  if (!recipe.ok()) return std::move(recipe).TakeStatus();

  CheckpointPlan plan;
  for (const LayerRecipe& layer : recipe.value().layers) plan.row_count += layer.row_count;
  std::vector<GgufPlannedTensor> tensors = ModelTensors(options, recipe.value(), *type);
  const std::uint32_t part_count = options.gguf_split_count;
  for (std::uint32_t part = 0; part < part_count; ++part) {
    // As llama.cpp's gguf-split: the metadata go into the first part.
    GgufMetadata metadata = part == 0 ? ModelMetadata(options, recipe.value()) : GgufMetadata();
    if (part_count > 1) {
      metadata.U16("split.no", static_cast<std::uint16_t>(part));
      metadata.U16("split.count", static_cast<std::uint16_t>(part_count));
      metadata.I32("split.tensors.count", tensors.size());
    }
    const std::size_t begin = tensors.size() * part / part_count;
    const std::size_t end = tensors.size() * (part + 1) / part_count;
    std::string name =
        part_count > 1 ? GgufPartPath("model", part + 1, part_count) : std::string("model.gguf");
    plan.files.push_back(
        PlanPart(std::move(name), metadata, std::span(tensors).subspan(begin, end - begin)));
    plan.size_bytes += plan.files.back().size_bytes;
  }
  return plan;
}

}  // namespace tiercel
