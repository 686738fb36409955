#ifndef TIERCEL_BASE_PRNG_H_
#define TIERCEL_BASE_PRNG_H_

#include <cstdint>

namespace tiercel {

/// The SplitMix64 finaliser (Steele, Lea, Flood 2014; also Qwen3.8's hash): a
/// bijection of 64-bit integers that mixes every bit into every other.
[[nodiscard]] constexpr std::uint64_t SplitMix64(std::uint64_t x) noexcept {
  x += 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

/// A small seeded generator: SplitMix64 over a counter. Not for secrets.
/// Satisfies UniformRandomBitGenerator.
///
/// Threading: one thread at a time.
class Prng {
 public:
  using result_type = std::uint64_t;

  explicit constexpr Prng(std::uint64_t seed) noexcept : state_(seed) {}

  constexpr std::uint64_t operator()() noexcept {
    const std::uint64_t value = SplitMix64(state_);
    state_ += 0x9E3779B97F4A7C15U;
    return value;
  }
  /// Uniform in [0, bound) but for a bias below bound / 2^64. REQUIRES: bound > 0.
  constexpr std::uint64_t Below(std::uint64_t bound) noexcept {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>((*this)()) * bound) >> 64);
  }
  /// Uniform in [0, 1).
  constexpr double Unit() noexcept { return static_cast<double>((*this)() >> 11) * 0x1.0p-53; }

  static constexpr std::uint64_t min() noexcept { return 0; }
  static constexpr std::uint64_t max() noexcept { return ~std::uint64_t{0}; }

 private:
  std::uint64_t state_;
};

}  // namespace tiercel

#endif  // TIERCEL_BASE_PRNG_H_
