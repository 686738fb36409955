#ifndef TIERCEL_STORE_OVERLAID_ROWS_H_
#define TIERCEL_STORE_OVERLAID_ROWS_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/keep_prefetch.h"
#include "base/prng.h"
#include "tiercel/types.h"

namespace tiercel {

/// A row of a served layer, as one number.
using OverlaidKey = std::uint64_t;

/// REQUIRES: layer_index < 256, row < 2^40 (no table has more).
[[nodiscard]] constexpr OverlaidKey MakeOverlaidKey(std::uint32_t layer_index, RowId row) noexcept {
  return (std::uint64_t{layer_index} << 40) | Index(row);
}

/// The set of the rows that the overlay may have, each with a mark while an update of it is
/// under way. Rows never leave it: one that was put in and not updated after all costs a
/// look into the overlay and is otherwise harmless.
///
/// Exact, in one block of memory: open addressing over words of key + 1 and the mark, three
/// of four in use at most, so that a row that is not in it costs one cache line, or two.
///
/// Threading: one writer at a time; Find(), MayHave() and Prefetch() may run beside it. A
/// reader that must not miss what the writer did synchronises with it by other means: see
/// overlay.h.
class OverlaidRows {
 public:
  struct Found {
    bool there = false;
    bool pending = false;
  };

  /// Takes the memory for `row_count_max` rows at once.
  explicit OverlaidRows(std::uint64_t row_count_max)
      : word_count_(WordCount(row_count_max)),
        words_(std::make_unique<std::atomic<std::uint64_t>[]>(word_count_)) {}

  [[nodiscard]] static std::uint64_t MemoryBytes(std::uint64_t row_count_max) noexcept {
    return WordCount(row_count_max) * sizeof(std::uint64_t);
  }
  /// Rows for which `bytes` are enough memory.
  [[nodiscard]] static std::uint64_t RowsThatFit(std::uint64_t bytes) noexcept {
    std::uint64_t words = 16;
    while (words * 2 * sizeof(std::uint64_t) <= bytes) words *= 2;
    return words / 4 * 3;
  }

  [[nodiscard]] std::uint64_t size() const noexcept {
    return size_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t capacity() const noexcept { return word_count_ / 4 * 3; }

  void Prefetch(OverlaidKey key) const noexcept {
    TIERCEL_KEEP_PREFETCH(this);
    __builtin_prefetch(&words_[Home(key)]);
  }
  [[nodiscard]] Found Find(OverlaidKey key) const noexcept {
    for (std::uint64_t i = Home(key);; i = (i + 1) & (word_count_ - 1)) {
      const std::uint64_t word = words_[i].load(std::memory_order_relaxed);
      if (word == 0) return {};
      if ((word & ~kPending) == key + 1) return {.there = true, .pending = (word & kPending) != 0};
    }
  }
  [[nodiscard]] bool Has(OverlaidKey key) const noexcept { return Find(key).there; }

  /// Puts the row in, if it is not there, and sets or clears its mark.
  /// REQUIRES: there is room: size() < capacity(), or Has(key).
  void Mark(OverlaidKey key, bool pending) noexcept {
    const std::uint64_t wanted = (key + 1) | (pending ? kPending : 0);
    for (std::uint64_t i = Home(key);; i = (i + 1) & (word_count_ - 1)) {
      const std::uint64_t word = words_[i].load(std::memory_order_relaxed);
      if (word != 0 && (word & ~kPending) != key + 1) continue;
      if (word == 0) size_.fetch_add(1, std::memory_order_relaxed);
      words_[i].store(wanted, std::memory_order_relaxed);
      return;
    }
  }

 private:
  static constexpr std::uint64_t kPending = std::uint64_t{1} << 63;

  [[nodiscard]] static std::uint64_t WordCount(std::uint64_t row_count_max) noexcept {
    std::uint64_t words = 16;
    while (words / 4 * 3 < row_count_max) words *= 2;
    return words;
  }
  [[nodiscard]] std::uint64_t Home(OverlaidKey key) const noexcept {
    return SplitMix64(key) & (word_count_ - 1);
  }

  const std::uint64_t word_count_;  ///< A power of two.
  const std::unique_ptr<std::atomic<std::uint64_t>[]> words_;
  std::atomic<std::uint64_t> size_ = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_OVERLAID_ROWS_H_
