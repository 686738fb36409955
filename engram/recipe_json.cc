#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "engram/config_reader.h"
#include "engram/recipe_check.h"
#include "engram/recipe_file.h"
#include "tiercel/recipe.h"

// Models' own configs. Each reader turns one kind of config.json into
// RecipeParameters; what a config says about sizes is then held against what the
// formulas give.

namespace tiercel {
namespace {

constexpr std::uint64_t kSizeBytesMax = 16U << 20;  // The largest known config has 7 KB.

/// What a config states besides the parameters.
struct ConfigFacts {
  RecipeParameters parameters;
  /// Rows of each layer's table, if the config states them.
  std::optional<std::vector<std::uint64_t>> row_counts;
};

std::vector<std::uint32_t> LayerIds(const std::vector<std::uint64_t>& values) {
  return {values.begin(), values.end()};
}

/// The compressed vocabulary by config or caller, who must not contradict each other.
std::uint32_t CompressedVocabSize(ConfigReader& config, const ParseRecipeOptions& options,
                                  std::initializer_list<std::string_view> keys) {
  const std::optional<std::uint64_t> stated = config.OptionalInteger(keys, kInt32Max);
  const std::optional<std::uint32_t> given = options.compressed_vocab_size;
  if (!stated && !given) {
    config.Fail(
        fmt::format("the config does not state the compressed vocabulary (\"{}\"); it is the "
                    "number of classes of the token map, pass it along",
                    *keys.begin()));
    return 0;
  }
  if (stated && given && *stated != *given) {
    config.Fail(
        fmt::format("the config states a compressed vocabulary of {}, the token map has {} "
                    "classes: they belong to different models",
                    *stated, *given));
  }
  return stated ? static_cast<std::uint32_t>(*stated) : *given;
}

/// DeepSeek-V4.1. A shrunk copy of the model states its own sizes in the same keys.
ConfigFacts ReadDeepSeekV41(ConfigReader& config, const ParseRecipeOptions& options) {
  ConfigFacts facts;
  RecipeParameters& p = facts.parameters;
  p.kind = RecipeKind::kDeepSeekV41;
  p.layer_ids = LayerIds(config.List("engram_layer_ids", kInt32Max, kLayerCountMax));
  p.order_max = static_cast<std::uint32_t>(config.Integer({"engram_max_ngram_size"}, kOrderMax));
  p.head_count = static_cast<std::uint32_t>(config.Integer({"engram_n_heads"}, kHeadCountMax));
  p.head_dim = static_cast<std::uint32_t>(config.Integer({"engram_head_dim"}, kHeadDimMax));
  const std::uint64_t base = config.Integer({"engram_vocab_size"}, kHeadSizeEnd - 1);
  p.head_size_bases.assign(p.order_max > 1 ? p.order_max - 1 : 0, base);
  p.vocab_size = static_cast<std::uint32_t>(config.IntegerOr("vocab_size", kInt32Max, 0));
  p.compressed_vocab_size = CompressedVocabSize(config, options, {"engram_compressed_vocab_size"});
  p.pad_token = static_cast<std::int32_t>(
      config.Integer({"engram_pad_token_id", "engram_pad_id"}, kInt32Max));
  if (config.Find("engram_num_embeddings") != nullptr) {
    facts.row_counts = config.List("engram_num_embeddings", std::uint64_t{1} << 62, kLayerCountMax);
  }
  return facts;
}

/// The pad of the demo's config is a raw id, which only the token map can compress.
/// Ids 0, 1 and 2 of the DeepSeek tokenizers are three distinct special tokens, the
/// first classes of the map, and so their own compressed ids.
std::int32_t DemoPadToken(ConfigReader& config) {
  const auto compressed = config.OptionalInteger({"pad_id_compressed"}, kInt32Max);
  if (compressed) return static_cast<std::int32_t>(*compressed);
  const std::uint64_t raw = config.Integer({"pad_id", "pad_id_raw"}, kInt32Max);
  if (raw > 2) {
    config.Fail(
        fmt::format("\"pad_id\" is the raw id {}; its compressed id is not known, add it "
                    "as \"pad_id_compressed\"",
                    raw));
  }
  return static_cast<std::int32_t>(raw);
}

/// EngramConfig of engram_demo_v1.py, its fields as JSON keys.
ConfigFacts ReadEngramDemo(ConfigReader& config, const ParseRecipeOptions& options) {
  ConfigFacts facts;
  RecipeParameters& p = facts.parameters;
  p.kind = RecipeKind::kEngramDemo;
  p.layer_ids = LayerIds(config.List("layer_ids", kInt32Max, kLayerCountMax));
  p.order_max = static_cast<std::uint32_t>(config.Integer({"max_ngram_size"}, kOrderMax));
  p.head_count = static_cast<std::uint32_t>(config.Integer({"n_head_per_ngram"}, kHeadCountMax));
  const std::uint64_t order_dim =
      config.Integer({"n_embed_per_ngram"}, std::uint64_t{kHeadDimMax} * kHeadCountMax);
  if (p.head_count == 0 || order_dim % p.head_count != 0) {
    config.Fail(
        fmt::format("\"n_embed_per_ngram\" is {}; it must be a multiple of "
                    "\"n_head_per_ngram\", {}",
                    order_dim, p.head_count));
    return facts;
  }
  p.head_dim = static_cast<std::uint32_t>(order_dim / p.head_count);
  p.head_size_bases = config.List("engram_vocab_size", kHeadSizeEnd - 1, kOrderMax);
  p.vocab_size = static_cast<std::uint32_t>(config.IntegerOr("vocab_size", kInt32Max, 0));
  p.compressed_vocab_size = CompressedVocabSize(
      config, options, {"engram_compressed_vocab_size", "compressed_vocab_size"});
  p.pad_token = DemoPadToken(config);
  p.seed = config.IntegerOr("seed", std::numeric_limits<std::uint64_t>::max(), 0);
  return facts;
}

/// Raw id that ends a segment; of a list the first, as the model does.
std::int32_t EosToken(ConfigReader& config) {
  const nlohmann::json* const value = config.Find("eos_token_id");
  if (value == nullptr || !value->is_array()) {
    return static_cast<std::int32_t>(config.Integer({"eos_token_id"}, kInt32Max));
  }
  const std::vector<std::uint64_t> ids = config.List("eos_token_id", kInt32Max, 1024);
  if (ids.empty()) config.Fail("\"eos_token_id\" is an empty list");
  return ids.empty() ? 0 : static_cast<std::int32_t>(ids.front());
}

/// qwen4_exp. Defaults are those of its configuration class.
ConfigFacts ReadQwen38(ConfigReader& config) {
  ConfigFacts facts;
  RecipeParameters& p = facts.parameters;
  p.kind = RecipeKind::kQwen38;
  std::vector<std::uint64_t> ids = config.List("ple_layer_ids", kInt32Max, kLayerCountMax);
  std::sort(ids.begin(), ids.end());
  for (const std::uint64_t id : ids) {
    if (id == 0) config.Fail("\"ple_layer_ids\" holds 0; its ids count from one");
    p.layer_ids.push_back(static_cast<std::uint32_t>(id - 1));
  }
  p.order_max = static_cast<std::uint32_t>(config.IntegerOr("ngram_size", kOrderMax, 3));
  p.head_count = static_cast<std::uint32_t>(config.IntegerOr("heads_per_ngram", kHeadCountMax, 8));
  const std::uint64_t columns = p.order_max > 1 ? (p.order_max - 1) * p.head_count : 0;
  const std::uint64_t width = config.Integer({"ple_embed_dim", "hidden_size"},
                                             std::uint64_t{kHeadDimMax} * kColumnCountMax);
  if (columns == 0 || width % columns != 0 || width / columns > kHeadDimMax) {
    config.Fail(
        fmt::format("\"ple_embed_dim\" is {}; it must be a multiple of the {} columns, and "
                    "at most {} times as many",
                    width, columns, kHeadDimMax));
    return facts;
  }
  p.head_dim = static_cast<std::uint32_t>(width / columns);
  p.head_size_bases.assign(p.order_max - 1,
                           config.IntegerOr("ngram_vocab_size_base", kHeadSizeEnd - 1, 20'000'000));
  p.vocab_size = static_cast<std::uint32_t>(config.Integer({"vocab_size"}, kInt32Max));
  p.eos_token = EosToken(config);
  p.seed = config.IntegerOr("seed", std::numeric_limits<std::uint64_t>::max(), 1234);
  p.row_count_multiple = static_cast<std::uint32_t>(
      config.IntegerOr("make_ngram_vocab_size_divisible_by", kRowCountMultipleMax, 128));
  return facts;
}

/// Which model a config belongs to, by the keys that only it has.
std::optional<RecipeKind> Recognise(ConfigReader& config) {
  const bool v41 = config.Find("engram_layer_ids") != nullptr;
  const bool qwen = config.Find("ple_layer_ids") != nullptr;
  const bool demo = config.Find("n_head_per_ngram") != nullptr;
  if (v41 + qwen + demo == 1) {
    if (v41) return RecipeKind::kDeepSeekV41;
    return qwen ? RecipeKind::kQwen38 : RecipeKind::kEngramDemo;
  }
  const nlohmann::json* const type = config.Find("model_type");
  const std::string name = type != nullptr && type->is_string()
                               ? type->get_ref<const std::string&>().substr(0, 60)
                               : "unknown";
  config.Fail(
      fmt::format("{} model with an Engram table (model_type {}): expected the keys of one of "
                  "DeepSeek-V4.1 (\"engram_layer_ids\"), Qwen3.8 (\"ple_layer_ids\") and the "
                  "Engram demo (\"n_head_per_ngram\")",
                  v41 + qwen + demo == 0 ? "not a known" : "more than one", name));
  return std::nullopt;
}

Status CheckRowCounts(const Recipe& recipe, const std::vector<std::uint64_t>& stated,
                      std::string_view source_name) {
  if (stated.size() != recipe.layers.size()) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: \"engram_num_embeddings\" has {} entries; \"engram_layer_ids\" "
                              "has {}",
                              source_name, stated.size(), recipe.layers.size()));
  }
  for (std::size_t i = 0; i < stated.size(); ++i) {
    const LayerRecipe& layer = recipe.layers[i];
    if (stated[i] != layer.row_count) {
      return Status(
          StatusCode::kInvalidArgument,
          fmt::format("{}: \"engram_num_embeddings\" states {} rows for layer {}; its other "
                      "keys give {}",
                      source_name, stated[i], layer.layer_id, layer.row_count));
    }
  }
  return {};
}

