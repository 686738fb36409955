#include "tools/serve_ideal.h"

#include <algorithm>

namespace tiercel::tools {
namespace {

std::size_t StepCount(const ServeArm& arm) {
  return arm.layers.empty() ? 0 : arm.layers[0].size();
}

ServeExposed Summarize(const std::vector<std::vector<std::uint64_t>>& by_layer) {
  ServeExposed exposed;
  std::vector<std::uint64_t> steps(by_layer.empty() ? 0 : by_layer[0].size());
  for (const std::vector<std::uint64_t>& layer : by_layer) {
    exposed.layers.push_back(MeasureTimes(layer));
    for (std::size_t i = 0; i < layer.size(); ++i) steps[i] += layer[i];
  }
  exposed.step = MeasureTimes(std::move(steps));
  return exposed;
}

}  // namespace

ServeTimes MeasureTimes(std::vector<std::uint64_t> times_ns) {
  ServeTimes times;
  if (times_ns.empty()) return times;
  std::ranges::sort(times_ns);
  double sum = 0.0;
  for (const std::uint64_t ns : times_ns) sum += static_cast<double>(ns);
  times.mean_ns = sum / static_cast<double>(times_ns.size());
  times.p50_ns = times_ns[times_ns.size() / 2];
  times.p99_ns = times_ns[std::min(times_ns.size() - 1, times_ns.size() * 99 / 100)];
  times.max_ns = times_ns.back();
  return times;
}

ServeExposed MeasuredExposed(const ServeArm& arm) {
  std::vector<std::vector<std::uint64_t>> by_layer;
  for (const std::vector<ServeLayerStep>& layer : arm.layers) {
    by_layer.emplace_back();
    for (const ServeLayerStep& step : layer) by_layer.back().push_back(step.exposed_ns);
  }
  return Summarize(by_layer);
}

ServeExposed IdealExposed(const ServeArm& arm, const ServeOptions& options,
                          const ServeWhatIf& what_if) {
  const double block_ns =
      static_cast<double>(options.step_time.count()) / static_cast<double>(options.block_count);
  const auto head_start_ns = static_cast<double>(what_if.head_start.count());
  std::vector<std::vector<std::uint64_t>> by_layer(arm.layers.size());
  for (std::size_t step = 0; step < StepCount(arm); ++step) {
    double waited_ns = 0.0;
    for (std::size_t i = 0; i < arm.layers.size(); ++i) {
      const double done_ns =
          static_cast<double>(arm.layers[i][step].burst_ns) * what_if.reads * what_if.read_time;
      const double asked_ns = head_start_ns + block_ns * options.layer_ids[i] + waited_ns;
      const double exposed_ns = std::max(0.0, done_ns - asked_ns);
      waited_ns += exposed_ns;
      by_layer[i].push_back(static_cast<std::uint64_t>(exposed_ns));
    }
  }
  return Summarize(by_layer);
}

}  // namespace tiercel::tools
