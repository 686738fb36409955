// Goal: a safetensors header is believed only where it is true. Whatever it says,
// the reader gives tensors that lie within the file, or an error that names file,
// tensor and offset; it never reads out of bounds and never takes long.
//
// Method: a table of broken headers, each with the words that its message must have;
// headers cut and changed at every byte; a header as large as a real model's.

#include "store/safetensors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_order.h"
#include "base/file.h"
#include "base/prng.h"
#include "tests/support/scratch_dir.h"

namespace tiercel {
namespace {

using testing::ScratchDir;

bool All(std::string_view /*name*/) {
  return true;
}

// A file: length, header text, data.
std::string File(std::string_view header, std::size_t data_bytes) {
  std::string file(8, '\0');
  StoreLittleEndian<std::uint64_t>(file.data(), header.size());
  file += header;
  return file + std::string(data_bytes, 'd');
}

Result<SafetensorsHeader> Parse(std::string_view file, const TensorFilter& wanted = All) {
  return ParseSafetensorsHeader(std::as_bytes(std::span(file)), file.size(), "x.safetensors",
                                wanted);
}

TEST(SafetensorsTest, ReadsWhatTheHeaderSays) {
  const std::string file =
      File(R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F8_E4M3","shape":[3,4],)"
           R"("data_offsets":[8,20]},"a":{"data_offsets":[0,8],"shape":[4],"dtype":"BF16"},)"
           R"("empty":{"dtype":"F32","shape":[0,7],"data_offsets":[8,8]},)"
           R"("one":{"dtype":"I32","shape":[],"data_offsets":[20,24]}}   )",
           24);
  const Result<SafetensorsHeader> header = Parse(file);
  ASSERT_TRUE(header.ok()) << header.status().ToString();
  EXPECT_EQ(header.value().tensor_count, 4U);
  const std::uint64_t data = header.value().data_offset_bytes;
  EXPECT_EQ(data, file.size() - 24);
  ASSERT_EQ(header.value().tensors.size(), 4U);
  const TensorInfo& b = header.value().tensors[0];
  EXPECT_EQ(b.name, "b");
  EXPECT_EQ(b.type, TensorType::kF8E4M3);
  EXPECT_EQ(b.shape, (std::vector<std::uint64_t>{3, 4}));
  EXPECT_EQ(b.offset_bytes, data + 8);
  EXPECT_EQ(b.size_bytes, 12U);
  EXPECT_EQ(header.value().tensors[1].name, "a");
  EXPECT_EQ(header.value().tensors[2].size_bytes, 0U);
  EXPECT_EQ(header.value().tensors[3].size_bytes, 4U);
}

TEST(SafetensorsTest, KeepsOnlyWhatIsWanted) {
  const std::string file = File(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                                R"("b":{"dtype":"U8","shape":[3],"data_offsets":[2,5]}})",
                                5);
  const Result<SafetensorsHeader> header =
      Parse(file, [](std::string_view name) { return name == "b"; });
  ASSERT_TRUE(header.ok()) << header.status().ToString();
  EXPECT_EQ(header.value().tensor_count, 2U);
  ASSERT_EQ(header.value().tensors.size(), 1U);
  EXPECT_EQ(header.value().tensors[0].name, "b");
}

TEST(SafetensorsTest, KnowsEveryTypeOfTheFormat) {
  struct Case {
    const char* name;
    std::uint32_t bits;
  };
  for (const Case& c :
       {Case{"BOOL", 8}, {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
        {"I8", 8},       {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},
        {"U16", 16},     {"F16", 16},    {"BF16", 16},   {"I32", 32},    {"U32", 32},
        {"F32", 32},     {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}}) {
    const std::size_t size_bytes = c.bits;  // Of 8 elements.
    const Result<SafetensorsHeader> header =
        Parse(File(fmt::format(R"({{"a":{{"dtype":"{}","shape":[8],"data_offsets":[0,{}]}}}})",
                               c.name, size_bytes),
                   size_bytes));
    ASSERT_TRUE(header.ok()) << header.status().ToString();
    EXPECT_EQ(Name(header.value().tensors[0].type), c.name);
  }
}

struct HostileCase {
  const char* name;
  std::string file;
  StatusCode code;
  std::vector<std::string> words;  // The message must have all of them.
};

// A header of one tensor "t.weight" described by `body`, with 16 bytes of data.
std::string One(std::string_view body) {
  return File(fmt::format(R"({{"t.weight":{{{}}}}})", body), 16);
}

std::string Two(std::string_view first, std::string_view second, std::size_t data_bytes) {
  return File(fmt::format(R"({{"t.first":{{"dtype":"U8",{}}},"t.second":{{"dtype":"U8",{}}}}})",
                          first, second),
              data_bytes);
}

std::vector<HostileCase> HostileCases() {
  constexpr StatusCode kBad = StatusCode::kInvalidArgument;
  constexpr StatusCode kCut = StatusCode::kCorruption;
  std::string huge = File("{}", 0);
  StoreLittleEndian<std::uint64_t>(huge.data(), ~std::uint64_t{0});
  std::string over_limit = File("{}", 0);
  StoreLittleEndian<std::uint64_t>(over_limit.data(), 100'000'001);
  std::string past_end = File("{}", 0);
  StoreLittleEndian<std::uint64_t>(past_end.data(), 3);
  const std::string good = R"("dtype":"U8","shape":[16],"data_offsets":[0,16])";
  std::string deep = R"("dtype":"U8","shape":)" + std::string(100'000, '[');
  std::string dimensions = "1";
  for (int i = 0; i < 64; ++i) dimensions += ",1";
  return {
      {"EmptyFile", "", kCut, {"byte 0", "truncated"}},
      {"SevenBytes", "1234567", kCut, {"byte 0", "truncated"}},
      {"LengthOverflows", huge, kBad, {"byte 0", "18446744073709551615"}},
      {"LengthOverLimit", over_limit, kBad, {"byte 0", "100000001"}},
      {"LengthPastEnd", past_end, kCut, {"byte 0", "header of 3 B", "10 B"}},
      {"NoHeader", File("", 0), kBad, {"byte 8"}},
      {"NotAnObject", File("[1]", 0), kBad, {"byte 8"}},
      {"LeadingSpace", File(" {}", 0), kBad, {"byte 8"}},
      {"ByteOrderMark", File("\xef\xbb\xbf{}", 0), kBad, {"byte 8"}},
      {"ZeroByte", File(std::string("{}\0", 3), 0), kBad, {"byte 10", "zero byte"}},
      {"CutJson", File(R"({"t.weight":{"dtype":)", 0), kBad, {"at byte", "not JSON"}},
      {"TrailingJson", File("{}{}", 0), kBad, {"at byte 11", "not JSON"}},
      {"BadUtf8", File("{\"\xff\":{}}", 0), kBad, {"at byte", "not JSON"}},
      {"TensorIsNumber", File(R"({"t.weight":7})", 0), kBad, {"t.weight", "at byte", "a number"}},
      {"TensorIsNull", File(R"({"t.weight":null})", 0), kBad, {"t.weight", "null"}},
      {"TensorIsList", File(R"({"t.weight":[]})", 0), kBad, {"t.weight", "an array"}},
      {"MetadataHoldsNumber", File(R"({"__metadata__":{"a":1}})", 0), kBad, {"__metadata__"}},
      {"MetadataHoldsObject", File(R"({"__metadata__":{"a":{}}})", 0), kBad, {"__metadata__"}},
      {"MetadataTwice", File(R"({"__metadata__":{},"__metadata__":{}})", 0), kBad, {"twice"}},
      {"NoType", One(R"("shape":[16],"data_offsets":[0,16])"), kBad, {"t.weight", "\"dtype\""}},
      {"NoShape", One(R"("dtype":"U8","data_offsets":[0,16])"), kBad, {"t.weight", "\"shape\""}},
      {"NoOffsets", One(R"("dtype":"U8","shape":[16])"), kBad, {"t.weight", "\"data_offsets\""}},
      {"UnknownType",
       One(R"("dtype":"F9","shape":[16],"data_offsets":[0,16])"),
       kBad,
       {"t.weight", "\"F9\"", "at byte"}},
      {"TypeIsNumber",
       One(R"("dtype":8,"shape":[16],"data_offsets":[0,16])"),
       kBad,
       {"t.weight", "dtype"}},
      {"UnknownKey", One(good + R"(,"strides":[1])"), kBad, {"t.weight", "strides"}},
      {"KeyTwice", One(good + R"(,"dtype":"U8")"), kBad, {"t.weight", "\"dtype\" twice"}},
      {"NegativeDimension",
       One(R"("dtype":"U8","shape":[-1],"data_offsets":[0,16])"),
       kBad,
       {"t.weight", "negative", "shape"}},
      {"FractionalDimension",
       One(R"("dtype":"U8","shape":[1.5],"data_offsets":[0,16])"),
       kBad,
       {"t.weight", "shape"}},
      {"DimensionTooBig",
       One(R"("dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,16])"),
       kBad,
       {"t.weight", "shape", "2^64"}},
      {"ShapeIsString",
       One(R"("dtype":"U8","shape":"16","data_offsets":[0,16])"),
       kBad,
       {"t.weight", "shape"}},
      {"ShapeNested",
       One(R"("dtype":"U8","shape":[[16]],"data_offsets":[0,16])"),
       kBad,
       {"t.weight", "an array in its shape"}},
      {"ShapeDeeplyNested", One(deep), kBad, {"t.weight", "an array in its shape"}},
      {"ManyDimensions",
       One(fmt::format(R"("dtype":"U8","shape":[{}],"data_offsets":[0,16])", dimensions)),
       kBad,
       {"t.weight", "64 dimensions"}},
      {"ShapeOverflows",
       One(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,16])"),
       kBad,
       {"t.weight", "overflows"}},
      {"ShapeTimesTypeOverflows",
       One(R"("dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,16])"),
       kBad,
       {"t.weight", "overflows"}},
      {"HalfByte",
       One(R"("dtype":"F4","shape":[33],"data_offsets":[0,16])"),
       kBad,
       {"t.weight", "whole byte"}},
      {"OneOffset",
       One(R"("dtype":"U8","shape":[16],"data_offsets":[0])"),
       kBad,
       {"t.weight", "fewer than two"}},
      {"ThreeOffsets",
       One(R"("dtype":"U8","shape":[16],"data_offsets":[0,16,16])"),
       kBad,
       {"t.weight", "more than two"}},
      {"OffsetsBackwards",
       One(R"("dtype":"U8","shape":[16],"data_offsets":[16,0])"),
       kBad,
       {"t.weight", "[16, 0]"}},
      {"OffsetsAreStrings",
       One(R"("dtype":"U8","shape":[16],"data_offsets":["0","16"])"),
       kBad,
       {"t.weight", "data_offsets"}},
      {"SizeDiffersFromShape",
       One(R"("dtype":"U16","shape":[16],"data_offsets":[0,16])"),
       kBad,
       {"t.weight", "takes 32 B", "[0, 16]"}},
      {"NameTwice",
       File(R"({"t.weight":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
            R"("t.weight":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
            2),
       kBad,
       {"t.weight [0, 1)", "t.weight [1, 2)", "one name"}},
      {"EmptyNameTwice",
       File(R"({"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
            R"("t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
            0),
       kBad,
       {"one name"}},
      {"Overlap",
       Two(R"("shape":[9],"data_offsets":[0,9])", R"("shape":[8],"data_offsets":[8,16])", 16),
       kBad,
       {"t.second [8, 16)", "overlaps", "t.first [0, 9)"}},
      {"SamePlace",
       Two(R"("shape":[8],"data_offsets":[0,8])", R"("shape":[8],"data_offsets":[0,8])", 8),
       kBad,
       {"t.second", "overlaps", "t.first"}},
      {"HoleAtStart",
       One(R"("dtype":"U8","shape":[8],"data_offsets":[8,16])"),
       kBad,
       {"t.weight [8, 16)", "hole of 8 B"}},
      {"HoleBetween",
       Two(R"("shape":[4],"data_offsets":[0,4])", R"("shape":[8],"data_offsets":[8,16])", 16),
       kBad,
       {"t.second [8, 16)", "hole of 4 B"}},
      {"Truncated",
       One(R"("dtype":"U8","shape":[17],"data_offsets":[0,17])"),
       kCut,
       {"t.weight [0, 17)", "ends at byte", "truncated"}},
      {"TruncatedByFar",
       One(R"("dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807])"),
       kBad,
       {"t.weight", "overflows"}},
      {"SecondTruncated",
       Two(R"("shape":[8],"data_offsets":[0,8])", R"("shape":[9],"data_offsets":[8,17])", 16),
       kCut,
       {"t.second [8, 17)", "truncated"}},
      {"TrailingData",
       One(R"("dtype":"U8","shape":[15],"data_offsets":[0,15])"),
       kBad,
       {"t.weight", "belongs to no tensor"}},
      {"DataWithoutTensor", File("{}", 1), kBad, {"belongs to no tensor"}},
  };
}

TEST(SafetensorsTest, RefusesHostileHeadersWithAReason) {
  const std::vector<HostileCase> cases = HostileCases();
  EXPECT_GE(cases.size(), 25U);
  for (const HostileCase& c : cases) {
    SCOPED_TRACE(c.name);
    const Result<SafetensorsHeader> header = Parse(c.file);
    ASSERT_FALSE(header.ok());
    EXPECT_EQ(header.status().code(), c.code) << header.status().ToString();
    const std::string message(header.status().message());
    EXPECT_NE(message.find("x.safetensors"), std::string::npos) << message;
    for (const std::string& word : c.words) {
      EXPECT_NE(message.find(word), std::string::npos) << message << "\nlacks: " << word;
    }
    EXPECT_LT(message.size(), 1000U) << message;
  }
}

TEST(SafetensorsTest, MessagesShowNoControlBytes) {
  const std::string file = File("{\"evil\\n\\u001b[2J" + std::string(5000, 'x') + "\":7}", 0);
  const Result<SafetensorsHeader> header = Parse(file);
  ASSERT_FALSE(header.ok());
  for (const char c : header.status().message()) EXPECT_GE(static_cast<unsigned char>(c), 0x20);
  EXPECT_LT(header.status().message().size(), 500U);
}

// Whatever one byte is changed to, what is accepted lies within the file.
TEST(SafetensorsTest, AnyChangedByteIsHarmless) {
  const std::string file = File(R"({"a":{"dtype":"U8","shape":[6],"data_offsets":[0,6]},)"
                                R"("b":{"dtype":"BF16","shape":[5],"data_offsets":[6,16]}})",
                                16);
  std::uint64_t refused = 0;
  Prng prng(1);
  for (std::size_t at = 0; at < file.size(); ++at) {
    for (int i = 0; i < 20; ++i) {
      std::string changed = file;
      changed[at] = static_cast<char>(prng());
      const Result<SafetensorsHeader> header = Parse(changed);
      if (!header.ok()) {
        ++refused;
        continue;
      }
      for (const TensorInfo& tensor : header.value().tensors) {
        EXPECT_LE(tensor.size_bytes, changed.size());
        EXPECT_LE(tensor.offset_bytes, changed.size() - tensor.size_bytes);
      }
    }
    EXPECT_FALSE(Parse(file.substr(0, at)).ok()) << "cut at " << at;
  }
  EXPECT_GT(refused, file.size());
}

// As many tensors as DeepSeek-V4.1-Flash has in all of its shards.
TEST(SafetensorsTest, ReadsAsManyTensorsAsARealModelHas) {
  constexpr std::uint64_t kTensors = 96'085;
  std::string header = "{";
  for (std::uint64_t i = 0; i < kTensors; ++i) {
    header += fmt::format(
        R"({}"model.layers.{}.mlp.experts.{}.gate_proj.weight":{{"dtype":"U8","shape":[1,3],)"
        R"("data_offsets":[{},{}]}})",
        i == 0 ? "" : ",", i / 2048, i % 2048, 3 * i, 3 * i + 3);
  }
  const std::string file = File(header + "}", 3 * kTensors);
  const Result<SafetensorsHeader> parsed = Parse(file, [](std::string_view name) {
    return name.ends_with("46.mlp.experts.5.gate_proj.weight");
  });
  ASSERT_TRUE(parsed.ok()) << parsed.status().ToString();
  EXPECT_EQ(parsed.value().tensor_count, kTensors);
  ASSERT_EQ(parsed.value().tensors.size(), 1U);
  EXPECT_EQ(parsed.value().tensors[0].offset_bytes,
            parsed.value().data_offset_bytes + 3 * (46 * 2048 + 5));
}

TEST(SafetensorsTest, ReadsFilesAndTellsWhenTheyAreCut) {
  const ScratchDir scratch;
  const std::string whole = One(R"("dtype":"U8","shape":[16],"data_offsets":[0,16])");
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    const std::string path = scratch.Write("a.safetensors", whole.substr(0, size));
    const Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
    ASSERT_TRUE(file.ok());
    const Result<SafetensorsHeader> header = ReadSafetensorsHeader(file.value(), path, All);
    EXPECT_EQ(header.ok(), size == whole.size()) << size;
    if (header.ok()) continue;
    EXPECT_EQ(header.status().code(), StatusCode::kCorruption) << header.status().ToString();
    EXPECT_NE(header.status().message().find(path), std::string::npos);
  }
}

}  // namespace
}  // namespace tiercel
