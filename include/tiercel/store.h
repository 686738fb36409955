#ifndef TIERCEL_STORE_H_
#define TIERCEL_STORE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/checkpoint.h"
#include "tiercel/hasher.h"
#include "tiercel/hot_set.h"
#include "tiercel/memory_options.h"
#include "tiercel/overlay.h"
#include "tiercel/prefetch.h"
#include "tiercel/status.h"
#include "tiercel/token_map.h"
#include "tiercel/types.h"
#include "tiercel/verify.h"

namespace tiercel {

/// Where a part of each row that is stored apart (V4.1's 8 scale bytes) is kept.
enum class ScalePlacement : std::uint8_t {
  kAuto,      ///< In DRAM if that takes at most half of the budget, else on disk.
  kResident,  ///< In DRAM, within the budget: one read a row.
  kDisk,      ///< On disk: two reads a row.
};

/// Sizes and choices of a Store, all fixed at Open(). Nothing grows after that.
struct StoreOptions {
  /// Host memory for rows: cache with its metadata, resident scales, read buffers
  /// and the tables of reads in flight. At least 16 MiB.
  std::uint64_t dram_budget_bytes = std::uint64_t{1} << 30;
  Engine engine = Engine::kAuto;
  /// Threads that read, a ring or a pool each, all of them reading every file. 0: as
  /// many as there are disks (file systems) under the files. In [0, 64].
  std::uint32_t io_thread_count = 0;
  /// Reads in flight a thread, up to 4096. 0: as the disk's profile says (see
  /// disk_profile.h), else 128.
  std::uint32_t queue_depth = 0;
  /// Direct reads are widened to multiples of this, a power of two up to 65536. 0: as the
  /// disk's profile says, else the disk's physical block.
  std::uint32_t read_block_bytes = 0;
  /// Profile for what the two above leave open. Empty: DefaultDiskProfilePath() of each
  /// disk that the files lie on, where a missing one is none and a damaged one is logged
  /// and ignored; one that is named must be there and good.
  std::string disk_profile_path;
  std::uint32_t read_attempts_max = 3;  ///< Tries per read before kIoError. In [1, 100].
  /// io_uring polls for completions (IORING_SETUP_IOPOLL), which needs a disk with
  /// poll queues, or has a kernel thread take submissions (IORING_SETUP_SQPOLL). Both
  /// trade a busy core for a shorter read.
  bool io_poll = false;
  bool submission_poll = false;
  ScalePlacement scales = ScalePlacement::kAuto;
  /// Takes 4 bytes of the budget for each 4 KiB of the tables.
  ChecksumUse checksums = ChecksumUse::kAuto;
  /// The sidecar. Empty: tiercel.checksums in the checkpoint's directory, or the file's
  /// name with .checksums behind it.
  std::string checksums_path;
  /// Pages and NUMA nodes of the cache and the I/O threads; whether processes share the cache.
  MemoryOptions memory;
  /// Turns raw token ids into compressed ones in lookups by token runs. Null: that of the
  /// checkpoint (CheckpointInfo::token_map, GGUF); where it has none, runs hold compressed ids
  /// (Qwen3.8: raw ones; that recipe has no map).
  std::shared_ptr<const TokenMap> token_map;
  /// Runs hold compressed ids, whatever map the checkpoint has. Not with `token_map`.
  bool compressed_tokens = false;
  /// Layers to serve; empty means all of them.
  std::vector<std::uint32_t> layer_ids;
  /// Heads to serve: those of one rank of a model that is cut over several (see HeadShard).
  /// Outputs then have this rank's columns alone, shape [t, local columns, row size],
  /// order-major, local heads in rising order; a group is the local heads of an n-gram, so
  /// cache, resident scales and reads are this rank's share. Row ids are still those of the
  /// whole table.
  HeadShard shard;
  PrefetchLimits prefetch;           ///< Of tickets, out of the budget.
  Updates updates = Updates::kAuto;  ///< What is made of a state directory (see overlay.h).
  /// The state directory. Empty: DefaultStatePath() of the table.
  std::string state_path;
  /// Updated rows that there is room for, 8 to 22 B each out of the budget, where a state is
  /// open. 0: as many as a 64th of the budget holds.
  std::uint64_t overlay_rows_max = 0;
  /// Receives lines that a person should see, such as a fallback from io_uring.
  /// Null: stderr. Called from Open() and from I/O threads, one call at a time.
  std::function<void(std::string_view)> log;
};

/// Where one layer's rows of a batch go.
struct LayerOutput {
  std::uint32_t layer_id = 0;
  /// Shape [t, columns, output_row_size_bytes], t tokens of all runs one after
  /// another. Host memory of the caller's.
  std::span<std::byte> rows;
  /// Shape [t, columns].
  std::span<RowStatus> row_status;
};

/// Counters of one (layer, order). A group is the H rows of one n-gram.
struct OrderStats {
  std::uint32_t layer_id = 0;
  std::uint32_t order = 0;          ///< n of the n-gram.
  std::uint64_t groups = 0;         ///< Groups asked for, dead positions left out.
  std::uint64_t dram_hits = 0;      ///< Served from DRAM at once.
  std::uint64_t joined = 0;         ///< Waited for a read that was under way for another.
  std::uint64_t fetches = 0;        ///< Read from disk.
  std::uint64_t failed_groups = 0;  ///< Fetches with a row that could not be read.
  std::uint64_t cache_insertions = 0;
  std::uint64_t cache_evictions = 0;
  std::uint64_t cache_rejections = 0;  ///< Offered and not taken in.
  std::uint64_t cache_ghost_hits = 0;  ///< Taken in again soon after they were evicted.
  std::uint64_t cache_resident_groups = 0;
  std::uint64_t cache_pinned_groups = 0;  ///< Of those: never evicted.
  std::uint32_t group_size_bytes = 0;
  std::uint64_t dram_hit_bytes = 0;  ///< Of the groups served from DRAM.
  std::uint64_t fetched_bytes = 0;   ///< Of the groups fetched, their own bytes alone.
};

struct StoreStats {
  std::vector<OrderStats> orders;          ///< By layer, then order.
  HeadShard shard;                         ///< StoreOptions::shard.
  std::uint64_t single_rows = 0;           ///< Rows asked for outside of a group.
  std::uint64_t device_reads = 0;          ///< Reads that were sent to the device.
  std::uint64_t device_reads_shared = 0;   ///< Rows served by a read that was under way.
  std::uint64_t device_read_bytes = 0;     ///< Bytes of them, whole blocks.
  std::uint64_t device_read_retries = 0;   ///< Reads that were tried again.
  std::uint64_t device_read_failures = 0;  ///< Reads that failed for good.
  /// From submission to completion, of the reads that succeeded since Open().
  std::uint64_t device_read_p50_ns = 0;
  std::uint64_t device_read_p99_ns = 0;
  std::uint64_t device_read_max_ns = 0;
  std::uint64_t dram_budget_bytes = 0;
  std::uint64_t cache_bytes = 0;           ///< Memory of the cache, metadata included.
  std::uint64_t resident_scale_bytes = 0;  ///< 0 where scales are read from disk.
  std::uint64_t checksum_bytes = 0;        ///< Of the sidecar; 0 where there is none.
  std::uint64_t read_buffer_bytes = 0;     ///< Rings, read buffers, groups in flight.
  std::uint64_t ticket_bytes = 0;          ///< Tickets, tokens, staging, at most.
  std::uint32_t tickets = 0;               ///< Started and not dropped yet.
  std::uint64_t expected_groups = 0;       ///< That queued tickets are known to read.
  std::uint32_t io_thread_count = 0;       ///< Threads that read.
  std::string engine;                      ///< "io_uring" or "pread".
  std::string engine_description;          ///< Its flags, block size, O_DIRECT or not.
  std::string engine_fallback;             ///< Empty, or why kAuto is not on io_uring.
  std::uint32_t queue_depth = 0;           ///< Reads in flight a thread.
  std::uint32_t read_block_bytes = 0;      ///< Reads are widened to it; 1: they are not.
  std::string disk_profile;                ///< Profiles that were applied; empty for none.
  std::string cache_description;
  OverlayStats overlay;  ///< Of updated rows.
};

/// The tiered store of one checkpoint's Engram tables: rows come from DRAM where
/// they are there, else from disk.
///
/// Threading: all methods may run concurrently. The destructor must not run beside
/// another method; it waits for reads in flight.
class Store {
 public:
  /// Opens the tables of the checkpoint at `path` (see InspectCheckpoint). Reads
  /// headers alone; takes all memory; starts the I/O threads.
  ///
  /// Errors: as InspectCheckpoint and Hasher::Create; kInvalidArgument (an option
  /// out of its range, a shard of more ranks than an order has heads; the message names
  /// it), kNotFound (a layer with no table, a
  /// profile that is named and not there),
  /// kUnavailable (Engine::kUring where there is no io_uring; a shared cache on a kernel
  /// before Linux 5.1), kResourceExhausted
  /// (a budget that is too small, or more than the machine has; fewer huge pages set
  /// aside than kHugetlb needs; more updated rows than there is room for). With a state:
  /// kInvalidArgument (it belongs to another table, or is something else), kNotFound
  /// (kReadOnly without a state), kUnavailable (its lock is another store's; a library without
  /// RocksDB), kCorruption, kPermissionDenied, kIoError. kCorruption also: a
  /// damaged packed table or sidecar; a sidecar of other tables is kInvalidArgument.
  [[nodiscard]] static Result<std::unique_ptr<Store>> Open(const std::string& path,
                                                           const StoreOptions& options);

  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  ~Store();

