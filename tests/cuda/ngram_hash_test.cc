// Goal: what a thread of the hash kernel computes is what the models do, bit for bit.
//
// Method: the same constexpr code on the host: the golden cases of all three recipes, and
// random runs with dead and unknown tokens against Hasher. (hash_cuda_test runs the kernel.)

#include "cuda/ngram_hash.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/prng.h"
#include "engram/group_space.h"
#include "engram/recipe_check.h"
#include "tests/engram/engram_test_support.h"
#include "tiercel/hasher.h"

namespace tiercel {
namespace {

using NgramTokens = std::vector<std::int32_t>;

WindowRules RulesOf(const RecipeParameters& p) {
  return {.classes = nullptr,
          .id_end = HashedVocabSize(p),
          .fill = static_cast<std::uint64_t>(p.kind == RecipeKind::kQwen38 ? p.eos_token
                                                                           : p.pad_token)};
}

NgramHash HashAt(const Recipe& recipe, std::uint32_t layer, const NgramTokens& ids,
                 std::uint32_t start, std::uint32_t at, std::uint32_t order) {
  const RecipeParameters& p = recipe.parameters;
  const std::uint64_t* const multipliers = recipe.layers[layer].multipliers.data();
  const WindowRules rules = RulesOf(p);
  switch (p.kind) {
    case RecipeKind::kDeepSeekV41:
      return HashNgram<RecipeKind::kDeepSeekV41>(rules, ids.data(), start, at, p.order_max, order,
                                                 multipliers);
    case RecipeKind::kEngramDemo:
      return HashNgram<RecipeKind::kEngramDemo>(rules, ids.data(), start, at, p.order_max, order,
                                                multipliers);
    case RecipeKind::kQwen38:
      break;
  }
  return HashNgram<RecipeKind::kQwen38>(rules, ids.data(), start, at, p.order_max, order,
                                        multipliers);
}

/// As the kernel: a row from a mix by the heads of a GroupSpace.
void ExpectRowsOfCase(const Recipe& recipe, std::uint32_t layer, const NgramTokens& ids,
                      const nlohmann::json& rows, const std::string& name) {
  ASSERT_EQ(rows.size(), ids.size()) << name;
  const std::uint32_t heads = recipe.parameters.head_count;
  const bool is_signed = recipe.parameters.kind == RecipeKind::kEngramDemo;
  for (std::uint32_t order = 0; order < recipe.order_count(); ++order) {
    const auto part = [&](const std::vector<std::uint64_t>& all) {
      return std::span(all).subspan(order * heads, heads);
    };
    const GroupSpace space(part(recipe.layers[layer].head_sizes),
                           part(recipe.layers[layer].offsets),
                           is_signed ? MixRange::kSigned64 : MixRange::kUnsigned63);
    for (std::uint32_t at = 0; at < ids.size(); ++at) {
      const NgramHash hash = HashAt(recipe, layer, ids, 0, at, order);
      EXPECT_EQ(space.key_rule().KeyOf(hash.mix), space.KeyOfMix(hash.mix));
      for (std::uint32_t head = 0; head < heads; ++head) {
        const Head& h = space.heads()[head];
        const std::uint64_t row =
            (is_signed ? h.size.FloorRemainder(hash.mix) : h.size.Remainder(hash.mix)) + h.offset;
        EXPECT_EQ(row, rows[at][order * heads + head].get<std::uint64_t>())
            << name << ", token " << at;
      }
    }
  }
}

TEST(NgramHashTest, GoldenRowsOfAllRecipes) {
  const Recipe v41 = testing::Build(testing::V41Parameters());
  const nlohmann::json golden_v41 = testing::Golden("v41_engram.json");
  for (const nlohmann::json& c : golden_v41["cases"]) {
    const auto ids = c["compressed_ids_dead_is_minus1"].get<NgramTokens>();
    ExpectRowsOfCase(v41, 0, ids, c["layers"]["1"]["rows"], c["name"]);
    ExpectRowsOfCase(v41, 1, ids, c["layers"]["14"]["rows"], c["name"]);
  }
  const Recipe demo = testing::Build(testing::DemoParameters());
  const nlohmann::json golden_demo = testing::Golden("demo_engram.json");
  for (const nlohmann::json& c : golden_demo["cases"]) {
    ExpectRowsOfCase(demo, 1, c["compressed_ids"].get<NgramTokens>(), c["layers"]["15"]["rows"],
                     c["name"]);
  }
  const Recipe qwen = testing::Build(testing::QwenParameters());
  const nlohmann::json golden_qwen38 = testing::Golden("qwen38_ple.json");
  for (const nlohmann::json& c : golden_qwen38["cases"]) {
    ExpectRowsOfCase(qwen, 0, c["token_ids"].get<NgramTokens>(), c["rows"], c["name"]);
  }
}

void ExpectAsHasher(const RecipeParameters& parameters, std::int32_t special, std::uint64_t seed) {
  const Recipe recipe = testing::Build(parameters);
  const Hasher hasher = testing::MakeHasher(parameters);
  Prng prng(seed);
  NgramTokens ids(400);
  for (std::int32_t& id : ids) {
    const std::uint64_t kind = prng.Below(8);
    id = kind == 0   ? kDeadToken
         : kind == 1 ? special
                     : static_cast<std::int32_t>(prng.Below(HashedVocabSize(parameters)));
  }
  // Several runs lie one after another in one array, as the device has them.
  for (std::uint32_t start = 0; start < ids.size();) {
    const auto size =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(1 + prng.Below(60), ids.size() - start));
    const TokenRun run = {.history = {}, .tokens = std::span(ids).subspan(start, size)};
    std::vector<std::uint64_t> mixes(size * recipe.order_count());
    std::vector<std::uint8_t> dead(size);
    ASSERT_TRUE(hasher.Mixes(0, run, mixes, dead).ok());
    for (std::uint32_t i = 0; i < size; ++i) {
      for (std::uint32_t order = 0; order < recipe.order_count(); ++order) {
        const NgramHash hash = HashAt(recipe, 0, ids, start, start + i, order);
        ASSERT_EQ(hash.mix, mixes[i * recipe.order_count() + order]);
        ASSERT_EQ(hash.dead, dead[i] != 0);
        ASSERT_FALSE(hash.unknown);
      }
    }
    start += size;
  }
}

TEST(NgramHashTest, RandomRunsAreTheHashers) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    ExpectAsHasher(testing::V41Parameters(), 2, seed);
    ExpectAsHasher(testing::DemoParameters(), -7, seed);
    ExpectAsHasher(testing::QwenParameters(), 248044, seed);
  }
}

TEST(NgramHashTest, UnknownTokensAreToldAndDead) {
  const Recipe recipe = testing::Build(testing::V41Parameters());
  const NgramTokens ids = {1, 2, 200000, 3, 4, 5, 6};
  for (std::uint32_t at = 0; at < ids.size(); ++at) {
    const NgramHash hash = HashAt(recipe, 0, ids, 0, at, 2);
    EXPECT_EQ(hash.unknown, at >= 2 && at <= 5) << at;  // While it is in the window.
    EXPECT_EQ(hash.dead, hash.unknown);
  }
}

}  // namespace
}  // namespace tiercel
