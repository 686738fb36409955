#include "tools/model_flags.h"

#include <fmt/format.h>

#include <utility>

#include "tiercel/checkpoint.h"
#include "tools/command.h"

namespace tiercel::tools {

Result<CheckpointModel> ParseModel(const std::string& name) {
  std::string names;
  for (const CheckpointModel model :
       {CheckpointModel::kDeepSeekV41Flash, CheckpointModel::kQwen38FlashNext,
        CheckpointModel::kEngramDemo}) {
    if (Name(model) == name) return model;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", Name(model));
  }
  return Status(StatusCode::kInvalidArgument,
                fmt::format("'{}' is not a model; there are {}", name, names));
}

namespace {

bool IsGgufPath(const std::string& path) {
  return path.ends_with(".gguf");
}

}  // namespace

void ModelFlags::AddTo(CLI::App& app) {
  app.add_option("--config", config, "config.json of the model, a recipe file, or a .gguf")
      ->type_name("FILE");
  app.add_option("--like", like,
                 "Instead of it, a model: deepseek-v4.1-flash, qwen3.8-flash-next or engram-demo")
      ->type_name("MODEL");
  app.add_option("--token-map", token_map,
                 "Map from `tiercel token-map`; not needed for Qwen3.8, which has none")
      ->type_name("FILE");
  app.add_flag("--compressed", compressed, "The trace holds compressed ids already");
  app.add_option("--row-bytes", row_size_bytes,
                 "Bytes of a stored row; else of the model's published rows")
      ->type_name("N")
      ->check(CLI::Range(1, 131072));
}

Result<Recipe> ModelFlags::LoadModel(const TokenMap* map) const {
  if (config.empty() == like.empty()) {
    throw CLI::ValidationError("--config", "give the model's config, or --like MODEL");
  }
  if (!like.empty()) {
    Result<RecipeParameters> parameters = ModelParameters(OrUsage("--like", ParseModel(like)), 1);
    if (!parameters.ok()) return ErrorOf(parameters);
    return BuildRecipe(parameters.value());
  }
  if (IsGgufPath(config)) {
    Result<CheckpointInfo> info = InspectCheckpoint(config);
    if (!info.ok()) return ErrorOf(info);
    return std::move(info.value().recipe);
  }
  Result<Recipe> recipe = LoadRecipe(config);
  if (recipe.ok() || map == nullptr) return recipe;
  if (recipe.status().code() != StatusCode::kInvalidArgument) return recipe;
  // The demo's config does not say how many classes there are; the map does.
  return LoadRecipe(config, {.compressed_vocab_size = map->class_count()});
}

Result<std::shared_ptr<const TokenMap>> ModelFlags::LoadMap() const {
  std::shared_ptr<const TokenMap> map;
  if (token_map.empty() && IsGgufPath(config)) {
    Result<CheckpointInfo> info = InspectCheckpoint(config);
    if (!info.ok()) return ErrorOf(info);
    return std::move(info.value().token_map);
  }
  if (token_map.empty()) return map;
  Result<TokenMap> loaded = TokenMap::Load(token_map);
  if (!loaded.ok()) return ErrorOf(loaded);
  map = std::make_shared<const TokenMap>(std::move(loaded).value());
  return map;
}

RowSizes ModelFlags::SizesOf(const RecipeParameters& parameters) const {
  if (row_size_bytes == 0 && IsGgufPath(config)) {
    const Result<CheckpointInfo> info = InspectCheckpoint(config);
    if (info.ok()) return {.row_size_bytes = info.value().layers[0].shape.row_size_bytes()};
  }
  if (row_size_bytes == 0) return RowSizesOf(parameters);
  return {.row_size_bytes = row_size_bytes};
}

Result<ModelHasher> LoadModelHasher(const ModelFlags& flags) {
  Result<std::shared_ptr<const TokenMap>> map = flags.LoadMap();
  if (!map.ok()) return ErrorOf(map);
  Result<Recipe> recipe = flags.LoadModel(map.value().get());
  if (!recipe.ok()) return ErrorOf(recipe);
  const RecipeParameters& parameters = recipe.value().parameters;
  const bool raw_ids = parameters.kind == RecipeKind::kQwen38;
  if (!raw_ids && !flags.compressed && map.value() == nullptr) {
    throw CLI::ValidationError("--token-map",
                               "this recipe hashes compressed ids: give the map, or --compressed "
                               "if the trace holds compressed ids already");
  }
  std::uint64_t id_limit = parameters.compressed_vocab_size;
  if (raw_ids) id_limit = parameters.vocab_size;
  if (!raw_ids && !flags.compressed) id_limit = map.value()->entry_count();
  Result<Hasher> hasher = Hasher::Create(std::move(recipe).value(),
                                         flags.compressed ? nullptr : std::move(map).value());
  if (!hasher.ok()) return ErrorOf(hasher);
  return ModelHasher{.hasher = std::move(hasher).value(), .id_limit = id_limit};
}

}  // namespace tiercel::tools
