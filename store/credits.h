#ifndef TIERCEL_STORE_CREDITS_H_
#define TIERCEL_STORE_CREDITS_H_

#include <atomic>
#include <cstdint>

namespace tiercel {

/// How many waiters a class of tickets may have in the fetch table: a bound for memory,
/// and what keeps a place there for the other class.
///
/// Threading: all methods may run concurrently.
class Credits {
 public:
  /// Sets how many there are. Before anyone takes any.
  void Fill(std::int64_t total) noexcept { left_.store(total, std::memory_order_relaxed); }

  /// Takes `count`, or nothing. More than there is in all can never be had.
  [[nodiscard]] bool TryTake(std::int64_t count) noexcept {
    std::int64_t left = left_.load(std::memory_order_relaxed);
    while (left >= count) {
      if (left_.compare_exchange_weak(left, left - count, std::memory_order_seq_cst)) return true;
    }
    return false;
  }
  void Give(std::int64_t count) noexcept { left_.fetch_add(count, std::memory_order_seq_cst); }

  [[nodiscard]] std::int64_t left() const noexcept { return left_.load(std::memory_order_seq_cst); }

 private:
  std::atomic<std::int64_t> left_ = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_CREDITS_H_
