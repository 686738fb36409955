#ifndef TIERCEL_CACHE_GROUP_POOL_H_
#define TIERCEL_CACHE_GROUP_POOL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/mutex.h"
#include "cache/group_index.h"
#include "cache/hot_group.h"
#include "cache/policy.h"
#include "cache/pool_layout.h"
#include "cache/reader_epochs.h"
#include "cache/slab.h"
#include "tiercel/status.h"

namespace tiercel {

/// What became of the groups that were offered to one space.
///
/// Threading: atomics of their own; writers add, anyone reads.
struct WriteCounters {
  std::atomic<std::uint64_t> insertions{0};
  std::atomic<std::uint64_t> rejections{0};
  std::atomic<std::uint64_t> evictions{0};
  std::atomic<std::uint64_t> ghost_hits{0};
  std::atomic<std::uint64_t> pinned{0};
  std::atomic<std::uint64_t> removals{0};
};

/// The groups of one size: slots in a slab, the index that finds them, the policy
/// that gives them up. All of it lies in memory of its own, or in memory that processes
/// share: then each slot has a version (slot_version.h), for readers that have no epoch.
///
/// A slot is free, linked (the index leads to it, its bytes do not change), or in
/// limbo: unlinked, but a reader that found it before may still be copying. Slots
/// leave limbo in the order in which they entered, once ReaderEpochs says that every
/// such reader has left. An insertion that finds no free slot and none that has left
/// limbo is declined: writers never wait for readers, nor readers for writers.
///
/// Threading: everything may run concurrently. What the readers' half returns is good
/// while a ReaderPin of the pool's epochs is held that was taken before.
class GroupPool {
 public:
  /// Takes memory for as many groups as fit `budget_bytes` beside what `options` ask for.
  /// `epochs` and `counters`, one entry a space, must outlive it.
  /// Errors: kResourceExhausted (fewer than kSlotsMin fit), and as Slab::Map().
  [[nodiscard]] static Result<std::unique_ptr<GroupPool>> Create(
      std::uint32_t group_size_bytes, std::uint64_t budget_bytes, const PolicyOptions& options,
      ReaderEpochs& epochs, std::span<WriteCounters> counters, const MemoryOptions& memory = {});
  /// The same in memory of another's, which processes share: zeroed, at a multiple of 64.
  /// It must outlive the pool.
  [[nodiscard]] static Result<std::unique_ptr<GroupPool>> CreateShared(
      std::uint32_t group_size_bytes, std::span<std::byte> memory, const PolicyOptions& options,
      ReaderEpochs& epochs, std::span<WriteCounters> counters);
  GroupPool(const GroupPool&) = delete;
  GroupPool& operator=(const GroupPool&) = delete;

  // ---- readers ----

  [[nodiscard]] const GroupIndex& index() const noexcept { return index_; }
  [[nodiscard]] SlotRecord& record(std::uint32_t slot) const noexcept { return records_[slot]; }
  /// Notes a hit of the group in `slot`.
  void CountUse(std::uint32_t slot) const noexcept { policy_.CountUse(records_[slot]); }
  /// The group in `slot`: group_size_bytes() of them.
  [[nodiscard]] const std::byte* group(std::uint32_t slot) const noexcept {
    return groups_ + std::size_t{slot} * stride_bytes_;
  }
  [[nodiscard]] std::uint32_t group_size_bytes() const noexcept { return group_size_bytes_; }

  // ---- writers ----

  /// Offers a group. One writer at a time: may wait for another's copy. Returns whether
  /// the group is resident now.
  ///
  ///   bytes  shape [group_size_bytes].
  bool Insert(std::uint32_t space, std::uint64_t key, const std::byte* bytes) noexcept
      TIERCEL_EXCLUDES(mutex_);

  /// Unlinks every group for which `condition(space, key)` is true and that is linked from
  /// before the call until it is looked at; its slot is free once the readers that may have
  /// found it have left, which the call waits for. Pinned groups too: they lose their pin.
  /// Returns how many were unlinked. Takes the lock for some thousand slots at a time.
  ///
  ///   condition  Called under the lock; also with keys of groups that are not linked. Must
  ///              not throw, nor call the pool.
  std::uint64_t RemoveIf(
      const std::function<bool(std::uint32_t, std::uint64_t)>& condition) noexcept
      TIERCEL_EXCLUDES(mutex_);

  /// Waiting prompts will read these groups at `time`, or no longer: see Policy. Both stop
  /// at the first key that cannot be remembered, or was not, and return how many went
  /// before it.
  ///
  ///   keys  shape [n].
  std::size_t Expect(std::uint32_t space, std::span<const std::uint64_t> keys,
                     std::uint64_t time) noexcept TIERCEL_EXCLUDES(mutex_);
  std::size_t Release(std::uint32_t space, std::span<const std::uint64_t> keys) noexcept
      TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] std::uint64_t expected_count() noexcept TIERCEL_EXCLUDES(mutex_);

  // ---- the loader of a hot set: one thread, beside the writers above ----

  /// Sets up to `count` fresh slots aside for TakeHotSlot(), but for a twentieth of all:
  /// insertions go on with the rest. Replaces what was set aside before; 0 gives it up.
  void ReserveHot(std::uint64_t count) noexcept TIERCEL_EXCLUDES(mutex_);

