// tiercel replay: serves the documents of a token trace and measures it.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "tiercel/checkpoint.h"
#include "tiercel/store.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/hot_set_flags.h"
#include "tools/progress.h"
#include "tools/replay_engine.h"
#include "tools/replay_report.h"
#include "tools/replay_schedule.h"
#include "tools/table_trace.h"
#include "tools/token_file.h"
#include "tools/token_trace.h"

namespace tiercel::tools {
namespace {

/// Tokens of one step, at most: 65,536 of 48 rows of 264 B are 830 MB of output.
constexpr std::uint64_t kStepTokensMax = 65536;

constexpr std::chrono::seconds kMetricsInterval(10);

struct ReplayFlags {
  TableTraceFlags input;
  std::vector<std::uint32_t> layer_ids;
  std::string mode = "prefill";
  std::uint32_t stream_count = 32;
  std::optional<std::uint32_t> chunk_tokens;
  std::optional<std::uint64_t> token_limit;
  double warm_fraction = 0.0;
  bool verify = false;
  bool json = false;
  HotSetFlags hot_set;
  bool hot_set_wait = false;
  std::string save_hot_set;
  bool save_hot_set_keys = false;
  std::string metrics;
  StoreFlags store;
};

ReplayScheduleOptions ScheduleOf(const ReplayFlags& flags) {
  ReplayScheduleOptions schedule;
  if (flags.mode == "decode") {
    schedule.mode = ReplayMode::kDecode;
  } else if (flags.mode != "prefill") {
    throw CLI::ValidationError("--mode",
                               fmt::format("'{}' is neither prefill nor decode", flags.mode));
  }
  const bool decode = schedule.mode == ReplayMode::kDecode;
  schedule.stream_count = flags.stream_count;
  schedule.chunk_tokens = flags.chunk_tokens.value_or(decode ? 1 : 64);
  schedule.token_limit = flags.token_limit.value_or(std::numeric_limits<std::uint64_t>::max());
  const std::uint64_t step_tokens =
      std::uint64_t{schedule.chunk_tokens} * (decode ? schedule.stream_count : 1);
  if (step_tokens > kStepTokensMax) {
    throw CLI::ValidationError(
        "--chunk", fmt::format("a step of {} tokens is more than {}", step_tokens, kStepTokensMax));
  }
  return schedule;
}

/// Checks the options against the checkpoint, before anything big is read.
Status CheckAgainst(const ReplayFlags& flags, const CheckpointInfo& info) {
  if (flags.verify && !info.synthetic_seed) {
    return Status(StatusCode::kInvalidArgument,
                  flags.input.path +
                      ": not made by `tiercel make-checkpoint`, so there is nothing to "
                      "compare its rows with; replay it without --verify");
  }
  for (const std::uint32_t layer_id : flags.layer_ids) {
    if (!info.recipe.FindLayer(layer_id)) {
      return Status(StatusCode::kNotFound, fmt::format("{}: layer {} has no table; see `tiercel "
                                                       "inspect`",
                                                       flags.input.path, layer_id));
    }
  }
  return Status();
}

/// Begins to load the hot set that the options name, and waits for it where they say so.
Status BeginHotSet(const ReplayFlags& flags, Store& store) {
  if (flags.hot_set.path.empty()) return Status();
  if (!flags.hot_set_wait) return store.LoadHotSet(flags.hot_set.path, flags.hot_set.ToOptions());
  return LoadAndWait(store, flags.hot_set, "hot set");
}

/// Saves what the cache holds now, where the options say so.
Status SaveHotSet(const ReplayFlags& flags, const Store& store) {
  if (flags.save_hot_set.empty()) return Status();
  Result<HotSetSaved> saved =
      store.SaveHotSet(flags.save_hot_set, {.bytes = !flags.save_hot_set_keys});
  return saved.ok() ? Status() : ErrorOf(saved);
}

/// Puts the store's metrics where a collector of text files finds them: whole, or as they
/// were before.
Status SaveMetrics(const ReplayFlags& flags, const Store& store) {
  if (flags.metrics.empty()) return Status();
  const std::string text = store.WriteMetrics();
  return WriteOutput(flags.metrics, std::as_bytes(std::span(text)));
}

Result<ReplayReport> ServeTrace(const ReplayFlags& flags, const ReplayScheduleOptions& schedule,
                                const StoreOptions& store_options, const TokenTrace& trace,
                                const ReplayExtent& extent) {
  Result<std::unique_ptr<Store>> store = Store::Open(flags.input.path, store_options);
  if (!store.ok()) return ErrorOf(store);
  ReplayOptions options;
  options.schedule = schedule;
  options.layer_ids = flags.layer_ids;
  if (options.layer_ids.empty()) {
    options.layer_ids = store.value()->checkpoint().recipe.parameters.layer_ids;
  }
  options.warm_token_count =
      static_cast<std::uint64_t>(flags.warm_fraction * static_cast<double>(extent.token_count));
  options.verify = flags.verify;
  ProgressBar bar("replay", ProgressUnit::kTokens);
  if (Status status = SaveMetrics(flags, *store.value()); !status.ok()) return status;
  auto metrics_at = std::chrono::steady_clock::now();
  options.progress = [&](std::uint64_t done_tokens) {
    bar.Update(done_tokens, extent.token_count);
    const auto now = std::chrono::steady_clock::now();
    if (!flags.metrics.empty() && now - metrics_at >= kMetricsInterval) {
      metrics_at = now;
      (void)SaveMetrics(flags, *store.value());  // The last one's outcome counts.
    }
    return !Interrupted();
  };
  if (Status status = BeginHotSet(flags, *store.value()); !status.ok()) return status;
  Result<ReplayReport> report = Replay(*store.value(), trace.tokens, trace.offsets, options);
  if (!report.ok()) return report;
  report.value().hot_set = store.value()->HotSet();
  if (Status status = SaveHotSet(flags, *store.value()); !status.ok()) return status;
  if (Status status = SaveMetrics(flags, *store.value()); !status.ok()) return status;
  return report;
}

Result<ExitCode> RunReplay(const ReplayFlags& flags) {
  const ReplayScheduleOptions schedule = ScheduleOf(flags);
  StoreOptions store_options = flags.store.ToOptions("replay");
  store_options.layer_ids = flags.layer_ids;
  CatchInterrupts();
  Result<CheckpointInfo> info = InspectCheckpoint(flags.input.path);
  if (!info.ok()) return ErrorOf(info);
  if (Status status = CheckAgainst(flags, info.value()); !status.ok()) return status;
  ReplayExtent extent;
  // Only what is served stays in memory, or a long trace would be counted as ours.
  Result<TableTrace> trace =
      LoadTableTrace(flags.input, info.value(), [&](std::span<const std::uint64_t> offsets) {
        extent = MeasureSchedule(offsets, schedule);
        return extent.position_end;
      });
  if (!trace.ok()) return ErrorOf(trace);
  store_options.token_map = trace.value().token_map;
  store_options.compressed_tokens = flags.input.compressed;
  Result<ReplayReport> report =
      ServeTrace(flags, schedule, store_options, trace.value().trace, extent);
  if (!report.ok()) return ErrorOf(report);
  Print(flags.json ? ReportJson(report.value()) : ReportText(report.value()));
  const bool clean = report.value().rows_failed == 0 && report.value().rows_different == 0;
  return clean ? ExitCode::kOk : ExitCode::kFindings;
}

}  // namespace

Command AddReplayCommand(CLI::App& program) {
  auto flags = std::make_shared<ReplayFlags>();
  CLI::App* const app =
      program.add_subcommand("replay", "Serve the documents of a token trace, and measure it");
  flags->input.AddTo(*app);
  flags->store.AddTo(*app);
  app->add_option("--layers", flags->layer_ids, "Block indices, such as 1,14; else all tables")
      ->type_name("LIST")
      ->delimiter(',');
  app->add_option("--mode", flags->mode,
                  "prefill: a step is a chunk of one stream; decode: of every stream")
      ->type_name("MODE")
      ->capture_default_str();
  app->add_option("--streams", flags->stream_count, "Documents that are served side by side")
      ->type_name("N")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app->add_option("--chunk", flags->chunk_tokens,
                  "Tokens that a step takes of a stream; 64, or 1 in decode, unless given")
      ->type_name("TOKENS")
      ->check(CLI::Range(1, 65536));
  app->add_option("--limit", flags->token_limit, "Stop after this many tokens")
      ->type_name("TOKENS")
      ->check(CLI::PositiveNumber);
  app->add_option("--warm-fraction", flags->warm_fraction,
                  "Share of the tokens that are served first and not counted")
      ->type_name("F")
      ->check(CLI::Range(0.0, 0.99));
  flags->hot_set.AddTo(*app);
  app->add_flag("--hot-set-wait", flags->hot_set_wait,
                "Serve when the hot set has been loaded, not while it is");
  app->add_option("--save-hot-set", flags->save_hot_set,
                  "Save what the DRAM cache holds at the end, with its bytes")
      ->type_name("FILE");
  app->add_flag("--save-hot-set-keys", flags->save_hot_set_keys, "Save the keys alone");
  app->add_option("--metrics", flags->metrics,
                  "Prometheus text of the store, written every 10 s and at the end")
      ->type_name("FILE");
  app->add_flag("--verify", flags->verify,
                "Compare every row with the generator of a made checkpoint");
  app->add_flag("--json", flags->json, "Print the report as JSON");
  return {.app = app, .run = [flags] { return RunReplay(*flags); }};
}

}  // namespace tiercel::tools
