#ifndef TIERCEL_STORE_FETCH_TABLE_H_
#define TIERCEL_STORE_FETCH_TABLE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/mutex.h"

namespace tiercel {

class Batch;
struct Fetch;

/// A place in a batch that waits for a fetch. Owned by its batch; linked into the
/// fetch's list while it waits, under the table's mutex.
struct Waiter {
  Batch* batch = nullptr;
  std::uint32_t layer_slot = 0;  ///< Into the batch's layers.
  std::uint32_t space = 0;
  std::uint64_t key = 0;
  std::uint64_t row_index = 0;  ///< First output row of that layer.
  bool joined = false;          ///< Set by Add(): the fetch was there already.

  Fetch* fetch = nullptr;  ///< Null when it waits no more.
  Waiter* previous = nullptr;
  Waiter* next = nullptr;
};

/// A group (or single row) on its way from disk, for everyone who waits for it.
/// Made by Add(), taken by one I/O thread, ended by Finish(), Withdraw() or the
/// table's end.
struct Fetch {
  std::uint32_t space = 0;
  std::uint64_t key = 0;
  std::uint64_t deadline_ns = 0;  ///< Earliest of its waiters'.
  std::uint64_t sequence = 0;     ///< Breaks ties: first come, first served.
  std::uint32_t heap_index = 0;   ///< Place in the queue; kTaken once an I/O thread has it.
  Waiter* waiters = nullptr;
  Fetch* chain = nullptr;  ///< Next in the hash bucket, or in the free list.
};

/// The groups that are queued or being read: each at most once, however many wait
/// for it (single flight), handed to I/O threads by earliest deadline.
///
/// Bounded: Add() blocks while `capacity` fetches are there.
///
/// Invariants, under mutex_: a fetch is in exactly one bucket chain while it lives;
/// it is in the heap until it is taken; a waiter is in the list of the fetch it
/// points to and in no other.
///
/// Threading: all methods may run concurrently. Allocates nothing after it was made.
class FetchTable {
 public:
  explicit FetchTable(std::uint32_t capacity);
  FetchTable(const FetchTable&) = delete;
  FetchTable& operator=(const FetchTable&) = delete;
  ~FetchTable();

  /// Memory that a table of `capacity` takes.
  [[nodiscard]] static std::uint64_t MemoryBytes(std::uint32_t capacity) noexcept;

  /// Queues a fetch for each waiter's (space, key), or joins the one that is there;
  /// an earlier deadline promotes it. A batch's layers come one after another: layer
  /// slot s has the deadline `deadline_ns` + s. The waiters stay where they are until they
  /// are delivered to or withdrawn. Blocks while the table is full.
  /// Returns the number of new fetches.
  ///   on_queued  on_queued(count) is called, without the lock, whenever `count` > 0 new
  ///              fetches were queued, to have the I/O threads start on them. The lock
  ///              is not held for long, so that they can.
  template <typename OnQueued>
  std::uint32_t Add(std::span<Waiter> waiters, std::uint64_t deadline_ns, OnQueued&& on_queued)
      TIERCEL_EXCLUDES(mutex_) {
    std::uint32_t created = 0;
    while (!waiters.empty()) {
      const std::span<Waiter> some = waiters.first(std::min(waiters.size(), kAddedAtOnce));
      std::uint32_t created_now = 0;
      const std::size_t done = AddSome(some, deadline_ns, created_now);
      if (created_now > 0) on_queued(created_now);
      if (done < some.size()) WaitForRoom();
      created += created_now;
      waiters = waiters.subspan(done);
    }
    return created;
  }

  /// The queued fetch with the earliest deadline, now the caller's to read; null if
  /// none is queued.
  [[nodiscard]] Fetch* Take() TIERCEL_EXCLUDES(mutex_);

  /// Ends a taken fetch: nobody can join or withdraw from it any more. Returns its
  /// waiters, linked by `next`; the caller delivers to each (after reading `next`:
  /// a batch may end at its last delivery).
  [[nodiscard]] Waiter* Finish(Fetch* fetch) TIERCEL_EXCLUDES(mutex_);

  /// Takes those of `waiters` that still wait off their fetches; a queued fetch that
  /// nobody waits for any more is dropped. Returns how many: the others have been
  /// delivered to, or are just being.
  std::uint32_t Withdraw(std::span<Waiter> waiters) TIERCEL_EXCLUDES(mutex_);

  [[nodiscard]] std::uint32_t queued_count() TIERCEL_EXCLUDES(mutex_);

 private:
  static constexpr std::uint32_t kTaken = ~std::uint32_t{0};
  /// Waiters added under one lock: 128 of them take about 15 us, in which a disk of
  /// 200,000 reads a second ends 3.
  static constexpr std::size_t kAddedAtOnce = 128;

  std::size_t AddSome(std::span<Waiter> waiters, std::uint64_t deadline_ns, std::uint32_t& created)
      TIERCEL_EXCLUDES(mutex_);
  void WaitForRoom() TIERCEL_EXCLUDES(mutex_);

  Fetch** BucketOf(std::uint32_t space, std::uint64_t key) TIERCEL_REQUIRES(mutex_);
  void Unchain(Fetch* fetch) TIERCEL_REQUIRES(mutex_);
  void Free(Fetch* fetch) TIERCEL_REQUIRES(mutex_);

  static bool Earlier(const Fetch& a, const Fetch& b) noexcept;
  void HeapPlace(std::uint32_t index, Fetch* fetch) TIERCEL_REQUIRES(mutex_);
  void HeapUp(std::uint32_t index) TIERCEL_REQUIRES(mutex_);
  void HeapDown(std::uint32_t index) TIERCEL_REQUIRES(mutex_);
  void HeapRemove(std::uint32_t index) TIERCEL_REQUIRES(mutex_);

  Mutex mutex_;
  CondVar room_;
  std::uint32_t sleepers_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::vector<Fetch> fetches_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<Fetch*> buckets_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<Fetch*> heap_ TIERCEL_GUARDED_BY(mutex_);
  Fetch* free_ TIERCEL_GUARDED_BY(mutex_) = nullptr;
  std::uint64_t sequence_ TIERCEL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_FETCH_TABLE_H_
