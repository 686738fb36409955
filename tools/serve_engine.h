#ifndef TIERCEL_TOOLS_SERVE_ENGINE_H_
#define TIERCEL_TOOLS_SERVE_ENGINE_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#include "tiercel/disk_bursts.h"
#include "tiercel/status.h"
#include "tiercel/store.h"
#include "tools/token_trace.h"

namespace tiercel::tools {

/// An engine that decodes: what of it matters to the store.
struct ServeOptions {
  std::uint32_t stream_count = 8;  ///< Sequences of a step, a token each. > 0
  std::chrono::nanoseconds step_time = std::chrono::milliseconds(30);  ///< Of compute.
  std::uint32_t block_count = 40;        ///< Blocks of a step, all of one length.
  std::vector<std::uint32_t> layer_ids;  ///< Blocks with a table, rising, < block_count.
  std::uint64_t step_count = 500;        ///< Of each arm.
  std::uint32_t round_count = 5;         ///< The arms take turns so many times.
  /// Tokens to serve before, so that the cache is as it is in the middle of the day.
  std::uint64_t warm_token_count = 200000;
  /// Tokens of a prompt that always waits in the background, in an arm of its own. 0: none.
  std::uint32_t prefill_token_count = 0;
  /// Called now and then; false stops with kCancelled.
  std::function<bool(std::uint64_t done, std::uint64_t total)> progress;
};

/// What one layer of one step took.
struct ServeLayerStep {
  std::uint64_t exposed_ns = 0;  ///< In Wait(), when the model had come to the layer.
  std::uint64_t groups = 0;
  std::uint64_t dram_hits = 0;
  std::uint32_t reads = 0;  ///< Of the disk, made for it.
  /// From its start until a bare queue had made these reads and those of the layers before.
  std::uint64_t burst_ns = 0;
};

/// Steps under the same conditions.
struct ServeArm {
  std::vector<std::vector<ServeLayerStep>> layers;  ///< Shape [layers, steps].
  std::vector<std::uint64_t> start_ns;              ///< Time in Start(), by step.
  double seconds = 0.0;                             ///< Of its steps, bursts left out.
};

/// What the prompt in the background came to.
struct ServePrefill {
  std::uint64_t token_count = 0;   ///< Of prompts that ended.
  std::uint64_t prompt_count = 0;  ///< That ended.
  std::uint64_t reads = 0;         ///< Of the disk, during its arm's steps.
};

struct ServeRun {
  ServeArm alone;
  ServeArm beside;  ///< Beside a prompt; no steps where there was none.
  ServePrefill prefill;
  double disk_reads_per_second = 0.0;  ///< Of long bursts of a bare queue.
  StoreStats stats;
};

/// Decodes `trace` from `store` and measures it. After each step there is another, in which
/// `bursts` makes as many reads as that one needed, in place of the store; a prompt in the
/// background reads on.
///
/// Errors: as Store::Lookup(), Store::Start() and DiskBursts::Read(); kCancelled;
/// kInvalidArgument (the trace is too short for the steps).
[[nodiscard]] Result<ServeRun> Serve(Store& store, DiskBursts& bursts, const TokenTrace& trace,
                                     const ServeOptions& options);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_SERVE_ENGINE_H_
