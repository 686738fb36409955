#include "tools/table_trace.h"

#include <utility>

#include "tools/command.h"

namespace tiercel::tools {
namespace {

/// Ids that the trace may hold: all below this.
std::uint64_t IdLimit(const TableTraceFlags& flags, const RecipeParameters& parameters,
                      const TokenMap* token_map) {
  if (parameters.kind == RecipeKind::kQwen38) return parameters.vocab_size;
  if (flags.compressed || token_map == nullptr) return parameters.compressed_vocab_size;
  return token_map->entry_count();
}

}  // namespace

void TableTraceFlags::AddTo(CLI::App& app) {
  app.add_option("PATH", path, "Checkpoint directory")->required();
  app.add_option("--tokens", tokens,
                 "Trace: little-endian uint32 token ids; may be packed with zstd")
      ->type_name("FILE")
      ->required();
  app.add_option("--offsets", offsets,
                 "Its documents' boundaries: little-endian uint64 token positions, first 0")
      ->type_name("FILE")
      ->required();
  app.add_option("--token-map", token_map,
                 "Map from `tiercel token-map`; not needed for Qwen3.8, which has none, nor for a "
                 "GGUF file that has its own")
      ->type_name("FILE");
  app.add_flag("--compressed", compressed, "The trace holds compressed ids already");
}

Result<TableTrace> LoadTableTrace(
    const TableTraceFlags& flags, const CheckpointInfo& info,
    const std::function<std::uint64_t(std::span<const std::uint64_t>)>& keep_count) {
  const RecipeParameters& parameters = info.recipe.parameters;
  const bool has_map = parameters.kind != RecipeKind::kQwen38;
  if (has_map && flags.token_map.empty() && info.token_map == nullptr && !flags.compressed) {
    throw CLI::ValidationError("--token-map",
                               "this checkpoint hashes compressed ids: give the map, or "
                               "--compressed if the trace holds compressed ids already");
  }
  TableTrace loaded{.token_map = info.token_map, .trace = {}};
  if (!flags.token_map.empty()) {
    Result<TokenMap> map = TokenMap::Load(flags.token_map);
    if (!map.ok()) return ErrorOf(map);
    loaded.token_map = std::make_shared<const TokenMap>(std::move(map).value());
  }
  Result<TokenTrace> trace =
      LoadTokenTrace({.tokens = flags.tokens, .offsets = flags.offsets},
                     IdLimit(flags, parameters, loaded.token_map.get()), keep_count);
  if (!trace.ok()) return ErrorOf(trace);
  loaded.trace = std::move(trace).value();
  if (flags.compressed) loaded.token_map = nullptr;
  return loaded;
}

}  // namespace tiercel::tools
