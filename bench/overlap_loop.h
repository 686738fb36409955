#ifndef TIERCEL_BENCH_OVERLAP_LOOP_H_
#define TIERCEL_BENCH_OVERLAP_LOOP_H_

#include <cstdint>
#include <span>
#include <vector>

#include "bench/overlap_engine.h"
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

struct DecodeOptions {
  std::uint32_t stream_count = 32;  ///< Sequences side by side, a token each a step.
  std::uint64_t step_count = 300;   ///< At most; fewer where sequences run out.
};

struct PrefillOptions {
  std::uint32_t step_tokens = 256;  ///< Tokens of a step, of as many sequences as it takes.
  std::uint32_t ahead = 2;          ///< Steps whose rows are asked for beforehand.
  std::uint64_t step_count = 300;   ///< At most.
};

/// The steps that decode `sequences`, each of them from its first token on; one that ends makes
/// room for the next, and steps end when less than stream_count are left.
///   history_max  tokens that hashing looks back at.
[[nodiscard]] std::vector<OverlapStep> DecodeSteps(std::span<const std::int32_t> tokens,
                                                   std::span<const OverlapSequence> sequences,
                                                   std::size_t history_max,
                                                   const DecodeOptions& options);
/// The steps that run the sequences as prompts, one behind the other.
[[nodiscard]] std::vector<OverlapStep> PrefillSteps(std::span<const std::int32_t> tokens,
                                                    std::span<const OverlapSequence> sequences,
                                                    std::size_t history_max,
                                                    const PrefillOptions& options);
/// Sequences as runs, whole.
[[nodiscard]] std::vector<TokenRun> RunsOf(std::span<const std::int32_t> tokens,
                                           std::span<const OverlapSequence> sequences);

/// How the rows of a step are fetched.
enum class OverlapFetch : std::uint8_t {
  kNone,            ///< Not at all: the model has no Engram layers.
  kTickets,         ///< Asked for when the step's tokens are known, waited for at the layer.
  kBlocking,        ///< Looked up in front of the layer.
  kOnDevice,        ///< They are where the layer computes; it takes what is there.
  kSource,          ///< As kTickets, but OverlapSource brings them to the device.
  kSourceBlocking,  ///< As kBlocking, but OverlapSource brings them.
};

/// What runs steps.
struct OverlapLoop {
  OverlapFetch fetch = OverlapFetch::kNone;
  Store* store = nullptr;           ///< Of kTickets and kBlocking.
  OverlapSource* source = nullptr;  ///< Of kSource and kSourceBlocking.
  OverlapEngine* engine = nullptr;
  std::size_t capacity = 0;  ///< Tokens of a step, at most.
  std::uint32_t ahead = 0;   ///< Steps whose rows are asked for beforehand.
  double seconds_max = 1e9;  ///< No step begins after that.
};

/// Runs the steps, one after another.
/// Errors: as Store::Start(), Store::Lookup() and those of source and engine, kPartial too.
[[nodiscard]] Result<OverlapTimes> RunSteps(const OverlapLoop& loop, const OverlapModel& model,
                                            std::span<const OverlapStep> steps);

/// Looks up the tokens of all runs, so that the cache has seen them. Stops after so many
/// seconds. Returns how many tokens it came to. Errors: as Store::Lookup().
[[nodiscard]] Result<std::uint64_t> ServeOnce(Store& store, std::span<const TokenRun> runs,
                                              std::span<const std::uint32_t> layer_ids,
                                              double seconds_max);

}  // namespace tiercel::bench

#endif  // TIERCEL_BENCH_OVERLAP_LOOP_H_