  /// Writes the rows of every order and head at every token of `runs`, for each
  /// layer of `outputs`. Layers are fetched in the order of `outputs`.
  ///
  /// Blocks until every row is in place. Dead positions get zeros and kDead.
  /// `outputs` are always written in full, unless kInvalidArgument is returned.
  ///
  /// Errors: kInvalidArgument (a span of the wrong length, a token out of range;
  /// nothing is fetched, outputs are unspecified), kNotFound (a layer that is not
  /// served), kPartial (some row_status is neither kOk nor kDead: those rows are
  /// zero, all others are good).
  ///
  /// REQUIRES: no output overlaps another span of the call.
  [[nodiscard]] Status Lookup(std::span<const TokenRun> runs, std::span<const LayerOutput> outputs,
                              RowOutput format = RowOutput::kStored);

  /// Writes rows by id, in the order of `rows`: any ids, repeats allowed.
  ///
  /// Wherever H ids in a row are the H columns of one order, in column order, and
  /// come from one n-gram (proved by the Chinese remainder theorem), they are
  /// served as its group, through the cache. All others are read one by one. In a store of
  /// a shard, H and the columns are the local ones; ids in other ranks' columns are rows of
  /// the table all the same, and read one by one.
  ///
  ///   rows    shape [n].
  ///   output  rows: shape [n, output_row_size_bytes]; row_status: shape [n].
  ///
  /// Blocks. Errors: as Lookup(); an id beyond the table is kOutOfRange in
  /// row_status, and the whole is kPartial.
  [[nodiscard]] Status LookupRows(std::span<const RowId> rows, const LayerOutput& output,
                                  RowOutput format = RowOutput::kStored);

