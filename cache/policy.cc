#include "cache/policy.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>

#include "cache/group_hash.h"

namespace tiercel {
namespace {

/// Slots for which what is learned of one space is kept: its 28 KB are then 1.7 B a slot.
constexpr std::uint64_t kSlotsPerSpaceKind = 16384;
/// Buckets of 25 ghosts: 6.4 B a slot, to remember 2.5 times as many groups as there are
/// slots. Half of that costs a quarter of a point.
constexpr std::uint64_t GhostBuckets(std::uint64_t slot_count) noexcept {
  return slot_count / 10 + 1;
}

/// The most of `space_count` kinds that `slot_count` slots pay for, and that divides it:
/// so that spaces, which are (layer, order) pairs, share with others of their order.
std::uint32_t SpaceKinds(std::uint64_t slot_count, std::uint32_t space_count) noexcept {
  for (std::uint32_t kinds = space_count; kinds > 1; --kinds) {
    if (space_count % kinds == 0 && kinds * kSlotsPerSpaceKind <= slot_count) return kinds;
  }
  return 1;
}

/// Uses in all stays so far, as a power of two: 1 is one use or none, 7 is 64 or more.
std::uint32_t HistoryAfter(std::uint32_t history, std::uint32_t uses) noexcept {
  const std::uint32_t before = history == 0 ? 0 : 1U << (history - 1);
  return std::min<std::uint32_t>(static_cast<std::uint32_t>(std::bit_width(before + 1 + uses)),
                                 GhostTable::kHistoryMax);
}

template <typename T>
std::span<T> Part(std::span<std::byte> workspace, std::uint64_t offset_bytes,
                  std::uint64_t count) noexcept {
  assert(offset_bytes + count * sizeof(T) <= workspace.size());
  return {reinterpret_cast<T*>(workspace.data() + offset_bytes), count};
}

}  // namespace

/// Where each part lies in the workspace.
struct Policy::Layout {
  std::uint32_t space_kinds = 1;
  std::uint64_t ghost_count = 0;
  std::uint64_t expected_count = 0;
  std::uint64_t cell_count = 0;
  std::uint64_t set_word_count = 0;  ///< Of each set.
  std::uint64_t expected_offset_bytes = 0;
  std::uint64_t cells_offset_bytes = 0;
  std::uint64_t sets_offset_bytes = 0;
  std::uint64_t size_bytes = 0;
};

Policy::Layout Policy::LayoutFor(std::uint64_t slot_count, const PolicyOptions& options) noexcept {
  Layout layout;
  layout.space_kinds = SpaceKinds(slot_count, options.space_count);
  layout.ghost_count = GhostBuckets(slot_count);
  layout.expected_count = ExpectationTable::BucketCount(options.expected_groups_max);
  layout.cell_count = HitForecast::CellCount(layout.space_kinds);
  layout.set_word_count = SlotSet::WordCount(slot_count);
  layout.expected_offset_bytes = layout.ghost_count * sizeof(GhostTable::Bucket);
  layout.cells_offset_bytes =
      layout.expected_offset_bytes + layout.expected_count * sizeof(ExpectationTable::Bucket);
  layout.sets_offset_bytes =
      AlignToLine(layout.cells_offset_bytes + layout.cell_count * sizeof(HitForecast::Cell));
  layout.size_bytes =
      AlignToLine(layout.sets_offset_bytes + 2 * layout.set_word_count * sizeof(std::uint64_t));
  return layout;
}

std::uint64_t Policy::WorkspaceBytes(std::uint64_t slot_count,
                                     const PolicyOptions& options) noexcept {
  return LayoutFor(slot_count, options).size_bytes;
}

Policy::Policy(std::span<SlotRecord> records, std::span<std::byte> workspace,
               const PolicyOptions& options) noexcept
    : Policy(records, workspace, options, LayoutFor(records.size(), options)) {}

Policy::Policy(std::span<SlotRecord> records, std::span<std::byte> workspace,
               const PolicyOptions& options, const Layout& layout) noexcept
    : records_(records),
      space_kinds_(layout.space_kinds),
      forecast_(Part<HitForecast::Cell>(workspace, layout.cells_offset_bytes, layout.cell_count),
                kTicksPerLook),
      ghosts_(Part<GhostTable::Bucket>(workspace, 0, layout.ghost_count)),
      idle_(Part<std::uint64_t>(workspace, layout.sets_offset_bytes, layout.set_word_count),
            records.size()),
      awaited_(
          Part<std::uint64_t>(
              workspace, layout.sets_offset_bytes + layout.set_word_count * sizeof(std::uint64_t),
              layout.set_word_count),
          records.size()),
      expected_(Part<ExpectationTable::Bucket>(workspace, layout.expected_offset_bytes,
                                               layout.expected_count),
                options.expected_groups_max),
      // Half of what can be told apart: the rest is for readings that are late.
      expected_shift_(static_cast<std::uint32_t>(
          std::bit_width(options.expected_span / (ExpectationTable::kTimeSpan / 2)))) {}

/// Counts an insertion; moves the clock and works out what was learned when it is time.
void Policy::Advance() noexcept {
  ++insertions_;
  if (insertions_ >= next_tick_) {
    tick_.store(static_cast<std::uint16_t>((tick_.load(std::memory_order_relaxed) + 1) & kTickMask),
                std::memory_order_relaxed);
    next_tick_ = insertions_ + std::max<std::size_t>(records_.size() / kTicksPerTurnover, 1);
  }
  if (insertions_ >= next_refresh_) {
    forecast_.RefreshNext();
    // One kind at a time: no insertion has to wait for all of them. In a small cache a turn
    // takes longer than a quarter of a turnover, lest its insertions do little else. In a
    // large one it takes less: so many looks are enough to learn from, and what is older
    // than they are would only hide that the text is another now.
    next_refresh_ =
        insertions_ +
        std::clamp<std::size_t>(records_.size() / kRefreshesPerTurnover / forecast_.kind_count(),
                                kRefreshInsertionsMin, kRefreshInsertionsMax);
  }
}

void Policy::Start(std::uint32_t slot, std::uint64_t hash, std::uint32_t history,
                   std::uint32_t uses) noexcept {
  Advance();
  SlotRecord& record = records_[slot];
  record.history = history & GhostTable::kHistoryMax;
  record.seen_use = static_cast<std::uint16_t>(
      (tick_.load(std::memory_order_relaxed) << SlotRecord::kUsesBits) | uses);
  record.use.store(record.seen_use, std::memory_order_relaxed);
  SetAwaited(slot, expected_.NextOf(hash));
}

bool Policy::Add(std::uint32_t slot, std::uint64_t hash) noexcept {
  const std::uint32_t history = ghosts_.Take(hash);
  Start(slot, hash, history, 0);
  return history != 0;
}

void Policy::AddHot(std::uint32_t slot, std::uint64_t hash, std::uint8_t uses) noexcept {
  Start(slot, hash, HistoryAfter(ghosts_.Take(hash), uses), std::min(uses, SlotRecord::kUsesMax));
}

/// Moves the slot to the set where it belongs.
void Policy::SetAwaited(std::uint32_t slot, ExpectationTable::Time time) noexcept {
  SlotRecord& record = records_[slot];
  record.awaited_at = time;
  if (time != ExpectationTable::kNever) {
    if (idle_.Has(slot)) {
      // To be foreseen is what a hit is to others: the groups that the forecast is asked
      // about are those that no prompt of the queue reads, and are seldom hit otherwise.
      Look(record);
      forecast_.CountHit(KindOf(record, record.seen_use & SlotRecord::kUsesMax),
                         AgeBetween(record.seen_use, tick_.load(std::memory_order_relaxed)));
    }
    idle_.Remove(slot);
    awaited_.Insert(slot);
    return;
  }
  if (!idle_.Has(slot)) {
    // What happened while somebody waited for it was no choice of the forecast's.
    record.seen_use = record.use.load(std::memory_order_relaxed);
  }
  awaited_.Remove(slot);
  idle_.Insert(slot);
}

/// Learns from the slot: was it hit since the last look, and at what age?
void Policy::Look(SlotRecord& record) noexcept {
  const std::uint16_t use = record.use.load(std::memory_order_relaxed);
  const std::uint32_t tick = tick_.load(std::memory_order_relaxed);
  if (use != record.seen_use) {
    forecast_.CountHit(KindOf(record, record.seen_use & SlotRecord::kUsesMax),
                       AgeBetween(record.seen_use, use >> SlotRecord::kUsesBits));
    record.seen_use = use;
  }
  forecast_.CountLook(KindOf(record, use & SlotRecord::kUsesMax), AgeBetween(use, tick));
}

/// The slot of least worth among some that nobody waits for.
std::uint32_t Policy::WorstIdle() noexcept {
  std::array<std::uint32_t, kCandidates> slots;
  for (std::uint32_t& slot : slots) {
    slot = idle_.NextFrom(static_cast<std::uint32_t>(prng_.Below(records_.size())));
    __builtin_prefetch(&records_[slot]);
  }
  const std::uint32_t tick = tick_.load(std::memory_order_relaxed);
  std::uint32_t worst = kNoSlot;
  float least = 0;
  for (const std::uint32_t slot : slots) {
    SlotRecord& record = records_[slot];
    Look(record);
    const float worth = forecast_.Worth(KindOf(record, record.seen_use & SlotRecord::kUsesMax),
                                        AgeBetween(record.seen_use, tick));
    if (worst == kNoSlot || worth < least) {
      worst = slot;
      least = worth;
    }
  }
  return worst;
}

/// The slot that is waited for longest, of some.
std::uint32_t Policy::LastAwaited() noexcept {
  std::uint32_t last = kNoSlot;
  for (std::uint32_t i = 0; i < kCandidates; ++i) {
    const std::uint32_t slot =
        awaited_.NextFrom(static_cast<std::uint32_t>(prng_.Below(records_.size())));
    if (last == kNoSlot ||
        ExpectationTable::IsLater(records_[slot].awaited_at, records_[last].awaited_at)) {
      last = slot;
    }
  }
  return last;
}

std::uint32_t Policy::Evict() noexcept {
  if (idle_.count() + awaited_.count() == 0) return kNoSlot;
  const std::uint32_t slot = idle_.count() > 0 ? WorstIdle() : LastAwaited();
  Forget(slot);
  return slot;
}

void Policy::Forget(std::uint32_t slot) noexcept {
  if (!idle_.Has(slot) && !awaited_.Has(slot)) return;
  const SlotRecord& record = records_[slot];
  ghosts_.Add(HashGroup(record.space, record.key), HistoryAfter(record.history, record.Uses()));
  idle_.Remove(slot);
  awaited_.Remove(slot);
}

bool Policy::Expect(std::uint64_t hash, std::uint32_t slot, std::uint64_t time) noexcept {
  if (!expected_.Add(hash, ExpectationTable::TimeOf(time >> expected_shift_))) return false;
  if (slot != kNoSlot) Await(slot, hash);
  return true;
}

bool Policy::Release(std::uint64_t hash, std::uint32_t slot) noexcept {
  const bool released = expected_.Remove(hash);
  if (released && slot != kNoSlot) Await(slot, hash);
  return released;
}

/// For a slot that was taken in; a pinned one that has left stays away.
void Policy::Await(std::uint32_t slot, std::uint64_t hash) noexcept {
  if (idle_.Has(slot) || awaited_.Has(slot)) SetAwaited(slot, expected_.NextOf(hash));
}

}  // namespace tiercel
