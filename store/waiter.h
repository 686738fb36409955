#ifndef TIERCEL_STORE_WAITER_H_
#define TIERCEL_STORE_WAITER_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace tiercel {

class Batch;
struct Fetch;

/// Deadlines from here on are those of the background: its reads are made with what the
/// others leave. The rest is a time of MonotonicNs(), as in any deadline.
inline constexpr std::uint64_t kBackgroundDeadlineNs = std::uint64_t{1} << 63;

/// A place in a batch that waits for a fetch. Owned by its batch; linked into the
/// fetch's list while it waits, under the table's mutex.
struct Waiter {
  Batch* batch = nullptr;
  std::uint32_t layer_slot = 0;  ///< Into the batch's layers.
  std::uint32_t space = 0;
  std::uint64_t key = 0;
  std::uint64_t row_index = 0;    ///< First output row of that layer.
  std::uint64_t deadline_ns = 0;  ///< When the rows are needed.
  bool joined = false;            ///< Set by Add(): the fetch was there already.

  Fetch* fetch = nullptr;  ///< Null when it waits no more.
  Waiter* previous = nullptr;
  Waiter* next = nullptr;
};

/// Waiters side by side: they must not move while they wait.
struct WaiterChunk {
  static constexpr std::uint32_t kCapacity = 64;
  WaiterChunk* next = nullptr;
  std::uint32_t count = 0;
  std::array<Waiter, kCapacity> waiters;
};

/// Chunks to reuse: as many as were ever promised, or in use, at once.
///
/// Threading: all methods may run concurrently.
class WaiterPool {
 public:
  [[nodiscard]] WaiterChunk* Get() TIERCEL_EXCLUDES(mutex_);
  /// Takes a list of chunks back.
  void Put(WaiterChunk* first) TIERCEL_EXCLUDES(mutex_);
  /// Makes chunks until `count` of them are free, so that so many take no memory now.
  void Reserve(std::size_t count) TIERCEL_EXCLUDES(mutex_);

 private:
  static constexpr std::size_t kBlockChunks = 16;
  void Grow(std::size_t count) TIERCEL_REQUIRES(mutex_);

  Mutex mutex_;
  std::vector<std::unique_ptr<WaiterChunk[]>> blocks_ TIERCEL_GUARDED_BY(mutex_);
  WaiterChunk* free_ TIERCEL_GUARDED_BY(mutex_) = nullptr;
  std::size_t free_count_ TIERCEL_GUARDED_BY(mutex_) = 0;
};

/// The waiters of a batch, in the order in which they were added.
class WaiterList {
 public:
  WaiterList() noexcept = default;
  WaiterList(const WaiterList&) = delete;
  WaiterList& operator=(const WaiterList&) = delete;
  ~WaiterList() { Clear(); }

  /// Empties the list; chunks come from `pool` from now on.
  void Reset(WaiterPool& pool) noexcept;
  void Add(const Waiter& waiter);
  void Clear() noexcept;

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

  /// Calls visit(std::span<Waiter>) for each piece of the list, in order, from the
  /// waiter `first` on, until it returns false.
  template <typename Visit>
  void ForEachSpan(std::size_t first, Visit&& visit) {
    for (WaiterChunk* chunk = first_; chunk != nullptr; chunk = chunk->next) {
      const std::size_t skipped = std::min<std::size_t>(first, chunk->count);
      first -= skipped;
      if (skipped == chunk->count) continue;
      if (!visit(std::span(chunk->waiters).subspan(skipped, chunk->count - skipped))) return;
    }
  }

 private:
  WaiterPool* pool_ = nullptr;
  WaiterChunk* first_ = nullptr;
  WaiterChunk* last_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_WAITER_H_
