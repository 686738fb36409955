#include "cache/policy.h"

#include <algorithm>
#include <bit>

#include "cache/group_hash.h"

namespace tiercel {

Policy::Policy(const Memory& memory) noexcept
    : records_(memory.records),
      ghosts_(memory.ghosts),
      density_(memory.densities),
      space_classes_(static_cast<std::uint32_t>(memory.densities.size() / HitDensity::kAgeCount /
                                                kClassesPerSpace)),
      sample_mask_(std::bit_floor(std::max<std::uint32_t>(
                       static_cast<std::uint32_t>(records_.size() / kSampledSlots), 1)) -
                   1) {}

/// Counts an insertion; moves the clock and refreshes what was learned when it is time.
void Policy::Advance() noexcept {
  ++insertions_;
  if (insertions_ >= next_tick_) {
    tick_.store(static_cast<std::uint16_t>(tick_.load(std::memory_order_relaxed) + 1),
                std::memory_order_relaxed);
    next_tick_ = insertions_ + std::max<std::size_t>(records_.size() / kTicksPerTurnover, 1);
  }
  if (insertions_ >= next_refresh_) {
    density_.Refresh();
    // A quarter of the slots have been replaced: worth a look over some 10,000 cells.
    next_refresh_ = insertions_ + std::max<std::size_t>(records_.size() / 4, 256);
  }
}

bool Policy::Add(std::uint32_t slot, std::uint64_t hash) noexcept {
  Advance();
  SlotRecord& record = records_[slot];
  const std::uint32_t ghost = ghosts_.Take(hash);
  record.history = static_cast<std::uint8_t>(std::min(ghost, kHistories - 1));
  record.uses.store(0, std::memory_order_relaxed);
  record.last_use.store(tick_.load(std::memory_order_relaxed), std::memory_order_relaxed);
  record.sampled = (static_cast<std::uint32_t>(hash >> 24) & sample_mask_) == 0 ? 1 : 0;
  record.linked = 1;
  return ghost != 0;
}

/// The linked one with the least density, the first among equals; kNoSlot if none is.
std::uint32_t Policy::WorstOf(std::span<const std::uint32_t> slots) const noexcept {
  const std::uint16_t now = tick_.load(std::memory_order_relaxed);
  std::uint32_t worst = kNoSlot;
  float least = 0;
  for (const std::uint32_t slot : slots) {
    const SlotRecord& record = records_[slot];
    if (record.linked == 0) continue;
    const float density =
        density_.Density(ClassOf(record, record.uses.load(std::memory_order_relaxed)),
                         AgeBucket(now, record.last_use.load(std::memory_order_relaxed)));
    if (worst == kNoSlot || density < least) {
      worst = slot;
      least = density;
    }
  }
  return worst;
}

std::uint32_t Policy::Evict() noexcept {
  std::array<std::uint32_t, kCandidates> slots;
  for (std::uint32_t& slot : slots) {
    slot = static_cast<std::uint32_t>(prng_.Below(records_.size()));
    __builtin_prefetch(&records_[slot]);
  }
  std::uint32_t worst = WorstOf(slots);
  if (worst == kNoSlot) {  // All in limbo: only in a cache of a handful of slots.
    const auto linked = std::find_if(records_.begin(), records_.end(),
                                     [](const SlotRecord& record) { return record.linked != 0; });
    if (linked == records_.end()) return kNoSlot;
    worst = static_cast<std::uint32_t>(linked - records_.begin());
  }
  SlotRecord& record = records_[worst];
  const std::uint8_t uses = record.uses.load(std::memory_order_relaxed);
  if (record.sampled != 0) {
    density_.CountDrop(ClassOf(record, uses),
                       AgeBucket(tick_.load(std::memory_order_relaxed),
                                 record.last_use.load(std::memory_order_relaxed)));
  }
  ghosts_.Add(HashGroup(record.space, record.key), uses);
  record.linked = 0;
  return worst;
}

}  // namespace tiercel
