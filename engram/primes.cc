#include "engram/primes.h"

#include <array>
#include <bit>
#include <span>

namespace tiercel {
namespace {

__extension__ using Uint128 = unsigned __int128;

std::uint64_t MultiplyModulo(std::uint64_t a, std::uint64_t b, std::uint64_t modulus) noexcept {
  return static_cast<std::uint64_t>(Uint128{a} * b % modulus);
}

std::uint64_t PowerModulo(std::uint64_t base, std::uint64_t exponent,
                          std::uint64_t modulus) noexcept {
  std::uint64_t power = 1;
  for (; exponent != 0; exponent >>= 1) {
    if ((exponent & 1) != 0) power = MultiplyModulo(power, base, modulus);
    base = MultiplyModulo(base, base, modulus);
  }
  return power;
}

/// The Miller-Rabin test of an odd n > 2 for one witness below n.
bool PassesMillerRabin(std::uint64_t n, std::uint64_t witness) noexcept {
  const int twos = std::countr_zero(n - 1);
  std::uint64_t x = PowerModulo(witness, (n - 1) >> twos, n);
  if (x == 1 || x == n - 1) return true;
  for (int i = 1; i < twos; ++i) {
    x = MultiplyModulo(x, x, n);
    if (x == n - 1) return true;
  }
  return false;
}

constexpr std::array<std::uint64_t, 12> kSmallPrimes = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37};

}  // namespace

bool IsPrime(std::uint64_t n) noexcept {
  for (const std::uint64_t prime : kSmallPrimes) {
    if (n % prime == 0) return n == prime;
  }
  if (n < 41 * 41) return n > 1;
  // No composite below these bounds passes for the first 4, 6 and 12 primes (Jaeschke
  // 1993; Sorenson and Webster 2015: 12 primes suffice up to 3.18e23).
  std::size_t witness_count = 12;
  if (n < 3'474'749'660'383) witness_count = 6;
  if (n < 3'215'031'751) witness_count = 4;
  for (const std::uint64_t witness : std::span(kSmallPrimes).first(witness_count)) {
    if (!PassesMillerRabin(n, witness)) return false;
  }
  return true;
}

std::uint64_t PrimeSupply::Take(std::uint64_t base) {
  std::uint64_t& next = next_.try_emplace(base, base).first->second;
  while (taken_.contains(next) || !IsPrime(next)) ++next;
  taken_.insert(next);
  return next++;
}

}  // namespace tiercel
