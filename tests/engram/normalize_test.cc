// Goal: text is normalised step by step as the models' tokenizer compression does.
//
// Method: a text for each step and for the traps between steps; malformed UTF-8 of
// every kind; the byte-level alphabet back and forth.

#include "engram/normalize.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "engram/byte_level.h"
#include "engram/utf8.h"

namespace tiercel {
namespace {

std::string Normal(std::string_view text) {
  const Result<std::string> result = NormalizeTokenText(text);
  if (!result.ok()) return "error: " + result.status().ToString();
  return result.value();
}

TEST(NormalizeTokenText, FoldsFormsAccentsAndCase) {
  EXPECT_EQ(Normal("The"), "the");
  EXPECT_EQ(Normal("\xEF\xBC\xA1"), "a");                         // Full-width A, by NFKC.
  EXPECT_EQ(Normal("\xEF\xAC\x81"), "fi");                        // The ligature, by NFKC.
  EXPECT_EQ(Normal("\xC3\x89t\xC3\xA9"), "ete");                  // Accents, by NFD and M*.
  EXPECT_EQ(Normal("\xC4\xB0"), "i");                             // Capital I with dot.
  EXPECT_EQ(Normal("\xCE\x91\xCE\xA3"), "\xCE\xB1\xCF\x83");      // No final sigma.
  EXPECT_EQ(Normal("\xE0\xA4\x95\xE0\xA5\x87"), "\xE0\xA4\x95");  // Devanagari vowel sign, Mn.
  EXPECT_EQ(Normal("\xED\x95\x9C"), "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB");  // Hangul stays apart.
}

TEST(NormalizeTokenText, FoldsWhiteSpace) {
  EXPECT_EQ(Normal("  a \t\r\n b  "), "a b");
  EXPECT_EQ(Normal(" "), " ");
  EXPECT_EQ(Normal("\n\n\t"), " ");
  EXPECT_EQ(Normal("\xC2\xA0"), " ");       // No-break space: a space by NFKC.
  EXPECT_EQ(Normal("\xE3\x80\x80"), " ");   // Ideographic space, too.
  EXPECT_EQ(Normal("\v"), "");              // Not a run character, but stripped.
  EXPECT_EQ(Normal("\x1C"), "\x1C");        // White space to Python, not to Unicode.
  EXPECT_EQ(Normal("a\xE2\x80\xA8"), "a");  // Line separator.
  EXPECT_EQ(Normal("a\vb"), "a\vb");
  EXPECT_EQ(Normal(" \xCC\x81"), " ");       // A mark between spaces is gone first.
  EXPECT_EQ(Normal("\xEE\x80\x80x"), " x");  // U+E000 of the text's own.
  EXPECT_EQ(Normal(""), "");
}

TEST(NormalizeTokenText, RefusesMalformedText) {
  EXPECT_EQ(NormalizeTokenText("\xFF").status().code(), StatusCode::kInvalidArgument);
}

TEST(Utf8, KnowsWellFormedText) {
  for (const char* const text :
       {"", "a", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
        "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_TRUE(IsUtf8(text)) << text;
  }
  for (const char* const text : {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC2",
                                 "\xC2"
                                 "a",
                                 "\xE0\x80\x80", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xED\xBF\xBF",
                                 "\xE2\x82", "\xF0\x8F\xBF\xBF", "\xF0\x90\x80", "\xF4\x90\x80\x80",
                                 "\xF5\x80\x80\x80", "\xFE", "\xFF"}) {
    EXPECT_FALSE(IsUtf8(text)) << text;
  }
  EXPECT_TRUE(IsUtf8(std::string_view("\0", 1)));
}

TEST(Utf8, GivesCodePoints) {
  const std::string_view text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80";
  std::size_t at = 0;
  EXPECT_EQ(NextCodePoint(text, at), 'a');
  EXPECT_EQ(NextCodePoint(text, at), 0xE9);
  EXPECT_EQ(NextCodePoint(text, at), 0x20AC);
  EXPECT_EQ(NextCodePoint(text, at), 0x1F600);
  EXPECT_EQ(at, text.size());
}

TEST(ByteLevel, CoversEveryByteOnce) {
  std::set<char> bytes;
  for (int c = 0; c < 0x144; ++c) {
    std::string text;
    if (c < 0x80) {
      text = static_cast<char>(c);
    } else {
      text = {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
    }
    const auto decoded = BytesOfByteLevel(text);
    if (decoded) {
      ASSERT_EQ(decoded->size(), 1U);
      EXPECT_TRUE(bytes.insert((*decoded)[0]).second) << c;
    }
  }
  EXPECT_EQ(bytes.size(), 256U);
  EXPECT_EQ(BytesOfByteLevel("\xC4\xA0the"), " the");
  EXPECT_EQ(BytesOfByteLevel("\xC4\x8A"), "\n");
  EXPECT_EQ(BytesOfByteLevel("a b"), std::nullopt);
  EXPECT_EQ(BytesOfByteLevel("\xC5\x84"), std::nullopt);  // U+0144: one past the alphabet.
  EXPECT_EQ(BytesOfByteLevel("\xFF"), std::nullopt);
}

}  // namespace
}  // namespace tiercel
