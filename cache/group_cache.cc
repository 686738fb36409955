#include "cache/group_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <utility>

#include "base/check.h"
#include "cache/group_pool.h"
#include "cache/memory_limit.h"
#include "cache/prefetch_group.h"

namespace tiercel {
namespace {

constexpr std::uint32_t kSpacesMax = 256;  // SlotRecord::space is one byte.
constexpr std::uint32_t kGroupSizeMax = 1U << 20;

/// A reader leaves and enters again after this many groups, 64 us or so: what writers
/// unlink is free again soon, at the price of two atomic operations in as long.
constexpr std::size_t kPinGroups = 256;

/// How many groups ahead of the copy a bucket is asked for, then the record of the slot it
/// names, then the group's bytes. bench/cache_bench.cc (cache_hit) measures all three.
constexpr std::size_t kBucketAhead = 24;
constexpr std::size_t kRecordAhead = 14;
constexpr std::size_t kGroupAhead = 4;

/// Counts of the readers that entered through one cell: a line or more of their own.
struct alignas(64) ReadCounters {
  struct Space {
    std::atomic<std::uint64_t> lookups{0};
    std::atomic<std::uint64_t> hits{0};
  };
  std::array<Space, 4> spaces;
};
static_assert(sizeof(ReadCounters) == 64);

}  // namespace

struct GroupCache::Impl {
  ReaderEpochs epochs;
  std::vector<std::unique_ptr<GroupPool>> pools;
  std::vector<GroupPool*> pool_of_space;
  std::vector<WriteCounters> write_counters;  ///< Shape [spaces].
  std::uint32_t lines_per_cell = 0;
  std::vector<ReadCounters> read_counters;  ///< Shape [cells, lines_per_cell].
  std::uint64_t own_bytes = 0;              ///< All of this but the pools' slabs.
  std::vector<SharedPoolPlace> shared_pools;
  std::vector<std::uint32_t> shared_pool_of_space;  ///< Shape [spaces]: into `pools`.
  std::string shared_pages;
  std::uint64_t shared_bytes = 0;

  Status MakePools(const GroupCacheOptions& options);

  [[nodiscard]] ReadCounters::Space& Reads(std::uint32_t cell, std::uint32_t space) noexcept {
    return read_counters[cell * lines_per_cell + space / 4].spaces[space % 4];
  }

