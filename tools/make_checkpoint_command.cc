// tiercel make-checkpoint: a checkpoint of a real format, made from a seed.

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "tiercel/synthetic.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/model_flags.h"
#include "tools/progress.h"
#include "tools/write_report.h"

namespace tiercel::tools {
namespace {

struct MakeCheckpointFlags {
  std::string like;
  std::uint64_t shrink = 1;
  std::uint64_t seed = 1;
  std::string out_dir;
  bool fp8 = false;
  bool tables_only = false;
  bool json = false;
};

void PrintReport(const MakeCheckpointFlags& flags, const MakeCheckpointReport& report,
                 double seconds) {
  const double rate = Ratio(static_cast<double>(report.bytes_written), seconds);
  if (flags.json) {
    const nlohmann::ordered_json json = {
        {"out", flags.out_dir},          {"like", flags.like},
        {"shrink", flags.shrink},        {"seed", flags.seed},
        {"files", report.file_count},    {"rows", report.row_count},
        {"bytes", report.bytes_written}, {"seconds", seconds},
        {"bytes_per_second", rate},      {"direct_io", report.direct_io}};
    Print(json.dump() + "\n");
    return;
  }
  Print(fmt::format("{}: {} in {} file{}, {} rows\n", flags.out_dir,
                    FormatBytes(static_cast<double>(report.bytes_written)), report.file_count,
                    report.file_count == 1 ? "" : "s", FormatCount(report.row_count)));
  Print(FormatWritten(report.bytes_written, seconds, report.direct_io));
}

Result<ExitCode> RunMakeCheckpoint(const MakeCheckpointFlags& flags) {
  CatchInterrupts();
  ProgressBar bar("make-checkpoint", ProgressUnit::kBytes);
  MakeCheckpointOptions options;
  options.like = OrUsage("--like", ParseModel(flags.like));
  options.shrink = flags.shrink;
  options.seed = flags.seed;
  options.out_dir = flags.out_dir;
  options.fp8 = flags.fp8;
  if (flags.fp8 && options.like != CheckpointModel::kQwen38FlashNext) {
    throw CLI::ValidationError("--fp8", "only qwen3.8-flash-next comes with bf16 or fp8 rows");
  }
  options.tables_only = flags.tables_only;
  options.progress = [&bar](std::uint64_t done_bytes, std::uint64_t total_bytes) {
    bar.Update(done_bytes, total_bytes);
    return !Interrupted();
  };
  const auto start = std::chrono::steady_clock::now();
  Result<MakeCheckpointReport> report = MakeCheckpoint(options);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  bar.Clear();
  if (!report.ok()) return ErrorOf(report);
  PrintReport(flags, report.value(), seconds.count());
  return ExitCode::kOk;
}

}  // namespace

Command AddMakeCheckpointCommand(CLI::App& program) {
  auto flags = std::make_shared<MakeCheckpointFlags>();
  CLI::App* const app = program.add_subcommand(
      "make-checkpoint", "A checkpoint of a model's real format, smaller, made from a seed");
  app->add_option("--like", flags->like, "deepseek-v4.1-flash, qwen3.8-flash-next or engram-demo")
      ->type_name("MODEL")
      ->required();
  app->add_option("--shrink", flags->shrink, "Head sizes are the model's divided by this")
      ->type_name("K")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app->add_option("--seed", flags->seed, "Decides every byte")
      ->type_name("S")
      ->capture_default_str();
  app->add_option("--out", flags->out_dir, "Directory to make; must not exist yet")
      ->type_name("DIR")
      ->required();
  app->add_flag("--fp8", flags->fp8, "qwen3.8-flash-next: E4M3 rows instead of bf16 rows");
  app->add_flag("--tables-only", flags->tables_only,
                "Leave out the projections and norms beside the tables");
  app->add_flag("--json", flags->json, "Print the report as JSON");
  return {.app = app, .run = [flags] { return RunMakeCheckpoint(*flags); }};
}

}  // namespace tiercel::tools
