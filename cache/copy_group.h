#ifndef TIERCEL_CACHE_COPY_GROUP_H_
#define TIERCEL_CACHE_COPY_GROUP_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tiercel {

/// Asks for the lines of a group. A hardware prefetcher follows within a page, but a
/// group is over before it has noticed.
inline void PrefetchGroup(const std::byte* group, std::uint32_t size_bytes) noexcept {
  for (std::uint32_t offset = 0; offset < size_bytes; offset += 64) {
    __builtin_prefetch(group + offset);
  }
}

/// Copies a group out of its slot.
inline void CopyGroup(std::byte* destination, const std::byte* group,
                      std::uint32_t size_bytes) noexcept {
  std::memcpy(destination, group, size_bytes);
}

}  // namespace tiercel

#endif  // TIERCEL_CACHE_COPY_GROUP_H_
