#ifndef TIERCEL_ENGRAM_REDUCE_H_
#define TIERCEL_ENGRAM_REDUCE_H_

#include <cstdint>

namespace tiercel {

/// x mod d for one d and many x, without a division: a multiplication by a rounded
/// reciprocal and one correction (about 3 cycles; a 64-bit division takes 10 to 40).
///
/// Exact for every 64-bit x. With r = floor(2^64 / d) we have 2^64/d - 1 < r <= 2^64/d,
/// so x/d - x/2^64 < x*r/2^64 <= x/d. As x < 2^64, the quotient estimate
/// q = floor(x*r/2^64) lies in {floor(x/d) - 1, floor(x/d)}, hence x - q*d in
/// [0, 2d): it takes at most one subtraction of d. 2d must not overflow: d < 2^63.
///
/// Threading: immutable once made.
class Divisor {
 public:
  /// REQUIRES: 2 <= value < 2^63.
  constexpr explicit Divisor(std::uint64_t value) noexcept
      : value_(value),
        // floor(2^64 / d) from 64-bit operands: 2^64 = (2^64 - d) + d.
        reciprocal_((0 - value) / value + 1) {}

  [[nodiscard]] constexpr std::uint64_t value() const noexcept { return value_; }

  [[nodiscard]] constexpr std::uint64_t Remainder(std::uint64_t x) const noexcept {
    __extension__ using Uint128 = unsigned __int128;
    const auto quotient = static_cast<std::uint64_t>((Uint128{x} * reciprocal_) >> 64);
    const std::uint64_t remainder = x - quotient * value_;
    return remainder < value_ ? remainder : remainder - value_;
  }

  /// The remainder in [0, d) of the signed number with these bits, as numpy and Python
  /// take it: floor-modulo. For x < 0, -1 - x is not negative, and
  /// x mod d = d - 1 - ((-1 - x) mod d).
  [[nodiscard]] constexpr std::uint64_t FloorRemainder(std::uint64_t bits) const noexcept {
    const bool negative = (bits >> 63) != 0;
    const std::uint64_t remainder = Remainder(negative ? ~bits : bits);
    return negative ? value_ - 1 - remainder : remainder;
  }

 private:
  std::uint64_t value_;
  std::uint64_t reciprocal_;
};

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_REDUCE_H_
