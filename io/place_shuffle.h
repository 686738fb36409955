#ifndef TIERCEL_IO_PLACE_SHUFFLE_H_
#define TIERCEL_IO_PLACE_SHUFFLE_H_

#include <bit>
#include <cstdint>

#include "base/prng.h"

namespace tiercel {

/// A permutation of [0, count) that looks random: counting up through it visits every
/// place once, in a seeded order, with no memory of the visits.
///
/// Four Feistel rounds make a permutation of the next power of four; what falls outside
/// of `count` is permuted again until it falls inside (at most four times on average, as
/// the power is less than 4 x count).
class PlaceShuffle {
 public:
  /// REQUIRES: 0 < count <= 2^62.
  PlaceShuffle(std::uint64_t count, std::uint64_t seed) noexcept
      : count_(count),
        seed_(SplitMix64(seed)),
        half_bits_((static_cast<unsigned>(std::bit_width(count - 1)) + 1) / 2) {}

  /// REQUIRES: index < count.
  [[nodiscard]] std::uint64_t operator()(std::uint64_t index) const noexcept {
    if (half_bits_ == 0) return 0;
    do {
      index = Permute(index);
    } while (index >= count_);
    return index;
  }

 private:
  [[nodiscard]] std::uint64_t Permute(std::uint64_t value) const noexcept {
    const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
    std::uint64_t left = value >> half_bits_;
    std::uint64_t right = value & mask;
    for (std::uint64_t round = 0; round < 4; ++round) {
      const std::uint64_t mixed = SplitMix64(seed_ + (round << 56) + right) & mask;
      const std::uint64_t next = left ^ mixed;
      left = right;
      right = next;
    }
    return (left << half_bits_) | right;
  }

  std::uint64_t count_;
  std::uint64_t seed_;
  unsigned half_bits_;
};

}  // namespace tiercel

#endif  // TIERCEL_IO_PLACE_SHUFFLE_H_
