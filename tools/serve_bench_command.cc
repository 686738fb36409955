// tiercel serve-bench: what a decoding engine would wait for its rows.

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tiercel/checkpoint.h"
#include "tiercel/disk_bursts.h"
#include "tiercel/store.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/hot_set_flags.h"
#include "tools/progress.h"
#include "tools/serve_engine.h"
#include "tools/serve_report.h"
#include "tools/table_trace.h"

namespace tiercel::tools {
namespace {

struct ServeFlags {
  TableTraceFlags input;
  ServeOptions serve;
  double step_ms = 30.0;
  std::uint32_t background_depth = 0;
  std::uint64_t seed = 1;
  HotSetFlags hot_set;
  bool json = false;
  StoreFlags store;
};

Result<ServeOptions> OptionsOf(const ServeFlags& flags, const CheckpointInfo& info) {
  ServeOptions options = flags.serve;
  options.step_time = std::chrono::nanoseconds(static_cast<std::int64_t>(flags.step_ms * 1e6));
  if (options.layer_ids.empty()) options.layer_ids = info.recipe.parameters.layer_ids;
  std::ranges::sort(options.layer_ids);
  for (const std::uint32_t layer_id : options.layer_ids) {
    if (!info.recipe.FindLayer(layer_id)) {
      return Status(StatusCode::kNotFound, fmt::format("{}: layer {} has no table; see `tiercel "
                                                       "inspect`",
                                                       info.path, layer_id));
    }
  }
  if (options.layer_ids.back() >= options.block_count) {
    throw CLI::ValidationError(
        "--blocks", fmt::format("layer {} is not among {} blocks", options.layer_ids.back(),
                                options.block_count));
  }
  return options;
}

Result<std::unique_ptr<DiskBursts>> OpenBursts(const Store& store, const ServeFlags& flags) {
  const StoreStats stats = store.Stats();
  std::vector<std::string> paths;
  for (const TableFile& file : store.checkpoint().files) paths.push_back(file.path);
  return DiskBursts::Open(paths,
                          {.engine = stats.engine == "io_uring" ? Engine::kUring : Engine::kPread,
                           .queue_depth = stats.queue_depth,
                           .read_bytes = store.checkpoint().layers[0].parts[0].size_bytes,
                           .block_bytes = stats.read_block_bytes > 1 ? stats.read_block_bytes : 0,
                           .seed = flags.seed});
}

Result<ExitCode> RunServeBench(const ServeFlags& flags) {
  StoreOptions store_options = flags.store.ToOptions("serve-bench");
  CatchInterrupts();
  Result<CheckpointInfo> info = InspectCheckpoint(flags.input.path);
  if (!info.ok()) return ErrorOf(info);
  Result<ServeOptions> options = OptionsOf(flags, info.value());
  if (!options.ok()) return ErrorOf(options);
  Result<TableTrace> trace = LoadTableTrace(flags.input, info.value());
  if (!trace.ok()) return ErrorOf(trace);
  store_options.layer_ids = options.value().layer_ids;
  store_options.token_map = trace.value().token_map;
  store_options.compressed_tokens = flags.input.compressed;
  store_options.prefetch.background_depth = flags.background_depth;
  store_options.prefetch.start_groups_max = 4096;
  store_options.prefetch.tokens_max =
      std::max<std::uint64_t>(store_options.prefetch.tokens_max,
                              2 * std::uint64_t{options.value().prefill_token_count} + 4096);
  Result<std::unique_ptr<Store>> store = Store::Open(flags.input.path, store_options);
  if (!store.ok()) return ErrorOf(store);
  if (!flags.hot_set.path.empty()) {
    Status status = LoadAndWait(*store.value(), flags.hot_set, "hot set");
    if (!status.ok()) return status;
  }
  Result<std::unique_ptr<DiskBursts>> bursts = OpenBursts(*store.value(), flags);
  if (!bursts.ok()) return ErrorOf(bursts);
  ProgressBar bar("serve-bench", ProgressUnit::kSteps);
  options.value().progress = [&bar](std::uint64_t done, std::uint64_t total) {
    bar.Update(done, total);
    return !Interrupted();
  };
  Result<ServeRun> run =
      Serve(*store.value(), *bursts.value(), trace.value().trace, options.value());
  if (!run.ok()) return ErrorOf(run);
  const ServeReport report{.path = info.value().path,
                           .layout = info.value().layout,
                           .recipe = info.value().recipe.parameters.kind,
                           .options = std::move(options).value(),
                           .run = std::move(run).value()};
  Print(flags.json ? ReportJson(report) : ReportText(report));
  return ExitCode::kOk;
}

void AddEngineOptions(CLI::App& app, ServeFlags& flags) {
  app.add_option("--streams", flags.serve.stream_count, "Sequences that decode, a token a step")
      ->type_name("N")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--step-ms", flags.step_ms, "Compute of a step, all blocks")
      ->type_name("MS")
      ->check(CLI::Range(0.01, 10000.0))
      ->capture_default_str();
  app.add_option("--blocks", flags.serve.block_count, "Blocks of the model, of equal time")
      ->type_name("N")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--layers", flags.serve.layer_ids, "Blocks with a table; else all tables")
      ->type_name("LIST")
      ->delimiter(',');
  app.add_option("--steps", flags.serve.step_count, "Steps of each arm")
      ->type_name("N")
      ->check(CLI::Range(1, 10000000))
      ->capture_default_str();
  app.add_option("--rounds", flags.serve.round_count, "The arms take turns so many times")
      ->type_name("N")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--warm-tokens", flags.serve.warm_token_count,
                 "Tokens that are served first and not counted")
      ->type_name("TOKENS")
      ->capture_default_str();
  app.add_option("--prefill-tokens", flags.serve.prefill_token_count,
                 "A second arm: decode while a prompt of so many tokens is in the background")
      ->type_name("TOKENS")
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--background-depth", flags.background_depth,
                 "Reads in flight of that prompt; 0: a quarter of the queue's")
      ->type_name("N")
      ->check(CLI::Range(0, 4096));
}

}  // namespace

Command AddServeBenchCommand(CLI::App& program) {
  auto flags = std::make_shared<ServeFlags>();
  CLI::App* const app = program.add_subcommand(
      "serve-bench", "What a decoding engine would wait for its rows, and what an ideal one would");
  flags->input.AddTo(*app);
  flags->store.AddTo(*app);
  AddEngineOptions(*app, *flags);
  flags->hot_set.AddTo(*app);
  app->add_option("--seed", flags->seed, "Which places the bare queue reads")->type_name("N");
  app->add_flag("--json", flags->json, "Print the report as JSON");
  return {.app = app, .run = [flags] { return RunServeBench(*flags); }};
}

}  // namespace tiercel::tools
