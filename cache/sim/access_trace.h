#ifndef TIERCEL_CACHE_SIM_ACCESS_TRACE_H_
#define TIERCEL_CACHE_SIM_ACCESS_TRACE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tiercel {

/// What was asked for, one after another, as a simulated cache sees it: items numbered
/// densely in the order in which they first appear, so that a policy keeps what it
/// knows of them in plain arrays.
struct AccessTrace {
  std::vector<std::uint32_t> items;   ///< Shape [accesses]: each below item_count().
  std::vector<std::uint64_t> keys;    ///< Shape [items]: group key.
  std::vector<std::uint8_t> classes;  ///< Shape [items]: space of the key, below class_count.
  std::uint32_t class_count = 1;
  std::size_t counted_begin = 0;  ///< Accesses before this one warm the cache, uncounted.

  [[nodiscard]] std::uint32_t item_count() const noexcept {
    return static_cast<std::uint32_t>(keys.size());
  }
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SIM_ACCESS_TRACE_H_
