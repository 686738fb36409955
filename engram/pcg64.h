#ifndef TIERCEL_ENGRAM_PCG64_H_
#define TIERCEL_ENGRAM_PCG64_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace tiercel {

__extension__ using Uint128 = unsigned __int128;

/// numpy's SeedSequence for a seed below 2^64: spreads a seed over a pool of four
/// words, from which generators take their state.
///
/// Threading: immutable once made.
class SeedSequence {
 public:
  explicit SeedSequence(std::uint64_t seed) noexcept;

  [[nodiscard]] const std::array<std::uint32_t, 4>& pool() const noexcept { return pool_; }
  /// SeedSequence.generate_state(4, uint64).
  [[nodiscard]] std::array<std::uint64_t, 4> GenerateState() const noexcept;

 private:
  std::array<std::uint32_t, 4> pool_{};
};

/// numpy's PCG64 (XSL-RR 128/64), seeded as default_rng(seed) seeds it. DeepSeek
/// draws its hash multipliers from this stream; numpy does not promise to keep it
/// across major versions, which is why recipe files pin the results.
///
/// Threading: one thread at a time.
class Pcg64 {
 public:
  explicit Pcg64(const SeedSequence& seed) noexcept;

  [[nodiscard]] Uint128 state() const noexcept { return state_; }
  [[nodiscard]] Uint128 increment() const noexcept { return increment_; }

  /// Uniform in [0, 2^64).
  std::uint64_t Next() noexcept;

  /// Generator.integers(0, bound, dtype=int64).
  /// REQUIRES: bound > 2^32; below, numpy takes another path with another stream.
  std::uint64_t Below(std::uint64_t bound) noexcept;

 private:
  void Step() noexcept;

  Uint128 state_ = 0;
  Uint128 increment_ = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_PCG64_H_
