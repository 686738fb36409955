// tiercel pack: tables with checksums in pages, one read a row.

#include "tiercel/packed.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/progress.h"
#include "tools/write_report.h"

namespace tiercel::tools {
namespace {

struct PackFlags {
  std::string source;
  std::string out_dir;
  std::vector<std::uint32_t> layer_ids;
  std::string shard = "0/1";
  ChecksumFlags checksums;
  bool json = false;
};

void PrintReport(const PackFlags& flags, const PackReport& report, double seconds) {
  if (flags.json) {
    const nlohmann::ordered_json json = {
        {"source", flags.source},
        {"out", flags.out_dir},
        {"files", report.file_count},
        {"rows", report.row_count},
        {"file_bytes", report.file_bytes},
        {"bytes_written", report.bytes_written},
        {"resumed_bytes", report.resumed_bytes},
        {"seconds", seconds},
        {"bytes_per_second", Ratio(static_cast<double>(report.bytes_written), seconds)},
        {"direct_io", report.direct_io}};
    Print(json.dump() + "\n");
    return;
  }
  Print(fmt::format("{}: {} in {} files, {} rows\n", flags.out_dir,
                    FormatBytes(static_cast<double>(report.file_bytes)), report.file_count,
                    FormatCount(report.row_count)));
  if (report.resumed_bytes > 0) {
    Print(fmt::format("went on after {} of an earlier run\n",
                      FormatBytes(static_cast<double>(report.resumed_bytes))));
  }
  Print(FormatWritten(report.bytes_written, seconds, report.direct_io));
}

Result<ExitCode> RunPack(const PackFlags& flags) {
  CatchInterrupts();
  ProgressBar bar("pack", ProgressUnit::kBytes);
  const PackOptions options{.source = flags.source,
                            .out_dir = flags.out_dir,
                            .layer_ids = flags.layer_ids,
                            .shard = OrUsage("--shard", ParseShard(flags.shard)),
                            .checksums = flags.checksums.Use(),
                            .checksums_path = flags.checksums.path,
                            .progress = UntilInterrupted(bar)};
  const auto start = std::chrono::steady_clock::now();
  Result<PackReport> report = PackTable(options);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  bar.Clear();
  if (!report.ok()) return ErrorOf(report);
  PrintReport(flags, report.value(), seconds.count());
  return ExitCode::kOk;
}

}  // namespace

Command AddPackCommand(CLI::App& program) {
  auto flags = std::make_shared<PackFlags>();
  CLI::App* const app = program.add_subcommand(
      "pack", "Rows with their checksums in pages of 4 KiB: one checked read a row");
  app->add_option("SRC", flags->source, "Checkpoint, GGUF file or packed table")->required();
  app->add_option("--out", flags->out_dir,
                  "Directory to make, or that holds this same pack unfinished")
      ->type_name("DIR")
      ->required();
  app->add_option("--layers", flags->layer_ids, "Block indices, such as 1,14; else all tables")
      ->type_name("LIST")
      ->delimiter(',');
  app->add_option("--shard", flags->shard, "The columns of rank R of N alone")
      ->type_name("R/N")
      ->capture_default_str();
  flags->checksums.AddTo(*app);
  app->add_flag("--json", flags->json, "Print the report as JSON");
  return {.app = app, .run = [flags] { return RunPack(*flags); }};
}

}  // namespace tiercel::tools
