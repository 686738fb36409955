#ifndef TIERCEL_BENCH_OVERLAP_LOOP_H_
#define TIERCEL_BENCH_OVERLAP_LOOP_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "tiercel/store.h"

namespace tiercel::bench {

/// A request: consecutive tokens of one document.
struct OverlapSequence {
  std::uint64_t begin = 0;  ///< Of its tokens, in the trace.
  std::uint64_t end = 0;
};

struct SequenceChoice {
  std::uint64_t seed = 1;
  std::uint32_t count = 512;
  std::uint32_t length_min = 100;
  std::uint32_t length_max = 1024;
};

/// Draws sequences, as the Engram paper's harness has them: lengths uniform in
/// [length_min, length_max], cut at a random place out of documents that are long enough,
/// each of these at most once before all were. None where no document is.
///   offsets  shape [documents + 1].
[[nodiscard]] std::vector<OverlapSequence> ChooseSequences(std::span<const std::uint64_t> offsets,
                                                           const SequenceChoice& choice);

/// How the rows of a step are fetched.
enum class OverlapFetch : std::uint8_t {
  kNone,      ///< Not at all: the model has no Engram layers.
  kTickets,   ///< Asked for when the step's tokens are known, waited for in front of the layer.
  kBlocking,  ///< Looked up in front of the layer.
  kOnDevice,  ///< They are where the layer computes; it takes what is there.
};

/// A model that computes, by its times.
struct OverlapModel {
  std::uint32_t block_count = 16;
  std::chrono::nanoseconds block_time = std::chrono::milliseconds(8);
  std::vector<std::uint32_t> layer_ids;  ///< Blocks with a table, rising.
  // What a step does, where it is more than to spin for block_time and to read its rows. Each
  // may only queue its work: `finish` waits for all of it.
  /// Called for each place of rows, before the first step and after the last: to pin it.
  std::function<Status(std::span<std::byte> rows)> prepare;
  std::function<void(std::span<std::byte> rows)> release;
  std::function<Status(std::uint32_t block, std::size_t token_count)> compute;
  ///   index  of the layer in layer_ids.
  ///   rows   as bf16, shape [token_count, columns, dim]; none for kOnDevice.
  std::function<Status(std::size_t index, std::span<const std::byte> rows, std::size_t token_count)>
      use;
  std::function<Status()> finish;
};

/// Where the time of a loop went. All of one thread, the engine's.
struct OverlapTimes {
  std::uint64_t token_count = 0;
  std::uint64_t step_count = 0;
  double seconds = 0.0;
  double planned_seconds = 0.0;      ///< Of the blocks, by the model.
  double compute_seconds = 0.0;      ///< Of the blocks, as it came; with OverlapModel::finish.
  double start_seconds = 0.0;        ///< In Start().
  std::vector<double> wait_seconds;  ///< Shape [layers]: in Wait(), or in Lookup().
  double use_seconds = 0.0;          ///< The layers read their rows.
  std::uint64_t digest = 0;          ///< Of all rows in their order: the same however fetched.

  [[nodiscard]] double tokens_per_second() const noexcept;
  [[nodiscard]] double exposed_seconds() const noexcept;  ///< Of all layers.
  /// What rows cost over what steps take whose blocks take their time and no more, in percent
  /// of the sum. Other programs on the machine make the blocks of any arm longer; here that
  /// is left out.
  [[nodiscard]] double cost_percent() const noexcept;
};

struct DecodeOptions {
  std::uint32_t stream_count = 32;  ///< Sequences side by side, a token each a step.
  std::uint64_t step_count = 300;   ///< At most; fewer where sequences run out.
};

/// Decodes `sequences`, each of them from its first token on; one that ends makes room for the
/// next, and steps end when less than stream_count are left.
///
///   store  null for OverlapFetch::kNone.
/// Errors: as Store::Start() and Store::Lookup(), kPartial too.
[[nodiscard]] Result<OverlapTimes> RunDecode(Store* store, std::span<const std::int32_t> tokens,
                                             std::span<const OverlapSequence> sequences,
                                             const OverlapModel& model, OverlapFetch fetch,
                                             const DecodeOptions& options);

struct PrefillOptions {
  std::uint32_t step_tokens = 256;  ///< Tokens of a step, of as many sequences as it takes.
  std::uint32_t ahead = 2;          ///< Steps whose rows are asked for beforehand.
  std::uint64_t step_count = 300;   ///< At most.
};

/// Runs the sequences as prompts, one behind the other. As RunDecode().
[[nodiscard]] Result<OverlapTimes> RunPrefill(Store* store, std::span<const std::int32_t> tokens,
                                              std::span<const OverlapSequence> sequences,
                                              const OverlapModel& model, OverlapFetch fetch,
                                              const PrefillOptions& options);

/// Looks up all tokens of `sequences`, so that the cache has seen them. Errors: as above.
[[nodiscard]] Status ServeOnce(Store& store, std::span<const std::int32_t> tokens,
                               std::span<const OverlapSequence> sequences,
                               std::span<const std::uint32_t> layer_ids);

}  // namespace tiercel::bench

#endif  // TIERCEL_BENCH_OVERLAP_LOOP_H_
