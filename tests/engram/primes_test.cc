// Goal: primality is exact, and the supply hands out each prime once, in order from
// any number of bases.
//
// Method: a sieve below 200,000; known primes and strong pseudoprimes at the bounds of
// the witness sets; a supply against a plain set.

#include "engram/primes.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <vector>

namespace tiercel {
namespace {

TEST(IsPrime, AgreesWithASieve) {
  constexpr std::size_t kEnd = 200000;
  std::vector<bool> composite(kEnd, false);
  composite[0] = composite[1] = true;
  for (std::size_t i = 2; i * i < kEnd; ++i) {
    for (std::size_t j = i * i; !composite[i] && j < kEnd; j += i) composite[j] = true;
  }
  for (std::size_t n = 0; n < kEnd; ++n) ASSERT_EQ(IsPrime(n), !composite[n]) << n;
}

TEST(IsPrime, SeesThroughStrongPseudoprimes) {
  // The least composites that pass for the first 1, 2, 3, ... prime witnesses (OEIS
  // A014233), one by one.
  for (const std::uint64_t n : std::vector<std::uint64_t>{2047, 1373653, 25326001}) {
    EXPECT_FALSE(IsPrime(n)) << n;
  }
  for (const std::uint64_t n : std::vector<std::uint64_t>{3215031751, 2152302898747, 3474749660383,
                                                          341550071728321, 3825123056546413051}) {
    EXPECT_FALSE(IsPrime(n)) << n;
  }
  EXPECT_FALSE(IsPrime(561));  // Carmichael.
  EXPECT_FALSE(IsPrime(std::uint64_t{4294967291} * 4294967279));
}

TEST(IsPrime, KnowsLargePrimes) {
  EXPECT_TRUE(IsPrime(2147483647));             // 2^31 - 1
  EXPECT_TRUE(IsPrime(4294967291));             // 2^32 - 5
  EXPECT_TRUE(IsPrime(1099511627689));          // 2^40 - 87
  EXPECT_TRUE(IsPrime(2305843009213693951));    // 2^61 - 1
  EXPECT_TRUE(IsPrime(18446744073709551557U));  // 2^64 - 59
  EXPECT_FALSE(IsPrime(18446744073709551615U));
}

TEST(PrimeSupply, StartsAtTheBaseAndNeverRepeats) {
  PrimeSupply supply;
  EXPECT_EQ(supply.Take(7), 7U);  // A base that is prime counts.
  EXPECT_EQ(supply.Take(7), 11U);
  EXPECT_EQ(supply.Take(2), 2U);
  EXPECT_EQ(supply.Take(5), 5U);
  EXPECT_EQ(supply.Take(5), 13U);  // 7 and 11 are gone.
  EXPECT_EQ(supply.Take(7), 17U);
}

TEST(PrimeSupply, AgreesWithAPlainSearch) {
  PrimeSupply supply;
  std::set<std::uint64_t> seen;
  for (int round = 0; round < 300; ++round) {
    const std::uint64_t base = 100 + static_cast<std::uint64_t>(round * 37 % 11) * 40;
    std::uint64_t expected = base;
    while (seen.contains(expected) || !IsPrime(expected)) ++expected;
    seen.insert(expected);
    ASSERT_EQ(supply.Take(base), expected);
  }
}

}  // namespace
}  // namespace tiercel
