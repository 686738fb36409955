#ifndef TIERCEL_CUDA_HBM_DIRECTORY_H_
#define TIERCEL_CUDA_HBM_DIRECTORY_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cache/group_index.h"
#include "cache/policy.h"
#include "cache/slab.h"
#include "cache/slot_record.h"
#include "tiercel/status.h"

namespace tiercel {

/// Counters of one space of an HbmDirectory.
struct HbmSpaceStats {
  std::uint64_t insertions = 0;
  std::uint64_t rejections = 0;
  std::uint64_t evictions = 0;
  std::uint64_t removals = 0;  ///< By RemoveIf().
};

/// What a mirror of the directory has to be told; see HbmDirectory::LogChanges().
struct HbmChange {
  std::uint64_t key = 0;
  std::uint32_t slot = 0;
  std::uint8_t space = 0;
  bool added = false;
};

/// Which group lies in which slot of HBM. Knows no bytes and no device.
///
///   free -> Take() -> filling -> Publish() -> resident -> dropped -> (leaving) -> free
///
/// A slot is found only while it is resident: its bytes are known to be in place. Work that
/// is in flight on a stream pins the slots it reads. A slot that is dropped (evicted, or by
/// RemoveIf()) while pinned leaves: nobody finds it any more, and it is free when the last pin
/// goes. So no slot is written while anything that may run later reads it.
///
/// Admission and eviction are the DRAM cache's (cache/policy.h), a second instance of it.
///
/// Threading: one thread at a time. Allocates nothing after Create(), unless changes are
/// logged.
class HbmDirectory {
 public:
  static constexpr std::uint32_t kNoSlot = GroupIndex::kNoSlot;
  static constexpr std::uint32_t kSlotsMin = 16;

  /// Errors: kInvalidArgument (fewer than kSlotsMin slots, 2^31 or more, no spaces or more
  /// than 256), kResourceExhausted.
  [[nodiscard]] static Result<std::unique_ptr<HbmDirectory>> Create(std::uint64_t slot_count,
                                                                    std::uint32_t space_count);
  HbmDirectory(const HbmDirectory&) = delete;
  HbmDirectory& operator=(const HbmDirectory&) = delete;

  /// Slot of the group, its use counted; or kNoSlot.
  [[nodiscard]] std::uint32_t Use(std::uint32_t space, std::uint64_t key) noexcept;
  /// Slot of the group, or kNoSlot. Counts nothing.
  [[nodiscard]] std::uint32_t Find(std::uint32_t space, std::uint64_t key) const noexcept;

  /// Holds a resident slot for work in flight, once more. Unpin() as often.
  void Pin(std::uint32_t slot) noexcept;
  void Unpin(std::uint32_t slot) noexcept;

  /// A slot to fill with a group of `space`: a free one, else one that is evicted for it.
  /// kNoSlot, and a rejection is counted, where the one that was evicted is in flight still.
  [[nodiscard]] std::uint32_t Take(std::uint32_t space) noexcept;
  /// The group was written to `slot`. False, and the slot is free again, if the group came
  /// another way meanwhile or the index has no room. REQUIRES: Take() gave it.
  bool Publish(std::uint32_t slot, std::uint32_t space, std::uint64_t key) noexcept;
  /// `slot` was not filled after all. REQUIRES: Take() gave it.
  void Return(std::uint32_t slot) noexcept;

  /// Drops the resident groups of slots [first, first + count) for which
  /// condition(space, key) is true. Slots beyond the last are none.
  template <typename Condition>
  void RemoveIf(std::uint32_t first, std::uint32_t count, Condition&& condition) {
    const std::uint32_t end = first + std::min(count, slot_count_ - std::min(first, slot_count_));
    for (std::uint32_t slot = first; slot < end; ++slot) {
      if (states_[slot] != State::kResident) continue;
      if (condition(std::uint32_t{records_[slot].space}, records_[slot].key)) Remove(slot);
    }
  }

  /// From now on notes what comes and goes, for a mirror of the directory that others read.
  /// Slots that go stay pinned until the mirror's owner unpins them: when nothing that read
  /// the mirror before it was told is in flight any more.
  void LogChanges();
  /// What was noted since the last call, oldest first. The caller unpins the slot of each
  /// that is not `added`, once.
  [[nodiscard]] std::vector<HbmChange> TakeChanges();
  /// How many those are.
  [[nodiscard]] std::size_t change_count() const noexcept {
    return changes_ ? changes_->size() : 0;
  }

  [[nodiscard]] const HbmSpaceStats& stats(std::uint32_t space) const noexcept {
    return stats_[space];
  }
  [[nodiscard]] std::uint32_t slot_count() const noexcept { return slot_count_; }
  /// Slots that are neither free nor resident and unpinned.
  [[nodiscard]] std::uint32_t in_flight_count() const noexcept { return in_flight_count_; }
  [[nodiscard]] std::uint32_t free_count() const noexcept {
    return static_cast<std::uint32_t>(free_.size());
  }
  /// Host memory.
  [[nodiscard]] std::uint64_t memory_bytes() const noexcept;

 private:
  enum class State : std::uint8_t { kFree, kFilling, kResident, kLeaving };

  HbmDirectory(std::uint32_t slot_count, std::uint32_t space_count, Slab slab);

  void Free(std::uint32_t slot) noexcept;
  void EvictOne() noexcept;
  void Remove(std::uint32_t slot) noexcept;
  void Leave(std::uint32_t slot) noexcept;

  const std::uint32_t slot_count_;
  const Slab slab_;
  const std::span<SlotRecord> records_;
  Policy policy_;
  GroupIndex index_;
  std::vector<State> states_;
  std::vector<std::uint32_t> pins_;
  std::vector<std::uint32_t> free_;  ///< A stack.
  std::vector<HbmSpaceStats> stats_;
  std::uint32_t in_flight_count_ = 0;
  std::optional<std::vector<HbmChange>> changes_;
};

}  // namespace tiercel

#endif  // TIERCEL_CUDA_HBM_DIRECTORY_H_
