#ifndef TIERCEL_CACHE_POLICY_H_
#define TIERCEL_CACHE_POLICY_H_

#include <cstdint>
#include <span>

#include "cache/ghost_table.h"
#include "cache/slot_record.h"

namespace tiercel {

/// Decides which slot is given up next: S3-FIFO (Yang et al., SOSP 2023). A group
/// enters a small queue; only one that is used again there, or that comes back soon
/// after it was dropped, reaches the main queue. So a scan passes through a tenth of
/// the memory and leaves the rest alone.
///
/// Knows slots and their records, no bytes: a simulation runs the same code.
///
/// Threading: one thread at a time; others may count uses meanwhile.
class Policy {
 public:
  static constexpr std::uint32_t kNoSlot = ~std::uint32_t{0};

  Policy() noexcept = default;
  /// Memory of the caller's, zeroed.
  Policy(std::span<SlotRecord> records, std::span<std::uint32_t> ghosts) noexcept;

  /// Takes in `slot`, whose record has its key and space. Returns whether the group
  /// came back soon after it was dropped.
  bool Add(std::uint32_t slot, std::uint64_t hash) noexcept;

  /// Takes in `slot` as one that has proved its worth already, with `uses` to its credit:
  /// a group of a saved hot set.
  void AddHot(std::uint32_t slot, std::uint8_t uses) noexcept;

  /// Picks a slot to give up and forgets it; kNoSlot if there is none. Looks at no
  /// more than kStepsMax slots.
  [[nodiscard]] std::uint32_t Evict() noexcept;

 private:
  /// Slots in order of arrival, linked by SlotRecord::next.
  struct Queue {
    std::uint32_t head = kNoSlot;
    std::uint32_t tail = kNoSlot;
    std::uint32_t count = 0;
  };
  /// On real text an eviction looks at 1.5 slots; the bound is for a cache in which
  /// everything is hot, where any victim is as good.
  static constexpr std::uint32_t kStepsMax = 64;

  void Push(Queue& queue, std::uint32_t slot) noexcept;
  std::uint32_t Pop(Queue& queue) noexcept;
  [[nodiscard]] std::uint32_t PopSmall(bool forced) noexcept;
  [[nodiscard]] std::uint32_t PopMain(bool forced) noexcept;

  std::span<SlotRecord> records_;
  GhostTable ghosts_;
  Queue small_;
  Queue main_;
  std::uint32_t small_count_max_ = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_POLICY_H_
