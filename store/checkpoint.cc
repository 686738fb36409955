#include "tiercel/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/byte_order.h"
#include "base/file.h"
#include "base/json.h"
#include "store/checkpoint_match.h"
#include "store/checkpoint_shards.h"
#include "store/gguf_checkpoint.h"
#include "store/gguf_files.h"
#include "store/packed_manifest.h"
#include "store/safetensors.h"
#include "store/synthetic.h"

namespace tiercel {
namespace {

constexpr std::uint64_t kMarkerSizeBytesMax = 64U << 10;

/// Builds the layers' tables out of the tensors that were found.
///
/// Threading: one thread at a time.
class TableBuilder {
 public:
  TableBuilder(const CheckpointPlace& place, const Recipe& recipe, const FoundTensors& found)
      : place_(place), recipe_(recipe), found_(found) {}

  Result<LayerTable> Build(const LayerRecipe& layer) const {
    switch (recipe_.parameters.kind) {
      case RecipeKind::kDeepSeekV41:
        return BuildV41(layer);
      case RecipeKind::kQwen38:
        return BuildQwen(layer);
      case RecipeKind::kEngramDemo:
        return BuildDemo(layer);
    }
    return Status(StatusCode::kInvalidArgument, "no such kind of recipe");
  }

 private:
  Result<LayerTable> BuildV41(const LayerRecipe& layer) const {
    const std::uint32_t head_dim = recipe_.parameters.head_dim;
    if (head_dim % 32 != 0) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("{}/config.json: engram_head_dim is {}; one scale stands for 32 "
                                "values, so it must be a multiple of 32",
                                place_.directory, head_dim));
    }
    Result<const TableTensor*> weight = FindOne(layer, TensorRole::kRows, "engram.embed.weight");
    if (!weight.ok()) return std::move(weight).TakeStatus();
    Result<const TableTensor*> scale =
        FindOne(layer, TensorRole::kBlockScales, "engram.embed.scale");
    if (!scale.ok()) return std::move(scale).TakeStatus();
    Status status =
        CheckTensor(*weight.value(), {TensorType::kF8E4M3}, {layer.row_count, head_dim});
    if (!status.ok()) return status;
    status = CheckTensor(*scale.value(), {TensorType::kF8E8M0}, {layer.row_count, head_dim / 32});
    if (!status.ok()) return status;

    LayerTable table = NewTable(layer);
    table.shape = {.format = RowFormat::kE4M3Block32, .value_count = head_dim};
    table.parts = {{head_dim, {ExtentOf(*weight.value(), 0)}},
                   {head_dim / 32, {ExtentOf(*scale.value(), 0)}}};
    return table;
  }

  Result<LayerTable> BuildDemo(const LayerRecipe& layer) const {
    Result<const TableTensor*> rows =
        FindOne(layer, TensorRole::kRows, RowsTensorSuffix(recipe_.parameters.kind));
    if (!rows.ok()) return std::move(rows).TakeStatus();
    const TableTensor& tensor = *rows.value();
    Status status = CheckTensor(tensor, {TensorType::kF32, TensorType::kBf16, TensorType::kF16},
                                {layer.row_count, recipe_.parameters.head_dim});
    if (!status.ok()) return status;

    LayerTable table = NewTable(layer);
    table.shape = {.format = tensor.info.type == TensorType::kF32    ? RowFormat::kFp32
                             : tensor.info.type == TensorType::kBf16 ? RowFormat::kBf16
                                                                     : RowFormat::kFp16,
                   .value_count = recipe_.parameters.head_dim};
    table.parts = {{table.shape.row_size_bytes(), {ExtentOf(tensor, 0)}}};
    return table;
  }

