#ifndef TIERCEL_STORE_STORE_IMPL_H_
#define TIERCEL_STORE_STORE_IMPL_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "cache/group_cache.h"
#include "io/device.h"
#include "store/apply_profile.h"
#include "store/batch.h"
#include "store/counters.h"
#include "store/fetch_table.h"
#include "store/hot_set_loader.h"
#include "store/io_thread.h"
#include "store/memory_plan.h"
#include "store/row_locator.h"
#include "store/space.h"
#include "tiercel/store.h"

namespace tiercel {

using OpenDeviceFunction =
    std::function<Result<OpenedDevice>(const std::vector<std::string>&, const DeviceOptions&)>;

/// All that a store is made of, in the order in which it may be taken down: I/O threads
/// and the loader of a hot set (last members, first to go) use everything above them.
struct Store::Impl {
  Impl(CheckpointInfo checkpoint_info, Hasher row_hasher, Layout served)
      : checkpoint(std::move(checkpoint_info)),
        hasher(std::move(row_hasher)),
        layout(std::move(served)),
        locator(checkpoint, layout),
        counters(layout.spaces.size()) {}

  CheckpointInfo checkpoint;
  Hasher hasher;
  Layout layout;
  RowLocator locator;
  Counters counters;
  MemoryPlan plan;
  std::uint32_t queue_depth = 0;
  std::string disk_profile;  ///< For reports: ReadSettings::profile_paths.
  OpenedDevice opened;
  std::unique_ptr<FetchTable> fetches;
  std::unique_ptr<GroupCache> cache;
  BatchPool batches;
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

  /// Index into Layout::layers. Errors: kNotFound.
  [[nodiscard]] Result<std::uint32_t> FindLayer(std::uint32_t layer_id) const;
};

/// Opens the store on a device of the caller's: how tests put faults under it. Looks for
/// no profile in anybody's home; `profile_paths` is where the options have theirs from.
/// `open_device` is kept, to open hot sets with. Errors: as Store::Open.
[[nodiscard]] Result<std::unique_ptr<Store>> OpenStoreOn(CheckpointInfo checkpoint,
                                                         const StoreOptions& options,
                                                         const OpenDeviceFunction& open_device,
                                                         std::string profile_paths = "");

}  // namespace tiercel

#endif  // TIERCEL_STORE_STORE_IMPL_H_
