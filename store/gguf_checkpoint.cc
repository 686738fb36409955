#include "store/gguf_checkpoint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "store/gguf_files.h"
#include "store/gguf_recipe.h"
#include "store/safetensors.h"
#include "store/synthetic.h"

namespace tiercel {
namespace {

struct GgufRowType {
  std::string_view type;
  RowFormat format;
};
constexpr GgufRowType kGgufRowTypes[] = {
    {"F32", RowFormat::kFp32},  {"F16", RowFormat::kFp16},  {"BF16", RowFormat::kBf16},
    {"Q8_0", RowFormat::kQ8_0}, {"Q4_K", RowFormat::kQ4_K}, {"Q3_K", RowFormat::kQ3_K},
    {"Q2_K", RowFormat::kQ2_K},
};

bool IsTableName(std::string_view name) noexcept {
  return name.starts_with("blk.") && name.ends_with(".engram_embd.weight");
}

bool IsTablePathKey(std::string_view key) noexcept {
  return key.find(".engram.") != std::string_view::npos && key.ends_with(".table_path");
}

/// Why a layer has no table in the file, where the file says so itself.
std::string TablePathOf(const GgufValues& values, std::string_view prefix, std::uint32_t layer_id,
                        std::size_t layer_index) {
  // Converters count N by block or by place in layer_ids.
  for (const std::uint64_t n : {std::uint64_t{layer_id}, std::uint64_t{layer_index}}) {
    const auto found = values.find(fmt::format("{}.engram.{}.table_path", prefix, n));
    if (found != values.end()) return found->second.text;
  }
  return {};
}

/// Makes the layers' tables out of what was read.
///
/// Threading: one thread at a time.
class GgufTables {
 public:
  GgufTables(const GgufFiles& files, const GgufRecipe& recipe) : files_(files), recipe_(recipe) {}

  Result<LayerTable> Build(std::size_t layer_index) const {
    const LayerRecipe& layer = recipe_.recipe.layers[layer_index];
    const std::string name = GgufTableName(layer.layer_id);
    const auto found = std::find_if(
        files_.tensors.begin(), files_.tensors.end(),
        [&name](const GgufPlacedTensor& placed) { return placed.tensor.name == name; });
    if (found == files_.tensors.end()) return Missing(layer_index, name);
    const GgufTensor& tensor = found->tensor;
    const std::optional<GgufTensorType> type = FindGgufTensorType(tensor.type);
    const std::optional<RowFormat> format = type ? RowFormatOfGguf(*type) : std::nullopt;
    if (!format) {
      return Invalid(*found, fmt::format("has type {}, which this release cannot read (it reads "
                                         "F32, F16, BF16, Q8_0, Q4_K, Q3_K and Q2_K)",
                                         type ? std::string(type->name)
                                              : fmt::format("number {}", tensor.type)));
    }
    const std::uint32_t head_dim = recipe_.recipe.parameters.head_dim;
    std::vector<std::uint64_t> dimensions = tensor.dimensions;
    while (dimensions.size() > 2 && dimensions.back() == 1) dimensions.pop_back();
    if (dimensions != std::vector<std::uint64_t>{head_dim, layer.row_count}) {
      return Invalid(*found,
                     fmt::format("has dimensions [{}], but the metadata make them [{}, {}] "
                                 "(values of a row, rows)",
                                 fmt::join(tensor.dimensions, ", "), head_dim, layer.row_count));
    }
    LayerTable table;
    table.layer_id = layer.layer_id;
    table.row_count = layer.row_count;
    table.shape = {.format = *format, .value_count = head_dim};
    RowExtent extent{.file_index = found->file_index,
                     .offset_bytes = tensor.offset_bytes,
                     .first_row = 0,
                     .row_count = layer.row_count,
                     .tensor = name};
    table.parts.push_back({.size_bytes = table.shape.row_size_bytes(), .extents = {}});
    table.parts.back().extents.push_back(std::move(extent));
    return table;
  }

 private:
  Status Invalid(const GgufPlacedTensor& placed, std::string_view what) const {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: tensor {} at byte {} {}", files_.files[placed.file_index].path,
                              Printable(placed.tensor.name), placed.tensor.offset_bytes, what));
  }

