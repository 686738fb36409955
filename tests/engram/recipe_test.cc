// Goal: every derived number of the three recipes is the published one, and parameters
// that would give a wrong or unbounded recipe are refused by name.
//
// Method: golden multipliers, head sizes, offsets and row counts; one parameter broken
// at a time.

#include "tiercel/recipe.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/engram/engram_test_support.h"

namespace tiercel {
namespace {

std::vector<std::uint64_t> Flat(const nlohmann::json& orders) {
  std::vector<std::uint64_t> values;
  for (const nlohmann::json& order : orders) {
    for (const nlohmann::json& value : order) values.push_back(value.get<std::uint64_t>());
  }
  return values;
}

void ExpectGoldenLayer(const LayerRecipe& layer, const nlohmann::json& multipliers,
                       const nlohmann::json& primes, const nlohmann::json& offsets) {
  EXPECT_EQ(nlohmann::json(layer.multipliers), multipliers);
  EXPECT_EQ(layer.head_sizes, Flat(primes));
  EXPECT_EQ(nlohmann::json(layer.offsets), offsets);
}

std::string ErrorOf(const RecipeParameters& parameters) {
  const Result<Recipe> recipe = BuildRecipe(parameters);
  if (recipe.ok()) return "";
  EXPECT_EQ(recipe.status().code(), StatusCode::kInvalidArgument);
  return std::string(recipe.status().message());
}

TEST(BuildRecipe, GivesDeepSeekV41sNumbers) {
  const nlohmann::json golden = testing::Golden("v41_engram.json");
  const Recipe recipe = testing::Build(testing::V41Parameters());
  ASSERT_EQ(recipe.layers.size(), 2U);
  EXPECT_EQ(recipe.order_count(), 3U);
  EXPECT_EQ(recipe.column_count(), 24U);
  for (const LayerRecipe& layer : recipe.layers) {
    const std::string id = std::to_string(layer.layer_id);
    ExpectGoldenLayer(layer, golden["multipliers"][id], golden["head_primes"][id],
                      golden["offsets"][id]);
    EXPECT_EQ(layer.row_count, golden["total_rows"][id]);
  }
  EXPECT_EQ(recipe.layers[0].row_count, 384006168U);  // The numbers of its config.json.
  EXPECT_EQ(recipe.layers[1].row_count, 384016682U);
  EXPECT_EQ(recipe.FindLayer(14), 1U);
  EXPECT_EQ(recipe.FindLayer(0), std::nullopt);
}

TEST(BuildRecipe, GivesTheDemosNumbers) {
  const nlohmann::json golden = testing::Golden("demo_engram.json");
  const Recipe recipe = testing::Build(testing::DemoParameters());
  ASSERT_EQ(recipe.layers.size(), 2U);
  for (const LayerRecipe& layer : recipe.layers) {
    const std::string id = std::to_string(layer.layer_id);
    ExpectGoldenLayer(layer, golden["multipliers"][id], golden["head_primes"][id],
                      golden["offsets"][id]);
    EXPECT_EQ(layer.row_count, golden["total_rows"][id]);
  }
}

TEST(BuildRecipe, GivesQwen38sNumbers) {
  const nlohmann::json golden = testing::Golden("qwen38_ple.json");
  const Recipe recipe = testing::Build(testing::QwenParameters());
  ASSERT_EQ(recipe.layers.size(), 1U);
  ExpectGoldenLayer(recipe.layers[0], golden["multipliers"], golden["head_primes"],
                    golden["offsets"]);
  EXPECT_EQ(recipe.layers[0].row_count, golden["padded_rows"]);
}

TEST(BuildRecipe, AgreesWithNumpyOnOtherLayers) {
  // rng_pcg64.json holds layers 1, 14 and 15 for both vocabularies; the models use only
  // some of these.
  const nlohmann::json golden = testing::Golden("rng_pcg64.json");
  for (const char* const name : {"bounded_V98627", "bounded_V99092"}) {
    for (const nlohmann::json& layer : golden["layers"]) {
      RecipeParameters p = testing::V41Parameters();
      p.layer_ids = {layer["layer_id"].get<std::uint32_t>()};
      p.compressed_vocab_size = std::string(name) == "bounded_V98627" ? 98627 : 99092;
      EXPECT_EQ(nlohmann::json(testing::Build(p).layers[0].multipliers),
                layer[name]["multipliers"]);
    }
  }
}

TEST(BuildRecipe, NumbersQwensLayersByAscendingId) {
  RecipeParameters p = testing::QwenParameters();
  p.layer_ids = {9, 1};
  const Recipe swapped = testing::Build(p);
  p.layer_ids = {1, 9};
  const Recipe ordered = testing::Build(p);
  const LayerRecipe first = testing::Build(testing::QwenParameters()).layers[0];
  EXPECT_EQ(ordered.layers[0].head_sizes, first.head_sizes);
  EXPECT_EQ(swapped.layers[1].head_sizes, first.head_sizes);
  EXPECT_EQ(swapped.layers[1].multipliers, first.multipliers);
  EXPECT_EQ(swapped.layers[0].multipliers, ordered.layers[1].multipliers);
  EXPECT_NE(swapped.layers[0].multipliers, first.multipliers);
}

TEST(BuildRecipe, RefusesEachParameterOutOfRange) {
  struct Case {
    const char* named;
    std::function<void(RecipeParameters&)> spoil;
  };
  const std::vector<Case> cases = {
      {"order_max", [](auto& p) { p.order_max = 1; }},
      {"order_max", [](auto& p) { p.order_max = 9; }},
      {"head_count", [](auto& p) { p.head_count = 0; }},
      {"head_count", [](auto& p) { p.head_count = 65; }},
      {"head_dim", [](auto& p) { p.head_dim = 0; }},
      {"head_dim", [](auto& p) { p.head_dim = 65537; }},
      {"layers", [](auto& p) { p.layer_ids.clear(); }},
      {"twice",
       [](auto& p) {
         p.layer_ids = {3, 4, 3};
       }},
      {"head_size_bases", [](auto& p) { p.head_size_bases.pop_back(); }},
      {"head size base", [](auto& p) { p.head_size_bases[1] = 1; }},
      {"head size base", [](auto& p) { p.head_size_bases[1] = std::uint64_t{1} << 40; }},
      {"is not a prime below",
       [](auto& p) { p.head_size_bases[0] = (std::uint64_t{1} << 40) - 1; }},
      {"compressed_vocab_size", [](auto& p) { p.compressed_vocab_size = 0; }},
      {"vocab_size", [](auto& p) { p.vocab_size = 99091; }},
      {"2^32", [](auto& p) { p.vocab_size = p.compressed_vocab_size = 1U << 30; }},
      {"pad_token", [](auto& p) { p.pad_token = -1; }},
      {"pad_token", [](auto& p) { p.pad_token = 99092; }},
      {"seed", [](auto& p) { p.seed = 1; }},
      {"row_count_multiple", [](auto& p) { p.row_count_multiple = 0; }},
      {"row_count_multiple", [](auto& p) { p.row_count_multiple = 128; }},
      {"unknown kind", [](auto& p) { p.kind = static_cast<RecipeKind>(7); }},
  };
  for (const Case& c : cases) {
    RecipeParameters p = testing::V41Parameters();
    c.spoil(p);
    EXPECT_NE(ErrorOf(p).find(c.named), std::string::npos) << c.named << ": " << ErrorOf(p);
  }
  EXPECT_EQ(ErrorOf(testing::V41Parameters()), "");
}

TEST(BuildRecipe, RefusesWhatOnlyQwenOrTheDemoCanGetWrong) {
  RecipeParameters p = testing::QwenParameters();
  p.eos_token = 248320;
  EXPECT_NE(ErrorOf(p).find("eos_token is 248320"), std::string::npos);
  p = testing::QwenParameters();
  p.head_size_bases[1] += 2;
  EXPECT_NE(ErrorOf(p).find("one base"), std::string::npos);
  p = testing::QwenParameters();
  p.compressed_vocab_size = 5;
  EXPECT_NE(ErrorOf(p).find("raw ids"), std::string::npos);
  p = testing::QwenParameters();
  p.vocab_size = 0;
  EXPECT_NE(ErrorOf(p).find("vocab_size"), std::string::npos);
  p = testing::QwenParameters();
  p.row_count_multiple = (1U << 20) + 1;
  EXPECT_NE(ErrorOf(p).find("row_count_multiple"), std::string::npos);
  p = testing::DemoParameters();
  p.seed = ~std::uint64_t{0};
  EXPECT_NE(ErrorOf(p).find("2^64"), std::string::npos);
}

TEST(BuildRecipe, BoundsTheWorkOfHostileSizes) {
  RecipeParameters p = testing::V41Parameters();
  p.order_max = 8;
  p.head_count = 64;
  p.head_size_bases.assign(7, 1000000000000);
  p.layer_ids.clear();
  for (std::uint32_t id = 0; id < 36; ++id) p.layer_ids.push_back(id);
  EXPECT_EQ(ErrorOf(p), "");  // 36 * 448 = 16,128 columns: the most that is taken.
  p.layer_ids.push_back(36);
  EXPECT_NE(ErrorOf(p).find("16384"), std::string::npos);
  p = testing::V41Parameters();
  for (std::uint32_t id = 100; p.layer_ids.size() < 257; ++id) p.layer_ids.push_back(id);
  EXPECT_NE(ErrorOf(p).find("257"), std::string::npos);
}

TEST(ShardRecipe, KeepsEveryCountthHeadAndTheWholeTablesRows) {
  for (const RecipeParameters& p :
       {testing::V41Parameters(), testing::DemoParameters(), testing::QwenParameters()}) {
    const Recipe whole = testing::Build(p);
    const std::uint32_t heads = p.head_count;
    for (const std::uint32_t count : {1U, 3U, heads}) {
      for (std::uint32_t rank = 0; rank < count; ++rank) {
        const Result<Recipe> made = ShardRecipe(whole, {.rank = rank, .count = count});
        ASSERT_TRUE(made.ok()) << made.status().ToString();
        const Recipe& shard = made.value();
        EXPECT_EQ(shard.shard, (HeadShard{.rank = rank, .count = count}));
        const std::uint32_t local = shard.parameters.head_count;
        EXPECT_EQ(local, heads / count + (rank < heads % count ? 1 : 0));
        for (std::size_t i = 0; i < whole.layers.size(); ++i) {
          EXPECT_EQ(shard.layers[i].row_count, whole.layers[i].row_count);
          EXPECT_EQ(shard.layers[i].multipliers, whole.layers[i].multipliers);
          ASSERT_EQ(shard.layers[i].offsets.size(), shard.column_count());
          for (std::uint32_t column = 0; column < shard.column_count(); ++column) {
            const std::uint32_t in_whole = column / local * heads + rank + column % local * count;
            EXPECT_EQ(shard.layers[i].offsets[column], whole.layers[i].offsets[in_whole]);
            EXPECT_EQ(shard.layers[i].head_sizes[column], whole.layers[i].head_sizes[in_whole]);
          }
        }
      }
    }
  }
}

TEST(ShardRecipe, RefusesWhatIsNoShard) {
  const Recipe whole = testing::Build(testing::V41Parameters());
  const auto error = [](const Recipe& recipe, HeadShard shard) {
    const Result<Recipe> made = ShardRecipe(recipe, shard);
    if (made.ok()) return std::string();
    EXPECT_EQ(made.status().code(), StatusCode::kInvalidArgument);
    return std::string(made.status().message());
  };
  EXPECT_NE(error(whole, {.rank = 0, .count = 0}).find("shard 0/0"), std::string::npos);
  EXPECT_NE(error(whole, {.rank = 2, .count = 2}).find("shard 2/2"), std::string::npos);
  EXPECT_NE(error(whole, {.rank = 0, .count = 9}).find("1 to 8 ranks"), std::string::npos);
  const Recipe half = ShardRecipe(whole, {.rank = 1, .count = 2}).value();
  EXPECT_NE(error(half, {.rank = 0, .count = 2}).find("already"), std::string::npos);
  // A shard's recipe file is told from a whole one's.
  const Result<Recipe> parsed = ParseRecipe(ToJson(half), "half.json");
  ASSERT_FALSE(parsed.ok());
  EXPECT_NE(parsed.status().message().find("one head shard"), std::string::npos);
}

TEST(ShardRecipe, OneThatWasTamperedWithMakesNoHasher) {
  const Recipe whole = testing::Build(testing::V41Parameters());
  const Recipe half = ShardRecipe(whole, {.rank = 1, .count = 2}).value();
  EXPECT_TRUE(Hasher::Create(half).ok());
  const std::vector<std::function<void(Recipe&)>> spoils = {
      [](Recipe& r) { r.shard = {}; },
      [](Recipe& r) { r.shard.rank = 2; },
      [](Recipe& r) { r.layers[0].offsets.pop_back(); },
      [](Recipe& r) { r.layers[0].offsets[3] = r.layers[0].offsets[2]; },
      [](Recipe& r) { r.layers[1].offsets.back() = ~std::uint64_t{0}; },
      [](Recipe& r) { r.layers[1].row_count = r.layers[1].offsets.back(); },
      [](Recipe& r) { r.layers[1].row_count = ~std::uint64_t{0}; },
  };
  for (std::size_t i = 0; i < spoils.size(); ++i) {
    Recipe spoilt = half;
    spoils[i](spoilt);
    EXPECT_EQ(Hasher::Create(spoilt).status().code(), StatusCode::kInvalidArgument) << i;
  }
}

TEST(RecipeKind, HasStableNames) {
  EXPECT_EQ(Name(RecipeKind::kDeepSeekV41), "deepseek-v4.1");
  EXPECT_EQ(Name(RecipeKind::kEngramDemo), "engram-demo");
  EXPECT_EQ(Name(RecipeKind::kQwen38), "qwen3.8");
}

}  // namespace
}  // namespace tiercel
