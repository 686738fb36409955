#ifndef TIERCEL_STORE_PREFETCHER_H_
#define TIERCEL_STORE_PREFETCHER_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "store/ticket_state.h"
#include "tiercel/memory_options.h"

namespace tiercel {

/// The prefetch thread: runs the windows of tickets that Start() did not run itself, the
/// one with the earliest deadline first, as places and credits come free. Before it runs
/// any of the background, it tells the cache what those that wait are going to read.
///
/// Threading: all methods may run concurrently, but for the destructor.
class Prefetcher {
 public:
  /// Starts the thread; `tickets_max` may be in the queue at a time.
  Prefetcher(std::uint32_t tickets_max, const MemoryOptions& memory);
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;
  ~Prefetcher() { Stop(); }

  /// Queues a ticket that has windows left. It stays until it has none, is over, or is
  /// removed.
  void Add(Ticket::State& ticket) TIERCEL_EXCLUDES(mutex_);
  /// Takes the ticket off the queue; blocks while one of its windows is being run.
  void Remove(Ticket::State& ticket) TIERCEL_EXCLUDES(mutex_);
  /// Something changed for some ticket: a window or credits came free, a deadline, an end.
  /// Cheap where the queue is empty.
  void Poke() noexcept TIERCEL_EXCLUDES(mutex_);

  /// Ends the thread. Again: does nothing.
  void Stop() TIERCEL_EXCLUDES(mutex_);

 private:
  void Loop(const MemoryOptions& memory) noexcept TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] Ticket::State* PickReady() const noexcept TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Ticket::State* PickToNote() const noexcept TIERCEL_REQUIRES(mutex_);
  /// Runs a window, or notes some groups. False: there is nothing to do.
  bool DoSomething() TIERCEL_REQUIRES(mutex_);
  void Erase(Ticket::State& ticket) TIERCEL_REQUIRES(mutex_);

  Mutex mutex_;
  CondVar changed_;
  std::vector<Ticket::State*> queue_ TIERCEL_GUARDED_BY(mutex_);
  std::atomic<std::uint32_t> queued_count_ = 0;  ///< Of queue_.
  Ticket::State* running_ TIERCEL_GUARDED_BY(mutex_) = nullptr;
  bool stop_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // Last: starts when all else is there.
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_PREFETCHER_H_