  Result<LayerTable> BuildQwen(const LayerRecipe& layer) const {
    const std::vector<const TableTensor*> shards = Find(layer, TensorRole::kShard);
    Status status = CheckShards(layer, shards);
    if (!status.ok()) return status;

    LayerTable table = NewTable(layer);
    table.shape.value_count = recipe_.parameters.head_dim;
    table.shape.format = RowFormat::kBf16;
    if (shards.front()->info.type == TensorType::kF8E4M3) {
      table.shape.format = RowFormat::kE4M3Tensor;
      Result<float> scale = ReadTensorScale(layer);
      if (!scale.ok()) return std::move(scale).TakeStatus();
      table.shape.tensor_scale = scale.value();
    }
    RowPart part{.size_bytes = table.shape.row_size_bytes(), .extents = {}};
    std::uint64_t row = 0;
    for (const TableTensor* const shard : shards) {
      RowExtent extent = ExtentOf(*shard, row);
      row += extent.row_count;
      if (extent.row_count > 0) part.extents.push_back(std::move(extent));
    }
    table.parts.push_back(std::move(part));
    return table;
  }

  /// Shards 0..n-1 without a gap, of one type and one row count but for the last.
  Status CheckShards(const LayerRecipe& layer,
                     const std::vector<const TableTensor*>& shards) const {
    if (shards.empty()) return Missing(layer, RowsTensorSuffix(recipe_.parameters.kind));
    const TensorInfo& first = shards.front()->info;
    std::uint64_t row_count = 0;
    for (std::size_t i = 0; i < shards.size(); ++i) {
      const TableTensor& shard = *shards[i];
      if (i > 0 && shard.is.shard_index == shards[i - 1]->is.shard_index) {
        return Twice(*shards[i - 1], shard);
      }
      if (shard.is.shard_index != i) {
        return Missing(layer, fmt::format("ple.ple_embedding.ngram_embedding.shard_{}.weight", i));
      }
      const std::uint64_t rows = shard.info.shape.empty() ? 0 : shard.info.shape.front();
      Status status = CheckTensor(shard, {TensorType::kBf16, TensorType::kF8E4M3},
                                  {rows, recipe_.parameters.head_dim});
      if (!status.ok()) return status;
      const bool last = i + 1 == shards.size();
      if (shard.info.type != first.type ||
          (last ? rows > first.shape[0] : rows != first.shape[0])) {
        return Status(
            StatusCode::kInvalidArgument,
            fmt::format("{}: is {} {}, but {} is {} {}: all shards but the last must be alike; "
                        "fetch the checkpoint again",
                        Where(shard), Name(shard.info.type), Shape(shard.info.shape),
                        Printable(first.name), Name(first.type), Shape(first.shape)));
      }
      row_count += rows;  // Cannot overflow: each shard lies in a file of its own bytes.
    }
    if (row_count != layer.row_count) {
      return Status(
          StatusCode::kInvalidArgument,
          fmt::format("{}: the {} shards up to this one have {} rows, but {}/config.json "
                      "gives {}: the two belong to different models, or shards are missing",
                      Where(*shards.back()), shards.size(), row_count, place_.directory,
                      layer.row_count));
    }
    return {};
  }

