#include "engram/pcg64.h"

#include <bit>

#include "base/check.h"

namespace tiercel {
namespace {

/// The running hash of SeedSequence: each use changes the constant.
class RunningHash {
 public:
  constexpr RunningHash(std::uint32_t start, std::uint32_t factor) noexcept
      : constant_(start), factor_(factor) {}

  constexpr std::uint32_t operator()(std::uint32_t value) noexcept {
    value ^= constant_;
    constant_ *= factor_;
    value *= constant_;
    return value ^ (value >> 16);
  }

 private:
  std::uint32_t constant_;
  std::uint32_t factor_;
};

constexpr std::uint32_t MixWords(std::uint32_t x, std::uint32_t y) noexcept {
  const std::uint32_t mixed = 0xca01f9ddU * x - 0x4973f715U * y;
  return mixed ^ (mixed >> 16);
}

}  // namespace

SeedSequence::SeedSequence(std::uint64_t seed) noexcept {
  // A seed is split into 32-bit words, least significant first. The pool has four
  // and missing words count as zero, so that a high word of zero needs no case.
  const std::array<std::uint32_t, 4> entropy = {static_cast<std::uint32_t>(seed),
                                                static_cast<std::uint32_t>(seed >> 32), 0, 0};
  RunningHash hash(0x43b0d7e5U, 0x931e8875U);
  for (std::size_t i = 0; i < pool_.size(); ++i) pool_[i] = hash(entropy[i]);
  for (std::size_t from = 0; from < pool_.size(); ++from) {
    for (std::size_t to = 0; to < pool_.size(); ++to) {
      if (to != from) pool_[to] = MixWords(pool_[to], hash(pool_[from]));
    }
  }
}

std::array<std::uint64_t, 4> SeedSequence::GenerateState() const noexcept {
  RunningHash hash(0x8b51f9ddU, 0x58f38dedU);
  std::array<std::uint64_t, 4> state{};
  for (std::size_t i = 0; i < 8; ++i) {
    const std::uint64_t word = hash(pool_[i % 4]);
    state[i / 2] |= word << (i % 2 == 0 ? 0 : 32);
  }
  return state;
}

Pcg64::Pcg64(const SeedSequence& seed) noexcept {
  const std::array<std::uint64_t, 4> words = seed.GenerateState();
  const Uint128 initial_state = (Uint128{words[0]} << 64) | words[1];
  const Uint128 initial_sequence = (Uint128{words[2]} << 64) | words[3];
  increment_ = (initial_sequence << 1) | 1;
  Step();
  state_ += initial_state;
  Step();
}

void Pcg64::Step() noexcept {
  constexpr Uint128 kMultiplier = (Uint128{0x2360ED051FC65DA4U} << 64) | 0x4385DF649FCCF645U;
  state_ = state_ * kMultiplier + increment_;
}

std::uint64_t Pcg64::Next() noexcept {
  Step();
  const auto folded = static_cast<std::uint64_t>(state_ >> 64) ^ static_cast<std::uint64_t>(state_);
  return std::rotr(folded, static_cast<int>(state_ >> 122));
}

std::uint64_t Pcg64::Below(std::uint64_t bound) noexcept {
  TIERCEL_CHECK(bound > std::uint64_t{1} << 32);
  // Lemire's method: the high half of a product is uniform once the low halves
  // below 2^64 mod bound are thrown away.
  Uint128 product = Uint128{Next()} * bound;
  if (static_cast<std::uint64_t>(product) < bound) {
    const std::uint64_t threshold = (0 - bound) % bound;
    while (static_cast<std::uint64_t>(product) < threshold) product = Uint128{Next()} * bound;
  }
  return static_cast<std::uint64_t>(product >> 64);
}

}  // namespace tiercel