  Status Missing(std::size_t layer_index, std::string_view name) const {
    const std::uint32_t layer_id = recipe_.recipe.layers[layer_index].layer_id;
    const std::string elsewhere = TablePathOf(files_.values, recipe_.prefix, layer_id, layer_index);
    const std::string& path = files_.files.front().path;
    if (!elsewhere.empty()) {
      return Status(StatusCode::kNotFound,
                    fmt::format("{}: the table of layer {} lies outside of it, in {}: such files "
                                "are not read; open the checkpoint that it comes from",
                                path, layer_id, Printable(elsewhere)));
    }
    return Status(
        StatusCode::kNotFound,
        fmt::format("{}: no tensor {} in its {} file{}, though layer {} is said to have a "
                    "table: is it complete?",
                    path, name, files_.files.size(), files_.files.size() == 1 ? "" : "s",
                    layer_id));
  }

  const GgufFiles& files_;
  const GgufRecipe& recipe_;
};

/// The seed of a file that MakeCheckpoint made; nothing for any other.
Result<std::optional<std::uint64_t>> SeedOf(const GgufFiles& files) {
  const auto seed = files.values.find(kGgufSeedKey);
  const auto generator = files.values.find(kGgufGeneratorKey);
  const auto none = std::optional<std::uint64_t>();
  if (seed == files.values.end() && generator == files.values.end()) return none;
  const auto is_number = [&files](const auto& found) {
    return found != files.values.end() && !found->second.is_array &&
           found->second.integers.size() == 1;
  };
  if (!is_number(seed) || !is_number(generator) ||
      generator->second.integers.front() != kSyntheticGenerator) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: {} or {} is not as this release writes it: make the file again",
                              files.files.front().path, kGgufSeedKey, kGgufGeneratorKey));
  }
  return std::optional<std::uint64_t>(seed->second.integers.front());
}

/// Drops files that hold no table: parts with other tensors alone.
void DropFilesWithoutTables(CheckpointInfo& info) {
  std::vector<TableFile> files;
  for (std::uint32_t i = 0; i < info.files.size(); ++i) {
    bool used = false;
    for (LayerTable& layer : info.layers) {
      for (RowExtent& extent : layer.parts.front().extents) {
        if (extent.file_index != i) continue;
        // Never above i: indices that were moved are not met again.
        extent.file_index = static_cast<std::uint32_t>(files.size());
        used = true;
      }
    }
    if (used) files.push_back(std::move(info.files[i]));
  }
  info.files = std::move(files);
}

}  // namespace

std::optional<RowFormat> RowFormatOfGguf(const GgufTensorType& type) noexcept {
  for (const GgufRowType& row : kGgufRowTypes) {
    if (row.type == type.name) return row.format;
  }
  return std::nullopt;
}

std::optional<GgufTensorType> GgufTypeOf(RowFormat format) noexcept {
  for (const GgufRowType& row : kGgufRowTypes) {
    if (row.format == format) return FindGgufTensorType(row.type);
  }
  return std::nullopt;
}

std::string GgufTableName(std::uint32_t layer_id) {
  return fmt::format("blk.{}.engram_embd.weight", layer_id);
}

Result<CheckpointInfo> InspectGguf(const std::string& path, const std::string& gguf_path) {
  const GgufFilter filter{.key =
                              [](std::string_view key) {
                                return IsGgufRecipeKey(key) || IsTablePathKey(key) ||
                                       key == kGgufSeedKey || key == kGgufGeneratorKey;
                              },
                          .tensor = IsTableName};
  Result<GgufFiles> files = ReadGgufFiles(gguf_path, filter);
  if (!files.ok()) return std::move(files).TakeStatus();
  Result<GgufRecipe> recipe =
      ReadGgufRecipe(files.value().values, files.value().files.front().path);
  if (!recipe.ok()) return std::move(recipe).TakeStatus();

  CheckpointInfo info;
  info.path = path;
  info.layout = "gguf";
  const GgufTables tables(files.value(), recipe.value());
  for (std::size_t i = 0; i < recipe.value().recipe.layers.size(); ++i) {
    Result<LayerTable> table = tables.Build(i);
    if (!table.ok()) return std::move(table).TakeStatus();
    // Cannot overflow: all of these bytes are in files.
    info.table_bytes += table.value().row_count * table.value().shape.row_size_bytes();
    info.layers.push_back(std::move(table).value());
  }
  Result<std::optional<std::uint64_t>> seed = SeedOf(files.value());
  if (!seed.ok()) return std::move(seed).TakeStatus();
  info.synthetic_seed = seed.value();
  info.files = std::move(files.value().files);
  info.recipe = std::move(recipe.value().recipe);
  info.token_map = std::move(recipe.value().token_map);
  info.notes = std::move(recipe.value().notes);
  DropFilesWithoutTables(info);
  return info;
}

}  // namespace tiercel
