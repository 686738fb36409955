#include "engram/recipe_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engram/config_reader.h"
#include "engram/recipe_check.h"

namespace tiercel {
namespace {

constexpr std::string_view kFormat = "tiercel-recipe";
constexpr std::uint64_t kVersion = 1;
constexpr std::uint64_t kUint32Max = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint64_t kUint64Max = std::numeric_limits<std::uint64_t>::max();

constexpr std::array<std::string_view, 16> kTopKeys = {
    "format",     "version",   "kind",       "layer_ids",          "order_max",
    "head_count", "head_dim",  "vocab_size", "head_size_bases",    "compressed_vocab_size",
    "pad_token",  "eos_token", "seed",       "row_count_multiple", "layers",
    "comment"};
constexpr std::array<std::string_view, 4> kLayerKeys = {"layer_id", "multipliers", "head_sizes",
                                                        "row_count"};

void RefuseOtherKeys(ConfigReader& reader, const nlohmann::json& object,
                     std::span<const std::string_view> keys) {
  for (const auto& item : object.items()) {
    if (std::find(keys.begin(), keys.end(), item.key()) == keys.end()) {
      reader.Fail(fmt::format("unknown key \"{}\" in a recipe file", item.key().substr(0, 60)));
    }
  }
}

RecipeKind ReadKind(ConfigReader& reader) {
  const nlohmann::json* const value = reader.Find("kind");
  for (const RecipeKind kind :
       {RecipeKind::kDeepSeekV41, RecipeKind::kEngramDemo, RecipeKind::kQwen38}) {
    if (value != nullptr && value->is_string() &&
        value->get_ref<const std::string&>() == Name(kind)) {
      return kind;
    }
  }
  reader.Fail("\"kind\" must be \"deepseek-v4.1\", \"engram-demo\" or \"qwen3.8\"");
  return RecipeKind::kDeepSeekV41;
}

RecipeParameters ReadParameters(ConfigReader& reader) {
  const auto small = [&reader](std::string_view key, std::uint64_t value_max) {
    return static_cast<std::uint32_t>(reader.Integer({key}, value_max));
  };
  RecipeParameters p;
  p.kind = ReadKind(reader);
  for (const std::uint64_t id : reader.List("layer_ids", kUint32Max, kLayerCountMax)) {
    p.layer_ids.push_back(static_cast<std::uint32_t>(id));
  }
  p.order_max = small("order_max", kOrderMax);
  p.head_count = small("head_count", kHeadCountMax);
  p.head_dim = small("head_dim", kHeadDimMax);
  p.head_size_bases = reader.List("head_size_bases", kHeadSizeEnd - 1, kOrderMax);
  p.vocab_size = static_cast<std::uint32_t>(reader.IntegerOr("vocab_size", kInt32Max, 0));
  p.compressed_vocab_size =
      static_cast<std::uint32_t>(reader.IntegerOr("compressed_vocab_size", kInt32Max, 0));
  p.pad_token = static_cast<std::int32_t>(reader.IntegerOr("pad_token", kInt32Max, 0));
  p.eos_token = static_cast<std::int32_t>(reader.IntegerOr("eos_token", kInt32Max, 0));
  p.seed = reader.IntegerOr("seed", kUint64Max, 0);
  p.row_count_multiple =
      static_cast<std::uint32_t>(reader.IntegerOr("row_count_multiple", kRowCountMultipleMax, 1));
  return p;
}

/// The pinned layers; nothing where the file pins none. An error goes to `reader`.
std::optional<std::vector<LayerRecipe>> ReadLayers(ConfigReader& reader) {
  const nlohmann::json* const list = reader.Find("layers");
  if (list == nullptr) return std::nullopt;
  std::vector<LayerRecipe> layers;
  if (!list->is_array() || list->size() > kLayerCountMax) {
    reader.Fail(fmt::format("\"layers\" must be a list of at most {} objects", kLayerCountMax));
    return layers;
  }
  for (const nlohmann::json& object : *list) {
    if (!object.is_object()) {
      reader.Fail("\"layers\" holds something that is no object");
      return layers;
    }
    const std::string where = fmt::format("\"layers\" entry {}", layers.size());
    ConfigReader fields(where, {&object});
    RefuseOtherKeys(fields, object, kLayerKeys);
    LayerRecipe& layer = layers.emplace_back();
    layer.layer_id = static_cast<std::uint32_t>(fields.Integer({"layer_id"}, kUint32Max));
    layer.multipliers = fields.List("multipliers", kUint64Max, kOrderMax);
    layer.head_sizes = fields.List("head_sizes", kHeadSizeEnd - 1, kColumnCountMax);
    layer.row_count = fields.IntegerOr("row_count", kUint64Max, 0);
    if (!fields.ok()) {
      reader.Fail(fields.TakeStatus().message());
      return layers;
    }
  }
  return layers;
}

Result<Recipe> Complete(const RecipeParameters& parameters,
                        const std::optional<std::vector<LayerRecipe>>& layers) {
  if (!layers) return BuildRecipe(parameters);
  Result<Recipe> recipe = PinRecipe(parameters, *layers);
  if (!recipe.ok()) return recipe;
  for (std::size_t i = 0; i < layers->size(); ++i) {
    const std::uint64_t stated = (*layers)[i].row_count;
    const LayerRecipe& layer = recipe.value().layers[i];
    if (stated != 0 && stated != layer.row_count) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("\"row_count\" of layer {} states {}; its head sizes give {}",
                                layer.layer_id, stated, layer.row_count));
    }
  }
  return recipe;
}

}  // namespace

