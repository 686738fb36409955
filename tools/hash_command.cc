// tiercel hash: the row ids of a token sequence, without a table.

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "tiercel/checkpoint.h"
#include "tiercel/hasher.h"
#include "tiercel/recipe.h"
#include "tiercel/token_map.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/token_file.h"

namespace tiercel::tools {
namespace {

struct HashFlags {
  std::string config;
  std::uint32_t layer_id = 0;
  std::string tokens;
  bool compressed = false;
  std::string token_map;
  std::optional<std::uint32_t> class_count;
  std::string out;
  bool json = false;
};

/// The recipe and the token map of --config, where that is a GGUF file.
Result<Recipe> LoadGgufRecipe(const HashFlags& flags, std::shared_ptr<const TokenMap>& token_map) {
  Result<CheckpointInfo> info = InspectCheckpoint(flags.config);
  if (!info.ok()) return ErrorOf(info);
  for (const std::string& note : info.value().notes) PrintError("hash", note);
  if (token_map == nullptr) token_map = info.value().token_map;
  return std::move(info.value().recipe);
}

/// The recipe of --config; what that does not say comes from the token map or
/// --classes. Those are offered only where they are needed: a map with fewer
/// classes than the config states is fine to hash with.
Result<Recipe> LoadHashRecipe(const HashFlags& flags, const TokenMap* token_map) {
  Result<Recipe> recipe = LoadRecipe(flags.config, {.compressed_vocab_size = flags.class_count});
  if (recipe.ok() || flags.class_count || token_map == nullptr) return recipe;
  if (recipe.status().code() != StatusCode::kInvalidArgument) return recipe;
  return LoadRecipe(flags.config, {.compressed_vocab_size = token_map->class_count()});
}

Status WriteBinary(const std::string& path, const std::vector<RowId>& rows) {
  std::vector<std::byte> bytes(rows.size() * sizeof(std::uint64_t));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t b = 0; b < sizeof(std::uint64_t); ++b) {
      bytes[i * sizeof(std::uint64_t) + b] = static_cast<std::byte>(Index(rows[i]) >> (8 * b));
    }
  }
  return WriteOutput(path, bytes);
}

void PrintJson(const HashFlags& flags, const std::vector<RowId>& rows,
               const std::vector<std::uint8_t>& dead, std::size_t column_count) {
  nlohmann::ordered_json json;
  json["layer"] = flags.layer_id;
  json["tokens"] = dead.size();
  json["columns"] = column_count;
  json["dead"] = nlohmann::ordered_json::array();
  json["rows"] = nlohmann::ordered_json::array();
  for (std::size_t t = 0; t < dead.size(); ++t) {
    if (dead[t] != 0) json["dead"].push_back(t);
    nlohmann::ordered_json row_ids = nlohmann::ordered_json::array();
    for (std::size_t c = 0; c < column_count; ++c) {
      row_ids.push_back(Index(rows[t * column_count + c]));
    }
    json["rows"].push_back(std::move(row_ids));
  }
  Print(json.dump() + "\n");
}

Result<ExitCode> RunHash(const HashFlags& flags) {
  if (flags.out.empty() && !flags.json) {
    throw CLI::ValidationError("--out", "give a file, or - for stdout, or --json");
  }
  std::shared_ptr<const TokenMap> token_map;
  if (!flags.token_map.empty()) {
    Result<TokenMap> loaded = TokenMap::Load(flags.token_map);
    if (!loaded.ok()) return ErrorOf(loaded);
    token_map = std::make_shared<const TokenMap>(std::move(loaded).value());
  }
  Result<Recipe> recipe = flags.config.ends_with(".gguf") ? LoadGgufRecipe(flags, token_map)
                                                          : LoadHashRecipe(flags, token_map.get());
  if (!recipe.ok()) return ErrorOf(recipe);
  const bool has_map = recipe.value().parameters.kind != RecipeKind::kQwen38;
  if (has_map && !flags.compressed && token_map == nullptr) {
    throw CLI::ValidationError("--tokens",
                               "this recipe hashes compressed ids: give --token-map FILE, or "
                               "--compressed if the file holds compressed ids already");
  }
  const std::optional<std::uint32_t> layer_index = recipe.value().FindLayer(flags.layer_id);
  if (!layer_index) {
    return Status(StatusCode::kNotFound,
                  fmt::format("{}: layer {} has no table; see `tiercel inspect`", flags.config,
                              flags.layer_id));
  }
  const std::size_t column_count = recipe.value().column_count();
  Result<Hasher> hasher =
      Hasher::Create(std::move(recipe).value(), flags.compressed ? nullptr : std::move(token_map));
  if (!hasher.ok()) return ErrorOf(hasher);
  Result<TokenFile> file = ReadTokens(flags.tokens);
  if (!file.ok()) return ErrorOf(file);
  const std::vector<std::int32_t>& tokens = file.value().tokens;
  std::vector<RowId> rows(tokens.size() * column_count);
  std::vector<std::uint8_t> dead(tokens.size());
  if (Status status =
          hasher.value().RowIds(*layer_index, {.history = {}, .tokens = tokens}, rows, dead);
      !status.ok()) {
    return status;
  }
  if (flags.json) PrintJson(flags, rows, dead, column_count);
  if (!flags.out.empty() && !(flags.json && flags.out == "-")) {
    if (Status status = WriteBinary(flags.out, rows); !status.ok()) return status;
  }
  return ExitCode::kOk;
}

}  // namespace

Command AddHashCommand(CLI::App& program) {
  auto flags = std::make_shared<HashFlags>();
  CLI::App* const app = program.add_subcommand("hash", "Row ids of a token sequence");
  app->add_option("--config", flags->config, "config.json of the model, a recipe file, or a .gguf")
      ->type_name("FILE")
      ->required();
  app->add_option("--layer", flags->layer_id, "Block index of the table")
      ->type_name("L")
      ->required();
  app->add_option("--tokens", flags->tokens,
                  "One sequence of little-endian int32 ids, -1 for a dead token; - is stdin; may "
                  "be packed with zstd")
      ->type_name("FILE|-")
      ->required();
  app->add_flag("--compressed", flags->compressed, "The ids are compressed ones already");
  app->add_option("--token-map", flags->token_map, "Map from `tiercel token-map`")
      ->type_name("FILE");
  app->add_option("--classes", flags->class_count,
                  "Classes of the token map, where neither the config nor a given map says")
      ->type_name("N");
  app->add_option("--out", flags->out,
                  "Takes little-endian int64 row ids [tokens, columns]; - is stdout")
      ->type_name("FILE|-");
  app->add_flag("--json", flags->json, "Print the row ids as JSON (instead of --out -)");
  return {.app = app, .run = [flags] { return RunHash(*flags); }};
}

}  // namespace tiercel::tools
