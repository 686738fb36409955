#ifndef TIERCEL_CACHE_GROUP_CACHE_H_
#define TIERCEL_CACHE_GROUP_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/copy_bytes.h"
#include "cache/hot_group.h"
#include "tiercel/memory_options.h"
#include "tiercel/status.h"

namespace tiercel {

/// Where a group's bytes go on a hit.
struct GroupTarget {
  std::uint64_t key = 0;             ///< Group key within its space.
  std::byte* destination = nullptr;  ///< Shape [group_size_bytes of the space].
};

/// Counters of one space.
struct GroupSpaceStats {
  std::uint64_t lookups = 0;     ///< Groups asked for.
  std::uint64_t hits = 0;        ///< Groups found.
  std::uint64_t insertions = 0;  ///< Groups taken in.
  std::uint64_t rejections = 0;  ///< Groups offered and not taken in.
  std::uint64_t evictions = 0;   ///< Groups dropped to make room.
  std::uint64_t removals = 0;    ///< Groups dropped by RemoveIf().
  std::uint64_t ghost_hits = 0;  ///< Groups taken in again soon after they were dropped.
  std::uint64_t resident_groups = 0;
  std::uint64_t pinned_groups = 0;  ///< Of those: never dropped.
};

/// A slot that StartHot() lent: the group's bytes go to `bytes`.
struct HotSlot {
  std::uint32_t slot = ~std::uint32_t{0};
  std::span<std::byte> bytes;  ///< Empty where there was no room.
};

/// Groups of one size, and where in GroupCacheOptions::shared_memory they lie.
struct SharedPoolPlace {
  std::uint64_t offset_bytes = 0;  ///< Of PoolLayout's first byte.
  std::uint32_t group_size_bytes = 0;
  std::uint32_t slot_count = 0;
};

class GroupPool;
class ReaderEpochs;

struct GroupCacheOptions {
  /// All memory of the cache, slots and metadata alike. Nothing grows beyond it.
  std::uint64_t budget_bytes = 0;
  /// One entry a space: the size of its groups. A space is one (layer, order):
  /// keys of different spaces never meet. At most 256 spaces.
  std::vector<std::uint32_t> group_size_bytes;
  MemoryOptions memory;  ///< Kind of pages, NUMA nodes.
  /// Memory of another's that processes share, zeroed, at a multiple of 4096, which must
  /// outlive the cache: its pools lie in there, one after another, with a version for each
  /// slot (slot_version.h), and GroupReader finds groups in it. budget_bytes counts OwnBytes()
  /// and this; `memory` is not looked at. Empty: the cache takes memory of its own.
  std::span<std::byte> shared_memory;
  std::string shared_pages;  ///< For reports: what pages it has.
  /// Groups that waiting prompts may be said to read at a time, over all spaces, with
  /// Expect(): some 13 B each, out of the budget. 0: none.
  std::uint64_t expected_groups_max = 0;
  /// The most that may lie between the first and the last reading that is expected, in the
  /// caller's units of time; what is further apart may come in the wrong order.
  std::uint64_t expected_span = std::uint64_t{1} << 22;
};

/// The DRAM tier: whole groups (the H rows of one n-gram in one table), keyed by
/// (space, group key), in one slab of memory for each size of groups.
///
/// A slot's bytes never change while a reader can reach it: a lookup enters an epoch,
/// follows the index, copies and leaves; a slot that was dropped is written again only
/// when every reader that may have found it has left (reader_epochs.h has the proof,
/// group_pool.h the life of a slot). So readers neither wait, nor retry, nor see a
/// torn group; all they write is a cell of their own and, rarely, a count of uses. Where the
/// memory is shared, readers in other processes have no epoch: GroupReader is theirs.
///
/// Threading: everything may run concurrently. Lookups take no lock; insertions of
/// one group size take turns. Allocates nothing after Create().
class GroupCache {
 public:
  /// Takes all memory at once.
  /// Errors: kInvalidArgument (no spaces, a size of 0 or above 1 MiB),
  /// kResourceExhausted (a budget too small for a useful number of groups of every
  /// size, or more than the machine or the cgroup has: both figures are named).
  [[nodiscard]] static Result<std::unique_ptr<GroupCache>> Create(const GroupCacheOptions& options);
  ~GroupCache();

  /// Copies the groups that are resident to their destinations.
  ///
  ///   targets  shape [n].
  ///   hits     shape [n]: written in full, 1 where the bytes were copied, 0 where
  ///            the destination was left alone.
  ///   stores   StoresForOutput() of all that the caller fills, in this call and others.
  ///
  /// Returns the number of hits. Never blocks. Counts the use of each group.
  std::uint32_t Lookup(std::uint32_t space, std::span<const GroupTarget> targets,
                       std::span<std::uint8_t> hits,
                       CopyStores stores = CopyStores::kCached) noexcept;

  /// The same for groups of several spaces at once, so that a decode step of one token
  /// overlaps the memory latency of all its groups.
  ///
  ///   spaces  shape [n]: the space of each target. Equal ones side by side are counted
  ///           faster.
  std::uint32_t Lookup(std::span<const std::uint32_t> spaces, std::span<const GroupTarget> targets,
                       std::span<std::uint8_t> hits,
                       CopyStores stores = CopyStores::kCached) noexcept;

