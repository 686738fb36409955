#ifndef TIERCEL_STORE_PROBE_H_
#define TIERCEL_STORE_PROBE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "cache/group_cache.h"
#include "store/batch.h"
#include "tiercel/status.h"
#include "tiercel/store.h"
#include "tiercel/types.h"

// The steps that a lookup and a ticket share, window by window. In the order in which
// they happen: CheckOutput, FillWindow, ProbeTokens or ProbeRows,
// Batch::Publish, Launch.

namespace tiercel {

/// Memory of whoever looks for groups; kept to save allocations.
struct ProbeScratch {
  std::vector<std::uint64_t> mixes;
  std::vector<std::uint8_t> dead;
  std::vector<TokenRun> slices;
  std::vector<Batch::Probe> probes;
  std::vector<GroupTarget> targets;
  std::vector<std::uint32_t> spaces;  ///< Of each target.
  std::vector<std::uint8_t> hits;
  std::vector<std::byte> groups;  ///< Stored groups, before they are dequantised.
};

/// Things to reuse, as many as were ever in use at once: batches, scratches.
///
/// Threading: all methods may run concurrently.
template <typename T>
class Pool {
 public:
  /// What was given back last is what is lent next: its memory is likely in a cache.
  [[nodiscard]] T* Acquire() TIERCEL_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    if (free_.empty()) {
      all_.push_back(std::make_unique<T>());
      free_.reserve(all_.size());
      return all_.back().get();
    }
    T* const item = free_.back();
    free_.pop_back();
    return item;
  }
  void Release(T* item) TIERCEL_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    free_.push_back(item);  // Does not allocate: there is room for all.
  }

 private:
  Mutex mutex_;
  std::vector<std::unique_ptr<T>> all_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<T*> free_ TIERCEL_GUARDED_BY(mutex_);
};

/// Something of a pool's, for a scope.
template <typename T>
class Lease {
 public:
  explicit Lease(Pool<T>& pool) : pool_(&pool), item_(pool.Acquire()) {}
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease() { pool_->Release(item_); }
  T& operator*() const noexcept { return *item_; }
  T* operator->() const noexcept { return item_; }

 private:
  Pool<T>* pool_;
  T* item_;
};

/// Where rows go that a caller gave or the staging has.
struct OutputPlace {
  std::uint32_t layer_id = 0;
  std::span<std::byte> rows;
  std::size_t row_stride_bytes = 0;  ///< 0: rows touch.
  std::span<RowStatus> row_status;
  bool status_wanted = true;  ///< False: an empty row_status is good.
};

/// Checks an output against `row_count` rows and says where its rows go.
/// Errors: kNotFound (not a served layer), kInvalidArgument (a length, a stride, an
/// alignment; the message names the layer and both figures).
[[nodiscard]] Result<BatchLayer> CheckOutput(const Store::Impl& store, const OutputPlace& output,
                                             std::uint64_t row_count, RowOutput format);

/// A slice of a run is at least this long, unless the run itself is shorter: then
/// the tokens before a slice are history enough for any order (order_max <= 8).
inline constexpr std::size_t kSliceTokensMin = 8;

/// Where a walk over token runs has come to.
struct RunCursor {
  std::size_t run = 0;
  std::size_t token = 0;          ///< Of that run.
  std::uint64_t token_count = 0;  ///< Of all runs, that were cut off so far.
};

/// Cuts the next window of at most `tokens_max` tokens off `runs` into `slices`.
/// REQUIRES: tokens_max >= kSliceTokensMin. Takes more than 0 while there are any.
void FillWindow(std::span<const TokenRun> runs, std::size_t tokens_max, RunCursor& cursor,
                std::vector<TokenRun>& slices);

/// Hashes scratch.slices for every layer of the batch, copies what is cached and notes
/// waiters for the rest. The rows of the first token go to output token `first_token`.
/// Errors: as Hasher::Mixes().
[[nodiscard]] Status ProbeTokens(Store::Impl& store, Batch& batch, ProbeScratch& scratch,
                                 std::uint64_t first_token);

/// Finds the groups among `rows`, copies what is cached and notes waiters for the
/// rest; rows outside of a group wait one by one. Stops at `groups_max` of both:
/// returns how many rows it took. The batch has one layer.
///   row_index  of the first row in the output.
[[nodiscard]] std::size_t ProbeRows(Store::Impl& store, Batch& batch, ProbeScratch& scratch,
                                    std::span<const RowId> rows, std::uint64_t row_index,
                                    std::size_t groups_max);

/// Queues a fetch for each waiter of the batch that has none yet, or joins one. Where
/// the owner's share of the fetch table is used up it blocks, or, unless `may_block`,
/// stops. Returns whether all are queued. REQUIRES: Batch::Publish() was called.
bool Launch(Store::Impl& store, Batch& batch, FetchOwner owner, bool may_block);

/// What a batch's failed rows make of it.
[[nodiscard]] Status Outcome(std::uint64_t failed_row_count, std::uint64_t row_count);

}  // namespace tiercel

#endif  // TIERCEL_STORE_PROBE_H_
