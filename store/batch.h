#ifndef TIERCEL_STORE_BATCH_H_
#define TIERCEL_STORE_BATCH_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "base/copy_bytes.h"
#include "base/mutex.h"
#include "store/fetch_table.h"
#include "store/space.h"
#include "store/waiter.h"
#include "tiercel/store.h"
#include "tiercel/types.h"

namespace tiercel {

/// Where one layer's rows of a batch go, and when they are needed.
struct BatchLayer {
  std::uint32_t layer_index = 0;    ///< Into Layout::layers.
  std::byte* rows = nullptr;        ///< Shape [n] of rows, a stride apart.
  RowStatus* row_status = nullptr;  ///< Shape [n]. Null: not wanted.
  std::uint32_t output_row_size_bytes = 0;
  std::size_t row_stride_bytes = 0;
  std::uint64_t output_bytes = 0;  ///< Of all rows, strides left out.
  std::uint64_t deadline_ns = 0;   ///< Of its waiters.
  bool keep_out = false;           ///< Of its waiters: CacheUse::kKeepOut.

  [[nodiscard]] std::byte* Row(std::uint64_t row_index) const noexcept {
    return rows + row_index * row_stride_bytes;
  }
  /// Whether a row begins where the one before ends.
  [[nodiscard]] bool rows_touch() const noexcept {
    return row_stride_bytes == output_row_size_bytes;
  }
};

/// What became of the groups of a layer of a batch.
struct LayerCounts {
  std::uint64_t groups = 0;  ///< Single rows too.
  std::uint64_t dram_hits = 0;
  std::uint64_t joined = 0;
  std::uint64_t fetches = 0;
  std::uint32_t waiters = 0;
};

/// Hears of the layers of a batch.
class BatchObserver {
 public:
  /// The last waiter of a layer was delivered to or withdrawn. On whichever thread did
  /// that; the batch makes no more use of the observer for that layer.
  virtual void OnLayerInPlace(std::uint32_t layer_slot) noexcept = 0;

 protected:
  ~BatchObserver() = default;
};

/// A lookup that was started and may still wait for rows: its destinations, and the
/// waiters that stand in the fetch table for it.
///
/// Life: prepared and started by one thread, delivered to by I/O threads, waited
/// for (or cancelled) by one thread, which may then Reset() it. Whoever owns batches
/// keeps them until the I/O threads have ended, so a late notification finds memory that
/// is still a batch.
///
/// Invariant: `pending` of a layer is the number of its waiters that are neither
/// delivered to nor withdrawn. Destinations are written only while it is above
/// zero, and only for waiters that were taken out of the table.
class Batch {
 public:
  /// Begins anew, with no layers. Keeps the memory of earlier use.
  ///   observer  Hears of each layer that has waiters. May be null.
  void Reset(const Layout& layout, RowOutput format, WaiterPool& waiters,
             BatchObserver* observer = nullptr);
  /// Takes memory for so many layers, so that none is taken later.
  void Reserve(std::size_t layer_count);
  /// Adds an output; its layer slot is the number of those before it.
  void AddLayer(const BatchLayer& layer);

  /// A group or single row that is looked for.
  struct Probe {
    std::uint32_t space = 0;
    std::uint32_t layer_slot = 0;
    std::uint64_t key = 0;
    std::uint64_t row_index = 0;  ///< First output row.
  };
  /// Notes a place to wait at. Called before Publish().
  void AddWaiter(const Probe& probe);
  /// Counts the noted waiters as pending: from here on they may be delivered to.
  void Publish();
  [[nodiscard]] WaiterList& waiters() noexcept { return waiters_; }
  [[nodiscard]] LayerCounts& counts(std::uint32_t layer_slot) noexcept {
    return counts_[layer_slot];
  }
  /// How many waiters stand, or stood, in the fetch table: the first ones. Kept by whoever
  /// puts them there; Cancel() goes by it.
  std::size_t launched = 0;
  [[nodiscard]] std::span<const BatchLayer> layers() const noexcept { return layers_; }
  [[nodiscard]] RowOutput format() const noexcept { return format_; }
  /// What suits the outputs of all layers together.
  [[nodiscard]] CopyStores stores() const noexcept { return StoresForOutput(output_bytes_); }

  /// Writes rows that are already here (the copy of a hit) to the outputs.
  ///   bytes  shape [rows of the space], stored rows.
  void Write(std::uint32_t layer_slot, const Space& space, std::uint64_t row_index,
             std::span<const std::byte> bytes) noexcept;
  /// Marks rows whose bytes are in the outputs already.
  void MarkOk(std::uint32_t layer_slot, std::uint64_t row_index, std::uint32_t row_count) noexcept;
  /// Zeroes `row_count` rows and marks them.
  void WriteFailed(std::uint32_t layer_slot, std::uint64_t row_index, std::uint32_t row_count,
                   RowStatus status) noexcept;

  /// Delivers a finished fetch to `waiter` and ends its wait: on an I/O thread.
  ///   bytes     shape [rows of the space], stored rows.
  ///   statuses  shape [rows of the space].
  void Deliver(const Waiter& waiter, const Space& space, std::span<const std::byte> bytes,
               std::span<const RowStatus> statuses) noexcept;

  /// Blocks until the layer's rows are all in place.
  void Wait(std::uint32_t layer_slot) noexcept;
  void WaitAll() noexcept;
  /// Whether nothing is waited for.
  [[nodiscard]] bool done() const noexcept;
  /// Takes all waiters off `table` and blocks until deliveries under way have
  /// ended: after it nothing is written to the outputs any more.
  void Cancel(FetchTable& table) noexcept;

  /// Rows of a layer marked neither kOk nor kDead so far. Final once waited for.
  [[nodiscard]] std::uint64_t failed_row_count(std::uint32_t layer_slot) const noexcept {
    return progress_[layer_slot].failed_rows.load(std::memory_order_relaxed);
  }
  /// Of all layers.
  [[nodiscard]] std::uint64_t failed_row_count() const noexcept;

 private:
  void Finished(std::uint32_t layer_slot, std::uint32_t waiter_count) noexcept;

  const Layout* layout_ = nullptr;
  RowOutput format_ = RowOutput::kStored;
  BatchObserver* observer_ = nullptr;
  std::uint64_t output_bytes_ = 0;
  std::vector<BatchLayer> layers_;
  WaiterList waiters_;
  std::vector<LayerCounts> counts_;  ///< One a layer slot.
  struct Progress {
    std::atomic<std::uint32_t> pending = 0;
    std::atomic<std::uint64_t> failed_rows = 0;
  };
  std::deque<Progress> progress_;  ///< One a layer slot; never shrinks.
  Mutex mutex_;                    ///< Only for sleeping: `pending` changes without it.
  CondVar done_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_BATCH_H_
