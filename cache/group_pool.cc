#include "cache/group_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <utility>

#include "base/clock.h"

namespace tiercel {
namespace {

/// Expectations under one lock, 20 us or so: insertions need not wait for a whole prompt.
constexpr std::size_t kExpectationsAtOnce = 128;

/// Slots that RemoveIf() looks at under one lock, 20 us or so.
constexpr std::uint32_t kSlotsSweptAtOnce = 2048;
/// Slots that it takes out of use, until it waits for their readers.
constexpr std::uint32_t kUnlinkedMax = 2 * kSlotsSweptAtOnce;
/// Of a reader's stay, which is some 100 us at most.
constexpr std::uint64_t kReaderWaitNs = 20'000;

}  // namespace

GroupPool::Plan GroupPool::PlanFor(std::uint32_t group_size_bytes, std::uint64_t slot_count,
                                   bool shared, const PolicyOptions& options) noexcept {
  Plan plan;
  plan.readers = PoolLayout::Of(group_size_bytes, static_cast<std::uint32_t>(slot_count), shared);
  plan.limbo_batch = static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(slot_count / (4 * kLimboBatches), 1, kLimboBatchMax));
  plan.policy_offset_bytes = plan.readers.size_bytes;
  plan.policy_size_bytes = Policy::WorkspaceBytes(slot_count, options);
  plan.limbo_offset_bytes = plan.policy_offset_bytes + AlignToLine(plan.policy_size_bytes);
  plan.size_bytes = Slab::RoundUp(plan.limbo_offset_bytes +
                                  plan.limbo_batch * kLimboBatches * sizeof(LimboEntry));
  return plan;
}

Result<GroupPool::Plan> GroupPool::LargestPlan(std::uint32_t group_size_bytes,
                                               std::uint64_t budget_bytes, bool shared,
                                               const PolicyOptions& options) {
  // Slots are u32 and slot + 1 must be one too.
  std::uint64_t fits = 0;
  std::uint64_t too_many = std::min<std::uint64_t>(budget_bytes / group_size_bytes + 1, ~0U - 1);
  while (fits + 1 < too_many) {
    const std::uint64_t middle = fits + (too_many - fits) / 2;
    const bool is_within =
        PlanFor(group_size_bytes, middle, shared, options).size_bytes <= budget_bytes;
    (is_within ? fits : too_many) = middle;
  }
  if (fits >= kSlotsMin) return PlanFor(group_size_bytes, fits, shared, options);
  return Status(
      StatusCode::kResourceExhausted,
      fmt::format("a cache of {} B for groups of {} B holds {} of them; at least {} are needed "
                  "({} B): raise the DRAM budget",
                  budget_bytes, group_size_bytes, fits, kSlotsMin,
                  PlanFor(group_size_bytes, kSlotsMin, shared, options).size_bytes));
}

Result<std::unique_ptr<GroupPool>> GroupPool::Create(
    std::uint32_t group_size_bytes, std::uint64_t budget_bytes, const PolicyOptions& options,
    ReaderEpochs& epochs, std::span<WriteCounters> counters, const MemoryOptions& memory) {
  Result<Plan> plan = LargestPlan(group_size_bytes, budget_bytes, /*shared=*/false, options);
  if (!plan.ok()) return std::move(plan).TakeStatus();
  Result<Slab> slab = Slab::Map(plan.value().size_bytes, memory);
  if (!slab.ok()) return std::move(slab).TakeStatus();
  return std::unique_ptr<GroupPool>(
      new GroupPool(plan.value(), std::move(slab).value(), {}, options, epochs, counters));
}

Result<std::unique_ptr<GroupPool>> GroupPool::CreateShared(std::uint32_t group_size_bytes,
                                                           std::span<std::byte> memory,
                                                           const PolicyOptions& options,
                                                           ReaderEpochs& epochs,
                                                           std::span<WriteCounters> counters) {
  Result<Plan> plan = LargestPlan(group_size_bytes, memory.size(), /*shared=*/true, options);
  if (!plan.ok()) return std::move(plan).TakeStatus();
  return std::unique_ptr<GroupPool>(
      new GroupPool(plan.value(), Slab(), memory, options, epochs, counters));
}

