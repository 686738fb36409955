#ifndef TIERCEL_ENGRAM_KEY_RULE_H_
#define TIERCEL_ENGRAM_KEY_RULE_H_

#include <cstdint>

#include "engram/reduce.h"

// From mixes to rows and to group keys: what kernels need of a GroupSpace.

namespace tiercel {

/// One head: row = mix mod size + offset.
struct Head {
  Divisor size;
  std::uint64_t offset = 0;
};

/// The way from a mix to its group key. Constexpr: kernels run the same code.
struct KeyRule {
  std::uint64_t product = 0;  ///< Of the head sizes, where keys are reduced by it; else 0.
  bool is_signed = false;     ///< MixRange::kSigned64.

  [[nodiscard]] constexpr std::uint64_t KeyOf(std::uint64_t mix) const noexcept {
    if (product == 0) return mix;
    const bool negative = is_signed && (mix >> 63) != 0;
    const std::uint64_t key = negative ? product - 1 - ~mix % product : mix % product;
    // Signed and past 2^63: the number of the range that is congruent to it.
    constexpr std::uint64_t kTwo63 = std::uint64_t{1} << 63;
    return is_signed && key >= kTwo63 && product - key <= kTwo63 ? key - product : key;
  }
};

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_KEY_RULE_H_
