#include "bench/gpu/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

namespace tiercel::bench {

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  fmt::print(stderr, "gpu_bench: {}: {} ({})\n", what, cudaGetErrorString(error),
             cudaGetErrorName(error));
  std::exit(3);
}

Timing Time(cudaStream_t stream, std::uint32_t repeats,
            const std::function<void(std::uint32_t)>& run) {
  cudaEvent_t start = nullptr;
  cudaEvent_t stop = nullptr;
  Check(cudaEventCreate(&start), "cudaEventCreate");
  Check(cudaEventCreate(&stop), "cudaEventCreate");
  const std::uint32_t warm_up = std::max(repeats / 10, 3U);
  std::vector<double> times_us;
  for (std::uint32_t i = 0; i < warm_up + repeats; ++i) {
    Check(cudaEventRecord(start, stream), "cudaEventRecord");
    run(i);
    Check(cudaEventRecord(stop, stream), "cudaEventRecord");
    Check(cudaEventSynchronize(stop), "a timed run");
    float ms = 0;
    Check(cudaEventElapsedTime(&ms, start, stop), "cudaEventElapsedTime");
    if (i >= warm_up) times_us.push_back(ms * 1000.0);
  }
  Check(cudaEventDestroy(start), "cudaEventDestroy");
  Check(cudaEventDestroy(stop), "cudaEventDestroy");
  std::sort(times_us.begin(), times_us.end());
  return {.median_us = times_us[times_us.size() / 2],
          .p10_us = times_us[times_us.size() / 10],
          .p90_us = times_us[times_us.size() * 9 / 10]};
}

Timing TimeInGraph(cudaStream_t stream, std::uint32_t repeats, std::uint32_t count,
                   const std::function<void(std::uint32_t)>& run) {
  const BenchGraph graph(stream, [&] {
    for (std::uint32_t i = 0; i < count; ++i) run(i);
  });
  Timing timing = Time(stream, repeats, [&](std::uint32_t) { graph.Launch(stream); });
  for (double* const us : {&timing.median_us, &timing.p10_us, &timing.p90_us}) *us /= count;
  return timing;
}

BenchGraph::BenchGraph(cudaStream_t stream, const std::function<void()>& enqueue) {
  cudaGraph_t graph = nullptr;
  Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  enqueue();
  Check(cudaStreamEndCapture(stream, &graph), "capture");
  Check(cudaGraphInstantiate(&executable_, graph, 0), "cudaGraphInstantiate");
  Check(cudaGraphDestroy(graph), "cudaGraphDestroy");
}

BenchGraph::~BenchGraph() {
  (void)cudaGraphExecDestroy(executable_);
}

void BenchGraph::Launch(cudaStream_t stream) const {
  Check(cudaGraphLaunch(executable_, stream), "cudaGraphLaunch");
}

double MeasureEmptyGraph(cudaStream_t stream) {
  const BenchGraph graph(stream, [&] { LaunchNothing(stream); });
  return Time(stream, 500, [&](std::uint32_t) { graph.Launch(stream); }).median_us;
}

Limits MeasureLimits(cudaStream_t stream) {
  constexpr std::uint64_t kBytes = std::uint64_t{1} << 29;
  Limits limits;
  void* from = nullptr;
  void* to = nullptr;
  void* pinned = nullptr;
  Check(cudaMalloc(&from, kBytes), "cudaMalloc");
  Check(cudaMalloc(&to, kBytes), "cudaMalloc");
  Check(cudaHostAlloc(&pinned, kBytes, cudaHostAllocDefault), "cudaHostAlloc");
  // Data that is not all alike: zeros can be faster than what is real.
  auto* const words = static_cast<std::uint64_t*>(pinned);
  std::uint64_t state = 1;
  for (std::uint64_t i = 0; i < kBytes / sizeof(std::uint64_t); ++i) {
    words[i] = state = state * 6364136223846793005U + 1442695040888963407U;
  }
  const Timing host = Time(stream, 20, [&](std::uint32_t) {
    Check(cudaMemcpyAsync(from, pinned, kBytes, cudaMemcpyHostToDevice, stream), "copy");
  });
  const Timing device = Time(stream, 20, [&](std::uint32_t) {
    Check(cudaMemcpyAsync(to, from, kBytes, cudaMemcpyDeviceToDevice, stream), "copy");
  });
  limits.pinned_copy_gbps = static_cast<double>(kBytes) / host.median_us / 1e3;
  limits.copy_gbps = 2.0 * static_cast<double>(kBytes) / device.median_us / 1e3;
  Check(cudaFree(from), "cudaFree");
  Check(cudaFree(to), "cudaFree");
  Check(cudaFreeHost(pinned), "cudaFreeHost");

  limits.empty_graph_us = MeasureEmptyGraph(stream);
  return limits;
}

void Report::Add(const std::string& name, const Timing& timing, nlohmann::json fields) {
  fields["median_us"] = timing.median_us;
  fields["p10_us"] = timing.p10_us;
  fields["p90_us"] = timing.p90_us;
  Add(name, std::move(fields));
}

void Report::Add(const std::string& name, nlohmann::json fields) {
  fmt::print("{:28} {}\n", name, fields.dump());
  std::fflush(stdout);
  fields["name"] = name;
  results_.push_back(std::move(fields));
}

nlohmann::json Report::ToJson() const {
  cudaDeviceProp properties{};
  Check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  return {{"device", properties.name},
          {"multiprocessors", properties.multiProcessorCount},
          {"limits",
           {{"copy_gbps", limits_.copy_gbps},
            {"pinned_copy_gbps", limits_.pinned_copy_gbps},
            {"empty_graph_us", limits_.empty_graph_us}}},
          {"results", results_}};
}

}  // namespace tiercel::bench
