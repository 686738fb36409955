#ifndef TIERCEL_STORE_GROUP_TRACE_H_
#define TIERCEL_STORE_GROUP_TRACE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache/sim/access_trace.h"
#include "tiercel/curve.h"

namespace tiercel {

/// Gives items their numbers, in the order in which they first appear: a hash table of
/// numbers alone, for the keys lie in the trace.
///
/// Threading: one thread at a time.
class ItemTable {
 public:
  /// The number of the item, which is added to `trace` if it is new there.
  ///   hash  of key and space.
  std::uint32_t Number(AccessTrace& trace, std::uint64_t hash, std::uint64_t key,
                       std::uint8_t space);

 private:
  void Grow(const AccessTrace& trace);

  std::vector<std::uint32_t> numbers_;  ///< A power of two; 0 is free, else number + 1.
};

/// One of the disjoint parts of a sample.
struct TraceSlice {
  AccessTrace trace;
  ItemTable table;
};

struct GroupTraceImpl {
  GroupTraceImpl(Hasher hasher_in, const GroupTraceOptions& options_in);

  [[nodiscard]] Status AddTokens(const TokenRun& run);
  /// The rest of this header's state is complete: where each slice's counting begins.
  void BeginCounting() noexcept;

  Hasher hasher;
  GroupTraceOptions options;
  std::vector<TraceSlice> slices;
  std::uint64_t sample_limit = 0;  ///< Hashes up to this one are kept.
  double slice_scale = 0.0;        ///< Slice = hash * this.
  std::uint64_t warm_token_count = 0;
  std::uint64_t token_count = 0;       ///< Counted.
  std::uint64_t dead_token_count = 0;  ///< Of those.
  bool counting = false;
  std::vector<std::uint64_t> mixes;  ///< Shape [tokens of a run, orders].
  std::vector<std::uint8_t> dead;    ///< Shape [tokens of a run].
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_GROUP_TRACE_H_
