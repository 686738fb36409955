#ifndef TIERCEL_STORE_FETCH_TABLE_H_
#define TIERCEL_STORE_FETCH_TABLE_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "store/waiter.h"

namespace tiercel {

/// Who made a fetch. Each has a share of the table of its own, so that neither can keep
/// the other out.
enum class FetchOwner : std::uint8_t {
  kLookup,  ///< Blocks until there is room.
  kTicket,  ///< Bounded by the credits of tickets: there is nearly always room.
};

/// A group (or single row) on its way from disk, for everyone who waits for it.
/// Made by Add(), taken by one I/O thread, ended by Finish(), Withdraw() or the
/// table's end.
struct Fetch {
  std::uint32_t space = 0;
  std::uint64_t key = 0;
  std::uint64_t deadline_ns = 0;  ///< Earliest of its waiters'.
  std::uint64_t sequence = 0;     ///< Breaks ties: first come, first served.
  FetchOwner owner = FetchOwner::kLookup;
  std::uint32_t heap_index = 0;  ///< Place in the queue; kTaken once an I/O thread has it.
  bool made_kept_out = false;    ///< Its first waiter's keep_out. Does not change.
  bool kept_out = false;         ///< Nobody who ever joined it wants it in the cache.
  Waiter* waiters = nullptr;
  Fetch* chain = nullptr;  ///< Next in the hash bucket, or in the free list.
};

/// The groups that are queued or being read: each at most once, however many wait
/// for it (single flight), handed to I/O threads by earliest deadline.
///
/// Bounded: Add() blocks, TryAdd() stops, while the owner's share of fetches is there.
///
/// Invariants, under mutex_: a fetch is in exactly one bucket chain while it lives;
/// it is in the heap until it is taken; a waiter is in the list of the fetch it
/// points to and in no other.
///
/// Threading: all methods may run concurrently. Allocates nothing after it was made.
class FetchTable {
 public:
  /// Fetches at most: of lookups, of tickets.
  struct Capacity {
    std::uint32_t lookup_fetches = 1;
    std::uint32_t ticket_fetches = 0;
    [[nodiscard]] std::uint32_t total() const noexcept { return lookup_fetches + ticket_fetches; }
  };

  explicit FetchTable(Capacity capacity);
  FetchTable(const FetchTable&) = delete;
  FetchTable& operator=(const FetchTable&) = delete;
  ~FetchTable();

  /// Memory that a table of `capacity` takes.
  [[nodiscard]] static std::uint64_t MemoryBytes(Capacity capacity) noexcept;

  /// Queues a fetch for each waiter's (space, key), or joins the one that is there;
  /// an earlier deadline promotes it. The waiters stay where they are until they are
  /// delivered to or withdrawn. Blocks while the owner's share is used up.
  /// Returns the number of new fetches.
  ///   on_queued  on_queued(count) is called, without the lock, whenever `count` > 0 new
  ///              fetches were queued, to have the I/O threads start on them. The lock
  ///              is not held for long, so that they can.
  template <typename OnQueued>
  std::uint32_t Add(std::span<Waiter> waiters, FetchOwner owner, OnQueued&& on_queued)
      TIERCEL_EXCLUDES(mutex_) {
    std::uint32_t created = 0;
    while (!waiters.empty()) {
      waiters = waiters.subspan(TryAdd(waiters, owner, [&](std::uint32_t count) {
        created += count;
        on_queued(count);
      }));
      if (!waiters.empty()) WaitForRoom(owner);
    }
    return created;
  }

  /// As Add(), but stops where there is no room. Returns how many waiters stand in the
  /// table now: the first ones.
  template <typename OnQueued>
  std::size_t TryAdd(std::span<Waiter> waiters, FetchOwner owner, OnQueued&& on_queued)
      TIERCEL_EXCLUDES(mutex_) {
    std::size_t done = 0;
    while (done < waiters.size()) {
      const std::span<Waiter> some =
          waiters.subspan(done, std::min(waiters.size() - done, kAddedAtOnce));
      std::uint32_t created = 0;
      const std::size_t added = AddSome(some, owner, created);
      if (created > 0) on_queued(created);
      done += added;
      if (added < some.size()) break;
    }
    return done;
  }

