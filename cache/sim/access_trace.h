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

inline constexpr std::uint32_t kNeverUsed = ~std::uint32_t{0};

/// The access after each that asks for the same item; kNeverUsed where there is none. Shape
/// [accesses]. REQUIRES: fewer than 2^32 - 1 accesses.
[[nodiscard]] inline std::vector<std::uint32_t> NextUses(const AccessTrace& trace) {
  std::vector<std::uint32_t> next_uses(trace.items.size());
  std::vector<std::uint32_t> upcoming(trace.item_count(), kNeverUsed);
  for (std::size_t i = trace.items.size(); i-- > 0;) {
    next_uses[i] = upcoming[trace.items[i]];
    upcoming[trace.items[i]] = static_cast<std::uint32_t>(i);
  }
  return next_uses;
}

/// What a policy is told of the accesses to come.
struct KnownAccesses {
  std::uint64_t queue_count = 0;   ///< The next so many at any time, those of a queue of prompts.
  std::uint64_t expected_max = 0;  ///< Items that can be remembered as expected.
  /// All: with each access, when the same item comes again. Has room for as many as fit in the
  /// cache, and queue_count is not looked at.
  bool all = false;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SIM_ACCESS_TRACE_H_
