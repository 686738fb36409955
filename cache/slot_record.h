#ifndef TIERCEL_CACHE_SLOT_RECORD_H_
#define TIERCEL_CACHE_SLOT_RECORD_H_

#include <atomic>
#include <cstdint>

namespace tiercel {

/// What the cache knows about one slot besides its bytes. One line holds four.
///
/// Threading: key and space are written while no reader can reach the slot. `uses`
/// is anyone's. The rest belongs to the writer.
struct SlotRecord {
  static constexpr std::uint8_t kUsesMax = 3;

  std::uint64_t key;               ///< Group key.
  std::uint32_t next;              ///< The slot after this one in its queue.
  std::uint8_t space;              ///< Space of the key.
  std::uint8_t queue;              ///< The policy's.
  std::atomic<std::uint8_t> uses;  ///< Hits since it came, or was last passed over; saturates.
  std::uint8_t pinned;             ///< 1: the pool never drops it. The writer's.

  /// Counts a hit. Two that coincide may count as one. Writes at most kUsesMax times
  /// between two passes of the policy, so that a hot group's line stays shared.
  void CountUse() noexcept {
    const std::uint8_t seen = uses.load(std::memory_order_relaxed);
    if (seen < kUsesMax) {
      uses.store(static_cast<std::uint8_t>(seen + 1), std::memory_order_relaxed);
    }
  }
};
static_assert(sizeof(SlotRecord) == 16);

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SLOT_RECORD_H_
