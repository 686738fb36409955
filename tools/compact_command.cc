// tiercel compact: updated rows into a new generation of their table.

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "tiercel/packed.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/progress.h"
#include "tools/write_report.h"

namespace tiercel::tools {
namespace {

struct CompactFlags {
  std::string table;
  std::string state;
  std::string out_dir;
  bool json = false;
};

void PrintReport(const CompactFlags& flags, const CompactReport& report, double seconds) {
  if (flags.json) {
    const nlohmann::ordered_json json = {{"table", flags.table},
                                         {"out", flags.out_dir},
                                         {"folded_rows", report.folded_rows},
                                         {"generation", report.generation},
                                         {"bytes_written", report.bytes_written},
                                         {"resumed_bytes", report.resumed_bytes},
                                         {"generations_removed", report.generations_removed},
                                         {"generations_in_use", report.generations_in_use},
                                         {"seconds", seconds},
                                         {"direct_io", report.direct_io}};
    Print(json.dump() + "\n");
    return;
  }
  const std::string& where = flags.out_dir.empty() ? flags.table : flags.out_dir;
  Print(fmt::format("{}: generation {}, {} updated rows folded in\n", where, report.generation,
                    FormatCount(report.folded_rows)));
  if (report.resumed_bytes > 0) {
    Print(fmt::format("went on after {} of an earlier run\n",
                      FormatBytes(static_cast<double>(report.resumed_bytes))));
  }
  if (report.bytes_written > 0) {
    Print(FormatWritten(report.bytes_written, seconds, report.direct_io));
  }
  if (report.generations_in_use > 0) {
    Print(fmt::format("{} older generations are open in some store; the next run removes them\n",
                      report.generations_in_use));
  }
}

Result<ExitCode> RunCompact(const CompactFlags& flags) {
  CatchInterrupts();
  ProgressBar bar("compact", ProgressUnit::kBytes);
  const auto start = std::chrono::steady_clock::now();
  Result<CompactReport> report = CompactTable({.table = flags.table,
                                               .state_path = flags.state,
                                               .out_dir = flags.out_dir,
                                               .progress = UntilInterrupted(bar)});
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  bar.Clear();
  if (!report.ok()) return ErrorOf(report);
  PrintReport(flags, report.value(), seconds.count());
  return ExitCode::kOk;
}

}  // namespace

Command AddCompactCommand(CLI::App& program) {
  auto flags = std::make_shared<CompactFlags>();
  CLI::App* const app = program.add_subcommand(
      "compact", "Updated rows into the next generation of their packed table");
  app->add_option("TABLE", flags->table, "Packed table; with --out any table")->required();
  app->add_option("--state", flags->state,
                  "State directory of the updated rows; else TABLE/tiercel-state")
      ->type_name("DIR");
  app->add_option("--out", flags->out_dir,
                  "Make a packed table of its own there, and leave TABLE and its state alone")
      ->type_name("DIR");
  app->add_flag("--json", flags->json, "Print the report as JSON");
  return {.app = app, .run = [flags] { return RunCompact(*flags); }};
}

}  // namespace tiercel::tools
