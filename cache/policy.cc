#include "cache/policy.h"

#include <algorithm>

#include "cache/group_hash.h"

namespace tiercel {

Policy::Policy(std::span<SlotRecord> records, std::span<std::uint32_t> ghosts) noexcept
    : records_(records),
      ghosts_(ghosts),
      small_count_max_(
          std::max<std::uint32_t>(static_cast<std::uint32_t>(records.size() / 10), 1)) {}

void Policy::Push(Queue& queue, std::uint32_t slot) noexcept {
  records_[slot].next = kNoSlot;
  if (queue.count == 0) {
    queue.head = slot;
  } else {
    records_[queue.tail].next = slot;
  }
  queue.tail = slot;
  ++queue.count;
}

std::uint32_t Policy::Pop(Queue& queue) noexcept {
  const std::uint32_t slot = queue.head;
  queue.head = records_[slot].next;
  --queue.count;
  return slot;
}

bool Policy::Add(std::uint32_t slot, std::uint64_t hash) noexcept {
  records_[slot].uses.store(0, std::memory_order_relaxed);
  const bool came_back = ghosts_.Take(hash);
  Push(came_back ? main_ : small_, slot);
  return came_back;
}

void Policy::AddHot(std::uint32_t slot, std::uint8_t uses) noexcept {
  records_[slot].uses.store(std::min(uses, SlotRecord::kUsesMax), std::memory_order_relaxed);
  Push(main_, slot);
}

std::uint32_t Policy::PopSmall(bool forced) noexcept {
  const std::uint32_t slot = Pop(small_);
  SlotRecord& record = records_[slot];
  if (record.uses.load(std::memory_order_relaxed) > 0 && !forced) {
    record.uses.store(0, std::memory_order_relaxed);
    Push(main_, slot);
    return kNoSlot;
  }
  ghosts_.Add(HashGroup(record.space, record.key));
  return slot;
}

std::uint32_t Policy::PopMain(bool forced) noexcept {
  const std::uint32_t slot = Pop(main_);
  SlotRecord& record = records_[slot];
  const std::uint8_t uses = record.uses.load(std::memory_order_relaxed);
  if (uses == 0 || forced) return slot;
  record.uses.store(static_cast<std::uint8_t>(uses - 1), std::memory_order_relaxed);
  Push(main_, slot);
  return kNoSlot;
}

std::uint32_t Policy::Evict() noexcept {
  for (std::uint32_t step = 1; small_.count + main_.count > 0; ++step) {
    const bool from_small = small_.count > small_count_max_ || main_.count == 0;
    const bool forced = step >= kStepsMax;
    const std::uint32_t slot = from_small ? PopSmall(forced) : PopMain(forced);
    if (slot != kNoSlot) return slot;
  }
  return kNoSlot;
}

}  // namespace tiercel