  /// Begins to fetch what Lookup() would, and returns: rows that are in DRAM are copied
  /// (see HitCopy), the others are read while the caller goes on. Never waits for a read.
  /// Tokens are copied; destinations must stay until the ticket is done with them.
  ///
  ///   layers  in the order in which the model needs them; each id once.
  ///
  /// Errors: kInvalidArgument (as Lookup(); a stride below the row's size, a layer named
  /// twice, no layer), kNotFound (a layer that is not served), kResourceExhausted (a limit
  /// of PrefetchLimits is reached, with WhenFull::kRefuse; or the batch alone is beyond
  /// it). No ticket then; outputs are unspecified, nothing writes to them later.
  ///
  /// REQUIRES: no output overlaps another span of the call or of a ticket under way.
  [[nodiscard]] Result<Ticket> Start(std::span<const TokenRun> runs,
                                     std::span<const PrefetchLayer> layers,
                                     const PrefetchOptions& options = {});
  /// The same for row ids, as LookupRows() takes them.
  [[nodiscard]] Result<Ticket> StartRows(std::span<const RowId> rows, const PrefetchLayer& layer,
                                         const PrefetchOptions& options = {});

  /// Replaces rows, all of them or none: in the state directory, never in the table's files.
  /// When it returns they are on disk, and every lookup and ticket that begins from then on
  /// delivers them. Of one that began before, each delivery has either the old row or the new
  /// one, whole; and no lookup that begins after another delivered the new row delivers the
  /// old one. Different rows of a batch become visible one by one to lookups that run
  /// meanwhile; a StoreSnapshot has all of a batch or nothing.
  ///
  ///   rows  Any rows of served layers; where a row comes twice, the last one counts.
  ///
  /// Blocks: for the disk, and for a walk through the cache (some 10 ns a cached group).
  /// Callers that wait at the same time share both. Cached groups with such a row are dropped,
  /// pinned ones too; observers are told (AddUpdateObserver()).
  ///
  /// Errors: kUnavailable (the store was not opened with Updates::kReadWrite),
  /// kInvalidArgument (a row beyond the table, bytes of another size, more than 2^20 rows;
  /// the message says which), kNotFound (a layer that is not served), kResourceExhausted (more
  /// rows than StoreOptions::overlay_rows_max; the disk is full), kIoError,
  /// kPermissionDenied, kCorruption. No row is visible then; after an error of the disk the
  /// batch may come to light, whole, when the state is opened anew.
  [[nodiscard]] Status Update(std::span<const RowUpdate> rows);