  /// The one scale of an FP8 table: two bytes, read here.
  Result<float> ReadTensorScale(const LayerRecipe& layer) const {
    Result<const TableTensor*> found =
        FindOne(layer, TensorRole::kTensorScale, "ple.ple_embedding.ngram_embedding.weight_scale");
    if (!found.ok()) return std::move(found).TakeStatus();
    const TableTensor& tensor = *found.value();
    Status status = CheckTensor(tensor, {TensorType::kBf16}, {1});
    if (!status.ok()) return status;
    const std::string& path = found_.files[tensor.file_index].path;
    Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
    if (!file.ok()) return std::move(file).TakeStatus();
    std::array<std::byte, 2> bytes{};
    status = ReadAt(file.value(), path, tensor.info.offset_bytes, bytes);
    if (!status.ok()) return status;
    const auto bits = static_cast<std::uint32_t>(LoadLittleEndian<std::uint16_t>(bytes.data()));
    const float scale = std::bit_cast<float>(bits << 16);
    if (!(scale > 0.0F) || scale > 3.4e38F) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("{}: is {}; a scale must be positive and finite: fetch the file "
                                "again",
                                Where(tensor), scale));
    }
    return scale;
  }

  std::vector<const TableTensor*> Find(const LayerRecipe& layer, TensorRole role) const {
    std::vector<const TableTensor*> tensors;
    for (const TableTensor& tensor : found_.tensors) {
      if (tensor.is.layer_id == layer.layer_id && tensor.is.role == role) {
        tensors.push_back(&tensor);
      }
    }
    std::stable_sort(tensors.begin(), tensors.end(), [](const auto* a, const auto* b) {
      return a->is.shard_index < b->is.shard_index;
    });
    return tensors;
  }

  Result<const TableTensor*> FindOne(const LayerRecipe& layer, TensorRole role,
                                     std::string_view suffix) const {
    const std::vector<const TableTensor*> tensors = Find(layer, role);
    if (tensors.empty()) return Missing(layer, suffix);
    if (tensors.size() > 1) return Twice(*tensors[0], *tensors[1]);
    return tensors.front();
  }

  Status CheckTensor(const TableTensor& tensor, std::initializer_list<TensorType> types,
                     const std::vector<std::uint64_t>& shape) const {
    if (std::find(types.begin(), types.end(), tensor.info.type) == types.end()) {
      std::string allowed;
      for (const TensorType type : types) {
        allowed += fmt::format("{}{}", allowed.empty() ? "" : " or ", Name(type));
      }
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("{}: has dtype {}, expected {}: this release cannot read it",
                                Where(tensor), Name(tensor.info.type), allowed));
    }
    if (tensor.info.shape != shape) {
      return Status(
          StatusCode::kInvalidArgument,
          fmt::format("{}: has shape {}, but {}/config.json makes it {}: the two belong to "
                      "different models",
                      Where(tensor), Shape(tensor.info.shape), place_.directory, Shape(shape)));
    }
    return {};
  }

  Status Missing(const LayerRecipe& layer, std::string_view suffix) const {
    return Status(
        StatusCode::kNotFound,
        fmt::format("{}: no tensor *layers.{}.{}, which {}/config.json asks for: fetch the "
                    "missing files, or is it another model's config?",
                    place_.single_shard.empty() ? place_.directory : place_.single_shard,
                    layer.layer_id, suffix, place_.directory));
  }

  Status Twice(const TableTensor& a, const TableTensor& b) const {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("two tensors for one table of layer {}: {}, and {}: keep one",
                              a.is.layer_id, Where(a), Where(b)));
  }

  std::string Where(const TableTensor& tensor) const {
    return fmt::format("{}: tensor {} at byte {}", found_.files[tensor.file_index].path,
                       Printable(tensor.info.name), tensor.info.offset_bytes);
  }

  static std::string Shape(const std::vector<std::uint64_t>& shape) {
    return fmt::format("[{}]", fmt::join(shape, ", "));
  }

  static LayerTable NewTable(const LayerRecipe& layer) {
    LayerTable table;
    table.layer_id = layer.layer_id;
    table.row_count = layer.row_count;
    return table;
  }

  static RowExtent ExtentOf(const TableTensor& tensor, std::uint64_t first_row) {
    return {.file_index = tensor.file_index,
            .offset_bytes = tensor.info.offset_bytes,
            .first_row = first_row,
            .row_count = tensor.info.shape.front(),
            .tensor = tensor.info.name};
  }

  const CheckpointPlace& place_;
  const Recipe& recipe_;
  const FoundTensors& found_;
};

