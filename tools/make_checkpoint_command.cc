// tiercel make-checkpoint: a checkpoint of a real format, made from a seed.

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

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
  std::string format = "safetensors";
  std::string type = "q8_0";
  std::uint32_t split_count = 1;
  std::string token_map;
  bool json = false;
};

/// The row formats of GGUF, as its users spell them.
constexpr std::pair<std::string_view, RowFormat> kGgufTypes[] = {
    {"f32", RowFormat::kFp32},  {"f16", RowFormat::kFp16},  {"bf16", RowFormat::kBf16},
    {"q8_0", RowFormat::kQ8_0}, {"q4_k", RowFormat::kQ4_K}, {"q3_k", RowFormat::kQ3_K},
    {"q2_k", RowFormat::kQ2_K}};

RowFormat ParseGgufType(const std::string& text) {
  for (const auto& [name, format] : kGgufTypes) {
    if (name == text) return format;
  }
  throw CLI::ValidationError(
      "--type", fmt::format("'{}' is none of f32, f16, bf16, q8_0, q4_k, q3_k and q2_k", text));
}

/// What --format, --type, --split and --token-map say. Throws CLI::ValidationError.
Status TakeFormat(const MakeCheckpointFlags& flags, const CLI::App& app,
                  MakeCheckpointOptions& options) {
  options.gguf_row_format = ParseGgufType(flags.type);
  options.gguf_split_count = flags.split_count;
  if (flags.format == "gguf") {
    options.format = CheckpointFormat::kGguf;
    if (options.like != CheckpointModel::kDeepSeekV41Flash) {
      throw CLI::ValidationError("--format", "only deepseek-v4.1-flash comes as gguf");
    }
  } else if (flags.format != "safetensors") {
    throw CLI::ValidationError("--format",
                               fmt::format("'{}' is neither safetensors nor gguf", flags.format));
  } else {
    for (const char* const option : {"--type", "--split", "--token-map"}) {
      if (app.count(option) > 0) {
        throw CLI::ValidationError(option, "goes with --format gguf alone");
      }
    }
  }
  if (flags.token_map.empty()) return Status();
  Result<TokenMap> map = TokenMap::Load(flags.token_map);
  if (!map.ok()) return ErrorOf(map);
  options.gguf_token_map = std::make_shared<const TokenMap>(std::move(map).value());
  return Status();
}

void PrintReport(const MakeCheckpointFlags& flags, const MakeCheckpointReport& report,
                 double seconds) {
  const double rate = Ratio(static_cast<double>(report.bytes_written), seconds);
  if (flags.json) {
    const nlohmann::ordered_json json = {
        {"out", flags.out_dir},         {"like", flags.like},
        {"shrink", flags.shrink},       {"seed", flags.seed},
        {"format", flags.format},       {"files", report.file_count},
        {"rows", report.row_count},     {"bytes", report.bytes_written},
        {"seconds", seconds},           {"bytes_per_second", rate},
        {"direct_io", report.direct_io}};
    Print(json.dump() + "\n");
    return;
  }
  Print(fmt::format("{}: {} in {} file{}, {} rows\n", flags.out_dir,
                    FormatBytes(static_cast<double>(report.bytes_written)), report.file_count,
                    report.file_count == 1 ? "" : "s", FormatCount(report.row_count)));
  Print(FormatWritten(report.bytes_written, seconds, report.direct_io));
}

Result<ExitCode> RunMakeCheckpoint(const MakeCheckpointFlags& flags, const CLI::App& app) {
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
  if (Status status = TakeFormat(flags, app, options); !status.ok()) return status;
  options.progress = UntilInterrupted(bar);
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
  app->add_option("--format", flags->format, "safetensors, as published, or gguf")
      ->type_name("FORMAT")
      ->capture_default_str();
  app->add_option("--type", flags->type,
                  "gguf: how rows are stored: f32, f16, bf16, q8_0, q4_k, q3_k or q2_k")
      ->type_name("TYPE")
      ->capture_default_str();
  app->add_option("--split", flags->split_count, "gguf: files to split it over, up to 1000")
      ->type_name("N")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app->add_option("--token-map", flags->token_map,
                  "gguf: map from `tiercel token-map` to put in; else one is made up")
      ->type_name("FILE");
  app->add_flag("--json", flags->json, "Print the report as JSON");
  return {.app = app, .run = [flags, app] { return RunMakeCheckpoint(*flags, *app); }};
}

}  // namespace tiercel::tools
