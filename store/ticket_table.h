#ifndef TIERCEL_STORE_TICKET_TABLE_H_
#define TIERCEL_STORE_TICKET_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/range_allocator.h"
#include "store/ticket_state.h"
#include "tiercel/prefetch.h"
#include "tiercel/status.h"

namespace tiercel {

/// The tickets of a store, and what they take together: states, tokens, staging. Lives as
/// long as the store or any of its tickets.
///
/// Threading: all methods may run concurrently.
class Ticket::Table {
 public:
  /// Takes all memory. REQUIRES: limits are in range.
  explicit Table(const PrefetchLimits& limits);

  /// Memory of a table, at most.
  [[nodiscard]] static std::uint64_t MemoryBytes(const PrefetchLimits& limits) noexcept;

  /// What a ticket takes.
  struct Request {
    std::uint64_t tokens = 0;  ///< In 4 B.
    std::uint64_t staging_bytes = 0;
  };
  /// Takes a free state with all that `request` asks for, or nothing.
  /// Errors: kResourceExhausted (a limit is reached, with kRefuse; or the request alone is
  /// beyond it), kCancelled (the table was shut down).
  [[nodiscard]] Result<Ticket::State*> Acquire(const Request& request, WhenFull when_full)
      TIERCEL_EXCLUDES(mutex_);
  /// REQUIRES: Ticket::State::Cancel() was called.
  void Release(Ticket::State& ticket) TIERCEL_EXCLUDES(mutex_);

  /// Cancels every ticket and has them forget the store.
  void Shutdown() TIERCEL_EXCLUDES(mutex_);

  [[nodiscard]] std::span<std::int32_t> Tokens(const Range& range) noexcept {
    return std::span(tokens_).subspan(range.first, range.size);
  }
  [[nodiscard]] std::span<std::byte> Staging(const Range& range) noexcept {
    return {staging_.get() + range.first, range.size};
  }
  [[nodiscard]] std::uint32_t tickets_in_use() TIERCEL_EXCLUDES(mutex_);

 private:
  /// Why the request cannot be met now; empty if it can, and was.
  [[nodiscard]] std::string TryTake(const Request& request, Ticket::State*& ticket)
      TIERCEL_REQUIRES(mutex_);

  struct Free {
    void operator()(std::byte* bytes) const noexcept { std::free(bytes); }
  };

  const PrefetchLimits limits_;
  std::vector<std::int32_t> tokens_;
  std::unique_ptr<std::byte, Free> staging_;
  Mutex mutex_;
  CondVar released_;
  RangeAllocator token_ranges_ TIERCEL_GUARDED_BY(mutex_);
  RangeAllocator staging_ranges_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Ticket::State>> all_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<Ticket::State*> free_ TIERCEL_GUARDED_BY(mutex_);
  bool shut_down_ TIERCEL_GUARDED_BY(mutex_) = false;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_TICKET_TABLE_H_
