#ifndef TIERCEL_CACHE_SLOT_RECORD_H_
#define TIERCEL_CACHE_SLOT_RECORD_H_

#include <atomic>
#include <cstdint>

namespace tiercel {

/// Rounded up to whole cache lines, in which every part of a pool's memory begins.
[[nodiscard]] constexpr std::uint64_t AlignToLine(std::uint64_t bytes) noexcept {
  return (bytes + 63) / 64 * 64;
}

/// What the cache knows about one slot besides its bytes. One line holds four.
///
/// Threading: key and space are written while no reader can reach the slot; readers of another
/// process, whom nothing keeps away, take them by SharedIs() (slot_version.h says what that is
/// worth). `use` is anyone's. The rest belongs to the writer.
struct SlotRecord {
  static constexpr std::uint32_t kUsesBits = 3;
  static constexpr std::uint8_t kUsesMax = (1 << kUsesBits) - 1;

  std::uint64_t key;               ///< Group key. Of a free slot: the next free one.
  std::atomic<std::uint16_t> use;  ///< (Tick of the last use << kUsesBits) | uses.
  std::uint16_t seen_use;          ///< The policy's: `use` when it last looked.
  std::uint16_t awaited_at;        ///< The policy's: when a waiting prompt will read it, or 0.
  std::uint8_t space;              ///< Space of the key.
  std::uint8_t history : 3;        ///< The policy's: uses in earlier stays, as a power of two.
  std::uint8_t pinned : 1;         ///< 1: the pool never drops it.

  /// What the slot will hold. Writer.
  void SetGroup(std::uint64_t group_key, std::uint32_t group_space) noexcept {
    SetKey(group_key);
    __atomic_store_n(&space, static_cast<std::uint8_t>(group_space), __ATOMIC_RELEASE);
  }
  void SetKey(std::uint64_t new_key) noexcept { __atomic_store_n(&key, new_key, __ATOMIC_RELEASE); }
  /// Whether the group is the one named, or was when it was looked at.
  [[nodiscard]] bool SharedIs(std::uint32_t group_space, std::uint64_t group_key) const noexcept {
    return __atomic_load_n(&key, __ATOMIC_ACQUIRE) == group_key &&
           __atomic_load_n(&space, __ATOMIC_ACQUIRE) == group_space;
  }

  /// Hits since it came; saturates.
  [[nodiscard]] std::uint8_t Uses() const noexcept {
    return use.load(std::memory_order_relaxed) & kUsesMax;
  }
  /// Notes a hit at `tick`. Two that coincide may count as one. Writes at most once a
  /// tick and kUsesMax times more, so that a hot group's line stays shared.
  void CountUse(std::uint16_t tick) noexcept {
    const std::uint16_t seen = use.load(std::memory_order_relaxed);
    const std::uint16_t uses = seen & kUsesMax;
    const auto now =
        static_cast<std::uint16_t>((tick << kUsesBits) | (uses < kUsesMax ? uses + 1 : uses));
    if (now != seen) use.store(now, std::memory_order_relaxed);
  }
};
static_assert(sizeof(SlotRecord) == 16);

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SLOT_RECORD_H_
