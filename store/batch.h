#ifndef TIERCEL_STORE_BATCH_H_
#define TIERCEL_STORE_BATCH_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "cache/group_cache.h"
#include "store/fetch_table.h"
#include "store/space.h"
#include "tiercel/store.h"
#include "tiercel/types.h"

namespace tiercel {

/// Where one layer's rows of a batch go.
struct BatchLayer {
  std::uint32_t layer_index = 0;    ///< Into Layout::layers.
  std::span<std::byte> rows;        ///< Shape [n, output_row_size_bytes].
  std::span<RowStatus> row_status;  ///< Shape [n].
  std::uint32_t output_row_size_bytes = 0;
};

/// A lookup that was started and may still wait for rows: its destinations, and the
/// waiters that stand in the fetch table for it.
///
/// Life: prepared and started by one thread, delivered to by I/O threads, waited
/// for (or cancelled) by one thread, which then hands it back to its pool. Batches
/// live as long as the pool, so a late notification finds memory that is still a
/// batch.
///
/// Invariant: pending_ of a layer is the number of its waiters that are neither
/// delivered to nor withdrawn. Destinations are written only while it is above
/// zero, and only for waiters that were taken out of the table.
class Batch {
 public:
  /// Begins anew, with no layers. Keeps the memory of earlier use.
  void Reset(const Layout& layout, RowOutput format);
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
  [[nodiscard]] std::span<Waiter> waiters() noexcept { return waiters_; }
  [[nodiscard]] std::span<const BatchLayer> layers() const noexcept { return layers_; }

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

  /// Rows marked neither kOk nor kDead so far. Final once waited for.
  [[nodiscard]] std::uint64_t failed_row_count() const noexcept {
    return failed_row_count_.load(std::memory_order_relaxed);
  }

  /// Scratch of the thread that prepares the batch; kept to save allocations.
  struct Scratch {
    std::vector<std::uint64_t> mixes;
    std::vector<std::uint8_t> dead;
    std::vector<TokenRun> slices;
    std::vector<Probe> probes;
    std::vector<GroupTarget> targets;
    std::vector<std::uint32_t> spaces;  ///< Of each target.
    std::vector<std::uint8_t> hits;
    std::vector<std::byte> groups;  ///< Stored groups, before they are dequantised.
  };
  [[nodiscard]] Scratch& scratch() noexcept { return scratch_; }

 private:
  void Finished(std::uint32_t layer_slot, std::uint32_t waiter_count) noexcept;

  Scratch scratch_;
  const Layout* layout_ = nullptr;
  RowOutput format_ = RowOutput::kStored;
  std::vector<BatchLayer> layers_;
  std::vector<Waiter> waiters_;
  std::deque<std::atomic<std::uint32_t>> pending_;  ///< One a layer slot; never shrinks.
  std::atomic<std::uint64_t> failed_row_count_ = 0;
  Mutex mutex_;  ///< Only for sleeping: pending_ changes without it.
  CondVar done_;
};

/// Batches to reuse. As many as were ever in use at once.
///
/// Threading: all methods may run concurrently.
class BatchPool {
 public:
  [[nodiscard]] Batch* Acquire() TIERCEL_EXCLUDES(mutex_);
  /// REQUIRES: nothing of the batch is pending.
  void Release(Batch* batch) TIERCEL_EXCLUDES(mutex_);

 private:
  Mutex mutex_;
  std::vector<std::unique_ptr<Batch>> all_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<Batch*> free_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_BATCH_H_
