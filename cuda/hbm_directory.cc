#include "cuda/hbm_directory.h"

#include <fmt/format.h>

#include <utility>

#include "base/check.h"
#include "cache/group_hash.h"

namespace tiercel {
namespace {

constexpr std::uint64_t kSlotsEnd = std::uint64_t{1} << 31;  // GroupSource::kStaged.

/// Where each part lies in the slab: records, buckets, the policy's memory.
struct DirectoryLayout {
  std::uint64_t buckets_offset_bytes = 0;
  std::uint64_t policy_offset_bytes = 0;
  std::uint64_t policy_size_bytes = 0;
  std::uint64_t size_bytes = 0;
};

DirectoryLayout LayoutOf(std::uint64_t slot_count, const PolicyOptions& options) noexcept {
  DirectoryLayout layout;
  layout.buckets_offset_bytes = AlignToLine(slot_count * sizeof(SlotRecord));
  layout.policy_offset_bytes =
      layout.buckets_offset_bytes + GroupIndex::BucketCount(slot_count) * sizeof(IndexBucket);
  layout.policy_size_bytes = Policy::WorkspaceBytes(slot_count, options);
  layout.size_bytes = layout.policy_offset_bytes + AlignToLine(layout.policy_size_bytes);
  return layout;
}

PolicyOptions OptionsFor(std::uint32_t space_count) noexcept {
  return {.space_count = space_count};
}

}  // namespace

Result<std::unique_ptr<HbmDirectory>> HbmDirectory::Create(std::uint64_t slot_count,
                                                           std::uint32_t space_count) {
  if (slot_count < kSlotsMin || slot_count >= kSlotsEnd) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} slots in HBM; {} to {} are possible: change the HBM budget",
                              slot_count, kSlotsMin, kSlotsEnd - 1));
  }
  if (space_count == 0 || space_count > 256) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} spaces in HBM; 1 to 256 are possible", space_count));
  }
  const DirectoryLayout layout = LayoutOf(slot_count, OptionsFor(space_count));
  Result<Slab> slab = Slab::Map(layout.size_bytes);
  if (!slab.ok()) return std::move(slab).TakeStatus();
  return std::unique_ptr<HbmDirectory>(new HbmDirectory(static_cast<std::uint32_t>(slot_count),
                                                        space_count, std::move(slab).value()));
}

HbmDirectory::HbmDirectory(std::uint32_t slot_count, std::uint32_t space_count, Slab slab)
    : slot_count_(slot_count),
      slab_(std::move(slab)),
      // The kernel's zeroes are valid records, buckets and a policy's memory.
      records_(reinterpret_cast<SlotRecord*>(slab_.bytes().data()), slot_count),
      policy_(
          records_,
          slab_.bytes().subspan(LayoutOf(slot_count, OptionsFor(space_count)).policy_offset_bytes,
                                LayoutOf(slot_count, OptionsFor(space_count)).policy_size_bytes),
          OptionsFor(space_count)),
      states_(slot_count, State::kFree),
      pins_(slot_count, 0),
      free_(slot_count),
      stats_(space_count) {
  auto* const buckets = reinterpret_cast<IndexBucket*>(
      slab_.bytes().data() + LayoutOf(slot_count, OptionsFor(space_count)).buckets_offset_bytes);
  index_ = GroupIndex({buckets, GroupIndex::BucketCount(slot_count)}, records_);
  for (std::uint32_t i = 0; i < slot_count; ++i) free_[i] = slot_count - 1 - i;
}

std::uint32_t HbmDirectory::Find(std::uint32_t space, std::uint64_t key) const noexcept {
  return index_.Find(HashGroup(space, key), space, key);
}

std::uint32_t HbmDirectory::Use(std::uint32_t space, std::uint64_t key) noexcept {
  const std::uint32_t slot = Find(space, key);
  if (slot != kNoSlot) policy_.CountUse(records_[slot]);
  return slot;
}

