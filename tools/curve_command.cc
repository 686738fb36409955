// tiercel curve: hit rate over memory, from a token trace alone.

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "tiercel/curve.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/curve_report.h"
#include "tools/curve_run.h"
#include "tools/model_flags.h"
#include "tools/token_file.h"

namespace tiercel::tools {
namespace {

struct CurveFlags {
  std::string trace;
  std::string offsets;
  ModelFlags model;
  std::vector<std::string> sizes = {"256MiB", "1GiB", "4GiB", "16GiB"};
  std::vector<std::string> policies;
  ReplayScheduleOptions schedule;
  std::optional<std::uint64_t> token_limit;
  double warm_fraction = 0.5;
  std::optional<double> sample_fraction;
  std::uint64_t seed = 1;
  std::uint64_t known_token_count = 0;
  bool trace_known = false;
  bool orders = false;
  std::string svg;
  bool json = false;
};

CurveRun RunOf(const CurveFlags& flags) {
  CurveRun run;
  run.verb = "curve";
  run.schedule = flags.schedule;
  if (flags.token_limit) run.schedule.token_limit = *flags.token_limit;
  run.warm_fraction = flags.warm_fraction;
  run.sample_fraction = flags.sample_fraction;
  run.seed = flags.seed;
  run.known_token_count = flags.known_token_count;
  run.trace_known = flags.trace_known;
  for (const std::string& size : flags.sizes) {
    run.size_bytes.push_back(OrUsage("--sizes", ParseByteSize(size)));
  }
  for (const std::string& name : flags.policies) {
    run.policies.push_back(OrUsage("--policies", ParseCurvePolicy(name)));
  }
  if (run.policies.empty()) run.policies = AllCurvePolicies();
  return run;
}

Result<ExitCode> RunCurveCommand(const CurveFlags& flags) {
  CurveRun run = RunOf(flags);
  CatchInterrupts();
  Result<TracePaths> paths = FindTrace(flags.trace, flags.offsets);
  if (!paths.ok()) return ErrorOf(paths);
  run.trace = std::move(paths).value();
  const auto start = std::chrono::steady_clock::now();
  Result<Curve> curve = RunCurve(run, flags.model);
  if (!curve.ok()) return ErrorOf(curve);
  CurveReport report{.trace = run.trace.tokens,
                     .model = flags.model.like.empty() ? flags.model.config : flags.model.like,
                     .schedule = run.schedule,
                     .orders = flags.orders};
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  report.curve = std::move(curve).value();
  Print(flags.json ? ReportJson(report) : ReportText(report));
  if (flags.svg.empty()) return ExitCode::kOk;
  Result<std::string> svg = ReportSvg(report);
  if (!svg.ok()) return ErrorOf(svg);
  if (Status status = WriteOutput(flags.svg, std::as_bytes(std::span(svg.value()))); !status.ok()) {
    return status;
  }
  return ExitCode::kOk;
}

}  // namespace

Command AddCurveCommand(CLI::App& program) {
  auto flags = std::make_shared<CurveFlags>();
  CLI::App* const app =
      program.add_subcommand("curve", "Hit rate over memory of a token trace, without a table");
  app->add_option("TRACE", flags->trace, "Trace: its tokens' file, or its directory")->required();
  app->add_option("--offsets", flags->offsets,
                  "Its documents' boundaries; else the file of that name beside the tokens")
      ->type_name("FILE");
  flags->model.AddTo(*app);
  app->add_option("--sizes", flags->sizes, "Sizes of caches, such as 1GiB,4GiB")
      ->type_name("LIST")
      ->delimiter(',')
      ->capture_default_str();
  app->add_option("--policies", flags->policies,
                  "Of lru, s3fifo, tinylfu, ours, topk and opt; else all")
      ->type_name("LIST")
      ->delimiter(',');
  app->add_option("--streams", flags->schedule.stream_count,
                  "Documents that are served side by side")
      ->type_name("N")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app->add_option("--chunk", flags->schedule.chunk_tokens, "Tokens that a step takes of a stream")
      ->type_name("TOKENS")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app->add_option("--limit", flags->token_limit, "Stop after this many tokens")
      ->type_name("TOKENS")
      ->check(CLI::PositiveNumber);
  app->add_option("--warm-fraction", flags->warm_fraction,
                  "Share of the tokens that are served first and not counted")
      ->type_name("F")
      ->check(CLI::Range(0.0, 0.99))
      ->capture_default_str();
  app->add_option("--sample", flags->sample_fraction,
                  "Share of the n-grams that is simulated, up to 1, which is exact; else as many "
                  "as give about 0.1 points of error")
      ->type_name("F")
      ->check(CLI::Range(1e-6, 1.0));
  app->add_option("--seed", flags->seed, "Which n-grams are in the sample")
      ->type_name("S")
      ->capture_default_str();
  CLI::Option* const known = app->add_option("--known-tokens", flags->known_token_count,
                                             "Tokens that wait in a queue, known ahead to `ours`")
                                 ->type_name("TOKENS");
  app->add_flag("--known-trace", flags->trace_known,
                "`ours` knows when each n-gram comes again, as in a replay")
      ->excludes(known);
  app->add_flag("--orders", flags->orders, "A table for each order of n-grams, too");
  app->add_option("--svg", flags->svg, "Draw the curves")->type_name("FILE");
  app->add_flag("--json", flags->json, "Print the report as JSON");
  return {.app = app, .run = [flags] { return RunCurveCommand(*flags); }};
}

}  // namespace tiercel::tools
