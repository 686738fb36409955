// What a decode step waits for: a replayed graph of two layers, each a branch of a wait on a flag
// that is set and a gather, against a graph of an empty kernel; and the hash on the device.

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/prng.h"
#include "bench/gpu/report.h"
#include "bench/gpu/rig.h"
#include "cuda/gather.h"
#include "tiercel/cuda.h"

namespace tiercel::bench {
namespace {

enum class Waits : std::uint8_t { kNone, kStream, kKernel, kInGather };

const char* NameOf(Waits waits) {
  switch (waits) {
    case Waits::kNone:
      return "none";
    case Waits::kStream:
      return "stream";
    case Waits::kKernel:
      return "kernel";
    case Waits::kInGather:
      break;
  }
  return "in_gather";
}

/// Two layers as a lane has them: each a branch of the graph, a wait and a gather; or one launch
/// that waits itself.
class Step {
 public:
  Step() {
    Check(cudaStreamCreateWithFlags(&branch_, cudaStreamNonBlocking), "cudaStreamCreate");
    Check(cudaEventCreateWithFlags(&forked_, cudaEventDisableTiming), "cudaEventCreate");
    Check(cudaEventCreateWithFlags(&joined_, cudaEventDisableTiming), "cudaEventCreate");
  }
  ~Step() {
    (void)cudaEventDestroy(forked_);
    (void)cudaEventDestroy(joined_);
    (void)cudaStreamDestroy(branch_);
  }
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  void Enqueue(const GatherRig& rig, std::uint32_t set, Waits waits, cudaStream_t stream) const {
    if (waits == Waits::kInGather) {
      rig.GatherTwo(set, stream);
      return;
    }
    Check(cudaEventRecord(forked_, stream), "fork");
    Check(cudaStreamWaitEvent(branch_, forked_, 0), "fork");
    EnqueueLayer(rig, set, waits, stream);
    EnqueueLayer(rig, set + 1, waits, branch_);
    Check(cudaEventRecord(joined_, branch_), "join");
    Check(cudaStreamWaitEvent(stream, joined_, 0), "join");
  }

 private:
  static void EnqueueLayer(const GatherRig& rig, std::uint32_t set, Waits waits,
                           cudaStream_t stream) {
    if (waits == Waits::kKernel) {
      Check(LaunchFlagWait(rig.flag().device, stream), "launch of a wait");
    } else if (waits == Waits::kStream) {
      const Status status = rig.device().WaitFlag(rig.flag(), HbmStream{stream});
      if (!status.ok()) Check(cudaErrorUnknown, status.ToString().c_str());
    }
    rig.Gather(set, stream, /*lane=*/true);
  }

