#include "tools/curve_run.h"

#include <algorithm>
#include <span>
#include <utility>

#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/progress.h"

namespace tiercel::tools {
namespace {

/// How often progress is told: each takes a look at the clock.
constexpr std::uint64_t kStepsBetween = 1024;

Status ServeTrace(const CurveRun& run, const TokenTrace& trace, std::uint64_t token_count,
                  std::size_t history_max, GroupTrace& groups) {
  ReplaySchedule schedule(trace.offsets, run.schedule);
  std::vector<ReplayChunk> chunks;
  const std::span<const std::int32_t> tokens(trace.tokens);
  ProgressBar bar(run.verb + ": reading", ProgressUnit::kTokens);
  for (std::uint64_t step = 0; schedule.Next(chunks); ++step) {
    for (const ReplayChunk& chunk : chunks) {
      const std::size_t history =
          std::min<std::size_t>(chunk.begin - chunk.document_begin, history_max);
      Status status = groups.Add({.history = tokens.subspan(chunk.begin - history, history),
                                  .tokens = tokens.subspan(chunk.begin, chunk.end - chunk.begin)});
      if (!status.ok()) return status;
    }
    if (step % kStepsBetween != 0) continue;
    bar.Update(schedule.token_count(), token_count);
    if (Interrupted()) return Status(StatusCode::kCancelled, "interrupted");
  }
  return {};
}

}  // namespace

Result<Curve> RunCurve(const CurveRun& run, const ModelFlags& model) {
  Result<ModelHasher> loaded = LoadModelHasher(model);
  if (!loaded.ok()) return ErrorOf(loaded);
  const RecipeParameters parameters = loaded.value().hasher.recipe().parameters;
  const std::uint64_t order_count = parameters.order_max - 1;
  Result<TokenTrace> trace = LoadTokenTrace(run.trace, loaded.value().id_limit);
  if (!trace.ok()) return ErrorOf(trace);
  const ReplayExtent extent = MeasureSchedule(trace.value().offsets, run.schedule);

  GroupTraceOptions options;
  options.sample_fraction =
      run.sample_fraction.value_or(SuggestedSampleFraction(extent.token_count * order_count));
  options.warm_token_count =
      static_cast<std::uint64_t>(run.warm_fraction * static_cast<double>(extent.token_count));
  options.seed = run.seed;
  Result<GroupTrace> groups = GroupTrace::Create(std::move(loaded.value().hasher), options);
  if (!groups.ok()) return ErrorOf(groups);
  if (Status status =
          ServeTrace(run, trace.value(), extent.token_count, order_count, groups.value());
      !status.ok()) {
    return status;
  }
  trace.value() = {};  // Room for the simulations.

  ProgressBar bar(run.verb + ": simulating", ProgressUnit::kRuns);
  CurveOptions curve;
  curve.policies = run.policies;
  curve.size_bytes = run.size_bytes;
  curve.known_token_count = run.known_token_count;
  curve.trace_known = run.trace_known;
  curve.row_size_bytes = model.SizesOf(parameters).row_size_bytes;
  curve.progress = [&bar](std::uint64_t done, std::uint64_t total) {
    bar.Update(done, total);
    return !Interrupted();
  };
  return groups.value().Simulate(curve);
}

}  // namespace tiercel::tools
