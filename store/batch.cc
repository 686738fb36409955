#include "store/batch.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "base/check.h"
#include "tiercel/row_format.h"

namespace tiercel {

void Batch::Reset(const Layout& layout, RowOutput format) {
  layout_ = &layout;
  format_ = format;
  layers_.clear();
  waiters_.clear();
  failed_row_count_.store(0, std::memory_order_relaxed);
}

void Batch::AddLayer(const BatchLayer& layer) {
  layers_.push_back(layer);
  if (pending_.size() < layers_.size()) pending_.emplace_back(0);
}

void Batch::AddWaiter(const Probe& probe) {
  waiters_.push_back(Waiter{.batch = this,
                            .layer_slot = probe.layer_slot,
                            .space = probe.space,
                            .key = probe.key,
                            .row_index = probe.row_index});
}

void Batch::Publish() {
  for (const Waiter& waiter : waiters_) {
    pending_[waiter.layer_slot].fetch_add(1, std::memory_order_relaxed);
  }
}

void Batch::Write(std::uint32_t layer_slot, const Space& space, std::uint64_t row_index,
                  std::span<const std::byte> bytes) noexcept {
  const BatchLayer& layer = layers_[layer_slot];
  const RowShape& shape = layout_->layers[space.layer_index].shape;
  const std::size_t stored_size_bytes = space.size_bytes / space.row_count;
  std::byte* const first = layer.rows.data() + row_index * layer.output_row_size_bytes;
  if (format_ == RowOutput::kStored) {
    std::memcpy(first, bytes.data(), space.size_bytes);
  } else {
    for (std::uint32_t row = 0; row < space.row_count; ++row) {
      // The caller's memory may be unaligned for uint16_t only if its stride is odd;
      // Store checks the alignment of bf16 outputs.
      DequantizeToBf16(
          shape, bytes.subspan(row * stored_size_bytes, stored_size_bytes),
          {reinterpret_cast<std::uint16_t*>(first + std::size_t{row} * layer.output_row_size_bytes),
           shape.value_count});
    }
  }
  MarkOk(layer_slot, row_index, space.row_count);
}

void Batch::MarkOk(std::uint32_t layer_slot, std::uint64_t row_index,
                   std::uint32_t row_count) noexcept {
  std::memset(layers_[layer_slot].row_status.data() + row_index, static_cast<int>(RowStatus::kOk),
              row_count);
}

void Batch::WriteFailed(std::uint32_t layer_slot, std::uint64_t row_index, std::uint32_t row_count,
                        RowStatus status) noexcept {
  const BatchLayer& layer = layers_[layer_slot];
  std::memset(layer.rows.data() + row_index * layer.output_row_size_bytes, 0,
              std::size_t{row_count} * layer.output_row_size_bytes);
  std::fill_n(layer.row_status.begin() + static_cast<std::ptrdiff_t>(row_index), row_count, status);
  if (status != RowStatus::kDead) {
    failed_row_count_.fetch_add(row_count, std::memory_order_relaxed);
  }
}

void Batch::Deliver(const Waiter& waiter, const Space& space, std::span<const std::byte> bytes,
                    std::span<const RowStatus> statuses) noexcept {
  const std::uint32_t layer_slot = waiter.layer_slot;
  Write(layer_slot, space, waiter.row_index, bytes);
  for (std::uint32_t row = 0; row < space.row_count; ++row) {
    if (statuses[row] == RowStatus::kOk) continue;
    WriteFailed(layer_slot, waiter.row_index + row, 1, statuses[row]);
  }
  Finished(layer_slot, 1);  // The batch may be someone else's from here on.
}

void Batch::Finished(std::uint32_t layer_slot, std::uint32_t waiter_count) noexcept {
  if (waiter_count == 0) return;
  // acq_rel: whoever sees zero sees every delivery's bytes.
  const std::uint32_t before =
      pending_[layer_slot].fetch_sub(waiter_count, std::memory_order_acq_rel);
  assert(before >= waiter_count);
  if (before == waiter_count) {
    MutexLock lock(mutex_);  // A waiter that saw more than zero is asleep, or not yet locked.
    done_.NotifyAll();
  }
}

void Batch::Wait(std::uint32_t layer_slot) noexcept {
  if (pending_[layer_slot].load(std::memory_order_acquire) == 0) return;
  MutexLock lock(mutex_);
  while (pending_[layer_slot].load(std::memory_order_acquire) != 0) done_.Wait(mutex_);
}

void Batch::WaitAll() noexcept {
  for (std::uint32_t slot = 0; slot < layers_.size(); ++slot) Wait(slot);
}

bool Batch::done() const noexcept {
  for (std::size_t slot = 0; slot < layers_.size(); ++slot) {
    if (pending_[slot].load(std::memory_order_acquire) != 0) return false;
  }
  return true;
}

void Batch::Cancel(FetchTable& table) noexcept {
  if (done()) return;  // The rule: what was waited for needs no look at the table.
  // Withdraw() takes waiters off in any order, so count them by layer: one call each
  // run of waiters of the same layer (they were added layer by layer).
  std::size_t first = 0;
  while (first < waiters_.size()) {
    std::size_t end = first;
    while (end < waiters_.size() && waiters_[end].layer_slot == waiters_[first].layer_slot) ++end;
    const std::uint32_t withdrawn = table.Withdraw(std::span(waiters_).subspan(first, end - first));
    Finished(waiters_[first].layer_slot, withdrawn);
    first = end;
  }
  WaitAll();
}

Batch* BatchPool::Acquire() {
  MutexLock lock(mutex_);
  if (free_.empty()) {
    all_.push_back(std::make_unique<Batch>());
    free_.reserve(all_.size());
    return all_.back().get();
  }
  Batch* const batch = free_.back();
  free_.pop_back();
  return batch;
}

void BatchPool::Release(Batch* batch) {
  MutexLock lock(mutex_);
  TIERCEL_CHECK(free_.size() < all_.size());
  free_.push_back(batch);
}

}  // namespace tiercel
