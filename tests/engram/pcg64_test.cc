// Goal: our SeedSequence and PCG64 give numpy's stream, bit for bit, at every stage.
//
// Method: traces of numpy 1.24.2 (rng_pcg64.json): pool, state words, state and
// increment after seeding, raw draws, bounded draws; and two-word seeds.

#include "engram/pcg64.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/engram/engram_test_support.h"

namespace tiercel {
namespace {

std::string Decimal(unsigned __int128 value) {
  std::string digits;
  do {
    digits.insert(digits.begin(), static_cast<char>('0' + static_cast<int>(value % 10)));
    value /= 10;
  } while (value != 0);
  return digits;
}

TEST(Pcg64, FollowsNumpyStageByStage) {
  const nlohmann::json golden = testing::Golden("rng_pcg64.json");
  ASSERT_EQ(golden["layers"].size(), 3U);
  for (const nlohmann::json& layer : golden["layers"]) {
    const SeedSequence seed(layer["seed"].get<std::uint64_t>());
    EXPECT_EQ(nlohmann::json(seed.pool()), layer["seedseq_pool_u32"]);
    const auto state = seed.GenerateState();
    for (std::size_t i = 0; i < state.size(); ++i) {
      EXPECT_EQ(std::to_string(state[i]), layer["generate_state_u64"][i]);
    }
    Pcg64 generator(seed);
    EXPECT_EQ(Decimal(generator.state()), layer["pcg_state_after_seeding"]);
    EXPECT_EQ(Decimal(generator.increment()), layer["pcg_inc"]);
    for (const nlohmann::json& raw : layer["raw_u64"]) {
      EXPECT_EQ(std::to_string(generator.Next()), raw);
    }
    for (const char* const name : {"bounded_V98627", "bounded_V99092"}) {
      const nlohmann::json& bounded = layer[name];
      Pcg64 fresh(seed);
      const auto bound = bounded["bound_exclusive"].get<std::uint64_t>();
      for (const nlohmann::json& draw : bounded["draws"]) EXPECT_EQ(fresh.Below(bound), draw);
    }
  }
}

TEST(Pcg64, RedrawsWhereABoundWouldFavourSomeNumbers) {
  // A bound just above 2^63 throws half of the raw draws away: what is kept is the high
  // half of raw * bound where the low half is not below 2^64 mod bound.
  const std::uint64_t bound = (std::uint64_t{1} << 63) + 1;
  Pcg64 raw{SeedSequence(5)};
  Pcg64 bounded{SeedSequence(5)};
  int thrown_away = 0;
  for (int i = 0; i < 200; ++i) {
    unsigned __int128 product = 0;
    for (;; ++thrown_away) {
      product = static_cast<unsigned __int128>(raw.Next()) * bound;
      if (static_cast<std::uint64_t>(product) >= (0 - bound) % bound) break;
    }
    ASSERT_EQ(bounded.Below(bound), static_cast<std::uint64_t>(product >> 64));
  }
  EXPECT_GT(thrown_away, 100);
}

TEST(Pcg64, SeedsOfTwoWordsUseBoth) {
  const std::uint64_t low = 7;
  const std::uint64_t high = std::uint64_t{7} << 32;
  EXPECT_NE(SeedSequence(low).pool(), SeedSequence(low | high).pool());
  EXPECT_NE(SeedSequence(low).pool(), SeedSequence(high).pool());
}

TEST(Pcg64DeathTest, RefusesBoundsOfNumpysOtherPath) {
  Pcg64 generator{SeedSequence(1)};
  EXPECT_DEATH(static_cast<void>(generator.Below(std::uint64_t{1} << 32)), "TIERCEL_CHECK");
}

}  // namespace
}  // namespace tiercel
