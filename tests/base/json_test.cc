// Goal: the JSON reader takes what a JSON text may hold and refuses what two
// readers might read differently, or what would exhaust us; it never throws.
//
// Method: values of each kind; then duplicate keys, deep nesting, malformed and
// truncated texts, and seeded damage to a good text.

#include "base/json.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "base/prng.h"

namespace tiercel {
namespace {

constexpr std::string_view kConfig =
    R"({"model_type": "x", "text_config": {"layers": [1, 14], "eps": 1e-20,)"
    R"( "big": 9223372036854775807, "neg": -3, "yes": true, "none": null, "text": "a\u00e9\n"}})";

std::string ErrorOf(std::string_view text, const JsonLimits& limits = {}) {
  const Result<nlohmann::json> result = ParseJson(text, "config.json", limits);
  if (result.ok()) return "";
  EXPECT_EQ(result.status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(result.status().message().starts_with("config.json: ")) << result.status().message();
  return std::string(result.status().message());
}

TEST(ParseJson, ReadsEveryKindOfValue) {
  Result<nlohmann::json> result = ParseJson(kConfig, "config.json");
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  const nlohmann::json& text = result.value()["text_config"];
  EXPECT_EQ(text["layers"], nlohmann::json({1, 14}));
  EXPECT_EQ(text["eps"], 1e-20);
  EXPECT_EQ(text["big"].get<std::uint64_t>(), 9223372036854775807U);
  EXPECT_EQ(text["neg"], -3);
  EXPECT_EQ(text["yes"], true);
  EXPECT_TRUE(text["none"].is_null());
  EXPECT_EQ(text["text"], "a\u00e9\n");
  EXPECT_EQ(result.value(), nlohmann::json::parse(kConfig));
}

TEST(ParseJson, ReadsScalarsAndEmptyContainers) {
  EXPECT_EQ(ParseJson("17", "x").value(), 17);
  EXPECT_EQ(ParseJson(" \"a\" ", "x").value(), "a");
  EXPECT_EQ(ParseJson("{}", "x").value(), nlohmann::json::object());
  EXPECT_EQ(ParseJson("[[], {}]", "x").value().size(), 2U);
  EXPECT_EQ(ParseJson("18446744073709551615", "x").value().get<std::uint64_t>(),
            18446744073709551615U);
}

TEST(ParseJson, RefusesAKeyTwice) {
  EXPECT_NE(ErrorOf(R"({"a": 1, "b": 2, "a": 3})").find("\"a\" stands twice"), std::string::npos);
  EXPECT_NE(ErrorOf(R"({"x": [{"a": 1, "\u0061": 1}]})").find("stands twice"), std::string::npos);
  EXPECT_NE(ErrorOf(R"({"a": {}, "a": {}})").find("stands twice"), std::string::npos);
  // The same key in different objects is not the same key.
  EXPECT_EQ(ErrorOf(R"({"a": {"a": 1}, "b": {"a": 1}, "c": [{"a": 1}, {"a": 2}]})"), "");
}

TEST(ParseJson, RefusesDeepNesting) {
  auto nested = [](int depth) {
    std::string text;
    for (int i = 0; i < depth; ++i) text += i % 2 == 0 ? "[" : "{\"k\":";
    text += "0";
    for (int i = depth - 1; i >= 0; --i) text += i % 2 == 0 ? "]" : "}";
    return text;
  };
  EXPECT_EQ(ErrorOf(nested(64)), "");
  EXPECT_NE(ErrorOf(nested(65)).find("nested deeper than 64"), std::string::npos);
  EXPECT_NE(ErrorOf(nested(1000000)).find("nested deeper"), std::string::npos);
  EXPECT_EQ(ErrorOf(nested(3), {.depth_max = 3}), "");
  EXPECT_NE(ErrorOf(nested(4), {.depth_max = 3}).find("nested deeper than 3"), std::string::npos);
}

TEST(ParseJson, RefusesWhatIsNotJson) {
  for (const char* text :
       {"", " ", "{", "[1,", "[1,]", "{\"a\"}", "{\"a\":}", "{a: 1}", "nul", "1 2", "{} x",
        "\"open", "\"\\x\"", "\"\xff\"", "01", "1e", "// c\n1", "NaN"}) {
    EXPECT_NE(ErrorOf(text), "") << text;
  }
  EXPECT_NE(ErrorOf(std::string_view("{}\0{", 4)), "") << "more text after a zero byte";
}

TEST(ParseJson, RefusesNumbersThatNoDoubleHolds) {
  EXPECT_NE(ErrorOf("[1e999]"), "");
}

TEST(ParseJson, TruncatedTextsAreRefused) {
  for (std::size_t size = 0; size < kConfig.size(); ++size) {
    EXPECT_NE(ErrorOf(kConfig.substr(0, size)), "") << size;
  }
}

TEST(ParseJson, DamagedTextsNeverThrow) {
  Prng prng(11);
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text(kConfig);
    for (std::uint64_t changes = 1 + prng.Below(3); changes > 0; --changes) {
      text[prng.Below(text.size())] = static_cast<char>(prng.Below(256));
    }
    refused += ParseJson(text, "config.json").ok() ? 0 : 1;
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace tiercel
