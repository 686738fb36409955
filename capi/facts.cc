#include "capi/facts.h"

#include <nlohmann/json.hpp>

namespace tiercel::capi {
namespace {

using Json = nlohmann::ordered_json;

constexpr int Of(RecipeKind kind) noexcept {
  return static_cast<int>(kind);
}
static_assert(TIERCEL_RECIPE_DEEPSEEK_V41 == Of(RecipeKind::kDeepSeekV41));
static_assert(TIERCEL_RECIPE_ENGRAM_DEMO == Of(RecipeKind::kEngramDemo));
static_assert(TIERCEL_RECIPE_QWEN38 == Of(RecipeKind::kQwen38));

constexpr int Of(RowFormat format) noexcept {
  return static_cast<int>(format);
}
static_assert(TIERCEL_FORMAT_E4M3_BLOCK32 == Of(RowFormat::kE4M3Block32));
static_assert(TIERCEL_FORMAT_E4M3_TENSOR == Of(RowFormat::kE4M3Tensor));
static_assert(TIERCEL_FORMAT_BF16 == Of(RowFormat::kBf16));
static_assert(TIERCEL_FORMAT_FP16 == Of(RowFormat::kFp16));
static_assert(TIERCEL_FORMAT_FP32 == Of(RowFormat::kFp32));
static_assert(TIERCEL_FORMAT_Q8_0 == Of(RowFormat::kQ8_0));
static_assert(TIERCEL_FORMAT_Q4_K == Of(RowFormat::kQ4_K));
static_assert(TIERCEL_FORMAT_Q3_K == Of(RowFormat::kQ3_K));
static_assert(TIERCEL_FORMAT_Q2_K == Of(RowFormat::kQ2_K));

/// The files' places of each part of a layer's rows.
Json PartsJson(const CheckpointInfo& checkpoint, const LayerTable& layer) {
  Json parts = Json::array();
  for (const RowPart& part : layer.parts) {
    Json extents = Json::array();
    for (const RowExtent& extent : part.extents) {
      extents.push_back({{"tensor", extent.tensor},
                         {"file", checkpoint.files.at(extent.file_index).path},
                         {"offset", extent.offset_bytes},
                         {"first_row", extent.first_row},
                         {"rows", extent.row_count}});
    }
    parts.push_back({{"row_bytes", part.size_bytes}, {"extents", std::move(extents)}});
  }
  return parts;
}

Json LayerJson(const CheckpointInfo& checkpoint, const LayerTable& layer) {
  return {{"layer", layer.layer_id},
          {"columns", checkpoint.recipe.column_count()},
          {"rows", layer.row_count},
          {"row_format", Name(layer.shape.format)},
          {"row_values", layer.shape.value_count},
          {"row_bytes", layer.shape.row_size_bytes()},
          {"scale", layer.shape.tensor_scale},
          {"parts", PartsJson(checkpoint, layer)}};
}

}  // namespace

tiercel_recipe_info ToInfo(const Recipe& recipe) {
  const RecipeParameters& parameters = recipe.parameters;
  return {.struct_size = sizeof(tiercel_recipe_info),
          .kind = static_cast<std::uint32_t>(parameters.kind),
          .layer_count = static_cast<std::uint32_t>(recipe.layers.size()),
          .order_max = parameters.order_max,
          .order_count = recipe.order_count(),
          .head_count = parameters.head_count,
          .head_dim = parameters.head_dim,
          .column_count = recipe.column_count(),
          .vocab_size = parameters.vocab_size,
          .compressed_vocab_size = parameters.compressed_vocab_size,
          .reserved = 0};
}

tiercel_checkpoint_info ToInfo(const CheckpointInfo& checkpoint) {
  return {.struct_size = sizeof(tiercel_checkpoint_info),
          .table_bytes = checkpoint.table_bytes,
          .layer_count = static_cast<std::uint32_t>(checkpoint.layers.size()),
          .file_count = static_cast<std::uint32_t>(checkpoint.files.size())};
}

tiercel_layer_info ToInfo(const LayerTable& layer, std::uint32_t column_count) {
  return {.struct_size = sizeof(tiercel_layer_info),
          .row_count = layer.row_count,
          .layer_id = layer.layer_id,
          .column_count = column_count,
          .row_format = static_cast<std::uint32_t>(layer.shape.format),
          .value_count = layer.shape.value_count,
          .row_size_bytes = layer.shape.row_size_bytes(),
          .tensor_scale = layer.shape.tensor_scale};
}

std::string ToJson(const CheckpointInfo& checkpoint) {
  Json json = {{"path", checkpoint.path},
               {"layout", checkpoint.layout},
               {"notes", checkpoint.notes},
               {"recipe", Json::parse(tiercel::ToJson(checkpoint.recipe))},
               {"table_bytes", checkpoint.table_bytes}};
  json["layers"] = Json::array();
  for (const LayerTable& layer : checkpoint.layers) {
    json["layers"].push_back(LayerJson(checkpoint, layer));
  }
  json["files"] = Json::array();
  for (const TableFile& file : checkpoint.files) {
    json["files"].push_back({{"path", file.path}, {"bytes", file.size_bytes}});
  }
  // Paths need not be UTF-8.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace tiercel::capi
