#ifndef TIERCEL_BENCH_PEERS_ROW_POOL_H_
#define TIERCEL_BENCH_PEERS_ROW_POOL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace tiercel::peers {

/// Threads that share out the items of one job after another, as good as they are
/// written by hand: they live as long as the pool, take pieces of a job from one
/// atomic, and no more of them are woken than there are pieces.
///
/// Threading: one thread calls Run(), and works too: it is one of the threads.
class RowPool {
 public:
  /// Works on items [begin, end), on thread `thread` of [0, thread_count).
  using Work = std::function<void(std::uint32_t thread, std::uint32_t begin, std::uint32_t end)>;

  /// `thread_count` > 0 counts the caller.
  explicit RowPool(std::uint32_t thread_count);
  RowPool(const RowPool&) = delete;
  RowPool& operator=(const RowPool&) = delete;
  ~RowPool();

  [[nodiscard]] std::uint32_t thread_count() const noexcept { return thread_count_; }

  /// Calls `work` for all of [0, item_count), in pieces of `piece_items`. Blocks until
  /// all is done. REQUIRES: piece_items > 0.
  void Run(std::uint32_t item_count, std::uint32_t piece_items, const Work& work);

  /// Pieces such that each thread gets about eight, of `piece_items_max` at most.
  [[nodiscard]] std::uint32_t PieceItems(std::uint32_t item_count,
                                         std::uint32_t piece_items_max) const noexcept;

 private:
  void Loop(std::uint32_t thread);
  /// Takes pieces of the job numbered `job` until there are none.
  void TakePieces(std::uint32_t thread, std::uint32_t job);

  const std::uint32_t thread_count_;
  std::atomic<std::uint32_t> job_ = 0;  ///< Number of the newest job; threads sleep on it.
  /// Job in the upper half, its next item in the lower: a thread that comes too late
  /// cannot take anything from a newer job in the belief that it is the old one.
  alignas(64) std::atomic<std::uint64_t> next_ = 0;
  alignas(64) std::atomic<std::uint32_t> left_items_ = 0;
  std::atomic<std::uint32_t> item_count_ = 0;
  std::atomic<std::uint32_t> piece_items_ = 1;
  std::atomic<const Work*> work_ = nullptr;
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tiercel::peers

#endif  // TIERCEL_BENCH_PEERS_ROW_POOL_H_