  cudaStream_t branch_ = nullptr;
  cudaEvent_t forked_ = nullptr;
  cudaEvent_t joined_ = nullptr;
};

}  // namespace

void BenchGraphReplay(const GpuBenchOptions& options, Report& report) {
  cudaStream_t stream = nullptr;
  Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  GatherRig rig(options.hbm_slab_bytes, options.pinned_slab_bytes);
  const Step step;
  report.Add("device", {{"description", rig.device().description()}});
  for (const GroupsFrom from : {GroupsFrom::kHbm, GroupsFrom::kPinned}) {
    for (const std::uint32_t tokens : {1U, 2U, 4U, 64U, 2048U}) {
      for (const HbmFormat format : {HbmFormat::kStored, HbmFormat::kBf16}) {
        rig.Draw(tokens, format, from);
        for (const Waits waits : {Waits::kNone, Waits::kStream, Waits::kKernel, Waits::kInGather}) {
          if (waits == Waits::kInGather && tokens > 21) continue;  // More than it is for.
          // A graph a set: replays of one would find its groups in the L2.
          std::vector<std::unique_ptr<BenchGraph>> graphs;
          for (std::uint32_t set = 0; set < GatherRig::kSets; ++set) {
            graphs.push_back(std::make_unique<BenchGraph>(
                stream, [&] { step.Enqueue(rig, set, waits, stream); }));
          }
          const double empty_us = MeasureEmptyGraph(stream);
          const Timing timing = Time(stream, options.repeats, [&](std::uint32_t i) {
            graphs[i % graphs.size()]->Launch(stream);
          });
          report.Add("graph_replay", timing,
                     {{"from", from == GroupsFrom::kHbm ? "hbm" : "pinned"},
                      {"tokens", tokens},
                      {"format", format == HbmFormat::kBf16 ? "bf16" : "stored"},
                      {"waits", NameOf(waits)},
                      {"over_empty_us", timing.median_us - empty_us}});
        }
      }
    }
  }
  Check(cudaStreamDestroy(stream), "cudaStreamDestroy");
}

void BenchHash(const GpuBenchOptions& options, Report& report) {
  RecipeParameters parameters;
  parameters.kind = RecipeKind::kDeepSeekV41;
  parameters.layer_ids = {1, 14};
  parameters.order_max = 4;
  parameters.head_count = 8;
  parameters.head_dim = 256;
  parameters.head_size_bases = {16000000, 16000000, 16000000};
  parameters.vocab_size = 129280;
  parameters.compressed_vocab_size = 99092;
  parameters.pad_token = 2;
  Result<Recipe> recipe = BuildRecipe(parameters);
  if (!recipe.ok()) Check(cudaErrorUnknown, recipe.status().ToString().c_str());
  Result<std::unique_ptr<DeviceHasher>> hasher = DeviceHasher::Create(recipe.value(), nullptr);
  if (!hasher.ok()) Check(cudaErrorUnknown, hasher.status().ToString().c_str());
  constexpr std::uint32_t kTokensMax = 65536;
  std::vector<std::int32_t> ids(kTokensMax);
  std::vector<std::uint32_t> positions(kTokensMax);
  Prng prng(1);
  for (std::uint32_t i = 0; i < kTokensMax; ++i) {
    ids[i] = static_cast<std::int32_t>(prng.Below(99092));
    positions[i] = i;
  }
  std::byte* memory = nullptr;
  const std::uint64_t row_bytes = std::uint64_t{kTokensMax} * 24 * sizeof(RowId);
  Check(cudaMalloc(reinterpret_cast<void**>(&memory), 3 * kTokensMax * 4 + row_bytes), "memory");
  Check(cudaMemcpy(memory, ids.data(), kTokensMax * 4, cudaMemcpyHostToDevice), "copy");
  Check(
      cudaMemcpy(memory + kTokensMax * 4, positions.data(), kTokensMax * 4, cudaMemcpyHostToDevice),
      "copy");
  Check(cudaMemset(memory + 2 * kTokensMax * 4, 0, kTokensMax * 4), "memset");
  cudaStream_t stream = nullptr;
  Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  for (const std::uint32_t tokens : {1U, 64U, 2048U, kTokensMax}) {
    const Timing timing = TimeInGraph(stream, options.repeats, 16, [&](std::uint32_t i) {
      const Status status = hasher.value()->HashOnStream(
          i % 2,
          {.ids = reinterpret_cast<std::int32_t*>(memory),
           .position = reinterpret_cast<std::uint32_t*>(memory + kTokensMax * 4),
           .run_start = reinterpret_cast<std::uint32_t*>(memory + 2 * kTokensMax * 4),
           .token_count = tokens},
          {.rows = reinterpret_cast<RowId*>(memory + 3 * kTokensMax * 4)}, stream);
      if (!status.ok()) Check(cudaErrorUnknown, status.ToString().c_str());
    });
    report.Add("hash", timing, {{"tokens", tokens}, {"mtokens_per_s", tokens / timing.median_us}});
  }
  Check(cudaStreamDestroy(stream), "cudaStreamDestroy");
  Check(cudaFree(memory), "cudaFree");
}

}  // namespace tiercel::bench