  template <typename SpaceOf>
  std::uint32_t LookupPinned(SpaceOf space_of, std::span<const GroupTarget> targets,
                             std::span<std::uint8_t> hits, CopyStores stores) noexcept;
};

/// One chunk of a lookup, as a pipeline of four stages, so that the cache misses of many
/// groups overlap: hash and ask for the bucket; find the slot that it likely is and ask for
/// its record; make sure and ask for the bytes; copy. A slot that was found stays the group's
/// for as long as the reader is pinned.
template <typename SpaceOf>
std::uint32_t GroupCache::Impl::LookupPinned(SpaceOf space_of, std::span<const GroupTarget> targets,
                                             std::span<std::uint8_t> hits,
                                             CopyStores stores) noexcept {
  std::array<std::uint64_t, kPinGroups> hashes;
  std::array<std::uint32_t, kPinGroups> slots;
  const std::size_t count = targets.size();
  // Too few to overlap their stages: records and bytes are then asked for at once.
  const bool few = count <= kBucketAhead;
  std::uint32_t hit_count = 0;
  for (std::size_t step = 0; step < count + kBucketAhead; ++step) {
    if (step < count) {
      const std::uint32_t space = space_of(step);
      hashes[step] = HashGroup(space, targets[step].key);
      __builtin_prefetch(pool_of_space[space]->index().HomeBucket(hashes[step]));
    }
    if (const std::size_t i = step - (kBucketAhead - kRecordAhead); i < count) {
      const GroupPool& pool = *pool_of_space[space_of(i)];
      slots[i] = pool.index().Candidate(hashes[i]);
      if (slots[i] != GroupIndex::kNoSlot) {
        __builtin_prefetch(&pool.record(slots[i]));
        if (few) PrefetchGroup(pool.group(slots[i]), pool.group_size_bytes(), stores);
      } else {
        __builtin_prefetch(pool.index().SecondBucket(hashes[i]));
      }
    }
    if (const std::size_t i = step - (kBucketAhead - kGroupAhead); i < count) {
      const std::uint32_t space = space_of(i);
      const GroupPool& pool = *pool_of_space[space];
      if (!pool.index().Holds(slots[i], space, targets[i].key)) [[unlikely]] {
        slots[i] = pool.index().Find(hashes[i], space, targets[i].key);
      }
      if (slots[i] != GroupIndex::kNoSlot && !few) {
        PrefetchGroup(pool.group(slots[i]), pool.group_size_bytes(), stores);
      }
    }
    if (const std::size_t i = step - kBucketAhead; i < count) {
      const bool hit = slots[i] != GroupIndex::kNoSlot;
      hits[i] = hit ? 1 : 0;
      if (!hit) continue;
      const GroupPool& pool = *pool_of_space[space_of(i)];
      CopyBytes(targets[i].destination, pool.group(slots[i]), pool.group_size_bytes(), stores);
      pool.CountUse(slots[i]);
      ++hit_count;
    }
  }
  return hit_count;
}

namespace {

Status CheckCacheOptions(const GroupCacheOptions& options) {
  const std::vector<std::uint32_t>& sizes = options.group_size_bytes;
  if (sizes.empty() || sizes.size() > kSpacesMax) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("{} spaces in a group cache: 1 to {} are possible", sizes.size(), kSpacesMax));
  }
  for (std::size_t space = 0; space < sizes.size(); ++space) {
    if (sizes[space] == 0 || sizes[space] > kGroupSizeMax) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("group_size_bytes[{}] is {}: 1 to {} are possible", space,
                                sizes[space], kGroupSizeMax));
    }
  }
  const MemoryLimit limit = ReadMemoryLimit();
  if (options.budget_bytes > limit.bytes) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("a cache of {} B was asked for, but {} allows {} B: lower the DRAM "
                              "budget",
                              options.budget_bytes, limit.source, limit.bytes));
  }
  return {};
}

/// What the pools of each group size are to get.
struct PoolShare {
  std::uint64_t weight = 0;
  std::uint32_t space_count = 0;
};

}  // namespace

/// Every space gets the same number of slots' worth of bytes: a pool's share is the sum of
/// the group sizes of its spaces.
Status GroupCache::Impl::MakePools(const GroupCacheOptions& options) {
  const std::vector<std::uint32_t>& sizes = options.group_size_bytes;
  std::map<std::uint32_t, PoolShare> shares;
  std::uint64_t weight_sum = 0;
  for (const std::uint32_t size_bytes : sizes) {
    shares[size_bytes].weight += size_bytes;
    ++shares[size_bytes].space_count;
    weight_sum += size_bytes;
  }
  const bool shared = !options.shared_memory.empty();
  const std::uint64_t budget_bytes =
      shared ? options.shared_memory.size()
             : options.budget_bytes - std::min(options.budget_bytes, own_bytes);
  // Within shared memory a pool need not have huge pages of its own.
  const CachePages pages = shared ? CachePages::kPlain : options.memory.pages;
  std::uint64_t offset_bytes = 0;
  std::map<std::uint32_t, std::uint32_t> pool_of_size;
  for (const auto& [size_bytes, share] : shares) {
    const std::uint64_t share_bytes =
        Slab::RoundDown(static_cast<std::uint64_t>(static_cast<unsigned __int128>(budget_bytes) *
                                                   share.weight / weight_sum),
                        pages);
    // Every space gets the same number of expectations, too.
    const PolicyOptions policy = {
        .space_count = share.space_count,
        .expected_groups_max =
            (options.expected_groups_max * share.space_count + sizes.size() - 1) / sizes.size(),
        .expected_span = options.expected_span};
    Result<std::unique_ptr<GroupPool>> pool =
        shared ? GroupPool::CreateShared(size_bytes,
                                         options.shared_memory.subspan(offset_bytes, share_bytes),
                                         policy, epochs, write_counters)
               : GroupPool::Create(size_bytes, share_bytes, policy, epochs, write_counters,
                                   options.memory);
    if (!pool.ok()) return std::move(pool).TakeStatus();
    if (shared) {
      shared_pools.push_back({.offset_bytes = offset_bytes,
                              .group_size_bytes = size_bytes,
                              .slot_count = pool.value()->slot_count()});
    }
    offset_bytes += share_bytes;
    pool_of_size[size_bytes] = static_cast<std::uint32_t>(pools.size());
    pools.push_back(std::move(pool).value());
  }
  for (const std::uint32_t size_bytes : sizes) {
    shared_pool_of_space.push_back(pool_of_size[size_bytes]);
    pool_of_space.push_back(pools[pool_of_size[size_bytes]].get());
  }
  return {};
}