GroupPool::GroupPool(const Plan& plan, Slab slab, std::span<std::byte> shared_memory,
                     const PolicyOptions& options, ReaderEpochs& epochs,
                     std::span<WriteCounters> counters) noexcept
    : group_size_bytes_(plan.readers.group_size_bytes),
      stride_bytes_(plan.readers.stride_bytes),
      slot_count_(plan.readers.slot_count),
      limbo_batch_(plan.limbo_batch),
      slab_(std::move(slab)),
      memory_bytes_(shared_memory.empty() ? slab_.bytes().size() : shared_memory.size()),
      epochs_(epochs),
      counters_(counters),
      groups_(shared_memory.empty() ? slab_.bytes().data() : shared_memory.data()),
      // The kernel's zeroes are valid records, versions, buckets, limbo entries and a policy's
      // memory.
      records_(reinterpret_cast<SlotRecord*>(groups_ + plan.readers.records_offset_bytes)),
      versions_(shared_memory.empty()
                    ? nullptr
                    : reinterpret_cast<SlotVersion*>(groups_ + plan.readers.versions_offset_bytes)),
      policy_({records_, slot_count_}, {groups_ + plan.policy_offset_bytes, plan.policy_size_bytes},
              options) {
  auto* const buckets = reinterpret_cast<IndexBucket*>(groups_ + plan.readers.buckets_offset_bytes);
  auto* const limbo = reinterpret_cast<LimboEntry*>(groups_ + plan.limbo_offset_bytes);
  index_ = GroupIndex({buckets, plan.readers.bucket_count}, {records_, slot_count_});
  limbo_ = {limbo, std::size_t{limbo_batch_} * kLimboBatches};
}