  /// A slot that nobody else has, to write a group to: out of what was set aside. kNoSlot
  /// where none is left: nothing is dropped for it.
  [[nodiscard]] std::uint32_t TakeHotSlot() noexcept TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] std::byte* hot_group(std::uint32_t slot) const noexcept {
    return groups_ + std::size_t{slot} * stride_bytes_;
  }
  /// Makes the group written to `slot` resident, or gives the slot back if the group came
  /// another way meanwhile. `pin`: it stays for good, as long as no more than half of all
  /// slots do.
  HotOutcome PublishHot(std::uint32_t slot, const HotGroupId& id, bool pin) noexcept
      TIERCEL_EXCLUDES(mutex_);
  /// Gives back a slot that was taken and not published.
  void ReturnHotSlot(std::uint32_t slot) noexcept TIERCEL_EXCLUDES(mutex_);

  // ---- sizes ----

  [[nodiscard]] std::uint32_t slot_count() const noexcept { return slot_count_; }
  [[nodiscard]] std::uint64_t memory_bytes() const noexcept { return memory_bytes_; }
  [[nodiscard]] const std::string& pages() const noexcept { return slab_.pages(); }

  /// Fewer slots than this are of no use.
  static constexpr std::uint32_t kSlotsMin = 16;

 private:
  /// Slots in limbo, oldest first: a ring. Those of the open epoch have kOpen.
  struct LimboEntry {
    std::uint64_t epoch;
    std::uint32_t slot;
  };
  static constexpr std::uint64_t kOpen = ~std::uint64_t{0};
  /// An epoch is closed for this many slots at a time, so that scanning the readers'
  /// cells (64 lines, some of them in other cores' caches) is shared by as many.
  static constexpr std::uint32_t kLimboBatchMax = 64;
  /// A reader stays for a few hundred copies, some 100 us, in which one writer drops a
  /// few hundred groups at most.
  static constexpr std::uint32_t kLimboBatches = 8;

  /// Where each part lies in the slab.
  struct Plan {
    PoolLayout readers;
    std::uint32_t limbo_batch = 0;
    std::uint64_t policy_offset_bytes = 0;
    std::uint64_t policy_size_bytes = 0;
    std::uint64_t limbo_offset_bytes = 0;
    std::uint64_t size_bytes = 0;
  };
  static Plan PlanFor(std::uint32_t group_size_bytes, std::uint64_t slot_count, bool shared,
                      const PolicyOptions& options) noexcept;
  [[nodiscard]] static Result<Plan> LargestPlan(std::uint32_t group_size_bytes,
                                                std::uint64_t budget_bytes, bool shared,
                                                const PolicyOptions& options);

  GroupPool(const Plan& plan, Slab slab, std::span<std::byte> shared_memory,
            const PolicyOptions& options, ReaderEpochs& epochs,
            std::span<WriteCounters> counters) noexcept;

  [[nodiscard]] std::uint32_t TakeSlot() noexcept TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] bool DropOne() noexcept TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] bool OldestIsFree() noexcept TIERCEL_REQUIRES(mutex_);
  void CloseBatch() noexcept TIERCEL_REQUIRES(mutex_);
  void FreeSlot(std::uint32_t slot) noexcept TIERCEL_REQUIRES(mutex_);
  /// What became of a slot, for readers in other processes.
  void TellPublished(std::uint32_t slot) noexcept TIERCEL_REQUIRES(mutex_);
  void TellGivenUp(std::uint32_t slot) noexcept TIERCEL_REQUIRES(mutex_);
  void Unlink(std::uint32_t slot) noexcept TIERCEL_REQUIRES(mutex_);
  void FreeWhenUnread(std::span<const std::uint32_t> slots) noexcept TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] bool Pin(std::uint32_t slot) noexcept TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] LimboEntry& Limbo(std::uint32_t index) noexcept TIERCEL_REQUIRES(mutex_);

  const std::uint32_t group_size_bytes_;
  const std::uint32_t stride_bytes_;
  const std::uint32_t slot_count_;
  const std::uint32_t limbo_batch_;
  const Slab slab_;  ///< None where the memory is another's.
  const std::uint64_t memory_bytes_;
  ReaderEpochs& epochs_;
  const std::span<WriteCounters> counters_;
  std::byte* const groups_;
  SlotRecord* const records_;
  SlotVersion* const versions_;  ///< Null where nobody shares the memory.
  GroupIndex index_;             // Its writer's half is guarded by mutex_.

  Mutex mutex_;
  Policy policy_;  // Guarded by mutex_, but for CountUse().
  std::uint32_t slots_ever_used_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint32_t free_head_ TIERCEL_GUARDED_BY(mutex_) = GroupIndex::kNoSlot;  ///< Linked by `key`.
  std::uint32_t hot_reserve_ TIERCEL_GUARDED_BY(mutex_) = 0;  ///< Of the slots never used.
  std::uint32_t pinned_count_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::span<LimboEntry> limbo_ TIERCEL_GUARDED_BY(mutex_);
  std::uint32_t limbo_first_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint32_t limbo_count_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint32_t limbo_open_count_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t oldest_epoch_ TIERCEL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_GROUP_POOL_H_
