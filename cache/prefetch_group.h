#ifndef TIERCEL_CACHE_PREFETCH_GROUP_H_
#define TIERCEL_CACHE_PREFETCH_GROUP_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/copy_bytes.h"
#include "base/keep_prefetch.h"

namespace tiercel {

/// Asks for the first lines of a group: while they are copied, the processor's own
/// prefetcher has noticed the run and fetches the rest. Asking for all 33 lines of
/// 2,112 B is slower: it fills the queue of outstanding misses (cache_bench, cache_hit).
///
/// Beside non-temporal stores, which have no misses of their own to stand in line with them,
/// twice as many pay, and they are not kept in the outer caches either.
inline void PrefetchGroup(const std::byte* group, std::uint32_t size_bytes,
                          CopyStores stores) noexcept {
  TIERCEL_KEEP_PREFETCH(group);
  constexpr std::uint32_t kLineBytes = 64;
  if (stores == CopyStores::kNonTemporal) {
    const std::uint32_t end = std::min(size_bytes, 16 * kLineBytes);
    for (std::uint32_t at = 0; at < end; at += kLineBytes) __builtin_prefetch(group + at, 0, 0);
    return;
  }
  const std::uint32_t end = std::min(size_bytes, 8 * kLineBytes);
  for (std::uint32_t at = 0; at < end; at += kLineBytes) __builtin_prefetch(group + at);
}

}  // namespace tiercel

#endif  // TIERCEL_CACHE_PREFETCH_GROUP_H_