  /// Has `observer` hear of all updates from now on; of one that has not ended at once. Waits
  /// for updates under way. Does nothing where the store cannot be updated.
  /// Errors: kResourceExhausted (64 observers are there already).
  /// REQUIRES: RemoveUpdateObserver() is called before the store or the observer goes.
  [[nodiscard]] Status AddUpdateObserver(UpdateObserver& observer);
  /// Calls nothing of `observer` after it has returned. Waits for updates under way. Does
  /// nothing for one that was not added.
  void RemoveUpdateObserver(UpdateObserver& observer) noexcept;

  /// What lookups deliver now, to be looked up later. Of a store without a state: all there
  /// is. REQUIRES: the snapshot goes before the store. Errors: kResourceExhausted.
  [[nodiscard]] Result<StoreSnapshot> Snapshot();

  /// Bytes that one row takes in an output. Errors: kNotFound.
  [[nodiscard]] Result<std::uint32_t> OutputRowSizeBytes(std::uint32_t layer_id,
                                                         RowOutput format) const;

  /// Writes what the DRAM cache holds to a hot set file, the most used groups first, while
  /// lookups go on. The file appears at `path` when all of it is on disk; an earlier one
  /// stays until then. Blocks; takes two blocks of memory.
  ///
  /// Errors: kInvalidArgument (a block size out of its range, groups too large for a
  /// block), kResourceExhausted (the disk is full; nothing is left behind),
  /// kPermissionDenied, kNotFound (no such folder), kIoError.
  [[nodiscard]] Result<HotSetSaved> SaveHotSet(const std::string& path,
                                               const HotSetSaveOptions& options = {}) const;

  /// Checks the hot set at `path` and has a thread of its own load it into the DRAM cache
  /// while lookups go on. Returns when that has begun; HotSet() tells how far it has come,
  /// WaitForHotSet() waits, the store's destructor stops it.
  ///
  /// Free memory of the cache is filled, nothing is evicted; a twentieth of it is left to
  /// lookups. Each block is checked before anything of it is used: a damaged one is left
  /// out, the others are loaded, and the load ends as kFailed. Takes up to 48 MB beside
  /// the budget until it ends.
  ///
  /// Errors: as InspectHotSet(); kInvalidArgument also: of another table or shard (the message
  /// says in what they differ), an image of tables whose files were changed since (its keys can
  /// still be loaded), a share out of range; kUnavailable (a load is under way).
  [[nodiscard]] Status LoadHotSet(const std::string& path, const HotSetLoadOptions& options = {});

  [[nodiscard]] HotSetProgress HotSet() const;
  /// Blocks until the last load has ended. Errors: kCorruption (a damaged block was left
  /// out), kIoError (rows or blocks could not be read), kCancelled, as HotSet() says.
  [[nodiscard]] Status WaitForHotSet();
  /// Stops a load that is under way and waits until it has ended. What was loaded stays.
  void CancelHotSet();

  /// The descriptor of the memory that the DRAM cache lies in, for other processes of this
  /// machine to read it (shared_cache.h): to be handed over by fork(2), SCM_RIGHTS, or as
  /// /proc/PID/fd/N. It stays the store's, and what was handed over stays good after the
  /// store. A child of fork(2) must not use the store itself: it has no part in that memory
  /// but by the descriptor.
  /// Errors: kUnavailable (the store was not opened with StoreOptions::memory.shared).
  [[nodiscard]] Result<int> ShareCache() const;

  /// Counts a use of each group that is in the DRAM cache, as a lookup would: for what other
  /// processes found there, which the store does not see. Fetches nothing.
  ///
  ///   mixes  shape [t, orders], as Hasher::Mixes() gives them; group keys will do as well.
  ///
  /// Returns how many are there. Errors: kNotFound (a layer that is not served),
  /// kInvalidArgument (not whole tokens).
  Result<std::uint64_t> Touch(std::uint32_t layer_id, std::span<const std::uint64_t> mixes);

  /// The checkpoint as InspectCheckpoint() tells it, whole tables and files; but its recipe
  /// is that of StoreOptions::shard (see ShardRecipe()): recipe.column_count() are the
  /// columns of an output.
  [[nodiscard]] const CheckpointInfo& checkpoint() const noexcept;
  /// Of that recipe: the row ids of this rank's columns, in the order of an output.
  [[nodiscard]] const Hasher& hasher() const noexcept;
  [[nodiscard]] StoreStats Stats() const;
  /// The counters, the memory and a histogram of the reads' latency as Prometheus text
  /// (exposition format 0.0.4): what a scrape of /metrics is answered with. docs/cli.md
  /// lists the names.
  [[nodiscard]] std::string WriteMetrics() const;

  struct Impl;  ///< The library's own; its header is not installed.
  explicit Store(std::unique_ptr<Impl> impl) noexcept;

 private:
  friend struct StoreAccess;  // The library's own, as Impl is.
  std::unique_ptr<Impl> impl_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_H_
