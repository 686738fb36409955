// Goal: the token map is the paper's, class for class; files are read back as written;
// a tokenizer file that is none, or has holes, is refused by name.
//
// Method: the DeepSeek-V3 tokenizer against a map made by an independent program
// (token_map_v3.u32) and the paper's counts; small tokenizers made by hand.

#include "tiercel/token_map.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "tests/engram/engram_test_support.h"
#include "tests/support/scratch_dir.h"
#include "tests/support/zstd_file.h"

namespace tiercel {
namespace {

using Classes = std::vector<std::uint32_t>;

const TokenMap& DeepSeekV3() {
  static const TokenMap map = [] {
    const std::string json =
        testing::ReadZstdSourceFile("tests/data/tokenizer_deepseek_v3.json.zst");
    Result<TokenMap> result = TokenMap::FromTokenizerJson(json, "tokenizer.json");
    if (!result.ok()) ADD_FAILURE() << result.status().ToString();
    return std::move(result).value();
  }();
  return map;
}

/// The classes of a tokenizer with this vocabulary; empty on an error.
Classes ClassesOf(const std::string& vocab, const std::string& added = "[]") {
  const Result<TokenMap> map = TokenMap::FromTokenizerJson(
      R"({"model": {"vocab": )" + vocab + R"(}, "added_tokens": )" + added + "}", "t.json");
  if (!map.ok()) {
    ADD_FAILURE() << map.status().ToString();
    return {};
  }
  const auto classes = map.value().classes();
  return {classes.begin(), classes.end()};
}

std::string ErrorOf(const std::string& json) {
  const Result<TokenMap> map = TokenMap::FromTokenizerJson(json, "t.json");
  if (map.ok()) return "";
  EXPECT_EQ(map.status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(map.status().message().starts_with("t.json: ")) << map.status().message();
  return std::string(map.status().message());
}

TEST(TokenMapOfDeepSeekV3, IsTheIndependentOne) {
  const std::string bytes = testing::ReadSourceFile("tests/data/token_map_v3.u32");
  Classes expected(bytes.size() / 4);
  std::memcpy(expected.data(), bytes.data(), bytes.size());
  const TokenMap& map = DeepSeekV3();
  ASSERT_EQ(map.entry_count(), 128815U);
  EXPECT_EQ(map.class_count(), 98627U);  // The paper's 23.43 %.
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(map.classes()[i], expected[i]) << "token " << i;
  }
}

TEST(TokenMapOfDeepSeekV3, HasTheGoldenSamples) {
  const nlohmann::json golden = testing::Golden("demo_engram.json");
  ASSERT_GE(golden["lookup_samples"].size(), 14U);
  for (const nlohmann::json& sample : golden["lookup_samples"]) {
    EXPECT_EQ(DeepSeekV3().classes()[sample["raw"].get<std::size_t>()], sample["compressed"]);
  }
  EXPECT_EQ(DeepSeekV3().class_count(), golden["compressed_vocab_size"]);
}

TEST(TokenMapOfDeepSeekV3, MergesAsManyTokensAsThePaperSays) {
  std::map<std::uint32_t, int> tokens_of_class;
  for (const std::uint32_t c : DeepSeekV3().classes()) ++tokens_of_class[c];
  std::vector<int> counts;
  for (const auto& [id, count] : tokens_of_class) counts.push_back(count);
  std::sort(counts.rbegin(), counts.rend());
  counts.resize(5);
  EXPECT_EQ(counts, (std::vector<int>{163, 54, 40, 35, 30}));  // Appendix C.
}

TEST(TokenMapOfDeepSeekV3, GivesTheDemosSentenceAndRows) {
  const nlohmann::json golden = testing::Golden("demo_engram.json");
  auto map = std::make_shared<const TokenMap>(DeepSeekV3());
  Result<Hasher> hasher = Hasher::Create(testing::Build(testing::DemoParameters()), map);
  ASSERT_TRUE(hasher.ok()) << hasher.status().ToString();
  const auto raw = golden["demo_sentence"]["raw_ids_with_bos"].get<std::vector<std::int32_t>>();
  const nlohmann::json& c = golden["cases"][3];
  ASSERT_EQ(c["name"], "demo_sentence_compressed");
  EXPECT_EQ(nlohmann::json(testing::RowsOf(hasher.value(), 0, {}, raw)), c["layers"]["1"]["rows"]);
  EXPECT_EQ(nlohmann::json(testing::RowsOf(hasher.value(), 1, {}, raw)), c["layers"]["15"]["rows"]);
}

TEST(TokenMap, MergesByNormalisedText) {
  // "\u0120" is the byte-level spelling of a space.
  EXPECT_EQ(ClassesOf(R"({"the": 0, "\u0120the": 1, "The": 2, "THE": 3, "then": 4})"),
            (Classes{0, 0, 0, 0, 1}));
  // U+00E9 in UTF-8 is C3 A9, spelt \u00c3\u00a9: loses its accent.
  EXPECT_EQ(ClassesOf(R"({"e": 0, "\u00c3\u00a9": 1})"), (Classes{0, 0}));
  // One space, two spaces, a newline (spelt \u010a): one class, not that of "".
  EXPECT_EQ(ClassesOf(R"({"\u0120": 0, "\u0120\u0120": 1, "\u010a": 2, "a": 3})"),
            (Classes{0, 0, 0, 1}));
}

TEST(TokenMap, TellsHalfCharactersApartBySpelling) {
  // The single bytes C3 and E2 decode to U+FFFD, both; U+FFFD itself is EF BF BD.
  EXPECT_EQ(ClassesOf(R"({"\u00c3": 0, "\u00e2": 1, "\u00ef\u00bf\u00bd": 2})"),
            (Classes{0, 1, 2}));
}

TEST(TokenMap, KeepsTextThatNormalisesToNothing) {
  // Combining acute and grave (CC 81, CC 80; 80 and 81 are spelt \u0122 and \u0123).
  EXPECT_EQ(ClassesOf(R"({"\u00cc\u0123": 0, "\u00cc\u0122": 1, "": 2})"), (Classes{0, 1, 2}));
}

TEST(TokenMap, AddedTokensAreLiteralAndMayTakeAnId) {
  EXPECT_EQ(ClassesOf(R"({"<s>": 0, "\u20ac": 1, "a": 2})",
                      R"([{"id": 1, "content": "\u20ac"}, {"id": 3, "content": "A"}])"),
            (Classes{0, 1, 2, 2}));
}

TEST(TokenMap, RefusesFilesThatAreNoVocabulary) {
  const auto vocab = [](const std::string& text) {
    return R"({"model": {"vocab": )" + text + "}}";
  };
  EXPECT_NE(ErrorOf("{").find("not JSON"), std::string::npos);
  EXPECT_NE(ErrorOf("[]").find("model.vocab"), std::string::npos);
  EXPECT_NE(ErrorOf(R"({"model": {"vocab": [["a", 0.5]]}})").find("model.vocab"),
            std::string::npos);
  EXPECT_NE(ErrorOf(vocab("{}")).find("empty"), std::string::npos);
  EXPECT_NE(ErrorOf(vocab(R"({"a": 0, "b": 0})")).find("id 0 stands twice"), std::string::npos);
  EXPECT_NE(ErrorOf(vocab(R"({"a": 0, "b": 2})")).find("\"b\" has no id in [0, 2)"),
            std::string::npos);
  EXPECT_NE(ErrorOf(vocab(R"({"a": -1})")).find("no id"), std::string::npos);
  EXPECT_NE(ErrorOf(vocab(R"({"a": 0.0})")).find("no id"), std::string::npos);
  EXPECT_NE(ErrorOf(vocab(R"({"a": 1e300})")).find("no id"), std::string::npos);
  EXPECT_NE(ErrorOf(vocab(R"({"\u20ac": 0})")).find("alphabet"), std::string::npos);
  EXPECT_NE(ErrorOf(vocab(R"({"a b": 0})")).find("alphabet"), std::string::npos);
  EXPECT_NE(ErrorOf(R"({"model": {"vocab": {"a": 0}}, "added_tokens": {}})").find("no list"),
            std::string::npos);
  EXPECT_NE(
      ErrorOf(R"({"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1}]})").find("\"content\""),
      std::string::npos);
  EXPECT_NE(ErrorOf(R"({"model": {"vocab": {"a": 0}}, "added_tokens":
                        [{"id": 0, "content": "x"}, {"id": 0, "content": "y"}]})")
                .find("twice"),
            std::string::npos);
  // A hole that the count of tokens does not show: id 1 is given to two, 2 to none.
  EXPECT_NE(ErrorOf(R"({"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens":
                        [{"id": 1, "content": "x"}, {"id": 3, "content": "y"}]})")
                .find("no token has the id 2"),
            std::string::npos);
}

