#include "bench/peers/row_pool.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

namespace tiercel::peers {
namespace {

// std::atomic::wait wakes one or all; a futex wakes as many as there is work for.
static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t));

void FutexWait(std::atomic<std::uint32_t>& word, std::uint32_t seen) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
}

void FutexWake(std::atomic<std::uint32_t>& word, int count) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

}  // namespace

RowPool::RowPool(std::uint32_t thread_count) : thread_count_(thread_count) {
  for (std::uint32_t i = 1; i < thread_count; ++i) {
    threads_.emplace_back([this, i] { Loop(i); });
  }
}

RowPool::~RowPool() {
  stop_.store(true);
  job_.fetch_add(1);
  FutexWake(job_, INT_MAX);
  for (std::thread& thread : threads_) thread.join();
}

std::uint32_t RowPool::PieceItems(std::uint32_t item_count,
                                  std::uint32_t piece_items_max) const noexcept {
  return std::clamp(item_count / (thread_count_ * 8), 1U, piece_items_max);
}

void RowPool::Run(std::uint32_t item_count, std::uint32_t piece_items, const Work& work) {
  if (item_count == 0) return;
  if (threads_.empty()) {
    work(0, 0, item_count);
    return;
  }
  const std::uint32_t job = job_.load(std::memory_order_relaxed) + 1;
  // A thread that still looks for pieces of the job before may read what follows, and
  // then finds that next_ has changed: it takes nothing.
  next_.exchange(std::uint64_t{job} << 32 | UINT32_MAX, std::memory_order_acq_rel);
  work_.store(&work, std::memory_order_release);
  item_count_.store(item_count, std::memory_order_release);
  piece_items_.store(piece_items, std::memory_order_release);
  left_items_.store(item_count, std::memory_order_relaxed);
  next_.store(std::uint64_t{job} << 32, std::memory_order_release);
  job_.store(job, std::memory_order_release);
  const std::uint32_t piece_count = (item_count + piece_items - 1) / piece_items;
  const std::uint32_t helper_count = std::min(piece_count - 1, thread_count_ - 1);
  if (helper_count > 0) FutexWake(job_, static_cast<int>(helper_count));
  TakePieces(0, job);
  for (std::uint32_t left = left_items_.load(std::memory_order_acquire); left != 0;
       left = left_items_.load(std::memory_order_acquire)) {
    FutexWait(left_items_, left);
  }
}

void RowPool::TakePieces(std::uint32_t thread, std::uint32_t job) {
  std::uint64_t next = next_.load(std::memory_order_acquire);
  for (;;) {
    if (static_cast<std::uint32_t>(next >> 32) != job) return;
    const auto begin = static_cast<std::uint32_t>(next);
    const std::uint32_t item_count = item_count_.load(std::memory_order_acquire);
    const std::uint32_t piece_items = piece_items_.load(std::memory_order_acquire);
    const Work* const work = work_.load(std::memory_order_acquire);
    if (begin >= item_count) return;
    const std::uint32_t end = begin + std::min(piece_items, item_count - begin);
    // Succeeds only if the job is still this one, and so what was read of it.
    if (!next_.compare_exchange_weak(next, std::uint64_t{job} << 32 | end,
                                     std::memory_order_acq_rel, std::memory_order_acquire)) {
      continue;
    }
    (*work)(thread, begin, end);
    if (left_items_.fetch_sub(end - begin, std::memory_order_acq_rel) == end - begin) {
      FutexWake(left_items_, 1);
    }
    next = next_.load(std::memory_order_acquire);
  }
}

void RowPool::Loop(std::uint32_t thread) {
  std::uint32_t seen = 0;
  for (;;) {
    const std::uint32_t job = job_.load(std::memory_order_acquire);
    if (stop_.load()) return;
    if (job == seen) {
      FutexWait(job_, seen);
      continue;
    }
    seen = job;
    TakePieces(thread, job);
  }
}

}  // namespace tiercel::peers