bool GroupPool::Insert(std::uint32_t space, std::uint64_t key, const std::byte* bytes) noexcept {
  const std::uint64_t hash = HashGroup(space, key);
  WriteCounters& counters = counters_[space];
  MutexLock lock(mutex_);
  if (index_.Find(hash, space, key) != GroupIndex::kNoSlot) return true;
  const std::uint32_t slot = TakeSlot();
  if (slot == GroupIndex::kNoSlot) {
    counters.rejections.fetch_add(1, std::memory_order_relaxed);
    return false;
  }

  // Nobody of this process can reach the slot: plain writes, published by the index's release.
  std::byte* const group = groups_ + std::size_t{slot} * stride_bytes_;
  if (versions_ == nullptr) {
    std::memcpy(group, bytes, group_size_bytes_);
  } else {
    StoreSharedGroup(group, bytes, group_size_bytes_);
  }
  records_[slot].SetGroup(key, space);
  if (!index_.Insert(hash, slot)) {
    FreeSlot(slot);
    counters.rejections.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  TellPublished(slot);
  const bool came_back = policy_.Add(slot, hash);
  counters.insertions.fetch_add(1, std::memory_order_relaxed);
  counters.ghost_hits.fetch_add(came_back ? 1 : 0, std::memory_order_relaxed);
  return true;
}

std::size_t GroupPool::Expect(std::uint32_t space, std::span<const std::uint64_t> keys,
                              std::uint64_t time) noexcept {
  std::size_t done = 0;
  while (done < keys.size()) {
    MutexLock lock(mutex_);
    const std::size_t end = std::min(keys.size(), done + kExpectationsAtOnce);
    for (; done < end; ++done) {
      const std::uint64_t hash = HashGroup(space, keys[done]);
      if (!policy_.Expect(hash, index_.Find(hash, space, keys[done]), time)) return done;
    }
  }
  return done;
}

std::size_t GroupPool::Release(std::uint32_t space, std::span<const std::uint64_t> keys) noexcept {
  std::size_t done = 0;
  while (done < keys.size()) {
    MutexLock lock(mutex_);
    const std::size_t end = std::min(keys.size(), done + kExpectationsAtOnce);
    for (; done < end; ++done) {
      const std::uint64_t hash = HashGroup(space, keys[done]);
      if (!policy_.Release(hash, index_.Find(hash, space, keys[done]))) return done;
    }
  }
  return done;
}

std::uint64_t GroupPool::expected_count() noexcept {
  MutexLock lock(mutex_);
  return policy_.expected_count();
}

/// A slot that no reader can be looking at, or kNoSlot.
std::uint32_t GroupPool::TakeSlot() noexcept {
  if (free_head_ != GroupIndex::kNoSlot) {
    return std::exchange(free_head_, static_cast<std::uint32_t>(records_[free_head_].key));
  }
  // Fresh slots in order, so that resident memory grows with use.
  if (slot_count_ - slots_ever_used_ > hot_reserve_) return slots_ever_used_++;

  // One out, one in; at first a batch out. Where the slot that has waited longest is
  // still in use, the offer is declined and limbo is one longer from now on: it grows
  // to what the readers' stays need, and no further.
  bool dropped = true;
  while (dropped && limbo_count_ < limbo_batch_) dropped = DropOne();
  if (dropped && limbo_count_ < limbo_.size()) dropped = DropOne();
  if (limbo_count_ == 0 || !OldestIsFree()) return GroupIndex::kNoSlot;
  const std::uint32_t slot = Limbo(0).slot;
  limbo_first_ = static_cast<std::uint32_t>((limbo_first_ + 1) % limbo_.size());
  --limbo_count_;
  return slot;
}

GroupPool::LimboEntry& GroupPool::Limbo(std::uint32_t index) noexcept {
  return limbo_[(limbo_first_ + index) % limbo_.size()];
}

/// Unlinks the slot that the policy gives up and puts it in limbo.
bool GroupPool::DropOne() noexcept {
  std::uint32_t slot = policy_.Evict();
  // A slot that was pinned when the policy had it leaves the policy, once, and stays.
  while (slot != Policy::kNoSlot && records_[slot].pinned != 0) slot = policy_.Evict();
  if (slot == Policy::kNoSlot) return false;
  const SlotRecord& record = records_[slot];
  index_.Remove(HashGroup(record.space, record.key), slot);
  TellGivenUp(slot);
  counters_[record.space].evictions.fetch_add(1, std::memory_order_relaxed);
  assert(limbo_count_ < limbo_.size());
  Limbo(limbo_count_++) = {.epoch = kOpen, .slot = slot};
  if (++limbo_open_count_ >= limbo_batch_) CloseBatch();
  return true;
}

/// Stamps the slots of the open epoch and looks which readers are still inside.
void GroupPool::CloseBatch() noexcept {
  const std::uint64_t epoch = epochs_.CloseEpoch();
  for (; limbo_open_count_ > 0; --limbo_open_count_) {
    Limbo(limbo_count_ - limbo_open_count_).epoch = epoch;
  }
  oldest_epoch_ = epochs_.OldestEpoch();
}

bool GroupPool::OldestIsFree() noexcept {
  if (Limbo(0).epoch == kOpen) CloseBatch();
  if (Limbo(0).epoch >= oldest_epoch_) oldest_epoch_ = epochs_.OldestEpoch();
  return Limbo(0).epoch < oldest_epoch_;
}

void GroupPool::FreeSlot(std::uint32_t slot) noexcept {
  // Nobody can reach the slot, so nobody but the writer looks at its record.
  records_[slot].SetKey(std::exchange(free_head_, slot));
}

void GroupPool::TellPublished(std::uint32_t slot) noexcept {
  if (versions_ == nullptr) return;
  const std::uint64_t version = versions_[slot].load(std::memory_order_relaxed);
  assert(!HoldsGroup(version));
  versions_[slot].store(version + 1, std::memory_order_release);
}

void GroupPool::TellGivenUp(std::uint32_t slot) noexcept {
  if (versions_ == nullptr) return;
  const std::uint64_t version = versions_[slot].load(std::memory_order_relaxed);
  assert(HoldsGroup(version));
  versions_[slot].store(version + 1, std::memory_order_release);
}

/// Takes a linked slot out of the index and the policy's hands. Readers may look at it still.
void GroupPool::Unlink(std::uint32_t slot) noexcept {
  SlotRecord& record = records_[slot];
  WriteCounters& counters = counters_[record.space];
  policy_.Forget(slot);
  index_.Remove(HashGroup(record.space, record.key), slot);
  TellGivenUp(slot);
  counters.removals.fetch_add(1, std::memory_order_relaxed);
  if (record.pinned == 0) return;
  record.pinned = 0;
  --pinned_count_;
  counters.pinned.fetch_sub(1, std::memory_order_relaxed);
}

/// Slots that were unlinked, in nobody's list: waits until no reader can see them.
void GroupPool::FreeWhenUnread(std::span<const std::uint32_t> slots) noexcept {
  if (slots.empty()) return;
  const std::uint64_t epoch = epochs_.CloseEpoch();
  while (epochs_.OldestEpoch() <= epoch) SleepNs(kReaderWaitNs);
  MutexLock lock(mutex_);
  for (const std::uint32_t slot : slots) FreeSlot(slot);
}

std::uint64_t GroupPool::RemoveIf(
    const std::function<bool(std::uint32_t, std::uint64_t)>& condition) noexcept {
  std::array<std::uint32_t, kUnlinkedMax> unlinked;
  std::size_t unlinked_count = 0;
  std::uint64_t total = 0;
  for (std::uint32_t first = 0; first < slot_count_; first += kSlotsSweptAtOnce) {
    if (unlinked_count > kUnlinkedMax - kSlotsSweptAtOnce) {
      FreeWhenUnread(std::span(unlinked).first(unlinked_count));
      unlinked_count = 0;
    }
    MutexLock lock(mutex_);
    const std::uint32_t end = std::min(slots_ever_used_, first + kSlotsSweptAtOnce);
    if (first >= end) break;
    for (std::uint32_t slot = first; slot < end; ++slot) {
      const SlotRecord& record = records_[slot];
      if (!condition(record.space, record.key)) continue;
      // A free slot, or one in limbo, keeps a record that means nothing.
      const std::uint64_t hash = HashGroup(record.space, record.key);
      if (index_.Find(hash, record.space, record.key) != slot) continue;
      Unlink(slot);
      unlinked[unlinked_count++] = slot;
      ++total;
    }
  }
  FreeWhenUnread(std::span(unlinked).first(unlinked_count));
  return total;
}

bool GroupPool::Pin(std::uint32_t slot) noexcept {
  if (records_[slot].pinned != 0 || pinned_count_ >= slot_count_ / 2) return false;
  records_[slot].pinned = 1;
  ++pinned_count_;
  counters_[records_[slot].space].pinned.fetch_add(1, std::memory_order_relaxed);
  return true;
}

void GroupPool::ReserveHot(std::uint64_t count) noexcept {
  MutexLock lock(mutex_);
  const std::uint32_t kept = slot_count_ / 20;
  const std::uint32_t unused = slot_count_ - slots_ever_used_;
  hot_reserve_ =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(count, unused > kept ? unused - kept : 0));
}