void HbmDirectory::Pin(std::uint32_t slot) noexcept {
  TIERCEL_CHECK(slot < slot_count_ && states_[slot] == State::kResident);
  if (pins_[slot]++ == 0) ++in_flight_count_;
}

void HbmDirectory::Unpin(std::uint32_t slot) noexcept {
  TIERCEL_CHECK(slot < slot_count_ && pins_[slot] > 0);
  if (--pins_[slot] > 0) return;
  --in_flight_count_;
  if (states_[slot] == State::kLeaving) Free(slot);
}

void HbmDirectory::Free(std::uint32_t slot) noexcept {
  TIERCEL_CHECK(pins_[slot] == 0);
  states_[slot] = State::kFree;
  free_.push_back(slot);  // Has room for all slots.
}

/// Drops the group that the policy gives up.
void HbmDirectory::EvictOne() noexcept {
  const std::uint32_t slot = policy_.Evict();
  if (slot == Policy::kNoSlot) return;
  ++stats_[records_[slot].space].evictions;
  Leave(slot);
}

void HbmDirectory::Remove(std::uint32_t slot) noexcept {
  policy_.Forget(slot);
  ++stats_[records_[slot].space].removals;
  Leave(slot);
}

/// Nobody finds the slot any more. It is free at once unless it is pinned.
void HbmDirectory::Leave(std::uint32_t slot) noexcept {
  TIERCEL_CHECK(states_[slot] == State::kResident);
  const SlotRecord& record = records_[slot];
  index_.Remove(HashGroup(record.space, record.key), slot);
  if (changes_) {
    Pin(slot);  // Until the mirror has been told.
    changes_->push_back({record.key, slot, record.space, /*added=*/false});
  }
  states_[slot] = State::kLeaving;
  if (pins_[slot] == 0) Free(slot);
}

std::uint32_t HbmDirectory::Take(std::uint32_t space) noexcept {
  if (free_.empty()) EvictOne();
  if (free_.empty()) {
    ++stats_[space].rejections;
    return kNoSlot;
  }
  const std::uint32_t slot = free_.back();
  free_.pop_back();
  states_[slot] = State::kFilling;
  ++in_flight_count_;
  return slot;
}

bool HbmDirectory::Publish(std::uint32_t slot, std::uint32_t space, std::uint64_t key) noexcept {
  TIERCEL_CHECK(slot < slot_count_ && states_[slot] == State::kFilling);
  const std::uint64_t hash = HashGroup(space, key);
  SlotRecord& record = records_[slot];
  record.key = key;
  record.space = static_cast<std::uint8_t>(space);
  if (index_.Find(hash, space, key) != kNoSlot || !index_.Insert(hash, slot)) {
    ++stats_[space].rejections;
    Return(slot);
    return false;
  }
  --in_flight_count_;
  states_[slot] = State::kResident;
  (void)policy_.Add(slot, hash);
  ++stats_[space].insertions;
  if (changes_) changes_->push_back({key, slot, record.space, /*added=*/true});
  return true;
}

void HbmDirectory::Return(std::uint32_t slot) noexcept {
  TIERCEL_CHECK(slot < slot_count_ && states_[slot] == State::kFilling);
  --in_flight_count_;
  Free(slot);
}

void HbmDirectory::LogChanges() {
  if (changes_) return;
  changes_.emplace();
  for (std::uint32_t slot = 0; slot < slot_count_; ++slot) {
    if (states_[slot] != State::kResident) continue;
    changes_->push_back({records_[slot].key, slot, records_[slot].space, /*added=*/true});
  }
}

std::vector<HbmChange> HbmDirectory::TakeChanges() {
  if (!changes_) return {};
  return std::exchange(*changes_, {});
}

std::uint64_t HbmDirectory::memory_bytes() const noexcept {
  return slab_.bytes().size() + states_.size() * sizeof(State) +
         pins_.size() * sizeof(std::uint32_t) + slot_count_ * sizeof(std::uint32_t);
}

}  // namespace tiercel
