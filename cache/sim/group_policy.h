#ifndef TIERCEL_CACHE_SIM_GROUP_POLICY_H_
#define TIERCEL_CACHE_SIM_GROUP_POLICY_H_

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
/// Threading: one thread at a time.
class GroupPolicySim {
 public:
  GroupPolicySim(const AccessTrace& trace, std::uint64_t capacity)
      : trace_(trace),
        slots_(trace.item_count(), Policy::kNoSlot),
        items_(capacity),
        records_(capacity),
        workspace_(Policy::WorkspaceBytes(capacity, OptionsOf(trace)) / sizeof(Line)),
        policy_(records_, std::as_writable_bytes(std::span(workspace_)), OptionsOf(trace)) {}
  GroupPolicySim(const GroupPolicySim&) = delete;
  GroupPolicySim& operator=(const GroupPolicySim&) = delete;

  /// Asks for `item`, and takes it in where it is missing. Returns whether it was there.
  bool Access(std::uint32_t item) noexcept {
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
    }
    SlotRecord& record = records_[slot];
    record.key = trace_.keys[item];
    record.space = trace_.classes[item];
    policy_.Add(slot, HashGroup(record.space, record.key));
    slots_[item] = slot;
    items_[slot] = item;
    return false;
  }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  static PolicyOptions OptionsOf(const AccessTrace& trace) noexcept {
    return {.space_count = trace.class_count};
  }

  const AccessTrace& trace_;
  std::vector<std::uint32_t> slots_;  ///< Shape [items]: where each lies.
  std::vector<std::uint32_t> items_;  ///< Shape [slots].
  std::vector<SlotRecord> records_;
  std::vector<Line> workspace_;
  Policy policy_;
  std::uint32_t slots_used_ = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SIM_GROUP_POLICY_H_