std::uint32_t GroupPool::TakeHotSlot() noexcept {
  MutexLock lock(mutex_);
  if (hot_reserve_ == 0) return GroupIndex::kNoSlot;
  --hot_reserve_;
  return slots_ever_used_++;
}

void GroupPool::ReturnHotSlot(std::uint32_t slot) noexcept {
  MutexLock lock(mutex_);
  FreeSlot(slot);
}

HotOutcome GroupPool::PublishHot(std::uint32_t slot, const HotGroupId& id, bool pin) noexcept {
  const std::uint64_t hash = HashGroup(id.space, id.key);
  MutexLock lock(mutex_);
  if (const std::uint32_t found = index_.Find(hash, id.space, id.key);
      found != GroupIndex::kNoSlot) {
    FreeSlot(slot);
    if (pin) (void)Pin(found);
    return HotOutcome::kPresent;
  }
  records_[slot].SetGroup(id.key, id.space);
  if (!index_.Insert(hash, slot)) {
    FreeSlot(slot);
    return HotOutcome::kNoRoom;
  }
  TellPublished(slot);
  // What is pinned the policy never hears of.
  if (!pin || !Pin(slot)) policy_.AddHot(slot, hash, id.uses);
  counters_[id.space].insertions.fetch_add(1, std::memory_order_relaxed);
  return HotOutcome::kLoaded;
}

}  // namespace tiercel
