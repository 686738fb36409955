// Goal: the parser of GGUF headers reads what is there and refuses what lies.
//
// Method: files of a writer of the tests' own, right ones and one lie each; every truncation
// and every single changed byte of a whole file.

#include "store/gguf.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/store/gguf_builder.h"
#include "tests/support/scratch_dir.h"

namespace tiercel {
namespace {

using testing::GgufBuilder;
using testing::kGgufArray;
using testing::kGgufF32;
using testing::kGgufI32;
using testing::kGgufString;
using testing::kGgufU32;
using testing::kGgufU64;
using testing::kGgufU8;
using testing::kTensorF32;
using testing::kTensorQ8;

const GgufFilter kAll{.key = [](std::string_view) { return true; },
                      .tensor = [](std::string_view) { return true; }};
const GgufFilter kNone{.key = [](std::string_view) { return false; },
                       .tensor = [](std::string_view) { return false; }};

Result<GgufHeader> Parse(const std::string& file, const GgufFilter& filter = kAll) {
  return ParseGgufHeader(std::as_bytes(std::span(file)), file.size(), "a.gguf", filter);
}

/// Refused with that code, and words of the message.
void ExpectRefused(const GgufBuilder& builder, StatusCode code, std::string_view words,
                   const GgufFilter& filter = kAll) {
  const Result<GgufHeader> header = Parse(builder.Build(), filter);
  ASSERT_FALSE(header.ok()) << words;
  EXPECT_EQ(header.status().code(), code) << header.status().ToString();
  EXPECT_NE(header.status().message().find(words), std::string_view::npos)
      << header.status().ToString();
  EXPECT_EQ(header.status().message().find("a.gguf"), 0U) << header.status().ToString();
}

GgufBuilder Good() {
  GgufBuilder builder;
  builder.Text("general.architecture", "deepseek41")
      .Number("a.number", kGgufU32, 77)
      .Number("a.byte", kGgufU8, 200)
      .Raw("a.float", kGgufF32, std::string(4, 'x'))
      .Array("an.array", kGgufI32, {1, 2, 3})
      .Array("of.longs", kGgufU64, {~std::uint64_t{0}, 5})
      .Texts("some.texts", {"a", "", "ccc"})
      .Tensor("first", kTensorF32, {4, 3}, std::string(48, 'f'))
      .Tensor("second", kTensorQ8, {64, 2}, std::string(136, 'q'));
  return builder;
}

TEST(GgufTest, ReadsWhatIsThere) {
  const std::string file = Good().Build();
  const Result<GgufHeader> parsed = Parse(file);
  ASSERT_TRUE(parsed.ok()) << parsed.status().ToString();
  const GgufHeader& header = parsed.value();
  EXPECT_EQ(header.version, 3U);
  EXPECT_EQ(header.tensor_count, 2U);
  EXPECT_EQ(header.values.size(), 7U);
  EXPECT_EQ(header.values.at("general.architecture").text, "deepseek41");
  EXPECT_EQ(header.values.at("a.number").integers, std::vector<std::uint64_t>{77});
  EXPECT_EQ(header.values.at("a.byte").integers, std::vector<std::uint64_t>{200});
  EXPECT_TRUE(header.values.at("a.float").integers.empty());
  EXPECT_TRUE(header.values.at("an.array").is_array);
  EXPECT_EQ(header.values.at("an.array").integers, (std::vector<std::uint64_t>{1, 2, 3}));
  EXPECT_EQ(header.values.at("of.longs").integers, (std::vector<std::uint64_t>{~0ULL, 5}));
  EXPECT_EQ(header.values.at("some.texts").count, 3U);
  EXPECT_TRUE(header.values.at("some.texts").integers.empty());

  ASSERT_EQ(header.tensors.size(), 2U);
  EXPECT_EQ(header.tensors[0].name, "first");
  EXPECT_EQ(header.tensors[0].dimensions, (std::vector<std::uint64_t>{4, 3}));
  EXPECT_EQ(header.tensors[0].size_bytes, 48U);
  EXPECT_EQ(header.data_offset_bytes % 32, 0U);
  EXPECT_EQ(header.tensors[0].offset_bytes, header.data_offset_bytes);
  EXPECT_EQ(file.substr(header.tensors[0].offset_bytes, 48), std::string(48, 'f'));
  EXPECT_EQ(header.tensors[1].size_bytes, 136U);
  EXPECT_EQ(file.substr(header.tensors[1].offset_bytes, 136), std::string(136, 'q'));
}

TEST(GgufTest, KeepsOnlyWhatIsWanted) {
  const Result<GgufHeader> none = Parse(Good().Build(), kNone);
  ASSERT_TRUE(none.ok()) << none.status().ToString();
  EXPECT_TRUE(none.value().values.empty());
  EXPECT_TRUE(none.value().tensors.empty());
  EXPECT_EQ(none.value().tensor_count, 2U);
}

TEST(GgufTest, AnAlignmentOfItsOwn) {
  GgufBuilder builder;
  builder.alignment = 4096;
  builder.Number("general.alignment", kGgufU32, 4096)
      .Tensor("a", kTensorF32, {1, 1}, "aaaa")
      .Tensor("b", kTensorF32, {1, 1}, "bbbb");
  const std::string file = builder.Build();
  const Result<GgufHeader> parsed = Parse(file);
  ASSERT_TRUE(parsed.ok()) << parsed.status().ToString();
  EXPECT_EQ(parsed.value().tensors[1].offset_bytes, 8192U);
  EXPECT_EQ(file.substr(8192, 4), "bbbb");

  for (const std::uint64_t wrong : {0ULL, 3ULL, 48ULL, 1ULL << 21}) {
    GgufBuilder bad;
    bad.Number("general.alignment", kGgufU32, wrong);
    ExpectRefused(bad, StatusCode::kInvalidArgument, "general.alignment");
  }
}

TEST(GgufTest, VersionsAndByteOrder) {
  GgufBuilder two = Good();
  two.version = 2;
  EXPECT_TRUE(Parse(two.Build()).ok());
  for (const std::uint32_t version : {0U, 1U, 4U, 99U}) {
    GgufBuilder other = Good();
    other.version = version;
    ExpectRefused(other, StatusCode::kInvalidArgument, "version");
  }
  GgufBuilder big = Good();
  big.version = 3U << 24;
  ExpectRefused(big, StatusCode::kInvalidArgument, "big-endian");
  GgufBuilder magic = Good();
  magic.magic = "GGML";
  ExpectRefused(magic, StatusCode::kInvalidArgument, "does not begin");
}

TEST(GgufTest, LyingCountsAllocateNothing) {
  GgufBuilder tensors = Good();
  tensors.extra_tensors = 1'000'000;
  ExpectRefused(tensors, StatusCode::kCorruption, "are to follow");
  GgufBuilder more = Good();
  more.extra_tensors = ~std::uint64_t{0} - 10;
  ExpectRefused(more, StatusCode::kInvalidArgument, "claims");
  GgufBuilder keys = Good();
  keys.extra_keys = 60'000;
  ExpectRefused(keys, StatusCode::kCorruption, "are to follow");

  const auto count = [](std::uint64_t n) {
    return std::string(reinterpret_cast<const char*>(&n), 8);
  };
  const std::string u64_type("\x0a\0\0\0", 4);
  const std::string text_type("\x08\0\0\0", 4);
  const std::string array_type("\x09\0\0\0", 4);
  for (const std::uint64_t huge :
       {std::uint64_t{1} << 20, std::uint64_t{1} << 61, ~std::uint64_t{0}}) {
    for (const std::string& type : {u64_type, text_type, array_type}) {
      GgufBuilder array;
      array.Raw("k", kGgufArray, type + count(huge));
      ExpectRefused(array, StatusCode::kCorruption, "are to follow");
      ExpectRefused(array, StatusCode::kCorruption, "are to follow", kNone);
    }
    GgufBuilder text;
    text.Raw("k", kGgufString, count(huge));
    EXPECT_FALSE(Parse(text.Build()).ok());
    EXPECT_FALSE(Parse(text.Build(), kNone).ok());
  }
}

TEST(GgufTest, RefusesMalformedMetadata) {
  GgufBuilder twice = Good();
  twice.Number("a.number", kGgufU32, 78);
  ExpectRefused(twice, StatusCode::kInvalidArgument, "twice");
  GgufBuilder negative;
  negative.Array("k", kGgufI32, {5, 0xFFFFFFFF});
  ExpectRefused(negative, StatusCode::kInvalidArgument, "element 1 is below 0");
  EXPECT_TRUE(Parse(negative.Build(), kNone).ok());  // Nobody asked.
  GgufBuilder type;
  type.Raw("k", 13, "xxxxxxxx");
  ExpectRefused(type, StatusCode::kInvalidArgument, "type 13");
  std::string nested;
  for (int i = 0; i < 5; ++i) nested += std::string("\x09\0\0\0\1\0\0\0\0\0\0\0", 12);
  GgufBuilder deep;
  deep.Raw("k", kGgufArray, nested + std::string(64, '\0'));
  ExpectRefused(deep, StatusCode::kInvalidArgument, "deep");
}

TEST(GgufTest, RefusesTensorsThatLie) {
  const auto lie = [](std::uint32_t type, const std::vector<std::uint64_t>& dimensions,
                      std::uint64_t offset, StatusCode code, std::string_view words) {
    GgufBuilder builder = Good();
    builder.TensorAt("liar", type, dimensions, std::string(128, 'l'), offset);
    ExpectRefused(builder, code, words);
    ExpectRefused(builder, code, words, kNone);
  };
  constexpr std::uint64_t kEnd = 64 + 160;  // Of the two good ones, padding included.
  lie(kTensorF32, {8, 4}, kEnd + 4, StatusCode::kInvalidArgument, "alignment");
  lie(kTensorF32, {8, 4}, 0, StatusCode::kInvalidArgument, "share");
  lie(kTensorF32, {8, 5}, kEnd, StatusCode::kCorruption, "cut short");
  lie(kTensorF32, {8, 4}, ~std::uint64_t{31}, StatusCode::kCorruption, "cut short");
  lie(kTensorF32, {1ULL << 33, 1ULL << 33}, kEnd, StatusCode::kInvalidArgument, "too large");
  lie(kTensorF32, {1ULL << 62, 3}, kEnd, StatusCode::kInvalidArgument, "none of type");
  lie(kTensorQ8, {33, 2}, kEnd, StatusCode::kInvalidArgument, "blocks of 32");
  lie(kTensorF32, {1, 1, 1, 1, 1, 1, 1, 1, 1}, kEnd, StatusCode::kInvalidArgument, "dimensions");
  GgufBuilder twice = Good();
  twice.Tensor("first", kTensorF32, {1}, "aaaa");
  ExpectRefused(twice, StatusCode::kInvalidArgument, "one name");
}

TEST(GgufTest, AnUnknownTypeIsLeftAlone) {
  GgufBuilder builder = Good();
  builder.Tensor("new", 1234, {33, 5}, std::string(100, 'n'));
  const Result<GgufHeader> parsed = Parse(builder.Build());
  ASSERT_TRUE(parsed.ok()) << parsed.status().ToString();
  EXPECT_EQ(parsed.value().tensors[2].size_bytes, 0U);
}

TEST(GgufTest, EveryTruncationIsNoticed) {
  const std::string file = Good().Build();
  for (std::size_t size = 0; size < file.size(); ++size) {
    const Result<GgufHeader> parsed = Parse(file.substr(0, size));
    // The last tensor's padding may be missing.
    EXPECT_EQ(parsed.ok(), size >= file.size() - 24) << size;
    if (!parsed.ok()) {
      EXPECT_EQ(parsed.status().code(), StatusCode::kCorruption) << size;
    }
  }
}

TEST(GgufTest, NoChangedByteLeadsOutOfTheFile) {
  const std::string file = Good().Build();
  for (std::size_t at = 0; at < file.size() - 256; ++at) {
    for (const int change : {1, 0x80, 0xFF}) {
      std::string bad = file;
      bad[at] = static_cast<char>(bad[at] ^ change);
      const Result<GgufHeader> parsed = Parse(bad);
      if (!parsed.ok()) continue;
      for (const GgufTensor& tensor : parsed.value().tensors) {
        ASSERT_LE(tensor.offset_bytes, bad.size());
        ASSERT_LE(tensor.size_bytes, bad.size() - tensor.offset_bytes);
      }
    }
  }
}

TEST(GgufTest, ReadsAFileThroughItsWindow) {
  // A tokenizer of 2 MB before the tensors: several windows of 256 KiB.
  GgufBuilder builder;
  builder.Texts("tokenizer.ggml.tokens", std::vector<std::string>(100'000, "a token text"))
      .Array("k", kGgufU64, std::vector<std::uint64_t>(100'000, 9))
      .Tensor("t", kTensorF32, {4, 1}, "0123456789abcdef");
  const std::string file = builder.Build();
  const testing::ScratchDir scratch;
  const std::string path = scratch.Write("big.gguf", file);
  const Result<FileDescriptor> opened = OpenFile(path, O_RDONLY);
  ASSERT_TRUE(opened.ok());
  const Result<GgufHeader> read = ReadGgufHeader(opened.value(), path, kAll);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(read.value().values.at("tokenizer.ggml.tokens").count, 100'000U);
  EXPECT_EQ(read.value().values.at("k").integers, std::vector<std::uint64_t>(100'000, 9));
  EXPECT_EQ(file.substr(read.value().tensors[0].offset_bytes, 16), "0123456789abcdef");
}

}  // namespace
}  // namespace tiercel