  /// Counts a use of each group that is resident, as a hit would; no lookups. For what was
  /// found by other means than Lookup(). Returns how many are.
  ///
  ///   keys  shape [n].
  std::uint64_t Touch(std::uint32_t space, std::span<const std::uint64_t> keys) noexcept;

  /// Whether the group is resident right now. Counts nothing.
  [[nodiscard]] bool Contains(std::uint32_t space, std::uint64_t key) const noexcept;

  /// Offers a group that was just read. The cache may decline it. A key that is
  /// resident already is left as it is.
  ///
  ///   bytes  shape [group_size_bytes of the space].
  ///
  /// Returns whether the group is resident now. May wait for another writer.
  bool Insert(std::uint32_t space, std::uint64_t key, std::span<const std::byte> bytes) noexcept;

  /// Drops every group for which `condition(space, key)` is true: all that were resident
  /// when the call began and are so still when it comes to them. Lookups that run beside it
  /// may hit such a group; those that begin after it do not, unless it was inserted again.
  /// What comes in meanwhile may or may not be looked at. Pinned groups are dropped too.
  ///
  ///   condition  Called with a lock held, and also for keys that are not resident. Must not
  ///              throw, nor call the cache.
  ///
  /// Returns how many were dropped. Looks at 16 B a slot. Waits for other writers, and
  /// for the lookups that may be copying what it drops.
  std::uint64_t RemoveIf(
      const std::function<bool(std::uint32_t space, std::uint64_t key)>& condition) noexcept;

  /// Says that a waiting prompt will read these groups, resident or not, at `time`: on a
  /// clock of the caller's that only grows, such as tokens that went into the queue. As
  /// long as that is not undone, none of them is dropped for the sake of one that nobody
  /// waits for, and of those that are waited for the latest go first. A group may be
  /// expected any number of times.
  ///
  ///   keys  shape [n].
  ///
  /// Returns how many were noted: the first ones. Fewer than n where
  /// GroupCacheOptions::expected_groups_max are noted: nothing is noted of the others, and
  /// they must not be released. May wait for a writer.
  [[nodiscard]] std::size_t Expect(std::uint32_t space, std::span<const std::uint64_t> keys,
                                   std::uint64_t time) noexcept;
  /// Undoes Expect() of these groups, once each: the prompt has read them, or gave up.
  /// Returns how many were undone: n, or those before the first that nobody expected.
  std::size_t Release(std::uint32_t space, std::span<const std::uint64_t> keys) noexcept;
  /// Groups that are expected now.
  [[nodiscard]] std::uint64_t expected_groups() const noexcept;

  // ---- the loader of a hot set: one thread, beside lookups and insertions ----

  /// Sets free slots aside for StartHot(), but for a twentieth of those of each size: what
  /// is inserted meanwhile goes there. An earlier reserve is given up.
  ///
  ///   group_counts  shape [spaces]: groups that will be loaded; empty for none.
  void ReserveHot(std::span<const std::uint64_t> group_counts) noexcept;

  /// Lends a slot that nobody else sees, for one group of `space`. Must be given back by
  /// FinishHot() or AbandonHot(). Drops nothing: where the reserve is used up there is no
  /// room.
  [[nodiscard]] HotSlot StartHot(std::uint32_t space) noexcept;
  /// The slot that StartHot() lent for `space` under this number.
  [[nodiscard]] HotSlot HotSlotAt(std::uint32_t space, std::uint32_t slot) const noexcept;
  /// Makes the group whose bytes were written resident, with its uses to its credit.
  /// `pin`: it is never dropped, as long as no more than half of all slots of its size are
  /// such. May wait for another writer.
  HotOutcome FinishHot(const HotSlot& slot, const HotGroupId& id, bool pin) noexcept;
  void AbandonHot(const HotSlot& slot, std::uint32_t space) noexcept;

  [[nodiscard]] GroupSpaceStats Stats(std::uint32_t space) const noexcept;
  /// Groups that fit at most, over all sizes.
  [[nodiscard]] std::uint64_t capacity_groups() const noexcept;
  /// Groups of that space's size that fit.
  [[nodiscard]] std::uint64_t capacity_groups(std::uint32_t space) const noexcept;
  /// Memory taken, metadata included. <= budget_bytes.
  [[nodiscard]] std::uint64_t memory_bytes() const noexcept;
  /// For reports: slots, sizes, kind of pages.
  [[nodiscard]] std::string description() const;

  /// What a cache of so many spaces takes beside its slots.
  [[nodiscard]] static std::uint64_t OwnBytes(std::size_t space_count) noexcept;
  /// The pools in shared memory, by their offset; empty where the memory is the cache's own.
  [[nodiscard]] std::vector<SharedPoolPlace> shared_pools() const;
  /// Index into shared_pools(). REQUIRES: shared memory.
  [[nodiscard]] std::uint32_t shared_pool_of(std::uint32_t space) const noexcept;

 private:
  friend class GroupExport;
  struct Impl;
  explicit GroupCache(std::unique_ptr<Impl> impl) noexcept;
  // For GroupExport.
  [[nodiscard]] ReaderEpochs& epochs() const noexcept;
  [[nodiscard]] std::span<const std::unique_ptr<GroupPool>> pools() const noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_GROUP_CACHE_H_