/// `status` with the name of the file before its message.
Status Locate(std::string_view source_name, const Status& status) {
  return Status(status.code(), fmt::format("{}: {}", source_name, status.message()));
}

}  // namespace

Result<Recipe> ParseRecipe(std::string_view json, std::string_view source_name,
                           const ParseRecipeOptions& options) {
  Result<nlohmann::json> parsed = ParseJson(json, source_name);
  if (!parsed.ok()) return std::move(parsed).TakeStatus();
  const nlohmann::json& top = parsed.value();
  if (!top.is_object()) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: not a JSON object; expected a model's config.json or a recipe "
                              "file",
                              source_name));
  }
  if (top.contains("format")) return ReadRecipeFile(top, source_name, options);

  std::vector<const nlohmann::json*> objects;
  const auto nested = top.find("text_config");
  if (nested != top.end() && nested->is_object()) objects.push_back(&*nested);
  objects.push_back(&top);
  ConfigReader config(source_name, std::move(objects));
  const std::optional<RecipeKind> kind = Recognise(config);
  if (!kind) return config.TakeStatus();
  const ConfigFacts facts = *kind == RecipeKind::kDeepSeekV41  ? ReadDeepSeekV41(config, options)
                            : *kind == RecipeKind::kEngramDemo ? ReadEngramDemo(config, options)
                                                               : ReadQwen38(config);
  if (!config.ok()) return config.TakeStatus();
  Result<Recipe> recipe = BuildRecipe(facts.parameters);
  if (!recipe.ok()) return Locate(source_name, recipe.status());
  if (facts.row_counts) {
    if (Status s = CheckRowCounts(recipe.value(), *facts.row_counts, source_name); !s.ok()) {
      return s;
    }
  }
  return recipe;
}

Result<Recipe> LoadRecipe(const std::string& path, const ParseRecipeOptions& options) {
  const Result<std::string> text = ReadWholeFile(path, kSizeBytesMax);
  if (!text.ok()) {
    return Status(text.status().code(), std::string(text.status().message()),
                  text.status().os_error());
  }
  return ParseRecipe(text.value(), path, options);
}

}  // namespace tiercel