std::uint64_t GroupCache::OwnBytes(std::size_t space_count) noexcept {
  return sizeof(Impl) + ReaderEpochs::kCellCount * ((space_count + 3) / 4) * sizeof(ReadCounters) +
         space_count * (sizeof(WriteCounters) + sizeof(GroupPool*) + sizeof(std::uint32_t) +
                        sizeof(SharedPoolPlace) + sizeof(GroupPool));
}

Result<std::unique_ptr<GroupCache>> GroupCache::Create(const GroupCacheOptions& options) {
  if (Status status = CheckCacheOptions(options); !status.ok()) return status;
  (void)StoresForOutput(0);  // Asks the kernel now, and not in the first lookup.
  const std::size_t space_count = options.group_size_bytes.size();
  auto impl = std::make_unique<Impl>();
  impl->lines_per_cell = static_cast<std::uint32_t>((space_count + 3) / 4);
  impl->read_counters =
      std::vector<ReadCounters>(ReaderEpochs::kCellCount * std::size_t{impl->lines_per_cell});
  impl->write_counters = std::vector<WriteCounters>(space_count);
  impl->own_bytes = OwnBytes(space_count);
  impl->shared_pages = options.shared_pages;
  impl->shared_bytes = options.shared_memory.size();
  if (Status status = impl->MakePools(options); !status.ok()) return status;
  return std::unique_ptr<GroupCache>(new GroupCache(std::move(impl)));
}