Result<Recipe> ReadRecipeFile(const nlohmann::json& top, std::string_view source_name,
                              const ParseRecipeOptions& options) {
  ConfigReader reader(source_name, {&top});
  const nlohmann::json* const format = reader.Find("format");
  if (format == nullptr || *format != kFormat) {
    reader.Fail(fmt::format("\"format\" is not \"{}\"", kFormat));
  }
  if (const std::uint64_t version = reader.Integer({"version"}, kUint64Max);
      reader.ok() && version != kVersion) {
    reader.Fail(
        fmt::format("recipe file of version {}; this library reads version {}", version, kVersion));
  }
  if (top.contains("shard")) {
    reader.Fail(
        "the recipe of one head shard, which says too little of the whole: read the "
        "whole recipe and take the shard of it");
  }
  if (!reader.ok()) return reader.TakeStatus();
  RefuseOtherKeys(reader, top, kTopKeys);
  const RecipeParameters parameters = ReadParameters(reader);
  const std::optional<std::vector<LayerRecipe>> layers = ReadLayers(reader);
  if (const auto given = options.compressed_vocab_size;
      given && parameters.kind != RecipeKind::kQwen38 &&
      *given != parameters.compressed_vocab_size) {
    reader.Fail(
        fmt::format("\"compressed_vocab_size\" is {}, the token map has {} classes: they "
                    "belong to different models",
                    parameters.compressed_vocab_size, *given));
  }
  if (!reader.ok()) return reader.TakeStatus();
  Result<Recipe> recipe = Complete(parameters, layers);
  if (recipe.ok()) return recipe;
  return Status(recipe.status().code(),
                fmt::format("{}: {}", source_name, recipe.status().message()));
}

std::string ToJson(const Recipe& recipe) {
  const RecipeParameters& p = recipe.parameters;
  nlohmann::ordered_json json = {{"format", kFormat},
                                 {"version", kVersion},
                                 {"kind", Name(p.kind)},
                                 {"layer_ids", p.layer_ids},
                                 {"order_max", p.order_max},
                                 {"head_count", p.head_count},
                                 {"head_dim", p.head_dim},
                                 {"head_size_bases", p.head_size_bases},
                                 {"vocab_size", p.vocab_size},
                                 {"compressed_vocab_size", p.compressed_vocab_size},
                                 {"pad_token", p.pad_token},
                                 {"eos_token", p.eos_token},
                                 {"seed", p.seed},
                                 {"row_count_multiple", p.row_count_multiple}};
  nlohmann::ordered_json& layers = json["layers"] = nlohmann::ordered_json::array();
  for (const LayerRecipe& layer : recipe.layers) {
    layers.push_back({{"layer_id", layer.layer_id},
                      {"multipliers", layer.multipliers},
                      {"head_sizes", layer.head_sizes},
                      {"row_count", layer.row_count}});
    // Of a whole recipe they are prefix sums of the sizes.
    if (recipe.shard != HeadShard{}) layers.back()["offsets"] = layer.offsets;
  }
  if (recipe.shard != HeadShard{}) {
    json["shard"] = {{"rank", recipe.shard.rank}, {"count", recipe.shard.count}};
  }
  return json.dump(2) + "\n";
}

}  // namespace tiercel
