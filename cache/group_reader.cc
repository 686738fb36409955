#include "cache/group_reader.h"

#include <array>
#include <cstring>

#include "base/check.h"
#include "cache/prefetch_group.h"

namespace tiercel {
namespace {

/// How many groups ahead of the copy a bucket is asked for, and then the slot, as in
/// group_cache.cc.
constexpr std::size_t kSharedBucketAhead = 24;
constexpr std::size_t kSharedSlotAhead = 4;
constexpr std::size_t kSharedAheadMax = 32;
static_assert(kSharedBucketAhead < kSharedAheadMax);

}  // namespace

GroupReader::GroupReader(const SharedHeader& header, std::span<const std::byte> memory) {
  TIERCEL_CHECK(memory.size() == header.size_bytes);
  (void)StoresForOutput(0);  // Asks the kernel now, and not in the first lookup.
  for (const SharedPool& pool : header.pools) {
    const std::byte* const start = memory.data() + pool.offset_bytes;
    const PoolLayout& layout = pool.layout;
    const auto* records = reinterpret_cast<const SlotRecord*>(start + layout.records_offset_bytes);
    // The index takes buckets that may be written; Find() and Candidate() write none.
    auto* const buckets = const_cast<IndexBucket*>(
        reinterpret_cast<const IndexBucket*>(start + layout.buckets_offset_bytes));
    pools_.push_back(
        {.groups = start,
         .records = records,
         .versions = reinterpret_cast<const SlotVersion*>(start + layout.versions_offset_bytes),
         .index = GroupIndex({buckets, layout.bucket_count}, {records, layout.slot_count}),
         .group_size_bytes = layout.group_size_bytes,
         .stride_bytes = layout.stride_bytes,
         .slot_count = layout.slot_count});
  }
  for (const SharedSpace& space : header.spaces) pool_of_space_.push_back(space.pool);
}

FoundSlot GroupReader::Pool::Find(std::uint64_t hash, std::uint32_t space,
                                  std::uint64_t key) const noexcept {
  FoundSlot found;
  found.slot = index.FindIf(hash, [&](std::uint32_t slot) {
    if (slot >= slot_count) return false;  // kNoSlot among others.
    found.version = versions[slot].load(std::memory_order_acquire);
    return HoldsGroup(found.version) && records[slot].SharedIs(space, key);
  });
  // The record was looked at after the version, and may be of a later one.
  if (found.slot != GroupIndex::kNoSlot &&
      versions[found.slot].load(std::memory_order_acquire) == found.version) {
    return found;
  }
  return {};
}

void GroupReader::AskForSlot(std::uint32_t space, std::uint64_t hash,
                             CopyStores stores) const noexcept {
  const Pool& pool = pools_[pool_of_space_[space]];
  const std::uint32_t slot = pool.index.Candidate(hash);
  if (slot >= pool.slot_count) return;
  __builtin_prefetch(&pool.versions[slot]);
  __builtin_prefetch(&pool.records[slot]);
  PrefetchGroup(pool.group(slot), pool.group_size_bytes, stores);
}

bool GroupReader::CopyIfThere(std::uint32_t space, std::uint64_t hash, const GroupTarget& target,
                              CopyStores stores) const noexcept {
  const Pool& pool = pools_[pool_of_space_[space]];
  const FoundSlot found = pool.Find(hash, space, target.key);
  if (found.slot == GroupIndex::kNoSlot) return false;
  LoadSharedGroup(target.destination, pool.group(found.slot), pool.group_size_bytes, stores);
  if (IsUnchanged(space, found)) [[likely]]
    return true;
  std::memset(target.destination, 0, pool.group_size_bytes);
  return false;
}

/// As a pipeline of three stages, so that the cache misses of many groups overlap: ask for the
/// bucket; find the slot in it and ask for what it has; compare and copy.
std::uint32_t GroupReader::Lookup(std::span<const std::uint32_t> spaces,
                                  std::span<const GroupTarget> targets,
                                  std::span<std::uint8_t> hits, CopyStores stores) const noexcept {
  TIERCEL_CHECK(spaces.size() == targets.size() && hits.size() == targets.size());
  for (const std::uint32_t space : spaces) TIERCEL_CHECK(space < pool_of_space_.size());
  const std::size_t count = targets.size();
  std::uint32_t hit_count = 0;
  std::array<std::uint64_t, kSharedAheadMax> hashes;  // A ring.
  for (std::size_t step = 0; step < count + kSharedBucketAhead; ++step) {
    if (step < count) {
      const std::uint64_t hash = HashGroup(spaces[step], targets[step].key);
      hashes[step % kSharedAheadMax] = hash;
      __builtin_prefetch(pools_[pool_of_space_[spaces[step]]].index.HomeBucket(hash));
    }
    constexpr std::size_t kSlotDelay = kSharedBucketAhead - kSharedSlotAhead;
    if (step >= kSlotDelay && step - kSlotDelay < count) {
      const std::size_t i = step - kSlotDelay;
      AskForSlot(spaces[i], hashes[i % kSharedAheadMax], stores);
    }
    if (step >= kSharedBucketAhead) {
      const std::size_t i = step - kSharedBucketAhead;
      hits[i] = CopyIfThere(spaces[i], hashes[i % kSharedAheadMax], targets[i], stores) ? 1 : 0;
      hit_count += hits[i];
    }
  }
  EndCopies(stores);
  return hit_count;
}

FoundSlot GroupReader::Find(std::uint32_t space, std::uint64_t key) const noexcept {
  TIERCEL_CHECK(space < pool_of_space_.size());
  return pools_[pool_of_space_[space]].Find(HashGroup(space, key), space, key);
}

bool GroupReader::IsUnchanged(std::uint32_t space, const FoundSlot& found) const noexcept {
  TIERCEL_CHECK(space < pool_of_space_.size());
  const Pool& pool = pools_[pool_of_space_[space]];
  return found.slot < pool.slot_count && HoldsGroup(found.version) &&
         pool.versions[found.slot].load(std::memory_order_acquire) == found.version;
}

}  // namespace tiercel
