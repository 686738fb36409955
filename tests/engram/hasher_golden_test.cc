// Goal: row ids are the models' own, bit for bit.
//
// Method: the golden cases of all three recipes, dead tokens and segment ends included:
// as one run, and one token at a time with its history.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/engram/engram_test_support.h"
#include "tiercel/hasher.h"

namespace tiercel {
namespace {

using Ids = std::vector<std::int32_t>;

void ExpectRows(const Hasher& hasher, std::uint32_t layer_index, const Ids& ids,
                const nlohmann::json& rows, const std::string& name) {
  ASSERT_EQ(rows.size(), ids.size()) << name;
  EXPECT_EQ(nlohmann::json(testing::RowsOf(hasher, layer_index, {}, ids)), rows) << name;
  // As an engine decodes: token by token, with the history cut to what is needed.
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::size_t first = i - std::min<std::size_t>(i, hasher.recipe().order_count());
    const auto at = ids.begin() + static_cast<std::ptrdiff_t>(i);
    const Ids history(ids.begin() + static_cast<std::ptrdiff_t>(first), at);
    EXPECT_EQ(nlohmann::json(testing::RowsOf(hasher, layer_index, history, {*at})[0]), rows[i])
        << name << ", token " << i;
  }
}

TEST(HasherGolden, DeepSeekV41) {
  const nlohmann::json golden = testing::Golden("v41_engram.json");
  const Hasher hasher = testing::MakeHasher(testing::V41Parameters());
  ASSERT_EQ(golden["cases"].size(), 6U);
  for (const nlohmann::json& c : golden["cases"]) {
    const Ids ids = c["compressed_ids_dead_is_minus1"].get<Ids>();
    for (std::uint32_t layer = 0; layer < 2; ++layer) {
      const std::string id = std::to_string(hasher.recipe().layers[layer].layer_id);
      ExpectRows(hasher, layer, ids, c["layers"][id]["rows"], c["name"]);
    }
    std::vector<std::uint8_t> dead;
    static_cast<void>(testing::RowsOf(hasher, 0, {}, ids, &dead));
    for (std::size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(dead[i] != 0, ids[i] == kDeadToken);
  }
}

TEST(HasherGolden, Demo) {
  const nlohmann::json golden = testing::Golden("demo_engram.json");
  const Hasher hasher = testing::MakeHasher(testing::DemoParameters());
  ASSERT_EQ(golden["cases"].size(), 4U);
  for (const nlohmann::json& c : golden["cases"]) {
    const Ids ids = c["compressed_ids"].get<Ids>();
    for (std::uint32_t layer = 0; layer < 2; ++layer) {
      const LayerRecipe& recipe = hasher.recipe().layers[layer];
      const std::string id = std::to_string(recipe.layer_id);
      ExpectRows(hasher, layer, ids, c["layers"][id]["rows"], c["name"]);
      auto hashes = testing::RowsOf(hasher, layer, {}, ids);
      for (auto& row : hashes) {
        for (std::size_t column = 0; column < row.size(); ++column) {
          row[column] -= recipe.offsets[column];
        }
      }
      EXPECT_EQ(nlohmann::json(hashes), c["layers"][id]["hash"]) << c["name"];
    }
  }
}

TEST(HasherGolden, Qwen38) {
  const nlohmann::json golden = testing::Golden("qwen38_ple.json");
  const Hasher hasher = testing::MakeHasher(testing::QwenParameters());
  ASSERT_EQ(golden["cases"].size(), 3U);
  for (const nlohmann::json& c : golden["cases"]) {
    ExpectRows(hasher, 0, c["token_ids"].get<Ids>(), c["rows"], c["name"]);
  }
}

// The reference that the property tests lean on meets the same vectors.
TEST(HasherGolden, ReferenceModelIsRight) {
  const nlohmann::json v41 = testing::Golden("v41_engram.json");
  const Recipe recipe = testing::Build(testing::V41Parameters());
  for (const nlohmann::json& c : v41["cases"]) {
    const Ids ids = c["compressed_ids_dead_is_minus1"].get<Ids>();
    EXPECT_EQ(nlohmann::json(testing::ReferenceRows(recipe, 1, ids)), c["layers"]["14"]["rows"]);
  }
  const nlohmann::json qwen = testing::Golden("qwen38_ple.json");
  const Recipe qwen_recipe = testing::Build(testing::QwenParameters());
  for (const nlohmann::json& c : qwen["cases"]) {
    EXPECT_EQ(nlohmann::json(testing::ReferenceRows(qwen_recipe, 0, c["token_ids"].get<Ids>())),
              c["rows"]);
  }
}

}  // namespace
}  // namespace tiercel
