#ifndef TIERCEL_CACHE_SIM_SIMULATE_CACHE_H_
#define TIERCEL_CACHE_SIM_SIMULATE_CACHE_H_

#include <cstdint>
#include <vector>

#include "cache/sim/access_trace.h"
#include "tiercel/status.h"

namespace tiercel {

/// What decides which items a simulated cache keeps.
enum class SimPolicy : std::uint8_t {
  kLru,
  kS3Fifo,
  kTinyLfu,
  kGroupPolicy,  ///< The group cache's own.
  kTopK,
  kClairvoyant,
};

/// Misses of each class among the counted accesses, in a cache of `capacity` items.
///
///   known  for kGroupPolicy alone: what it knows of the future.
///
/// Shape of the result: [trace.class_count]. Allocates some 10 to 20 bytes an item, and for
/// kClairvoyant 4 an access.
/// REQUIRES: capacity > 0; fewer than 2^32 - 1 accesses.
[[nodiscard]] std::vector<std::uint64_t> SimulateMisses(SimPolicy policy, const AccessTrace& trace,
                                                        std::uint64_t capacity,
                                                        const KnownAccesses& known = {});

/// The same of the group cache itself: of a cache of `budget_bytes`, metadata counted, in
/// which every group has `group_size_bytes`. Takes that memory.
/// REQUIRES: !known.all. Errors: as GroupCache::Create().
[[nodiscard]] Result<std::vector<std::uint64_t>> SimulateGroupCache(
    const AccessTrace& trace, std::uint64_t budget_bytes, std::uint32_t group_size_bytes,
    const KnownAccesses& known = {});

/// Counted accesses of each class to what was never asked for before: the misses of a
/// cache without bounds. Shape of the result: [trace.class_count].
[[nodiscard]] std::vector<std::uint64_t> CountFirstUses(const AccessTrace& trace);

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SIM_SIMULATE_CACHE_H_