/// The seed of a made checkpoint; nothing for any other.
Result<std::optional<std::uint64_t>> ReadMarker(const std::string& directory) {
  const std::string path = fmt::format("{}/{}", directory, kSyntheticMarkerName);
  Result<std::string> text = ReadWholeFile(path, kMarkerSizeBytesMax);
  if (!text.ok()) {
    if (text.status().code() == StatusCode::kNotFound) return std::optional<std::uint64_t>();
    return std::move(text).TakeStatus();
  }
  Result<nlohmann::json> json = ParseJson(text.value(), path);
  if (!json.ok()) return std::move(json).TakeStatus();
  const auto bad = [&path](std::string_view what) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: {}; make the checkpoint again, or remove this file to treat it "
                              "as any other",
                              path, what));
  };
  const nlohmann::json& marker = json.value();
  if (!marker.is_object() || !marker.contains("format") ||
      marker["format"] != kSyntheticMarkerFormat) {
    return bad(fmt::format("\"format\" is not \"{}\"", kSyntheticMarkerFormat));
  }
  if (!marker.contains("version") || marker["version"] != kSyntheticMarkerVersion ||
      !marker.contains("generator") || marker["generator"] != kSyntheticGenerator) {
    return bad(
        fmt::format("\"version\" or \"generator\" is not {} or not {}: another release made "
                    "it",
                    kSyntheticMarkerVersion, kSyntheticGenerator));
  }
  if (!marker.contains("seed") || !marker["seed"].is_number_unsigned()) {
    return bad("\"seed\" is not an integer in [0, 2^64)");
  }
  return std::optional<std::uint64_t>(marker["seed"].get<std::uint64_t>());
}

/// Drops files that no extent points into (they held tensors of layers that the
/// config does not name).
void DropUnusedFiles(CheckpointInfo& info) {
  std::vector<std::uint32_t> new_index(info.files.size(), 0);
  for (const LayerTable& layer : info.layers) {
    for (const RowPart& part : layer.parts) {
      for (const RowExtent& extent : part.extents) new_index[extent.file_index] = 1;
    }
  }
  std::vector<TableFile> files;
  for (std::size_t i = 0; i < info.files.size(); ++i) {
    if (new_index[i] == 0) continue;
    new_index[i] = static_cast<std::uint32_t>(files.size());
    files.push_back(std::move(info.files[i]));
  }
  info.files = std::move(files);
  for (LayerTable& layer : info.layers) {
    for (RowPart& part : layer.parts) {
      for (RowExtent& extent : part.extents) extent.file_index = new_index[extent.file_index];
    }
  }
}

}  // namespace

Result<CheckpointInfo> InspectCheckpoint(const std::string& path) {
  if (IsPackedTable(path)) return InspectPacked(path);
  Result<std::optional<std::string>> gguf = FindGguf(path);
  if (!gguf.ok()) return std::move(gguf).TakeStatus();
  if (gguf.value()) return InspectGguf(path, *gguf.value());
  Result<CheckpointPlace> place = LocateCheckpoint(path);
  if (!place.ok()) return std::move(place).TakeStatus();
  const std::string& directory = place.value().directory;
  Result<Recipe> recipe = LoadRecipe(fmt::format("{}/config.json", directory));
  if (!recipe.ok()) return std::move(recipe).TakeStatus();

  CheckpointInfo info;
  info.path = path;
  info.recipe = std::move(recipe).value();
  const RecipeKind kind = info.recipe.parameters.kind;
  info.layout = Name(kind);
  Result<FoundTensors> found = FindTableTensors(place.value(), kind);
  if (!found.ok()) return std::move(found).TakeStatus();
  const TableBuilder builder(place.value(), info.recipe, found.value());
  for (const LayerRecipe& layer : info.recipe.layers) {
    Result<LayerTable> table = builder.Build(layer);
    if (!table.ok()) return std::move(table).TakeStatus();
    // Cannot overflow: all of these bytes are in files.
    info.table_bytes += table.value().row_count * table.value().shape.row_size_bytes();
    info.layers.push_back(std::move(table).value());
  }
  info.files = std::move(found.value().files);
  DropUnusedFiles(info);

  Result<std::optional<std::uint64_t>> seed = ReadMarker(directory);
  if (!seed.ok()) return std::move(seed).TakeStatus();
  info.synthetic_seed = seed.value();
  return info;
}

}  // namespace tiercel
