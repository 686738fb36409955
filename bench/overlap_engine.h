#ifndef TIERCEL_BENCH_OVERLAP_ENGINE_H_
#define TIERCEL_BENCH_OVERLAP_ENGINE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel::bench {

/// A model that computes, by its times.
struct OverlapModel {
  std::uint32_t block_count = 16;
  std::chrono::nanoseconds block_time = std::chrono::milliseconds(8);
  std::vector<std::uint32_t> layer_ids;  ///< Blocks with a table, rising.
};

/// Where the time of a loop went. By the clock it is one thread's, the engine's; on a GPU
/// that of the model's stream, but for start_seconds.
struct OverlapTimes {
  std::uint64_t token_count = 0;
  std::uint64_t step_count = 0;
  bool cut = false;  ///< It ended for its time, before its steps.
  double seconds = 0.0;
  double planned_seconds = 0.0;      ///< Of the blocks, by the model.
  double compute_seconds = 0.0;      ///< Of the blocks, as it came.
  double start_seconds = 0.0;        ///< In Start(): the host's.
  std::vector<double> wait_seconds;  ///< Shape [layers]: for rows, in front of the layer.
  double use_seconds = 0.0;          ///< The layers, which read their rows.
  /// Shape [steps]: of all rows of a step (overlap_digest.h), the same however fetched; 0
  /// where it was not run.
  std::vector<std::uint64_t> digests;

  [[nodiscard]] double tokens_per_second() const noexcept;
  [[nodiscard]] double exposed_seconds() const noexcept;  ///< Of all layers.
  /// What rows cost over what steps take whose blocks take their time and no more, in percent
  /// of the sum. Other programs on the machine make the blocks of any arm longer; here that
  /// is left out.
  [[nodiscard]] double cost_percent() const noexcept;
  void Add(const OverlapTimes& other);
};

/// Tokens that go through the model together.
struct OverlapStep {
  std::vector<TokenRun> runs;
  std::size_t token_count = 0;
};

/// The rows of one layer in one step: bf16, shape [token_count, columns, dim].
struct OverlapRows {
  std::uint64_t step = 0;
  std::size_t layer = 0;  ///< Index in OverlapModel::layer_ids.
  std::size_t token_count = 0;
  std::span<const std::byte> host;    ///< Empty where they are on the device.
  const std::byte* device = nullptr;  ///< Null and `host` empty: what lies there already.
};

struct OverlapHits {
  std::uint64_t groups = 0;  ///< Asked for.
  std::uint64_t hits = 0;    ///< Of them in device memory.
};

/// Brings rows to places in device memory by itself, without a copy by the host: through
/// the HBM tier, or out of a table that the device can read.
class OverlapSource {
 public:
  OverlapSource() = default;
  OverlapSource(const OverlapSource&) = delete;
  OverlapSource& operator=(const OverlapSource&) = delete;
  virtual ~OverlapSource() = default;

  /// Queues all that brings the rows of `step` to the place of that number. Does not wait.
  ///   needed_after  shape [layers].
  /// REQUIRES: Finish() of what was in the place before.
  [[nodiscard]] virtual Status Start(std::size_t place, const OverlapStep& step,
                                     std::span<const std::chrono::nanoseconds> needed_after) = 0;
  /// What the engine queues from now on runs when the layer's rows are in their place. Does
  /// not wait.
  [[nodiscard]] virtual Status Wait(std::size_t place, std::size_t layer) = 0;
  /// The device's address of a layer's rows.
  [[nodiscard]] virtual const std::byte* Rows(std::size_t place, std::size_t layer) const = 0;
  /// After the step that used the rows has run. Errors: rows that could not be read.
  [[nodiscard]] virtual Status Finish(std::size_t place) = 0;
  /// Of all batches so far, where there is a cache.
  [[nodiscard]] virtual OverlapHits Hits() const { return {}; }
};

/// What computes. Calls may only queue their work: EndStep() waits for all of it.
class OverlapEngine {
 public:
  OverlapEngine() = default;
  OverlapEngine(const OverlapEngine&) = delete;
  OverlapEngine& operator=(const OverlapEngine&) = delete;
  virtual ~OverlapEngine() = default;

  /// Called for each place of rows in host memory, before the first step and after the last.
  [[nodiscard]] virtual Status Pin(std::span<std::byte> /*rows*/) { return {}; }
  virtual void Unpin(std::span<std::byte> /*rows*/) noexcept {}
  /// Before the first of up to `step_count` steps. What they take is added to `times`.
  [[nodiscard]] virtual Status Begin(const OverlapModel& model, std::uint64_t step_count,
                                     OverlapTimes& times) = 0;
  [[nodiscard]] virtual Status BeginStep() { return {}; }
  [[nodiscard]] virtual Status Compute(std::uint32_t block, std::size_t token_count) = 0;
  /// Around all that waits for the rows of a layer.
  [[nodiscard]] virtual Status BeginWait(std::size_t layer) = 0;
  [[nodiscard]] virtual Status EndWait(std::size_t layer) = 0;
  [[nodiscard]] virtual Status Use(const OverlapRows& rows) = 0;
  [[nodiscard]] virtual Status EndStep() { return {}; }
  /// After the last step and outside of the time: OverlapTimes::digests are there.
  [[nodiscard]] virtual Status End() { return {}; }
};

/// Computes by the clock: spins for a block's time, and reads rows as a layer would.
class ClockEngine final : public OverlapEngine {
 public:
  [[nodiscard]] Status Begin(const OverlapModel& model, std::uint64_t step_count,
                             OverlapTimes& times) override;
  [[nodiscard]] Status Compute(std::uint32_t block, std::size_t token_count) override;
  [[nodiscard]] Status BeginWait(std::size_t layer) override;
  [[nodiscard]] Status EndWait(std::size_t layer) override;
  [[nodiscard]] Status Use(const OverlapRows& rows) override;

 private:
  std::chrono::nanoseconds block_time_{0};
  OverlapTimes* times_ = nullptr;
  std::chrono::steady_clock::time_point wait_begin_;
};

}  // namespace tiercel::bench

#endif  // TIERCEL_BENCH_OVERLAP_ENGINE_H_
