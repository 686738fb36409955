#ifndef TIERCEL_CACHE_SIM_GROUP_POLICY_H_
#define TIERCEL_CACHE_SIM_GROUP_POLICY_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cache/group_hash.h"
#include "cache/policy.h"
#include "cache/sim/access_trace.h"
#include "cache/slot_record.h"

namespace tiercel {

/// The group cache's own policy, the code that GroupPool runs, over slots without bytes.
/// The one place of the simulation that knows Policy's interface. Left out are the index
/// (a dense array finds the slot; the real one refuses an insertion in a million) and
/// limbo (64 slots or so).
///
/// Of a queue of prompts each access is expected when it comes into sight and released when it
/// is made. Where all is known, each resident item is expected when it is needed next, and
/// released when it is used or given up.
///
/// Threading: one thread at a time.
class GroupPolicySim {
 public:
  GroupPolicySim(const AccessTrace& trace, std::uint64_t capacity, const KnownAccesses& known = {})
      : trace_(trace),
        options_{.space_count = trace.class_count,
                 .expected_groups_max = known.all ? capacity : known.expected_max,
                 .expected_span = std::max<std::uint64_t>(
                     known.all ? trace.items.size() : known.queue_count, 1)},
        known_(known),
        next_uses_(known.all ? NextUses(trace) : std::vector<std::uint32_t>()),
        noted_(known.all               ? capacity
               : known.queue_count > 0 ? trace.items.size()
                                       : 0),
        slots_(trace.item_count(), Policy::kNoSlot),
        items_(capacity),
        records_(capacity),
        workspace_(Policy::WorkspaceBytes(capacity, options_) / sizeof(Line)),
        policy_(records_, std::as_writable_bytes(std::span(workspace_)), options_) {}
  GroupPolicySim(const GroupPolicySim&) = delete;
  GroupPolicySim& operator=(const GroupPolicySim&) = delete;

  /// Asks for `item`, the next of the trace, and takes it in where it is missing. Returns
  /// whether it was there.
  bool Access(std::uint32_t item) noexcept {
    if (known_.all) return ServeForeseen(item);
    if (known_.queue_count == 0) return Serve(item);
    for (; seen_ < trace_.items.size() && seen_ <= served_ + known_.queue_count; ++seen_) {
      const std::uint32_t ahead = trace_.items[seen_];
      noted_[seen_] = policy_.Expect(HashOf(ahead), slots_[ahead], seen_);
    }
    const bool hit = Serve(item);
    if (noted_[served_]) policy_.Release(HashOf(item), slots_[item]);
    ++served_;
    return hit;
  }

 private:
  bool Serve(std::uint32_t item) noexcept {
    if (slots_[item] != Policy::kNoSlot) {
      policy_.CountUse(records_[slots_[item]]);
      return true;
    }
    std::uint32_t slot = slots_used_;
    if (slots_used_ < records_.size()) {
      ++slots_used_;
    } else {
      slot = policy_.Evict();
      if (slot == Policy::kNoSlot) return false;
      slots_[items_[slot]] = Policy::kNoSlot;
      if (known_.all && noted_[slot]) policy_.Release(HashOf(items_[slot]), Policy::kNoSlot);
    }
    SlotRecord& record = records_[slot];
    record.key = trace_.keys[item];
    record.space = trace_.classes[item];
    policy_.Add(slot, HashOf(item));
    slots_[item] = slot;
    items_[slot] = item;
    return false;
  }

  bool ServeForeseen(std::uint32_t item) noexcept {
    const std::uint32_t next_use = next_uses_[served_++];
    const bool hit = Serve(item);
    const std::uint32_t slot = slots_[item];
    if (slot == Policy::kNoSlot) return false;
    if (hit && noted_[slot]) policy_.Release(HashOf(item), slot);
    noted_[slot] = next_use != kNeverUsed && policy_.Expect(HashOf(item), slot, next_use);
    return hit;
  }

  struct alignas(64) Line {
    std::byte bytes[64];
  };
  [[nodiscard]] std::uint64_t HashOf(std::uint32_t item) const noexcept {
    return HashGroup(trace_.classes[item], trace_.keys[item]);
  }

  const AccessTrace& trace_;
  const PolicyOptions options_;
  const KnownAccesses known_;
  const std::vector<std::uint32_t> next_uses_;  ///< Shape [accesses], where all is known.
  std::size_t seen_ = 0;                        ///< Accesses before this one were looked at.
  std::size_t served_ = 0;                      ///< Accesses before this one were made.
  /// Shape [accesses] of a queue, [slots] where all is known: is it expected?
  std::vector<bool> noted_;
  std::vector<std::uint32_t> slots_;  ///< Shape [items]: where each lies.
  std::vector<std::uint32_t> items_;  ///< Shape [slots].
  std::vector<SlotRecord> records_;
  std::vector<Line> workspace_;
  Policy policy_;
  std::uint32_t slots_used_ = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SIM_GROUP_POLICY_H_
