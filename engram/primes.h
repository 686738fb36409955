#ifndef TIERCEL_ENGRAM_PRIMES_H_
#define TIERCEL_ENGRAM_PRIMES_H_

#include <cstdint>
#include <unordered_map>
#include <unordered_set>

namespace tiercel {

/// Whether `n` is prime: exact for every 64-bit number.
[[nodiscard]] bool IsPrime(std::uint64_t n) noexcept;

/// Hands out the head sizes of a model: each prime once, from any number of starts.
///
/// Threading: one thread at a time.
class PrimeSupply {
 public:
  /// The smallest prime >= `base` that was not handed out before.
  /// REQUIRES: base < 2^62. No gap between primes is longer than 1,600 there, so
  /// that the search is short.
  [[nodiscard]] std::uint64_t Take(std::uint64_t base);

 private:
  /// For a base used before, where its search goes on: below that all primes are taken.
  std::unordered_map<std::uint64_t, std::uint64_t> next_;
  std::unordered_set<std::uint64_t> taken_;
};

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_PRIMES_H_
