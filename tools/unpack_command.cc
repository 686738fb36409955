// tiercel unpack: the tensors that a table was packed from.

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

struct UnpackFlags {
  std::string source;
  std::string out_dir;
  bool json = false;
};

Result<ExitCode> RunUnpack(const UnpackFlags& flags) {
  CatchInterrupts();
  ProgressBar bar("unpack", ProgressUnit::kBytes);
  const auto start = std::chrono::steady_clock::now();
  Result<UnpackReport> report = UnpackTable(flags.source, flags.out_dir, UntilInterrupted(bar));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  bar.Clear();
  if (!report.ok()) return ErrorOf(report);
  const UnpackReport& done = report.value();
  if (flags.json) {
    const nlohmann::ordered_json json = {
        {"source", flags.source},
        {"out", flags.out_dir},
        {"files", done.file_count},
        {"bytes_written", done.bytes_written},
        {"seconds", seconds.count()},
        {"bytes_per_second", Ratio(static_cast<double>(done.bytes_written), seconds.count())},
        {"direct_io", done.direct_io}};
    Print(json.dump() + "\n");
  } else {
    Print(fmt::format("{}: {} in {} files\n", flags.out_dir,
                      FormatBytes(static_cast<double>(done.bytes_written)), done.file_count));
    Print(FormatWritten(done.bytes_written, seconds.count(), done.direct_io));
  }
  return ExitCode::kOk;
}

}  // namespace

Command AddUnpackCommand(CLI::App& program) {
  auto flags = std::make_shared<UnpackFlags>();
  CLI::App* const app =
      program.add_subcommand("unpack", "A packed table as safetensors again, bit for bit");
  app->add_option("SRC", flags->source, "Packed table")->required();
  app->add_option("--out", flags->out_dir, "Directory to make; must not exist yet")
      ->type_name("DIR")
      ->required();
  app->add_flag("--json", flags->json, "Print the report as JSON");
  return {.app = app, .run = [flags] { return RunUnpack(*flags); }};
}

}  // namespace tiercel::tools
