#include "store/waiter.h"

#include <algorithm>

namespace tiercel {

WaiterChunk* WaiterPool::Get() {
  MutexLock lock(mutex_);
  if (free_ == nullptr) Grow(kBlockChunks);
  WaiterChunk* const chunk = std::exchange(free_, free_->next);
  --free_count_;
  chunk->next = nullptr;
  chunk->count = 0;
  return chunk;
}

void WaiterPool::Put(WaiterChunk* first) {
  if (first == nullptr) return;
  WaiterChunk* last = first;
  std::size_t count = 1;
  for (; last->next != nullptr; ++count) last = last->next;
  MutexLock lock(mutex_);
  last->next = free_;
  free_ = first;
  free_count_ += count;
}

void WaiterPool::Reserve(std::size_t count) {
  MutexLock lock(mutex_);
  if (count > free_count_) Grow(std::max(count - free_count_, kBlockChunks));
}

void WaiterPool::Grow(std::size_t count) {
  blocks_.push_back(std::make_unique<WaiterChunk[]>(count));
  for (std::size_t i = 0; i < count; ++i) {
    WaiterChunk& chunk = blocks_.back()[i];
    chunk.next = free_;
    free_ = &chunk;
  }
  free_count_ += count;
}

void WaiterList::Reset(WaiterPool& pool) noexcept {
  Clear();
  pool_ = &pool;
}

void WaiterList::Add(const Waiter& waiter) {
  if (last_ == nullptr || last_->count == WaiterChunk::kCapacity) {
    WaiterChunk* const chunk = pool_->Get();
    (last_ == nullptr ? first_ : last_->next) = chunk;
    last_ = chunk;
  }
  last_->waiters[last_->count++] = waiter;
  ++size_;
}

void WaiterList::Clear() noexcept {
  if (first_ != nullptr) pool_->Put(std::exchange(first_, nullptr));
  last_ = nullptr;
  size_ = 0;
}

}  // namespace tiercel