TEST(TokenMap, ReadsBackWhatItWrote) {
  const testing::ScratchDir dir;
  const std::string path = dir.File("map.u32");
  ASSERT_TRUE(DeepSeekV3().Save(path).ok());
  const Result<TokenMap> map = TokenMap::Load(path);
  ASSERT_TRUE(map.ok()) << map.status().ToString();
  EXPECT_EQ(map.value().class_count(), 98627U);
  EXPECT_TRUE(std::ranges::equal(map.value().classes(), DeepSeekV3().classes()));
}

TEST(TokenMap, RefusesFilesThatAreNoMap) {
  const testing::ScratchDir dir;
  EXPECT_EQ(TokenMap::Load(dir.File("none")).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(TokenMap::Load(dir.Write("empty", "")).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(TokenMap::Load(dir.Write("odd", "12345")).status().code(),
            StatusCode::kInvalidArgument);
  const std::string gap("\0\0\0\0\2\0\0\0", 8);
  const Result<TokenMap> map = TokenMap::Load(dir.Write("gap", gap));
  ASSERT_FALSE(map.ok());
  EXPECT_NE(map.status().message().find("token 1 has class 2"), std::string::npos)
      << map.status().message();
  EXPECT_EQ(TokenMap::FromClasses({1}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(TokenMap::FromClasses({0, 1, 0, 2}).ok());
}

TEST(TokenMap, FailedSaveSaysWhere) {
  const testing::ScratchDir dir;
  const Status status = DeepSeekV3().Save(dir.File("no/such/folder.u32"));
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find("folder.u32"), std::string::npos) << status.message();
}

}  // namespace
}  // namespace tiercel
