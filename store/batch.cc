#include "store/batch.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "base/check.h"
#include "base/spin.h"
#include "tiercel/row_format.h"

namespace tiercel {

void Batch::Reset(const Layout& layout, RowOutput format, WaiterPool& waiters,
                  BatchObserver* observer) {
  layout_ = &layout;
  format_ = format;
  observer_ = observer;
  output_bytes_ = 0;
  layers_.clear();
  waiters_.Reset(waiters);
  counts_.clear();
  launched = 0;
}

void Batch::Reserve(std::size_t layer_count) {
  layers_.reserve(layer_count);
  counts_.reserve(layer_count);
  while (progress_.size() < layer_count) progress_.emplace_back();
}

void Batch::AddLayer(const BatchLayer& layer) {
  layers_.push_back(layer);
  output_bytes_ += layer.output_bytes;
  counts_.emplace_back();
  if (progress_.size() < layers_.size()) progress_.emplace_back();
  progress_[layers_.size() - 1].failed_rows.store(0, std::memory_order_relaxed);
}

void Batch::AddWaiter(const Probe& probe) {
  waiters_.Add(Waiter{.batch = this,
                      .layer_slot = probe.layer_slot,
                      .space = probe.space,
                      .key = probe.key,
                      .row_index = probe.row_index,
                      .deadline_ns = layers_[probe.layer_slot].deadline_ns,
                      .keep_out = layers_[probe.layer_slot].keep_out});
  ++counts_[probe.layer_slot].waiters;
}

void Batch::Publish() {
  for (std::size_t slot = 0; slot < layers_.size(); ++slot) {
    progress_[slot].pending.store(counts_[slot].waiters, std::memory_order_relaxed);
  }
}

void Batch::Write(std::uint32_t layer_slot, const Space& space, std::uint64_t row_index,
                  std::span<const std::byte> bytes) noexcept {
  const BatchLayer& layer = layers_[layer_slot];
  const RowShape& shape = layout_->layers[space.layer_index].shape;
  const std::size_t stored_size_bytes = space.size_bytes / space.row_count;
  if (format_ == RowOutput::kStored && layer.rows_touch()) {
    std::memcpy(layer.Row(row_index), bytes.data(), space.size_bytes);
  } else {
    for (std::uint32_t row = 0; row < space.row_count; ++row) {
      const auto stored = bytes.subspan(row * stored_size_bytes, stored_size_bytes);
      std::byte* const output = layer.Row(row_index + row);
      if (format_ == RowOutput::kStored) {
        std::memcpy(output, stored.data(), stored.size());
      } else {  // Aligned: the store checks the address and the stride of bf16 outputs.
        DequantizeToBf16(shape, stored,
                         {reinterpret_cast<std::uint16_t*>(output), shape.value_count});
      }
    }
  }
  MarkOk(layer_slot, row_index, space.row_count);
}

void Batch::MarkOk(std::uint32_t layer_slot, std::uint64_t row_index,
                   std::uint32_t row_count) noexcept {
  RowStatus* const row_status = layers_[layer_slot].row_status;
  if (row_status == nullptr) return;
  std::memset(row_status + row_index, static_cast<int>(RowStatus::kOk), row_count);
}

void Batch::WriteFailed(std::uint32_t layer_slot, std::uint64_t row_index, std::uint32_t row_count,
                        RowStatus status) noexcept {
  const BatchLayer& layer = layers_[layer_slot];
  if (layer.rows_touch()) {
    std::memset(layer.Row(row_index), 0, std::size_t{row_count} * layer.output_row_size_bytes);
  } else {
    for (std::uint32_t row = 0; row < row_count; ++row) {
      std::memset(layer.Row(row_index + row), 0, layer.output_row_size_bytes);
    }
  }
  if (layer.row_status != nullptr) std::fill_n(layer.row_status + row_index, row_count, status);
  if (status != RowStatus::kDead) {
    progress_[layer_slot].failed_rows.fetch_add(row_count, std::memory_order_relaxed);
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
  BatchObserver* const observer = observer_;  // This batch's: see below.
  // acq_rel: whoever sees zero sees every delivery's bytes.
  const std::uint32_t before =
      progress_[layer_slot].pending.fetch_sub(waiter_count, std::memory_order_acq_rel);
  assert(before >= waiter_count);
  if (before != waiter_count) return;
  // From here on the batch may be reset by whoever waited, but for its observer.
  {
    MutexLock lock(mutex_);  // A waiter that saw more than zero is asleep, or not yet locked.
    done_.NotifyAll();
  }
  if (observer != nullptr) observer->OnLayerInPlace(layer_slot);
}

void Batch::Wait(std::uint32_t layer_slot) noexcept {
  const auto done = [&] {
    return progress_[layer_slot].pending.load(std::memory_order_acquire) == 0;
  };
  SpinUntil(done);
  if (done()) return;
  MutexLock lock(mutex_);
  while (progress_[layer_slot].pending.load(std::memory_order_acquire) != 0) done_.Wait(mutex_);
}

void Batch::WaitAll() noexcept {
  for (std::uint32_t slot = 0; slot < layers_.size(); ++slot) Wait(slot);
}

std::uint64_t Batch::failed_row_count() const noexcept {
  std::uint64_t total = 0;
  for (std::uint32_t slot = 0; slot < layers_.size(); ++slot) total += failed_row_count(slot);
  return total;
}

bool Batch::done() const noexcept {
  for (std::size_t slot = 0; slot < layers_.size(); ++slot) {
    if (progress_[slot].pending.load(std::memory_order_acquire) != 0) return false;
  }
  return true;
}

void Batch::Cancel(FetchTable& table) noexcept {
  if (done()) return;  // The rule: what was waited for needs no look at the table.
  // Withdraw() takes waiters off in any order, so count them by layer: one call each
  // run of waiters of the same layer (they were added layer by layer).
  std::size_t seen = 0;
  waiters_.ForEachSpan(0, [&](std::span<Waiter> waiters) {
    while (!waiters.empty()) {
      const std::uint32_t layer_slot = waiters[0].layer_slot;
      const bool in_table = seen < launched;
      std::size_t count = 1;
      while (count < waiters.size() && waiters[count].layer_slot == layer_slot &&
             (seen + count < launched) == in_table) {
        ++count;
      }
      Finished(layer_slot,
               in_table ? table.Withdraw(waiters.first(count)) : static_cast<std::uint32_t>(count));
      waiters = waiters.subspan(count);
      seen += count;
    }
    return true;
  });
  WaitAll();
}

}  // namespace tiercel
