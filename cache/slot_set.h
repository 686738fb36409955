#ifndef TIERCEL_CACHE_SLOT_SET_H_
#define TIERCEL_CACHE_SLOT_SET_H_

#include <bit>
#include <cstdint>
#include <span>

namespace tiercel {

/// A set of slots that finds its next member after any slot in a few steps: a bit a
/// slot, a bit for each 64 of these, and so on, up to one word.
///
/// Threading: one thread at a time.
class SlotSet {
 public:
  static constexpr std::uint32_t kNoSlot = ~std::uint32_t{0};

  /// Words of memory for slots below `slot_count`.
  [[nodiscard]] static constexpr std::uint64_t WordCount(std::uint64_t slot_count) noexcept {
    std::uint64_t words = (slot_count + 63) / 64;
    for (std::uint64_t bits = words; bits > 1; words += bits) bits = (bits + 63) / 64;
    return words;
  }

  SlotSet() noexcept = default;
  /// WordCount(slot_count) zeroed words of another's memory: the empty set.
  SlotSet(std::span<std::uint64_t> words, std::uint64_t slot_count) noexcept {
    std::uint64_t used = 0;
    std::uint64_t bits = slot_count;
    do {
      bits = (bits + 63) / 64;
      levels_[level_count_++] = words.subspan(used, bits);
      used += bits;
    } while (bits > 1);
  }

  [[nodiscard]] std::uint32_t count() const noexcept { return count_; }
  [[nodiscard]] bool Has(std::uint32_t slot) const noexcept {
    return (levels_[0][slot / 64] >> slot % 64 & 1) != 0;
  }

  void Insert(std::uint32_t slot) noexcept {
    if (Has(slot)) return;
    ++count_;
    for (std::uint32_t level = 0; level < level_count_; ++level, slot /= 64) {
      std::uint64_t& word = levels_[level][slot / 64];
      const bool was_empty = word == 0;
      word |= std::uint64_t{1} << slot % 64;
      if (!was_empty) return;
    }
  }

  void Remove(std::uint32_t slot) noexcept {
    if (!Has(slot)) return;
    --count_;
    for (std::uint32_t level = 0; level < level_count_; ++level, slot /= 64) {
      std::uint64_t& word = levels_[level][slot / 64];
      word &= ~(std::uint64_t{1} << slot % 64);
      if (word != 0) return;
    }
  }

  /// The first member at or after `slot`, or else the first of all. REQUIRES: not empty.
  [[nodiscard]] std::uint32_t NextFrom(std::uint32_t slot) const noexcept {
    const std::uint32_t found = Ceiling(slot);
    return found != kNoSlot ? found : Ceiling(0);
  }

 private:
  static constexpr std::uint32_t kLevelsMax = 6;  // 64^6 > 2^32.

  [[nodiscard]] std::uint32_t Ceiling(std::uint32_t slot) const noexcept {
    // Up until a word has a member at or after the place, then down to the first in it.
    std::uint64_t place = slot;
    for (std::uint32_t level = 0; level < level_count_; ++level) {
      if (place / 64 >= levels_[level].size()) return kNoSlot;
      const std::uint64_t rest = levels_[level][place / 64] >> place % 64;
      if (rest != 0) {
        place += static_cast<std::uint64_t>(std::countr_zero(rest));
        while (level-- > 0) {
          place = place * 64 + static_cast<std::uint64_t>(std::countr_zero(levels_[level][place]));
        }
        return static_cast<std::uint32_t>(place);
      }
      place = place / 64 + 1;
    }
    return kNoSlot;
  }

  std::span<std::uint64_t> levels_[kLevelsMax];
  std::uint32_t level_count_ = 0;
  std::uint32_t count_ = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SLOT_SET_H_