  /// Gives the fetches of `waiters` that are queued still the deadline `deadline_ns`, where
  /// theirs is later. Holds the lock for as long as it takes: some 50 ns each.
  void Promote(std::span<Waiter> waiters, std::uint64_t deadline_ns) TIERCEL_EXCLUDES(mutex_);

  /// The queued fetch with the earliest deadline, now the caller's to read; null if
  /// none is queued.
  ///   background  whether one of the background will do.
  [[nodiscard]] Fetch* Take(bool background = true) TIERCEL_EXCLUDES(mutex_);

  /// Ends a taken fetch: nobody can join or withdraw from it any more. Returns its
  /// waiters, linked by `next`; the caller delivers to each (after reading `next`:
  /// a batch may end at its last delivery).
  [[nodiscard]] Waiter* Finish(Fetch* fetch) TIERCEL_EXCLUDES(mutex_);
  /// The same, of a fetch that nobody who ever joined it wants in the cache. Nothing, and the
  /// fetch goes on, where somebody does: who joins up to the end must find it there.
  [[nodiscard]] std::optional<Waiter*> FinishKeptOut(Fetch* fetch) TIERCEL_EXCLUDES(mutex_);

  /// Takes those of `waiters` that still wait off their fetches; a queued fetch that
  /// nobody waits for any more is dropped. Returns how many: the others have been
  /// delivered to, or are just being.
  std::uint32_t Withdraw(std::span<Waiter> waiters) TIERCEL_EXCLUDES(mutex_);

  [[nodiscard]] std::uint32_t queued_count() TIERCEL_EXCLUDES(mutex_);
  /// What comes first in the queue, by a look without the lock: a hint.
  enum class Front : std::uint8_t { kNothing, kBackground, kUrgent };
  [[nodiscard]] Front front() const noexcept { return front_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint32_t kTaken = ~std::uint32_t{0};
  /// Waiters added under one lock: 128 of them take about 15 us, in which a disk of
  /// 200,000 reads a second ends 3.
  static constexpr std::size_t kAddedAtOnce = 128;

  std::size_t AddSome(std::span<Waiter> waiters, FetchOwner owner, std::uint32_t& created)
      TIERCEL_EXCLUDES(mutex_);
  void WaitForRoom(FetchOwner owner) TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] bool HasRoom(FetchOwner owner) const TIERCEL_REQUIRES(mutex_);

  Fetch** BucketOf(std::uint32_t space, std::uint64_t key) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Waiter* End(Fetch* fetch) TIERCEL_REQUIRES(mutex_);
  void Unchain(Fetch* fetch) TIERCEL_REQUIRES(mutex_);
  void Free(Fetch* fetch) TIERCEL_REQUIRES(mutex_);

  void UpdateFront() TIERCEL_REQUIRES(mutex_);
  void MakeEarlier(Fetch* fetch, std::uint64_t deadline_ns) TIERCEL_REQUIRES(mutex_);
  static bool Earlier(const Fetch& a, const Fetch& b) noexcept;
  void HeapPlace(std::uint32_t index, Fetch* fetch) TIERCEL_REQUIRES(mutex_);
  void HeapUp(std::uint32_t index) TIERCEL_REQUIRES(mutex_);
  void HeapDown(std::uint32_t index) TIERCEL_REQUIRES(mutex_);
  void HeapRemove(std::uint32_t index) TIERCEL_REQUIRES(mutex_);

  const std::array<std::uint32_t, 2> shares_;  ///< By FetchOwner.
  Mutex mutex_;
  CondVar room_;
  std::array<std::uint32_t, 2> used_ TIERCEL_GUARDED_BY(mutex_) = {};
  std::uint32_t sleepers_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::vector<Fetch> fetches_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<Fetch*> buckets_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<Fetch*> heap_ TIERCEL_GUARDED_BY(mutex_);
  Fetch* free_ TIERCEL_GUARDED_BY(mutex_) = nullptr;
  std::uint64_t sequence_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::atomic<Front> front_ = Front::kNothing;  ///< Stored under mutex_.
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_FETCH_TABLE_H_
