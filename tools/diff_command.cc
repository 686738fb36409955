// tiercel diff: which rows of two tables differ.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "tiercel/checkpoint.h"
#include "tiercel/verify.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/progress.h"

namespace tiercel::tools {
namespace {

struct DiffFlags {
  std::string a;
  std::string b;
  bool read_all = false;
  bool json = false;
};

void PrintDiffs(const DiffFlags& flags, const std::vector<LayerDiff>& diffs) {
  if (flags.json) {
    nlohmann::ordered_json layers = nlohmann::ordered_json::array();
    for (const LayerDiff& diff : diffs) {
      layers.push_back({{"layer", diff.layer_id},
                        {"rows_compared", diff.rows_compared},
                        {"rows_different", diff.rows_different},
                        {"rows_unreadable", diff.rows_unreadable},
                        {"rows", diff.rows}});
    }
    const nlohmann::ordered_json json = {{"a", flags.a}, {"b", flags.b}, {"layers", layers}};
    Print(json.dump() + "\n");
    return;
  }
  for (const LayerDiff& diff : diffs) {
    if (diff.rows_compared + diff.rows_unreadable == 0) {
      Print(fmt::format("layer {}: the same, by the digests of the manifests\n", diff.layer_id));
      continue;
    }
    Print(fmt::format("layer {}: {} of {} compared", diff.layer_id,
                      FormatDifferent(diff.rows_different), FormatCount(diff.rows_compared)));
    if (diff.rows_unreadable > 0) {
      Print(fmt::format(", {} UNREADABLE or damaged", FormatCount(diff.rows_unreadable)));
    }
    Print("\n");
    if (diff.rows.empty()) continue;
    const bool more = diff.rows_different > diff.rows.size();
    Print(fmt::format("  rows {}{}\n", fmt::join(diff.rows, ", "), more ? ", ..." : ""));
  }
}

Result<ExitCode> RunDiff(const DiffFlags& flags) {
  CatchInterrupts();
  Result<CheckpointInfo> a = InspectCheckpoint(flags.a);
  if (!a.ok()) return ErrorOf(a);
  Result<CheckpointInfo> b = InspectCheckpoint(flags.b);
  if (!b.ok()) return ErrorOf(b);
  ProgressBar bar("diff", ProgressUnit::kBytes);
  DiffOptions options;
  options.read_all = flags.read_all;
  options.progress = UntilInterrupted(bar);
  Result<std::vector<LayerDiff>> diffs = DiffTables(a.value(), b.value(), options);
  bar.Clear();
  if (!diffs.ok()) return ErrorOf(diffs);
  PrintDiffs(flags, diffs.value());
  for (const LayerDiff& diff : diffs.value()) {
    if (diff.rows_different + diff.rows_unreadable > 0) return ExitCode::kFindings;
  }
  return ExitCode::kOk;
}

}  // namespace

Command AddDiffCommand(CLI::App& program) {
  auto flags = std::make_shared<DiffFlags>();
  CLI::App* const app = program.add_subcommand("diff", "Which rows of two tables differ");
  app->add_option("A", flags->a, "Checkpoint, GGUF file or packed table")->required();
  app->add_option("B", flags->b, "Another one of the same shapes")->required();
  app->add_flag("--read-all", flags->read_all,
                "Read packed tables even where their manifests say that they are the same");
  app->add_flag("--json", flags->json, "Print the report as JSON");
  return {.app = app, .run = [flags] { return RunDiff(*flags); }};
}

}  // namespace tiercel::tools
