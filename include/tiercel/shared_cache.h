#ifndef TIERCEL_SHARED_CACHE_H_
#define TIERCEL_SHARED_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "tiercel/checkpoint.h"
#include "tiercel/recipe.h"
#include "tiercel/status.h"

namespace tiercel {

/// One layer in a shared cache. A group is the H rows of one n-gram.
struct SharedCacheLayer {
  std::uint32_t layer_id = 0;
  std::uint32_t order_count = 0;
  std::uint32_t group_size_bytes = 0;
  /// Where its slots lie in SharedCache::bytes(): slot s begins at slots_offset_bytes +
  /// s * slot_stride_bytes. Both are multiples of 16. Layers of one group size have slots in
  /// common.
  std::uint64_t slots_offset_bytes = 0;
  std::uint64_t slot_stride_bytes = 0;
  std::uint32_t slot_count = 0;
};

struct SharedCacheInfo {
  std::uint64_t size_bytes = 0;  ///< Of the memory, which is there once for all processes.
  HeadShard shard;               ///< Whose heads its groups have.
  /// The writer has a state open: its groups have updated rows in them, as of the writer.
  bool has_updates = false;
  std::vector<SharedCacheLayer> layers;  ///< Those that the writer serves.
};

/// The DRAM cache of another process's store (StoreOptions::memory.shared), to read: ranks of
/// one machine hold it once, and not once a rank. Move-only.
///
/// The store that made it is the one writer, and decides alone what is in it. A reader takes
/// no lock, waits for nothing and writes nothing; the kernel holds it to that. It finds groups
/// by the writer's index and copies them, or tells where they are, and then looks whether
/// each was there all the while (a sequence lock for each slot; cache/slot_version.h has the
/// proof). If not, it is a miss. So the bytes of a hit are whole and the group's, whatever the
/// writer does meanwhile and however it ends. A writer that died leaves all that was in
/// place; what it was just writing is a miss for ever.
///
/// What is missed the caller gets elsewhere: from a store of its own, with a small budget, or
/// from the writer, by its own means. A lookup in the writer's store also brings the group
/// into the cache.
///
/// A reader's hits are not seen by the writer: a group that readers alone use grows cold and
/// goes. Who wants them to count sends the mixes over now and then, by its own means, for
/// Store::Touch().
///
/// Rows are those that the writer delivers. Once Store::Update() has returned, no Lookup()
/// or Find() that begins after that was heard of gives the row as it was before. A store of
/// the reader's own, for its misses, should have the same state open, to read.
///
/// The memory is gone when the last process that maps it or holds its descriptor ends, however
/// it ends; it has no name, needs no /dev/shm, and counts against the writer's cgroup.
///
///     // The writer:                               // A reader, which got the descriptor:
///     options.memory.shared = true;                auto cache = SharedCache::Open(fd, checkpoint);
///     auto store = Store::Open(path, options);     hasher.Mixes(layer, run, mixes, dead);
///     int fd = store.value()->ShareCache().value(); cache.value().Lookup(id, mixes, rows, hits);
///
/// Threading: immutable once opened; all const methods may run concurrently. None of them
/// blocks or allocates on success.
class SharedCache {
 public:
  /// A slot that is none, as SlabGather::kNone.
  static constexpr std::uint32_t kNoSlot = ~std::uint32_t{0};

  /// Maps the cache behind `descriptor`: Store::ShareCache()'s, however it came here (fork(2),
  /// SCM_RIGHTS, or opened as /proc/PID/fd/N). It stays the caller's and may be closed after.
  ///
  ///   checkpoint  The tables that the writer opened, as InspectCheckpoint() tells them; of a
  ///               shard, with the recipe of ShardRecipe(). Or a store's checkpoint().
  ///
  /// Everything that the memory says of itself is checked before it is used.
  ///
  /// Errors: kInvalidArgument (no descriptor of sealed memory; not a shared cache, or one of
  /// another version of the library; of other tables, of another shard, or of files that were
  /// written since the writer opened them: the message says which), kCorruption (it says what
  /// cannot be), kResourceExhausted (no address space), kIoError; others of files of
  /// `checkpoint` that cannot be looked at.
  [[nodiscard]] static Result<SharedCache> Open(int descriptor, const CheckpointInfo& checkpoint);

  SharedCache(SharedCache&& other) noexcept;
  SharedCache& operator=(SharedCache&& other) noexcept;
  ~SharedCache();

  [[nodiscard]] const SharedCacheInfo& info() const noexcept;
  /// All of it, as this process maps it: read-only. To be registered with CUDA
  /// (HostRegistration, read_only), where the device can.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept;

  /// Copies the groups that are in the cache.
  ///
  ///   mixes  shape [t, orders], as Hasher::Mixes() gives them; group keys will do as well.
  ///          Dead tokens are looked up as any others.
  ///   rows   shape [t, columns, stored row size]: the group of mixes[i] goes to the i-th part.
  ///   hits   shape [t, orders]: written in full, 1 where the group's bytes are in `rows`; where
  ///          it is 0, that part was left alone or zeroed.
  ///
  /// Returns the number of hits. Errors: kNotFound (a layer that the writer does not serve),
  /// kInvalidArgument (a span of the wrong length; nothing is written).
  [[nodiscard]] Result<std::uint64_t> Lookup(std::uint32_t layer_id,
                                             std::span<const std::uint64_t> mixes,
                                             std::span<std::byte> rows,
                                             std::span<std::uint8_t> hits) const;

  /// Says in which slots the groups are now, for a gather by the GPU: `slots` are numbers for
  /// SlabGather::groups. Nothing keeps them there. When the gather has run (the event was
  /// waited for), Recheck() tells which of them were there until then.
  ///
  ///   slots     shape [t, orders]: written in full, kNoSlot where the group is not there.
  ///   versions  shape [t, orders]: written in full, for Recheck().
  ///
  /// Returns the number of groups found. Errors: as Lookup().
  [[nodiscard]] Result<std::uint64_t> Find(std::uint32_t layer_id,
                                           std::span<const std::uint64_t> mixes,
                                           std::span<std::uint32_t> slots,
                                           std::span<std::uint64_t> versions) const;

  /// Whether what Find() found has been there ever since: what was read of those slots in
  /// between is then whole and right; the rest must be thrown away. A device must have ended
  /// its reads, and see the writer's stores in their order, as it does over PCIe from x86.
  ///
  ///   slots, versions  shape [n], of Find() for this layer, or any part of them.
  ///   unchanged        shape [n]: written in full, 0 or 1; 0 for kNoSlot.
  ///
  /// Returns the number of those unchanged. Errors: as Lookup().
  [[nodiscard]] Result<std::uint64_t> Recheck(std::uint32_t layer_id,
                                              std::span<const std::uint32_t> slots,
                                              std::span<const std::uint64_t> versions,
                                              std::span<std::uint8_t> unchanged) const;

  /// Whether the writer's store was closed in an orderly way: nothing comes in any more. What
  /// is there stays good. Of a writer that was killed the memory does not know; a socket
  /// between the two does.
  [[nodiscard]] bool WriterClosed() const noexcept;

 private:
  struct Impl;
  explicit SharedCache(std::unique_ptr<const Impl> impl) noexcept;
  std::unique_ptr<const Impl> impl_;
};

}  // namespace tiercel

#endif  // TIERCEL_SHARED_CACHE_H_
