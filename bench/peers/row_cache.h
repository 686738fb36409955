#ifndef TIERCEL_BENCH_PEERS_ROW_CACHE_H_
#define TIERCEL_BENCH_PEERS_ROW_CACHE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "base/prng.h"
#include "io/aligned_buffer.h"
#include "tiercel/status.h"

namespace tiercel::peers {

/// A direct-mapped cache of rows: a key has one slot, and the last one put there has it.
///
/// Threading: Get() may run beside Get(), Put() beside Put(), on any threads; not one
/// beside the other.
class RowCache {
 public:
  /// Takes `budget_bytes` at most, keys included. Errors: kResourceExhausted.
  static Result<std::unique_ptr<RowCache>> Make(std::uint64_t budget_bytes,
                                                std::uint32_t value_bytes) {
    const std::uint64_t slot_count = budget_bytes / (value_bytes + sizeof(std::uint64_t));
    if (slot_count == 0) {
      return Status(StatusCode::kResourceExhausted, "the budget leaves no room for a row cache");
    }
    Result<AlignedBuffer> values = AlignedBuffer::Make(slot_count * value_bytes, "a row cache");
    if (!values.ok()) return std::move(values).TakeStatus();
    return std::unique_ptr<RowCache>(
        new RowCache(slot_count, value_bytes, std::move(values).value()));
  }

  [[nodiscard]] bool Get(std::uint64_t key, std::byte* target) const noexcept {
    const std::uint64_t slot = Slot(key);
    if (keys_[slot].load(std::memory_order_relaxed) != key) return false;
    std::memcpy(target, values_.data() + slot * value_bytes_, value_bytes_);
    return true;
  }

  void Put(std::uint64_t key, const std::byte* value) noexcept {
    const std::uint64_t slot = Slot(key);
    std::uint64_t old = keys_[slot].load(std::memory_order_relaxed);
    // Whoever meets another writer in the slot lets it have it.
    if (old == kBusy || !keys_[slot].compare_exchange_strong(old, kBusy)) return;
    std::memcpy(values_.data() + slot * value_bytes_, value, value_bytes_);
    keys_[slot].store(key, std::memory_order_release);
  }

  [[nodiscard]] std::uint64_t slot_count() const noexcept { return slot_count_; }

 private:
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};
  static constexpr std::uint64_t kBusy = ~std::uint64_t{1};

  RowCache(std::uint64_t slot_count, std::uint32_t value_bytes, AlignedBuffer values)
      : slot_count_(slot_count),
        value_bytes_(value_bytes),
        keys_(new std::atomic<std::uint64_t>[slot_count]),
        values_(std::move(values)) {
    for (std::uint64_t i = 0; i < slot_count; ++i) keys_[i].store(kNone);
  }

  [[nodiscard]] std::uint64_t Slot(std::uint64_t key) const noexcept {
    return static_cast<std::uint64_t>(
        static_cast<unsigned __int128>(SplitMix64(key)) * slot_count_ >> 64);
  }

  const std::uint64_t slot_count_;
  const std::uint32_t value_bytes_;
  std::unique_ptr<std::atomic<std::uint64_t>[]> keys_;
  AlignedBuffer values_;
};

}  // namespace tiercel::peers

#endif  // TIERCEL_BENCH_PEERS_ROW_CACHE_H_
