// tiercel inspect: what a checkpoint's Engram tables are and where they lie.

#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "tiercel/checkpoint.h"
#include "tiercel/store.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/progress.h"
#include "tools/state_report.h"
#include "tools/table_stats.h"
#include "tools/table_stats_report.h"
#include "tools/token_file.h"

namespace tiercel::tools {
namespace {

using Json = nlohmann::ordered_json;

/// Extents of one part that are listed for a person; Qwen3.8 has 128.
constexpr std::size_t kExtentsShown = 4;

struct InspectFlags {
  std::string path;
  bool all = false;
  bool json = false;
  std::string state;
  bool stats = false;
  std::string svg;
  TableSample sample{.rows_per_layer = 100'000};
};

Json RecipeJson(const RecipeParameters& parameters, std::uint32_t column_count) {
  Json json = {{"kind", Name(parameters.kind)},
               {"layers", parameters.layer_ids},
               {"order_max", parameters.order_max},
               {"heads", parameters.head_count},
               {"head_dim", parameters.head_dim},
               {"columns", column_count},
               {"head_size_bases", parameters.head_size_bases},
               {"vocab_size", parameters.vocab_size}};
  if (parameters.kind == RecipeKind::kQwen38) {
    json["eos_token"] = parameters.eos_token;
    json["row_count_multiple"] = parameters.row_count_multiple;
  } else {
    json["compressed_vocab_size"] = parameters.compressed_vocab_size;
    json["pad_token"] = parameters.pad_token;
  }
  json["seed"] = parameters.seed;
  return json;
}

Json LayerJson(const CheckpointInfo& info, const LayerTable& table, const LayerRecipe& recipe) {
  Json json = {{"layer", table.layer_id},
               {"columns", recipe.head_sizes.size()},
               {"rows", table.row_count},
               {"row_format", Name(table.shape.format)},
               {"row_values", table.shape.value_count},
               {"row_bytes", table.shape.row_size_bytes()},
               {"table_bytes", table.row_count * table.shape.row_size_bytes()},
               {"multipliers", recipe.multipliers},
               {"primes", recipe.head_sizes},
               {"offsets", recipe.offsets}};
  if (table.shape.format == RowFormat::kE4M3Tensor) json["scale"] = table.shape.tensor_scale;
  json["parts"] = Json::array();
  for (const RowPart& part : table.parts) {
    Json extents = Json::array();
    for (const RowExtent& extent : part.extents) {
      extents.push_back({{"tensor", extent.tensor},
                         {"file", info.files.at(extent.file_index).path},
                         {"offset", extent.offset_bytes},
                         {"first_row", extent.first_row},
                         {"rows", extent.row_count},
                         {"bytes", extent.row_count * part.size_bytes}});
    }
    json["parts"].push_back({{"row_bytes", part.size_bytes}, {"extents", std::move(extents)}});
  }
  return json;
}

Json InspectJson(const CheckpointInfo& info) {
  Json json = {{"path", info.path},
               {"layout", info.layout},
               {"recipe", RecipeJson(info.recipe.parameters, info.recipe.column_count())}};
  json["synthetic_seed"] = info.synthetic_seed ? Json(*info.synthetic_seed) : Json(nullptr);
  json["token_map"] = nullptr;
  if (info.token_map != nullptr) {
    json["token_map"] = {{"entries", info.token_map->entry_count()},
                         {"classes", info.token_map->class_count()}};
  }
  json["notes"] = info.notes;
  json["layers"] = Json::array();
  for (std::size_t i = 0; i < info.layers.size(); ++i) {
    json["layers"].push_back(LayerJson(info, info.layers[i], info.recipe.layers[i]));
  }
  json["files"] = Json::array();
  for (const TableFile& file : info.files) {
    json["files"].push_back({{"path", file.path}, {"bytes", file.size_bytes}});
  }
  json["total_bytes"] = info.table_bytes;
  return json;
}

std::string Numbers(const std::vector<std::uint64_t>& numbers, std::size_t begin,
                    std::size_t count) {
  std::string text;
  for (std::size_t i = begin; i < begin + count; ++i) {
    text += fmt::format("{:>12}", FormatCount(numbers[i]));
  }
  return text;
}

void PrintHashing(const LayerRecipe& layer, std::uint32_t head_count) {
  std::string multipliers;
  for (const std::uint64_t multiplier : layer.multipliers) {
    multipliers += fmt::format("  {}", FormatCount(multiplier));
  }
  Print(fmt::format("  multipliers {}\n", multipliers));
  for (std::size_t column = 0; column < layer.head_sizes.size(); column += head_count) {
    // Eight numbers of twelve digits fill a line.
    for (std::size_t head = 0; head < head_count; head += 8) {
      const std::size_t count = std::min<std::size_t>(8, head_count - head);
      const std::string order =
          head == 0 ? fmt::format("{}-grams", column / head_count + 2) : std::string();
      Print(fmt::format("  {:<8} primes {}\n", order,
                        Numbers(layer.head_sizes, column + head, count)));
      Print(fmt::format("  {:<8} offsets{}\n", "", Numbers(layer.offsets, column + head, count)));
    }
  }
}

void PrintExtents(const CheckpointInfo& info, const LayerTable& table, bool all) {
  for (const RowPart& part : table.parts) {
    const std::size_t shown =
        all || part.extents.size() <= kExtentsShown ? part.extents.size() : kExtentsShown - 1;
    for (std::size_t i = 0; i < part.extents.size(); ++i) {
      // The first ones and the last one tell the pattern.
      if (i >= shown && i + 1 < part.extents.size()) continue;
      const RowExtent& extent = part.extents[i];
      if (i >= shown) {
        Print(fmt::format("  ... {} more extents (--all lists them)\n",
                          part.extents.size() - shown - 1));
      }
      Print(fmt::format(
          "  {}: {} B a row, {} rows from {}\n    in {} at byte {}\n", extent.tensor,
          part.size_bytes, FormatCount(extent.row_count), FormatCount(extent.first_row),
          std::filesystem::path(info.files.at(extent.file_index).path).filename().string(),
          FormatCount(extent.offset_bytes)));
    }
  }
}

void PrintLayer(const CheckpointInfo& info, std::size_t index, bool all) {
  const LayerTable& table = info.layers[index];
  const std::uint32_t row_bytes = table.shape.row_size_bytes();
  std::string parts;
  for (const RowPart& part : table.parts) {
    parts += fmt::format("{}{}", parts.empty() ? "" : " + ", part.size_bytes);
  }
  Print(fmt::format("\nlayer {}\n", table.layer_id));
  Print(fmt::format("  rows         {} of {} B ({}), {} in all\n", FormatCount(table.row_count),
                    row_bytes, parts,
                    FormatBytes(static_cast<double>(table.row_count) * row_bytes)));
  Print(fmt::format("  row format   {}, {} values{}\n", Name(table.shape.format),
                    table.shape.value_count,
                    table.shape.format == RowFormat::kE4M3Tensor
                        ? fmt::format(", scale {}", table.shape.tensor_scale)
                        : ""));
  PrintHashing(info.recipe.layers[index], info.recipe.parameters.head_count);
  PrintExtents(info, table, all);
}

void PrintReport(const CheckpointInfo& info, bool all) {
  const RecipeParameters& parameters = info.recipe.parameters;
  std::string layers;
  std::uint64_t row_count = 0;
  for (const LayerTable& table : info.layers) {
    layers += fmt::format("{}{}", layers.empty() ? "" : ", ", table.layer_id);
    row_count += table.row_count;
  }
  Print(fmt::format("{}\n", info.path));
  Print(fmt::format("  layout       {}\n", info.layout));
  Print(fmt::format("  recipe       {}: orders 2 to {}, {} heads of {} values, {} columns\n",
                    Name(parameters.kind), parameters.order_max, parameters.head_count,
                    parameters.head_dim, info.recipe.column_count()));
  if (parameters.kind == RecipeKind::kQwen38) {
    Print(fmt::format("  tokens       {} raw ids, eos {}\n", FormatCount(parameters.vocab_size),
                      parameters.eos_token));
  } else {
    Print(fmt::format("  tokens       {} classes, pad {}\n",
                      FormatCount(parameters.compressed_vocab_size), parameters.pad_token));
  }
  Print(fmt::format("  layers       {}\n", layers));
  Print(fmt::format("  total        {} in {} rows, {} file{}\n",
                    FormatBytes(static_cast<double>(info.table_bytes)), FormatCount(row_count),
                    info.files.size(), info.files.size() == 1 ? "" : "s"));
  Print(fmt::format("  origin       {}\n",
                    info.synthetic_seed
                        ? fmt::format("tiercel make-checkpoint, seed {}", *info.synthetic_seed)
                        : std::string("not made by tiercel make-checkpoint")));
  if (info.token_map != nullptr) {
    Print(fmt::format("  token map    in the file, {} tokens\n",
                      FormatCount(info.token_map->entry_count())));
  }
  for (const std::string& note : info.notes) Print(fmt::format("  note         {}\n", note));
  for (std::size_t i = 0; i < info.layers.size(); ++i) PrintLayer(info, i, all);
}

/// Reads rows and tells what they are.
Result<StatsReport> MeasureRows(const InspectFlags& flags, const CheckpointInfo& info) {
  StoreOptions options;
  // Rows that are wanted once gain nothing from a cache or from resident scales.
  options.dram_budget_bytes = std::uint64_t{64} << 20;
  options.scales = ScalePlacement::kDisk;
  if (info.packed) options.shard = info.packed->shard;  // No other rows are there.
  // Notes were printed; what is left is about how the disk is read.
  options.log = [](std::string_view /*line*/) {};
  Result<std::unique_ptr<Store>> store = Store::Open(flags.path, options);
  if (!store.ok()) return ErrorOf(store);
  CatchInterrupts();
  ProgressBar bar("inspect", ProgressUnit::kRows);
  const auto start = std::chrono::steady_clock::now();
  Result<std::vector<LayerStats>> layers = MeasureTables(
      *store.value(), flags.sample, [&bar](std::uint64_t done_rows, std::uint64_t total_rows) {
        bar.Update(done_rows, total_rows);
        return !Interrupted();
      });
  if (!layers.ok()) return ErrorOf(layers);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return StatsReport{.path = flags.path,
                     .sample = flags.sample,
                     .seconds = seconds.count(),
                     .layers = std::move(layers).value()};
}

Status DrawStats(const InspectFlags& flags, const StatsReport& stats) {
  if (flags.svg.empty()) return {};
  Result<std::string> svg = StatsSvg(stats);
  if (!svg.ok()) return ErrorOf(svg);
  return WriteOutput(flags.svg, std::as_bytes(std::span(svg.value())));
}

Result<ExitCode> RunInspect(const InspectFlags& flags, const CLI::App& app) {
  for (const char* const option : {"--svg", "--sample", "--seed"}) {
    if (!flags.stats && app.count(option) > 0) {
      throw CLI::ValidationError(option, "goes with --stats alone");
    }
  }
  Result<CheckpointInfo> info = InspectCheckpoint(flags.path);
  if (!info.ok()) return ErrorOf(info);
  const std::string state_path = flags.state.empty() ? DefaultStatePath(flags.path) : flags.state;
  std::optional<StateInfo> state;
  if (!flags.state.empty() || StateExists(state_path)) {
    Result<StateInfo> inspected = InspectState(state_path);
    if (!inspected.ok()) return ErrorOf(inspected);
    state = std::move(inspected).value();
  }
  std::optional<StatsReport> stats;
  if (flags.stats) {
    Result<StatsReport> measured = MeasureRows(flags, info.value());
    if (!measured.ok()) return ErrorOf(measured);
    stats = std::move(measured).value();
  }
  if (flags.json) {
    Json json = InspectJson(info.value());
    json["state"] = state.has_value() ? StateJson(*state) : Json(nullptr);
    if (stats.has_value()) json["stats"] = StatsJson(*stats);
    Print(json.dump() + "\n");
  } else {
    PrintReport(info.value(), flags.all);
    if (state.has_value()) Print(StateText(*state));
    if (stats.has_value()) Print(StatsText(*stats));
  }
  if (!stats.has_value()) return ExitCode::kOk;
  if (Status status = DrawStats(flags, *stats); !status.ok()) return status;
  return stats->has_findings() ? ExitCode::kFindings : ExitCode::kOk;
}

}  // namespace

Command AddInspectCommand(CLI::App& program) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* const app =
      program.add_subcommand("inspect", "What a checkpoint's Engram tables are, and where");
  app->add_option("PATH", flags->path, "Checkpoint directory, or a .safetensors or .gguf file")
      ->required();
  app->add_flag("--all", flags->all, "List every extent");
  app->add_option("--state", flags->state, "State directory, instead of the table's own")
      ->type_name("DIR");
  app->add_flag("--json", flags->json, "Print all of it as JSON");
  app->add_flag("--stats", flags->stats,
                "Read rows and count zeros, NaN and infinities, scales and norms, by column");
  app->add_option("--sample", flags->sample.rows_per_layer,
                  "--stats: rows a layer, spread over its columns; 0: every row")
      ->type_name("N")
      ->capture_default_str();
  app->add_option("--seed", flags->sample.seed, "--stats: which rows a sample takes")
      ->type_name("S")
      ->capture_default_str();
  app->add_option("--svg", flags->svg, "--stats: draw the histograms of norms")->type_name("FILE");
  return {.app = app, .run = [flags, app] { return RunInspect(*flags, *app); }};
}

}  // namespace tiercel::tools