GroupCache::GroupCache(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
GroupCache::~GroupCache() = default;

std::uint32_t GroupCache::Lookup(std::uint32_t space, std::span<const GroupTarget> targets,
                                 std::span<std::uint8_t> hits, CopyStores stores) noexcept {
  TIERCEL_CHECK(space < impl_->pool_of_space.size() && hits.size() == targets.size());
  std::uint32_t hit_count = 0;
  for (std::size_t first = 0; first < targets.size(); first += kPinGroups) {
    const std::size_t count = std::min(kPinGroups, targets.size() - first);
    const ReaderPin pin(impl_->epochs);
    const std::uint32_t chunk_hits =
        impl_->LookupPinned([space](std::size_t) { return space; }, targets.subspan(first, count),
                            hits.subspan(first, count), stores);
    ReadCounters::Space& reads = impl_->Reads(pin.cell(), space);
    reads.lookups.fetch_add(count, std::memory_order_relaxed);
    reads.hits.fetch_add(chunk_hits, std::memory_order_relaxed);
    hit_count += chunk_hits;
  }
  EndCopies(stores);
  return hit_count;
}

std::uint32_t GroupCache::Lookup(std::span<const std::uint32_t> spaces,
                                 std::span<const GroupTarget> targets, std::span<std::uint8_t> hits,
                                 CopyStores stores) noexcept {
  TIERCEL_CHECK(spaces.size() == targets.size() && hits.size() == targets.size());
  for (const std::uint32_t space : spaces) TIERCEL_CHECK(space < impl_->pool_of_space.size());
  std::uint32_t hit_count = 0;
  for (std::size_t first = 0; first < targets.size(); first += kPinGroups) {
    const std::size_t count = std::min(kPinGroups, targets.size() - first);
    const auto chunk_spaces = spaces.subspan(first, count);
    const auto chunk_hits = hits.subspan(first, count);
    const ReaderPin pin(impl_->epochs);
    hit_count += impl_->LookupPinned([chunk_spaces](std::size_t i) { return chunk_spaces[i]; },
                                     targets.subspan(first, count), chunk_hits, stores);
    for (std::size_t i = 0; i < count;) {  // Runs of one space are counted at once.
      const std::size_t run_first = i;
      std::uint64_t run_hits = 0;
      for (; i < count && chunk_spaces[i] == chunk_spaces[run_first]; ++i)
        run_hits += chunk_hits[i];
      ReadCounters::Space& reads = impl_->Reads(pin.cell(), chunk_spaces[run_first]);
      reads.lookups.fetch_add(i - run_first, std::memory_order_relaxed);
      reads.hits.fetch_add(run_hits, std::memory_order_relaxed);
    }
  }
  EndCopies(stores);
  return hit_count;
}

std::uint64_t GroupCache::Touch(std::uint32_t space, std::span<const std::uint64_t> keys) noexcept {
  TIERCEL_CHECK(space < impl_->pool_of_space.size());
  const GroupPool& pool = *impl_->pool_of_space[space];
  std::uint64_t count = 0;
  for (std::size_t first = 0; first < keys.size(); first += kPinGroups) {
    const ReaderPin pin(impl_->epochs);
    for (const std::uint64_t key : keys.subspan(first, std::min(kPinGroups, keys.size() - first))) {
      const std::uint32_t slot = pool.index().Find(HashGroup(space, key), space, key);
      if (slot == GroupIndex::kNoSlot) continue;
      pool.CountUse(slot);
      ++count;
    }
  }
  return count;
}

bool GroupCache::Contains(std::uint32_t space, std::uint64_t key) const noexcept {
  TIERCEL_CHECK(space < impl_->pool_of_space.size());
  const ReaderPin pin(impl_->epochs);
  return impl_->pool_of_space[space]->index().Find(HashGroup(space, key), space, key) !=
         GroupIndex::kNoSlot;
}

bool GroupCache::Insert(std::uint32_t space, std::uint64_t key,
                        std::span<const std::byte> bytes) noexcept {
  TIERCEL_CHECK(space < impl_->pool_of_space.size());
  GroupPool& pool = *impl_->pool_of_space[space];
  TIERCEL_CHECK(bytes.size() == pool.group_size_bytes());
  return pool.Insert(space, key, bytes.data());
}

std::uint64_t GroupCache::RemoveIf(
    const std::function<bool(std::uint32_t space, std::uint64_t key)>& condition) noexcept {
  std::uint64_t count = 0;
  for (const auto& pool : impl_->pools) count += pool->RemoveIf(condition);
  return count;
}

std::size_t GroupCache::Expect(std::uint32_t space, std::span<const std::uint64_t> keys,
                               std::uint64_t time) noexcept {
  TIERCEL_CHECK(space < impl_->pool_of_space.size());
  return impl_->pool_of_space[space]->Expect(space, keys, time);
}

std::size_t GroupCache::Release(std::uint32_t space, std::span<const std::uint64_t> keys) noexcept {
  TIERCEL_CHECK(space < impl_->pool_of_space.size());
  return impl_->pool_of_space[space]->Release(space, keys);
}

std::uint64_t GroupCache::expected_groups() const noexcept {
  std::uint64_t count = 0;
  for (const auto& pool : impl_->pools) count += pool->expected_count();
  return count;
}

void GroupCache::ReserveHot(std::span<const std::uint64_t> group_counts) noexcept {
  TIERCEL_CHECK(group_counts.empty() || group_counts.size() == impl_->pool_of_space.size());
  for (const auto& pool : impl_->pools) {
    std::uint64_t count = 0;
    for (std::size_t space = 0; space < group_counts.size(); ++space) {
      if (impl_->pool_of_space[space] == pool.get()) count += group_counts[space];
    }
    pool->ReserveHot(count);
  }
}

HotSlot GroupCache::StartHot(std::uint32_t space) noexcept {
  TIERCEL_CHECK(space < impl_->pool_of_space.size());
  GroupPool& pool = *impl_->pool_of_space[space];
  const std::uint32_t slot = pool.TakeHotSlot();
  if (slot == GroupIndex::kNoSlot) return {};
  return {.slot = slot, .bytes = {pool.hot_group(slot), pool.group_size_bytes()}};
}

HotSlot GroupCache::HotSlotAt(std::uint32_t space, std::uint32_t slot) const noexcept {
  TIERCEL_CHECK(space < impl_->pool_of_space.size());
  const GroupPool& pool = *impl_->pool_of_space[space];
  return {.slot = slot, .bytes = {pool.hot_group(slot), pool.group_size_bytes()}};
}

HotOutcome GroupCache::FinishHot(const HotSlot& slot, const HotGroupId& id, bool pin) noexcept {
  TIERCEL_CHECK(id.space < impl_->pool_of_space.size() && !slot.bytes.empty());
  return impl_->pool_of_space[id.space]->PublishHot(slot.slot, id, pin);
}

void GroupCache::AbandonHot(const HotSlot& slot, std::uint32_t space) noexcept {
  TIERCEL_CHECK(space < impl_->pool_of_space.size() && !slot.bytes.empty());
  impl_->pool_of_space[space]->ReturnHotSlot(slot.slot);
}

ReaderEpochs& GroupCache::epochs() const noexcept {
  return impl_->epochs;
}
std::span<const std::unique_ptr<GroupPool>> GroupCache::pools() const noexcept {
  return impl_->pools;
}

GroupSpaceStats GroupCache::Stats(std::uint32_t space) const noexcept {
  TIERCEL_CHECK(space < impl_->pool_of_space.size());
  const auto read = [](const std::atomic<std::uint64_t>& counter) {
    return counter.load(std::memory_order_relaxed);
  };
  const WriteCounters& writes = impl_->write_counters[space];
  GroupSpaceStats stats;
  // Evictions first: a group is counted in before it is counted out.
  stats.evictions = read(writes.evictions);
  stats.removals = read(writes.removals);
  stats.insertions = read(writes.insertions);
  stats.rejections = read(writes.rejections);
  stats.ghost_hits = read(writes.ghost_hits);
  stats.pinned_groups = read(writes.pinned);
  stats.resident_groups =
      stats.insertions - std::min(stats.insertions, stats.evictions + stats.removals);
  for (std::uint32_t cell = 0; cell < ReaderEpochs::kCellCount; ++cell) {
    const ReadCounters::Space& reads = impl_->Reads(cell, space);
    stats.hits += read(reads.hits);
    stats.lookups += read(reads.lookups);
  }
  return stats;
}

std::uint64_t GroupCache::capacity_groups() const noexcept {
  std::uint64_t count = 0;
  for (const auto& pool : impl_->pools) count += pool->slot_count();
  return count;
}

std::uint64_t GroupCache::capacity_groups(std::uint32_t space) const noexcept {
  TIERCEL_CHECK(space < impl_->pool_of_space.size());
  return impl_->pool_of_space[space]->slot_count();
}

std::uint64_t GroupCache::memory_bytes() const noexcept {
  std::uint64_t bytes = impl_->own_bytes;
  if (impl_->shared_bytes > 0) return bytes + impl_->shared_bytes;
  for (const auto& pool : impl_->pools) bytes += pool->memory_bytes();
  return bytes;
}

std::string GroupCache::description() const {
  std::string text;
  for (const auto& pool : impl_->pools) {
    if (!text.empty()) text += "; ";
    text += fmt::format("{} slots of {} B, {}", pool->slot_count(), pool->group_size_bytes(),
                        impl_->shared_pools.empty() ? pool->pages() : impl_->shared_pages);
  }
  return text;
}

std::vector<SharedPoolPlace> GroupCache::shared_pools() const {
  return impl_->shared_pools;
}

std::uint32_t GroupCache::shared_pool_of(std::uint32_t space) const noexcept {
  TIERCEL_CHECK(space < impl_->shared_pool_of_space.size() && !impl_->shared_pools.empty());
  return impl_->shared_pool_of_space[space];
}

}  // namespace tiercel
