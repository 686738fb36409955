#ifndef TIERCEL_BENCH_GPU_REPORT_H_
#define TIERCEL_BENCH_GPU_REPORT_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace tiercel::bench {

/// Ends the program with CUDA's words where `error` is one.
void Check(cudaError_t error, const char* what);

/// Time on the device, in microseconds: the median of `repeats` runs after a tenth as many
/// for warm-up, each between two events. `run` gets the run's number, to turn over its
/// input sets, and enqueues on `stream`.
struct Timing {
  double median_us = 0;
  double p10_us = 0;
  double p90_us = 0;
};
[[nodiscard]] Timing Time(cudaStream_t stream, std::uint32_t repeats,
                          const std::function<void(std::uint32_t)>& run);

/// The same of each of `count` runs that a graph holds, one after another: without what the
/// host takes to launch them, which is more than some of them take.
[[nodiscard]] Timing TimeInGraph(cudaStream_t stream, std::uint32_t repeats, std::uint32_t count,
                                 const std::function<void(std::uint32_t)>& run);

/// A graph of what `enqueue` puts on `stream`.
class BenchGraph {
 public:
  BenchGraph(cudaStream_t stream, const std::function<void()>& enqueue);
  ~BenchGraph();
  BenchGraph(const BenchGraph&) = delete;
  BenchGraph& operator=(const BenchGraph&) = delete;
  void Launch(cudaStream_t stream) const;

 private:
  cudaGraphExec_t executable_ = nullptr;
};

/// What this run can do at most, measured in it.
struct Limits {
  double copy_gbps = 0;         ///< Device to device, bytes read and written.
  double pinned_copy_gbps = 0;  ///< Pinned host memory to device.
  double empty_graph_us = 0;    ///< A graph of one empty kernel, launched.
};
[[nodiscard]] Limits MeasureLimits(cudaStream_t stream);
/// Limits::empty_graph_us, as it is now: it drifts by some tenths of a microsecond.
[[nodiscard]] double MeasureEmptyGraph(cudaStream_t stream);

/// The results: printed as they come, a line each, and kept for the JSON file.
class Report {
 public:
  explicit Report(const Limits& limits) : limits_(limits) {}
  /// `fields`: a JSON object, which `name` and the timing are added to.
  void Add(const std::string& name, const Timing& timing, nlohmann::json fields);
  void Add(const std::string& name, nlohmann::json fields);
  [[nodiscard]] const Limits& limits() const noexcept { return limits_; }
  [[nodiscard]] nlohmann::json ToJson() const;

 private:
  Limits limits_;
  nlohmann::json results_ = nlohmann::json::array();
};

/// What a run of the program is asked for.
struct GpuBenchOptions {
  std::uint64_t hbm_slab_bytes = std::uint64_t{4} << 30;
  std::uint64_t pinned_slab_bytes = std::uint64_t{2} << 30;
  std::uint32_t repeats = 200;
  std::string checkpoint;  ///< Of the replay; empty: none.
  std::string trace;       ///< Token ids, little-endian uint32, plain.
  std::string token_map;   ///< Of the trace; empty: its ids are compressed already.
  std::uint64_t trace_tokens = 200000;
  std::uint64_t hbm_budget_bytes = std::uint64_t{4} << 30;
  std::uint64_t dram_budget_bytes = std::uint64_t{16} << 30;
};

// gather_bench.cc
void BenchGather(const GpuBenchOptions& options, Report& report);
void BenchUpload(const GpuBenchOptions& options, Report& report);
// latency_bench.cc
void BenchGraphReplay(const GpuBenchOptions& options, Report& report);
void BenchHash(const GpuBenchOptions& options, Report& report);
// replay_bench.cc
void BenchTraceReplay(const GpuBenchOptions& options, Report& report);

/// The baseline: what an engine does whose table lies in one piece. A warp a row of
/// `row_size_bytes` (a multiple of 8), any rows; device or mapped memory.
///
///   rows    shape [row_count]: row numbers, device memory.
///   target  shape [row_count, row_size_bytes].
void LaunchRowGather(const std::byte* table, const std::uint32_t* rows, std::uint64_t row_count,
                     std::uint32_t row_size_bytes, std::byte* target, cudaStream_t stream);
/// A kernel that does nothing.
void LaunchNothing(cudaStream_t stream);

}  // namespace tiercel::bench

#endif  // TIERCEL_BENCH_GPU_REPORT_H_
