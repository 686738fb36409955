// gpu_bench: what the GPU tier does on this GPU, each figure beside its limit in the same run.
//
//   gpu_bench [--json FILE] [--quick] [--only PART,...]
//             [--checkpoint DIR --trace FILE --token-map FILE --trace-tokens N]
//             [--hbm BYTES] [--dram BYTES]
//
// Parts: gather, upload, graph, hash, replay. Times are CUDA events', medians after a warm-up,
// over several input sets; gathers and hashes one after another in graphs, since a launch by the
// host takes longer than some of them. --quick: small slabs and few repeats, to see that it runs.

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <string_view>

#include "bench/gpu/report.h"

namespace {

using tiercel::bench::GpuBenchOptions;
using tiercel::bench::Report;

struct Program {
  GpuBenchOptions options;
  std::string json;
  std::string only;

  [[nodiscard]] bool Wants(std::string_view part) const {
    return only.empty() ||
           ("," + only + ",").find("," + std::string(part) + ",") != std::string::npos;
  }
};

/// Returns false where an argument is none of ours.
bool Parse(int argc, char** argv, Program& program) {
  GpuBenchOptions& options = program.options;
  std::map<std::string_view, std::string*> texts = {{"--json", &program.json},
                                                    {"--only", &program.only},
                                                    {"--checkpoint", &options.checkpoint},
                                                    {"--trace", &options.trace},
                                                    {"--token-map", &options.token_map}};
  std::map<std::string_view, std::uint64_t*> numbers = {{"--trace-tokens", &options.trace_tokens},
                                                        {"--hbm", &options.hbm_budget_bytes},
                                                        {"--dram", &options.dram_budget_bytes}};
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--quick") {
      options.hbm_slab_bytes = std::uint64_t{256} << 20;
      options.pinned_slab_bytes = std::uint64_t{128} << 20;
      options.repeats = 20;
    } else if (i + 1 < argc && texts.contains(name)) {
      *texts[name] = argv[++i];
    } else if (i + 1 < argc && numbers.contains(name)) {
      *numbers[name] = std::strtoull(argv[++i], nullptr, 10);
    } else {
      fmt::print(stderr, "gpu_bench: {} is no option, or lacks its value\n", name);
      return false;
    }
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace tiercel::bench;
  Program program;
  if (!Parse(argc, argv, program)) return 2;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    fmt::print(stderr, "gpu_bench: no GPU, or no driver for it: nothing to measure\n");
    return 77;
  }
  cudaStream_t stream = nullptr;
  Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  Report report(MeasureLimits(stream));
  Check(cudaStreamDestroy(stream), "cudaStreamDestroy");
  report.Add("limits", {{"copy_gbps", report.limits().copy_gbps},
                        {"pinned_copy_gbps", report.limits().pinned_copy_gbps},
                        {"empty_graph_us", report.limits().empty_graph_us}});
  if (program.Wants("gather")) BenchGather(program.options, report);
  if (program.Wants("upload")) BenchUpload(program.options, report);
  if (program.Wants("graph")) BenchGraphReplay(program.options, report);
  if (program.Wants("hash")) BenchHash(program.options, report);
  if (program.Wants("replay")) BenchTraceReplay(program.options, report);
  if (program.json.empty()) return 0;
  std::ofstream file(program.json);
  file << report.ToJson().dump(1) << '\n';
  return file.good() ? 0 : 3;
}
