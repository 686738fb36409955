#ifndef TIERCEL_CACHE_POLICY_H_
#define TIERCEL_CACHE_POLICY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/prng.h"
#include "cache/expectation_table.h"
#include "cache/ghost_table.h"
#include "cache/hit_forecast.h"
#include "cache/slot_record.h"
#include "cache/slot_set.h"

namespace tiercel {

/// Sizes of what a policy knows.
struct PolicyOptions {
  std::uint32_t space_count = 1;
  /// Groups that waiting prompts may be said to read; 0: none. Some 13 B each.
  std::uint64_t expected_groups_max = 0;
  /// The most that lies between the first and the last expected reading, in the caller's
  /// units of time; see Policy::Expect().
  std::uint64_t expected_span = std::uint64_t{1} << 22;
};

/// Decides which slot is given up next: of a random 32 that no waiting prompt will read,
/// the one that is worth least, as HitForecast has learned. Where waiting prompts will
/// read all there is, of a random 32 the one that is read last.
///
/// A group's history, uses in earlier stays, is remembered for some turnovers after it was
/// dropped. A group of no history and no use is of the kind of such groups, most of which
/// are never seen again: a scan evicts itself, not the hot set. On real text this beats
/// LRU, S3-FIFO, W-TinyLFU and LHD at every size; docs/cache-policy.md has the figures.
///
/// Time is counted in insertions: a tick is 1/64 of the slots.
///
/// Knows slots and their records, no bytes: a simulation runs the same code.
///
/// Threading: CountUse() may run anywhere, anytime; the rest is one thread's at a time.
class Policy {
 public:
  static constexpr std::uint32_t kNoSlot = SlotSet::kNoSlot;

  /// Memory for a policy over `slot_count` slots: some 6.7 B a slot, and 28 KB a space where
  /// that is no more than 2 B a slot.
  [[nodiscard]] static std::uint64_t WorkspaceBytes(std::uint64_t slot_count,
                                                    const PolicyOptions& options) noexcept;

  /// Memory of the caller's, zeroed.
  ///
  ///   records    shape [slots].
  ///   workspace  shape [WorkspaceBytes(slots, options)], at a multiple of 64.
  Policy(std::span<SlotRecord> records, std::span<std::byte> workspace,
         const PolicyOptions& options) noexcept;
  Policy(const Policy&) = delete;
  Policy& operator=(const Policy&) = delete;

  /// Notes a hit.
  void CountUse(SlotRecord& record) const noexcept {
    record.CountUse(tick_.load(std::memory_order_relaxed));
  }

  /// Takes in `slot`, whose record has its key and space; writes the rest of it but for
  /// `pinned`. Returns whether the group came back soon after it was dropped.
  bool Add(std::uint32_t slot, std::uint64_t hash) noexcept;

  /// Takes in `slot` as one that has proved its worth already, with `uses` to its credit:
  /// a group of a saved hot set.
  void AddHot(std::uint32_t slot, std::uint64_t hash, std::uint8_t uses) noexcept;

  /// Picks a slot to give up and forgets it; kNoSlot if there is none. Looks at no more
  /// than kCandidates slots.
  [[nodiscard]] std::uint32_t Evict() noexcept;

  /// Forgets `slot`, whose group is taken out for another reason than to make room: its uses
  /// are remembered for when it comes back. Does nothing for a slot that was not taken in.
  void Forget(std::uint32_t slot) noexcept;

  /// A waiting prompt will read the group with this hash, which lies in `slot`, or nowhere
  /// yet (kNoSlot), at `time`: in units that the caller chooses, such as tokens of the
  /// queue, from a clock that only grows. The same group may be expected any number of
  /// times. Returns false, and does nothing, if no more can be remembered.
  [[nodiscard]] bool Expect(std::uint64_t hash, std::uint32_t slot, std::uint64_t time) noexcept;
  /// Undoes one Expect(): the prompt has read the group, or gave up. False if there is none.
  bool Release(std::uint64_t hash, std::uint32_t slot) noexcept;
  /// Whether a waiting prompt will read it.
  [[nodiscard]] bool IsExpected(std::uint64_t hash) const noexcept {
    return expected_.NextOf(hash) != ExpectationTable::kNever;
  }
  /// Groups that are expected now, resident or not.
  [[nodiscard]] std::uint64_t expected_count() const noexcept { return expected_.group_count(); }

 private:
  /// Slots looked at for one eviction. 16 lose a fifth of a point, 64 gain as much.
  static constexpr std::uint32_t kCandidates = 32;
  static constexpr std::uint32_t kTicksPerTurnover = 64;
  static constexpr std::uint32_t kTickMask = (1U << (16 - SlotRecord::kUsesBits)) - 1;
  /// A look at one of 32 random slots an insertion: in as many ticks a slot is looked at.
  static constexpr float kTicksPerLook = static_cast<float>(kTicksPerTurnover) / kCandidates;
  /// What is learned is worked out anew four times a turnover, or more often: see Advance().
  static constexpr std::uint32_t kRefreshesPerTurnover = 4;
  /// Insertions from one kind's turn to the next one's. With 85, some 90,000 looks at each
  /// kind are remembered. 40 and 170 gain and lose a tenth of a point under drift, and lose and
  /// gain half of that without.
  static constexpr std::uint32_t kRefreshInsertionsMin = 8;
  static constexpr std::uint32_t kRefreshInsertionsMax = 85;

  struct Layout;
  static Layout LayoutFor(std::uint64_t slot_count, const PolicyOptions& options) noexcept;
  Policy(std::span<SlotRecord> records, std::span<std::byte> workspace,
         const PolicyOptions& options, const Layout& layout) noexcept;

  void Start(std::uint32_t slot, std::uint64_t hash, std::uint32_t history,
             std::uint32_t uses) noexcept;
  void Advance() noexcept;
  void Look(SlotRecord& record) noexcept;
  void SetAwaited(std::uint32_t slot, ExpectationTable::Time time) noexcept;
  void Await(std::uint32_t slot, std::uint64_t hash) noexcept;
  [[nodiscard]] std::uint32_t WorstIdle() noexcept;
  [[nodiscard]] std::uint32_t LastAwaited() noexcept;
  [[nodiscard]] HitForecast::Kind KindOf(const SlotRecord& record,
                                         std::uint32_t uses) const noexcept {
    return {.space = record.space % space_kinds_, .history = record.history, .uses = uses};
  }
  [[nodiscard]] static std::uint32_t AgeBetween(std::uint32_t from_use,
                                                std::uint32_t to_tick) noexcept {
    return (to_tick - (from_use >> SlotRecord::kUsesBits)) & kTickMask;
  }

  std::span<SlotRecord> records_;
  std::uint32_t space_kinds_ = 1;  ///< Spaces that are told apart.
  HitForecast forecast_;
  GhostTable ghosts_;
  SlotSet idle_;     ///< Slots that nobody waits for.
  SlotSet awaited_;  ///< The others.
  ExpectationTable expected_;
  std::uint32_t expected_shift_ = 0;  ///< The caller's units of time a step, as a power of two.
  std::uint64_t insertions_ = 0;
  std::uint64_t next_tick_ = 0;
  std::uint64_t next_refresh_ = 0;
  Prng prng_{1};
  alignas(64) std::atomic<std::uint16_t> tick_{0};  ///< Read by all, written once a tick.
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_POLICY_H_
