#ifndef TIERCEL_STORE_HOT_SET_LOADER_H_
#define TIERCEL_STORE_HOT_SET_LOADER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "cache/group_cache.h"
#include "cache/hot_set_coding.h"
#include "io/device.h"
#include "store/overlay.h"
#include "store/row_locator.h"
#include "store/space.h"
#include "tiercel/checkpoint.h"
#include "tiercel/hasher.h"
#include "tiercel/hot_set.h"
#include "tiercel/status.h"

namespace tiercel {

/// What a loader works with. All of it outlives the loader.
struct HotSetContext {
  const CheckpointInfo& checkpoint;
  const Layout& layout;
  const Hasher& hasher;
  const RowLocator& locator;
  GroupCache& cache;
  Overlay* overlay = nullptr;  ///< Null: no row was updated.
  /// Opens files for large reads: the store's own way of reading.
  std::function<Result<OpenedDevice>(const std::vector<std::string>&, const DeviceOptions&)> open;
  std::uint32_t read_attempts_max = 3;
};

/// Counters of a load. Threading: the loader adds, anyone reads.
struct HotSetCounts {
  std::atomic<std::uint64_t> loaded{0};
  std::atomic<std::uint64_t> present{0};
  std::atomic<std::uint64_t> left_out{0};
  std::atomic<std::uint64_t> damaged_groups{0};
  std::atomic<std::uint64_t> damaged_blocks{0};
  std::atomic<std::uint64_t> read_bytes{0};
  std::atomic<std::uint64_t> total_bytes{0};
};

/// Loads one hot set on a thread of its own, and the rows of keys with a few more, while the
/// store serves.
///
/// An image goes block by block from the file to the cache. Keys alone take two steps: the
/// file is read once, and each key is written to a free slot of the cache, which needs no
/// memory besides; then HotRows (hot_rows.h) fills the slots, space by space, in disk
/// order.
///
/// Invariant: a slot that the loader has taken is published, or given back, before its
/// thread ends, however it ends.
///
/// Threading: all methods may run concurrently. The destructor stops the thread.
class HotSetLoader {
 public:
  /// Starts to load the file at `path`, whose header was checked.
  /// Errors: as OpenDevice().
  [[nodiscard]] static Result<std::unique_ptr<HotSetLoader>> Start(
      const HotSetContext& context, const std::string& path, HotSetHeader header,
      const HotSetLoadOptions& options);
  HotSetLoader(const HotSetLoader&) = delete;
  HotSetLoader& operator=(const HotSetLoader&) = delete;
  ~HotSetLoader();

  [[nodiscard]] HotSetProgress Progress() const TIERCEL_EXCLUDES(mutex_);
  /// Blocks until the load has ended; its outcome.
  [[nodiscard]] Status Wait() TIERCEL_EXCLUDES(mutex_);
  void Stop() noexcept { stop_.store(true, std::memory_order_relaxed); }

 private:
  HotSetLoader(const HotSetContext& context, std::string path, HotSetHeader header,
               const HotSetLoadOptions& options, OpenedDevice file);

  void Run() noexcept;
  [[nodiscard]] Status Load();
  void TakeBlock(std::uint64_t index, std::span<const std::byte> block);
  HotOutcome TakeImage(const HotGroupId& id, std::span<const std::byte> bytes, bool pin);
  HotOutcome TakeKey(const HotGroupId& id, bool pin);
  void GiveBack(std::uint32_t space) noexcept;
  void Refuse(Status status) TIERCEL_EXCLUDES(mutex_);

  const HotSetContext context_;
  const std::string path_;
  const HotSetHeader header_;
  const bool use_bytes_;
  OpenedDevice file_;
  std::vector<std::uint32_t> space_of_;  ///< Of the store, for each of the file's; kNoSpace.
  std::vector<HotSlot> chains_;          ///< Keys: the last slot taken, for each space.
  std::uint64_t pins_left_ = 0;
  std::uint64_t groups_seen_ = 0;
  bool full_ = false;  ///< The last block found no room at all.
  HotSetCounts counts_;
  const std::uint64_t begun_ns_;
  std::vector<HotGroup> groups_;  ///< Of one block.

  std::atomic<bool> stop_ = false;
  mutable Mutex mutex_;
  CondVar ended_;
  HotSetState state_ TIERCEL_GUARDED_BY(mutex_) = HotSetState::kLoading;
  std::uint64_t elapsed_ns_ TIERCEL_GUARDED_BY(mutex_) = 0;
  StatusCode failure_ TIERCEL_GUARDED_BY(mutex_) = StatusCode::kOk;
  std::string message_ TIERCEL_GUARDED_BY(mutex_);
  std::thread thread_;  // Last: starts when all else is there.
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_HOT_SET_LOADER_H_
