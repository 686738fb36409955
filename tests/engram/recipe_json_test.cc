// Goal: a recipe is read out of each model's config.json and out of our own recipe
// files, and whatever is wrong in such a file is named.
//
// Method: the published configs, nested and flat; one key spoilt at a time with hostile
// values; round trips; recipe files with pinned numbers that fit and that do not.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/engram/engram_test_support.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/recipe.h"

namespace tiercel {
namespace {

using nlohmann::json;

json V41Config() {
  return testing::Golden("v41_engram.json")["config"];
}
json DemoConfig() {
  json config = testing::Golden("demo_engram.json")["config"];
  config["engram_compressed_vocab_size"] = 98627;
  return config;
}
json QwenConfig() {
  json config = testing::Golden("qwen38_ple.json")["config"];
  config["ple_layer_ids"] = config["ple_layer_ids_one_based"];
  return config;
}

Recipe Parse(const json& config, const ParseRecipeOptions& options = {}) {
  Result<Recipe> recipe = ParseRecipe(config.dump(), "config.json", options);
  if (!recipe.ok()) ADD_FAILURE() << recipe.status().ToString();
  return recipe.ok() ? std::move(recipe).value() : Recipe{};
}

std::string ErrorOfText(const std::string& text, const ParseRecipeOptions& options = {}) {
  const Result<Recipe> recipe = ParseRecipe(text, "config.json", options);
  if (recipe.ok()) return "";
  EXPECT_EQ(recipe.status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(recipe.status().message().starts_with("config.json: ")) << recipe.status().message();
  return std::string(recipe.status().message());
}
std::string ErrorOf(const json& config, const ParseRecipeOptions& options = {}) {
  return ErrorOfText(config.dump(), options);
}

::testing::AssertionResult Names(const std::string& error, const std::string& what) {
  if (error.find(what) != std::string::npos) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "\"" << error << "\" does not name " << what;
}

void ExpectSame(const Recipe& a, const Recipe& b) {
  EXPECT_EQ(ToJson(a), ToJson(b));
}

TEST(ParseRecipe, ReadsThePublishedConfigs) {
  ExpectSame(Parse(V41Config()), testing::Build(testing::V41Parameters()));
  ExpectSame(Parse(DemoConfig()), testing::Build(testing::DemoParameters()));
  ExpectSame(Parse(QwenConfig()), testing::Build(testing::QwenParameters()));
}

TEST(ParseRecipe, ReadsNestedConfigs) {
  for (const json& flat : {V41Config(), QwenConfig()}) {
    // What the top says of other parts of the model does not count.
    json nested = {{"model_type", "x"}, {"text_config", flat}, {"vocab_size", 7}};
    ExpectSame(Parse(nested), Parse(flat));
  }
}

TEST(ParseRecipe, ReadsTheOtherNameOfThePad) {
  json config = V41Config();
  config["engram_pad_id"] = config["engram_pad_token_id"];
  config.erase("engram_pad_token_id");
  ExpectSame(Parse(config), testing::Build(testing::V41Parameters()));
}

TEST(ParseRecipe, QwensMissingKeysHaveItsClassDefaults) {
  json config = {{"ple_layer_ids", {2}},
                 {"vocab_size", 248320},
                 {"eos_token_id", {248044, 3}},
                 {"hidden_size", 2560}};
  ExpectSame(Parse(config), testing::Build(testing::QwenParameters()));
  config["ple_layer_ids"] = {4, 2};
  EXPECT_EQ(Parse(config).parameters.layer_ids, (std::vector<std::uint32_t>{1, 3}));
}

TEST(ParseRecipe, TakesShrunkCheckpointsAtTheirWord) {
  json config = V41Config();
  config["engram_vocab_size"] = 1000;
  config.erase("engram_num_embeddings");
  const Recipe small = Parse(config);
  EXPECT_LT(small.layers[1].row_count, 50000U);
  config["engram_num_embeddings"] = {small.layers[0].row_count, small.layers[1].row_count};
  ExpectSame(Parse(config), small);
}

TEST(ParseRecipe, NamesBothRowCountsThatDiffer) {
  json config = V41Config();
  config["engram_num_embeddings"] = {384006168, 384016683};
  EXPECT_TRUE(Names(ErrorOf(config), "384016683"));
  EXPECT_TRUE(Names(ErrorOf(config), "384016682"));
  config["engram_num_embeddings"] = {384006168};
  EXPECT_TRUE(Names(ErrorOf(config), "engram_num_embeddings"));
}

TEST(ParseRecipe, NeedsTheCompressedVocabularyOfTheDemo) {
  json config = DemoConfig();
  config.erase("engram_compressed_vocab_size");
  EXPECT_TRUE(Names(ErrorOf(config), "compressed vocabulary"));
  ExpectSame(Parse(config, {.compressed_vocab_size = 98627}), Parse(DemoConfig()));
  EXPECT_TRUE(Names(ErrorOf(DemoConfig(), {.compressed_vocab_size = 98628}), "98628"));
  EXPECT_TRUE(Names(ErrorOf(V41Config(), {.compressed_vocab_size = 98627}), "99092"));
  config = DemoConfig();
  config["pad_id_raw"] = 5;  // Raw ids from 3 on need the token map.
  EXPECT_TRUE(Names(ErrorOf(config), "pad_id_compressed"));
  config["pad_id_compressed"] = 4;
  EXPECT_EQ(Parse(config).parameters.pad_token, 4);
}

TEST(ParseRecipe, NamesTheModelItDoesNotKnow) {
  EXPECT_TRUE(Names(ErrorOfText(R"({"model_type": "llama"})"), "llama"));
  EXPECT_TRUE(Names(ErrorOfText("{}"), "engram_layer_ids"));
  EXPECT_TRUE(Names(ErrorOfText("[]"), "not a JSON object"));
  EXPECT_TRUE(Names(ErrorOfText("{"), "not JSON"));
  json both = V41Config();
  both["ple_layer_ids"] = {2};
  EXPECT_TRUE(Names(ErrorOf(both), "more than one"));
}

TEST(ParseRecipe, NamesEachHostileKey) {
  std::vector<json> hostile = {-1,
                               0.5,
                               1e300,
                               "4",
                               true,
                               json::object(),
                               json::array(),
                               json::array({json::array()}),
                               18446744073709551615U,
                               std::vector<int>(5000, 1)};
  int refused = 0;
  const auto spoil = [&](const json& good, const std::vector<std::string>& keys) {
    ASSERT_EQ(ErrorOf(good), "");
    for (const std::string& key : keys) {
      for (const json& value : hostile) {
        json config = good;
        config[key] = value;
        const std::string error = ErrorOf(config);
        EXPECT_NE(error, "") << key << ": " << value;
        ++refused;
      }
      json config = good;
      config.erase(key);
      EXPECT_TRUE(Names(ErrorOf(config), key));
      config[key] = -1;
      EXPECT_TRUE(Names(ErrorOf(config), key));
    }
  };
  spoil(V41Config(), {"engram_layer_ids", "engram_max_ngram_size", "engram_n_heads",
                      "engram_head_dim", "engram_vocab_size", "engram_pad_token_id"});
  spoil(QwenConfig(), {"ple_layer_ids", "vocab_size", "eos_token_id"});
  spoil(DemoConfig(), {"layer_ids", "max_ngram_size", "n_embed_per_ngram", "n_head_per_ngram",
                       "engram_vocab_size"});
  EXPECT_EQ(refused, 140);
}

TEST(ParseRecipe, RefusesQwenLayerZero) {
  json config = QwenConfig();
  config["ple_layer_ids"] = {0};
  EXPECT_TRUE(Names(ErrorOf(config), "count from one"));
  config["ple_layer_ids"] = {2};
  config["ple_embed_dim"] = 2561;
  EXPECT_TRUE(Names(ErrorOf(config), "ple_embed_dim"));
}

TEST(RecipeFile, ReadsBackWhatItWrote) {
  for (const RecipeParameters& p :
       {testing::V41Parameters(), testing::DemoParameters(), testing::QwenParameters()}) {
    const Recipe recipe = testing::Build(p);
    const Recipe again = Parse(json::parse(ToJson(recipe)));
    ExpectSame(again, recipe);
    for (std::size_t i = 0; i < recipe.layers.size(); ++i) {
      EXPECT_EQ(again.layers[i].offsets, recipe.layers[i].offsets);
      EXPECT_EQ(again.layers[i].row_count, recipe.layers[i].row_count);
    }
  }
}

TEST(RecipeFile, DerivesWhatIsNotPinned) {
  json file = json::parse(ToJson(testing::Build(testing::V41Parameters())));
  file.erase("layers");
  ExpectSame(Parse(file), testing::Build(testing::V41Parameters()));
}

TEST(RecipeFile, TakesPinnedNumbersAsTheyAre) {
  json file = json::parse(ToJson(testing::Build(testing::V41Parameters())));
  file["layers"][0]["multipliers"][0] = 12345;
  file["layers"][0]["head_sizes"][0] = 5;
  file["layers"][0].erase("row_count");
  const Recipe recipe = Parse(file);
  EXPECT_EQ(recipe.layers[0].multipliers[0], 12345U);
  EXPECT_EQ(recipe.layers[0].offsets[1], 5U);
}

TEST(RecipeFile, RefusesPinnedNumbersThatDoNotFit) {
  const json good = json::parse(ToJson(testing::Build(testing::V41Parameters())));
  const auto spoilt = [&](const char* pointer, const json& value) {
    json file = good;
    file[json::json_pointer(pointer)] = value;
    return ErrorOf(file);
  };
  EXPECT_TRUE(Names(spoilt("/format", "other"), "format"));
  EXPECT_TRUE(Names(spoilt("/version", 2), "version 2"));
  EXPECT_TRUE(Names(spoilt("/kind", "v5"), "kind"));
  EXPECT_TRUE(Names(spoilt("/pad_tokn", 2), "pad_tokn"));
  EXPECT_TRUE(Names(spoilt("/layers", 2), "layers"));
  EXPECT_TRUE(Names(spoilt("/layers/0", 2), "layers"));
  EXPECT_TRUE(Names(spoilt("/layers/0/layer_id", 2), "layer 2"));
  EXPECT_TRUE(Names(spoilt("/layers/0/extra", 2), "extra"));
  EXPECT_TRUE(Names(spoilt("/layers/0/multipliers/0", 4), "multiplier 4"));
  EXPECT_TRUE(Names(spoilt("/layers/0/multipliers/0", 93079815895035U), "multiplier"));
  EXPECT_TRUE(Names(spoilt("/layers/0/multipliers", {1, 3}), "2 multipliers"));
  EXPECT_TRUE(Names(spoilt("/layers/0/head_sizes/1", 16000080), "16000080"));
  EXPECT_TRUE(Names(spoilt("/layers/0/head_sizes/1", 16000057), "twice"));
  EXPECT_TRUE(Names(spoilt("/layers/1/head_sizes/0", 16000057), "twice"));
  EXPECT_TRUE(Names(spoilt("/layers/0/head_sizes", {16000057}), "1 head sizes"));
  EXPECT_TRUE(Names(spoilt("/layers/0/row_count", 384006169), "384006169"));
  json file = good;
  file["layers"].erase(1);
  EXPECT_TRUE(Names(ErrorOf(file), "1 layers"));
  EXPECT_TRUE(Names(ErrorOf(good, {.compressed_vocab_size = 5}), "5 classes"));
}

TEST(LoadRecipe, ReadsFilesAndNamesThem) {
  const testing::ScratchDir dir;
  const std::string path = dir.Write("config.json", V41Config().dump());
  const Result<Recipe> recipe = LoadRecipe(path);
  ASSERT_TRUE(recipe.ok()) << recipe.status().ToString();
  ExpectSame(recipe.value(), testing::Build(testing::V41Parameters()));
  EXPECT_EQ(LoadRecipe(dir.File("none.json")).status().code(), StatusCode::kNotFound);
  const Result<Recipe> bad = LoadRecipe(dir.Write("bad.json", "{}"));
  EXPECT_TRUE(Names(std::string(bad.status().message()), "bad.json"));
}

}  // namespace
}  // namespace tiercel
