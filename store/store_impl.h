#ifndef TIERCEL_STORE_STORE_IMPL_H_
#define TIERCEL_STORE_STORE_IMPL_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/mutex.h"
#include "cache/group_cache.h"
#include "io/device.h"
#include "store/apply_profile.h"
#include "store/batch.h"
#include "store/checksum_sidecar.h"
#include "store/counters.h"
#include "store/credits.h"
#include "store/fetch_table.h"
#include "store/hot_set_loader.h"
#include "store/io_thread.h"
#include "store/memory_plan.h"
#include "store/overlay.h"
#include "store/prefetcher.h"
#include "store/probe.h"
#include "store/row_locator.h"
#include "store/space.h"
#include "store/state_catalogue.h"
#include "store/ticket_table.h"
#include "store/waiter.h"
#include "tiercel/shared_slab.h"
#include "tiercel/store.h"

namespace tiercel {

/// For parts of the library that work on an open store and are no method of it.
struct StoreAccess {
  [[nodiscard]] static Store::Impl& ImplOf(Store& store) noexcept { return *store.impl_; }
};

using OpenDeviceFunction =
    std::function<Result<OpenedDevice>(const std::vector<std::string>&, const DeviceOptions&)>;

/// All that a store is made of, in the order in which it may be taken down: I/O threads
/// and the loader of a hot set (last members, first to go) use everything above them.
struct Store::Impl {
  Impl(CheckpointInfo checkpoint_info, Hasher row_hasher, Layout served);
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  /// Cancels the tickets that are about, then ends the threads.
  ~Impl();

  CheckpointInfo checkpoint;
  Hasher hasher;
  Layout layout;
  std::optional<ChecksumSidecar> checksums;
  FileDescriptor generation_lock;  ///< Of a packed table: see generation_lock.h.
  RowLocator locator;
  Counters counters;
  MemoryPlan plan;  ///< Set before what follows is made.
  std::uint32_t queue_depth = 0;
  std::string disk_profile;  ///< For reports: ReadSettings::profile_paths.
  OpenedDevice opened;
  std::unique_ptr<FetchTable> fetches;
  SharedSlab cache_memory;  ///< That the cache lies in; empty where it has its own.
  std::unique_ptr<GroupCache> cache;
  std::unique_ptr<Overlay> overlay;  ///< Null: no state is open. update.cc.
  WaiterPool waiters;
  Pool<Batch> batches;
  Pool<ProbeScratch> scratches;
  std::shared_ptr<Ticket::Table> tickets;  ///< Shared with the tickets that are about.
  PrefetchLimits prefetch_limits;
  Credits urgent_credits;  ///< Of waiters of tickets, by class.
  Credits background_credits;
  /// Tokens of tickets that were ever noted as known: the clock of GroupCache::Expect().
  std::atomic<std::uint64_t> queued_tokens = 0;
  std::unique_ptr<Prefetcher> prefetcher;
  std::optional<IoContext> io_context;
  std::vector<std::unique_ptr<IoThread>> io_threads;
  OpenDeviceFunction open_device;  ///< For hot sets: as the store's own was opened.
  std::uint32_t read_attempts_max = 0;
  Mutex hot_set_mutex;
  /// The last load. Shared, since one may wait for it while another begins the next.
  std::shared_ptr<HotSetLoader> hot_set TIERCEL_GUARDED_BY(hot_set_mutex);

  // ---- lookup.cc: the life of a batch -------------------------------------------
  Status Lookup(std::span<const TokenRun> runs, std::span<const LayerOutput> outputs,
                RowOutput format);
  Status LookupRows(std::span<const RowId> rows, const LayerOutput& output, RowOutput format);

  // ---- start.cc: the life of a ticket ---------------------------------------------
  Result<Ticket> Start(std::span<const TokenRun> runs, std::span<const RowId> rows,
                       std::span<const PrefetchLayer> layers, const PrefetchOptions& options);

  // ---- base_rows.cc: rows as the tables' files have them -----------------------------
  /// A row, and where it goes.
  struct BaseRow {
    RowId row{};
    std::uint64_t row_index = 0;  ///< Of the output.
  };
  /// Writes rows without their updates to the layer's output. Blocks. Failed ones are marked
  /// and zero. REQUIRES: they are rows of the table; the output was checked.
  void LookupBase(std::span<const BaseRow> rows, const BatchLayer& output, RowOutput format);

  /// Bytes of one row in an output.
  [[nodiscard]] std::uint32_t OutputRowSizeBytes(std::uint32_t layer_index,
                                                 RowOutput format) const noexcept {
    const ServedLayer& served = layout.layers[layer_index];
    return format == RowOutput::kStored ? served.row_size_bytes
                                        : served.shape.value_count * std::uint32_t{2};
  }
  /// Index into Layout::layers. Errors: kNotFound.
  [[nodiscard]] Result<std::uint32_t> FindLayer(std::uint32_t layer_id) const;
};

/// Opens the state of the table where there is one, or is to be one: sets impl.overlay and
/// its part of the plan. `catalogue` is that of the whole table. Errors: as Store::Open.
[[nodiscard]] Status OpenOverlay(Store::Impl& impl, const StoreOptions& options,
                                 const StateCatalogue& catalogue,
                                 const std::function<void(std::string_view)>& log);
/// Checksums of rows as the tables' files have them; a row that cannot be had is left out.
[[nodiscard]] std::vector<StateSample> ReadSamples(Store::Impl& impl,
                                                   const std::vector<StateSample>& wanted);
/// Compares the table's rows with what the state has noted of them, or notes them in a new
/// state. After the I/O threads have started. Errors: as Store::Open.
[[nodiscard]] Status CheckOverlay(Store::Impl& impl, StateCatalogue catalogue);

/// Opens the store on a device of the caller's: how tests put faults under it. Looks for
/// no profile in anybody's home; `profile_paths` is where the options have theirs from.
/// `open_device` is kept, to open hot sets with. Errors: as Store::Open.
[[nodiscard]] Result<std::unique_ptr<Store>> OpenStoreOn(CheckpointInfo checkpoint,
                                                         const StoreOptions& options,
                                                         const OpenDeviceFunction& open_device,
                                                         std::string profile_paths = "");

}  // namespace tiercel

#endif  // TIERCEL_STORE_STORE_IMPL_H_
