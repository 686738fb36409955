#ifndef TIERCEL_CACHE_POLICY_H_
#define TIERCEL_CACHE_POLICY_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "base/prng.h"
#include "cache/ghost_table.h"
#include "cache/hit_density.h"
#include "cache/slot_record.h"

namespace tiercel {

/// Decides which slot is given up next: of a random few, the one with the least hit
/// density (LHD; Beckmann, Chen, Cidon, NSDI 2018). A slot's class is its space (so its
/// order), its uses, and whether it came back after it had been dropped and how often
/// it had been used then. On real text this beats S3-FIFO and W-TinyLFU at every size
/// (bench/policy_sim.cc has the table).
///
/// A group that is seen for the first time is of the class of such groups, most of
/// which are never seen again: a scan evicts itself, not the hot set.
///
/// Time is counted in insertions: a tick is 1/64 of the slots.
///
/// Knows slots and their records, no bytes: a simulation runs the same code.
///
/// Threading: CountUse() may run anywhere, anytime; the rest is one thread's.
class Policy {
 public:
  static constexpr std::uint32_t kNoSlot = ~std::uint32_t{0};
  static constexpr std::uint32_t kSpaceClassesMax = 16;
  static constexpr std::uint32_t kHistories = 4;  ///< Unknown; dropped after 0, 1, more uses.
  static constexpr std::uint32_t kClassesPerSpace = kHistories * (SlotRecord::kUsesMax + 1);

  /// Where a policy keeps what it knows: memory of the caller's, zeroed.
  struct Memory {
    std::span<SlotRecord> records;          ///< Shape [slots].
    std::span<GhostTable::Bucket> ghosts;   ///< Shape [GhostBuckets(slots)].
    std::span<HitDensity::Cell> densities;  ///< Shape [DensityCells(slots, spaces)].
  };
  /// Ghosts live for 2.5 times as many insertions as there are slots.
  [[nodiscard]] static constexpr std::uint64_t GhostBuckets(std::uint64_t slot_count) noexcept {
    return slot_count * 5 / 2 / GhostTable::Bucket::kWays + 1;
  }
  /// Every space has classes of its own (32 * 44 cells of 12 B) where that takes 2 B a
  /// slot or less; otherwise space s shares those of s modulo as many as fit.
  [[nodiscard]] static constexpr std::uint64_t DensityCells(std::uint64_t slot_count,
                                                            std::uint64_t space_count) noexcept {
    const std::uint64_t wanted = space_count < kSpaceClassesMax ? space_count : kSpaceClassesMax;
    const std::uint64_t room = slot_count / 8192;
    const std::uint64_t space_classes = room == 0 ? 1 : room < wanted ? room : wanted;
    return space_classes * kClassesPerSpace * HitDensity::kAgeCount;
  }

  Policy() noexcept = default;
  explicit Policy(const Memory& memory) noexcept;
  Policy(const Policy&) = delete;
  Policy& operator=(const Policy&) = delete;

  /// Notes a hit. Two that coincide may count as one. Writes the record at most once a
  /// tick and kUsesMax times more, so that a hot group's line stays shared.
  void CountUse(SlotRecord& record) noexcept {
    const std::uint16_t now = tick_.load(std::memory_order_relaxed);
    const std::uint16_t last = record.last_use.load(std::memory_order_relaxed);
    const std::uint8_t uses = record.uses.load(std::memory_order_relaxed);
    if (record.sampled != 0) [[unlikely]] {
      density_.CountHit(ClassOf(record, uses), AgeBucket(now, last));
    }
    if (uses < SlotRecord::kUsesMax) {
      record.uses.store(static_cast<std::uint8_t>(uses + 1), std::memory_order_relaxed);
    }
    if (last != now) record.last_use.store(now, std::memory_order_relaxed);
  }

  /// Takes in `slot`, whose record has its key and space; writes the rest of it, so no
  /// reader may reach it yet. Returns whether the group came back soon after it was
  /// dropped.
  bool Add(std::uint32_t slot, std::uint64_t hash) noexcept;

  /// Undoes Add(): nothing was published.
  void Forget(std::uint32_t slot) noexcept { records_[slot].linked = 0; }

  /// Picks a slot to give up and forgets it; kNoSlot if it finds none.
  [[nodiscard]] std::uint32_t Evict() noexcept;

 private:
  /// Slots looked at for one eviction. 64 gain a tenth of a point over 32.
  static constexpr std::uint32_t kCandidates = 32;
  static constexpr std::uint32_t kTicksPerTurnover = 64;
  /// About this many slots have their lives counted: enough for thousands of events
  /// between refreshes, and few enough that readers seldom meet on a counter.
  static constexpr std::uint32_t kSampledSlots = 16384;

  [[nodiscard]] std::uint32_t ClassOf(const SlotRecord& record, std::uint8_t uses) const noexcept {
    return (record.space % space_classes_ * kHistories + record.history) *
               (SlotRecord::kUsesMax + 1) +
           uses;
  }
  [[nodiscard]] static std::uint32_t AgeBucket(std::uint16_t now, std::uint16_t last) noexcept {
    return HitDensity::AgeBucket(static_cast<std::uint16_t>(now - last));
  }
  void Advance() noexcept;
  [[nodiscard]] std::uint32_t WorstOf(std::span<const std::uint32_t> slots) const noexcept;

  std::span<SlotRecord> records_;
  GhostTable ghosts_;
  HitDensity density_;
  std::uint32_t space_classes_ = 1;
  std::uint32_t sample_mask_ = 0;
  std::uint64_t insertions_ = 0;
  std::uint64_t next_tick_ = 0;
  std::uint64_t next_refresh_ = 0;
  Prng prng_{1};
  alignas(64) std::atomic<std::uint16_t> tick_{0};  ///< Read by all, written once a tick.
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_POLICY_H_
