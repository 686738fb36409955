#include "cache/group_reader.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "cache/copy_group.h"

namespace tiercel {
namespace {

/// Groups whose cache misses overlap: their buckets are asked for, then their slots.
constexpr std::size_t kReadAtOnce = 16;

}  // namespace

GroupReader::GroupReader(const SharedHeader& header, std::span<const std::byte> memory) {
  TIERCEL_CHECK(memory.size() == header.size_bytes);
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

std::uint32_t GroupReader::Lookup(std::span<const std::uint32_t> spaces,
                                  std::span<const GroupTarget> targets,
                                  std::span<std::uint8_t> hits) const noexcept {
  TIERCEL_CHECK(spaces.size() == targets.size() && hits.size() == targets.size());
  for (const std::uint32_t space : spaces) TIERCEL_CHECK(space < pool_of_space_.size());
  std::uint32_t hit_count = 0;
  std::array<std::uint64_t, kReadAtOnce> hashes;
  for (std::size_t first = 0; first < targets.size(); first += kReadAtOnce) {
    const std::size_t count = std::min(kReadAtOnce, targets.size() - first);
    for (std::size_t i = 0; i < count; ++i) {
      hashes[i] = HashGroup(spaces[first + i], targets[first + i].key);
      const Pool& pool = pools_[pool_of_space_[spaces[first + i]]];
      __builtin_prefetch(pool.index.HomeBucket(hashes[i]));
    }
    for (std::size_t i = 0; i < count; ++i) {
      const Pool& pool = pools_[pool_of_space_[spaces[first + i]]];
      const std::uint32_t slot = pool.index.Candidate(hashes[i]);
      if (slot >= pool.slot_count) continue;
      __builtin_prefetch(&pool.versions[slot]);
      __builtin_prefetch(&pool.records[slot]);
      PrefetchGroup(pool.group(slot), pool.group_size_bytes);
    }
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint32_t space = spaces[first + i];
      const GroupTarget& target = targets[first + i];
      const Pool& pool = pools_[pool_of_space_[space]];
      const FoundSlot found = pool.Find(hashes[i], space, target.key);
      hits[first + i] = 0;
      if (found.slot == GroupIndex::kNoSlot) continue;
      LoadSharedGroup(target.destination, pool.group(found.slot), pool.group_size_bytes);
      if (!IsUnchanged(space, found)) {
        std::memset(target.destination, 0, pool.group_size_bytes);
        continue;
      }
      hits[first + i] = 1;
      ++hit_count;
    }
  }
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
