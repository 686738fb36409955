// Goal: rows of ggml's block formats become exactly the numbers that ggml computes.
//
// Method: golden rows made by an independent implementation in exact arithmetic; NaN,
// infinite and negative scales by hand; bf16 against the floats rounded once.

#include <gtest/gtest.h>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "engram/float_formats.h"
#include "tests/engram/engram_test_support.h"
#include "tiercel/row_format.h"

namespace tiercel {
namespace {

constexpr RowFormat kBlockFormats[] = {RowFormat::kQ8_0, RowFormat::kQ4_K, RowFormat::kQ3_K,
                                       RowFormat::kQ2_K};

std::uint32_t FromHex(std::string_view digits) {
  std::uint32_t value = 0;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  EXPECT_EQ(read.ptr, digits.data() + digits.size());
  return value;
}

/// A golden row and the bits of its values.
struct GoldenRow {
  RowShape shape;
  std::vector<std::byte> row;
  std::vector<std::uint32_t> bits;
};

std::vector<GoldenRow> GoldenRows() {
  std::vector<GoldenRow> rows;
  const nlohmann::json golden = testing::Golden("ggml_rows.json");
  for (const nlohmann::json& entry : golden["cases"]) {
    GoldenRow& row = rows.emplace_back();
    for (const RowFormat format : kRowFormats) {
      if (Name(format) == entry["format"].get<std::string>()) row.shape.format = format;
    }
    const auto bytes = entry["row"].get<std::string>();
    for (std::size_t i = 0; i < bytes.size(); i += 2) {
      row.row.push_back(static_cast<std::byte>(FromHex(bytes.substr(i, 2))));
    }
    const auto values = entry["values"].get<std::string>();
    for (std::size_t i = 0; i < values.size(); i += 8) {
      row.bits.push_back(FromHex(values.substr(i, 8)));
    }
    row.shape.value_count = static_cast<std::uint32_t>(row.bits.size());
  }
  return rows;
}

std::vector<float> Floats(const RowShape& shape, const std::vector<std::byte>& row) {
  std::vector<float> values(shape.value_count, -77.0F);
  DequantizeToFloat(shape, row, values);
  return values;
}

/// A row of one block of `format`, all of its bytes `fill`, and its halves `d` and `dmin`.
std::vector<std::byte> Block(RowFormat format, unsigned fill, std::uint16_t d, std::uint16_t dmin) {
  const RowShape shape{format, BlockValueCount(format)};
  std::vector<std::byte> row(shape.row_size_bytes(), static_cast<std::byte>(fill));
  const auto put = [&row](std::size_t at, std::uint16_t bits) { std::memcpy(&row[at], &bits, 2); };
  if (format == RowFormat::kQ8_0) put(0, d);
  if (format == RowFormat::kQ3_K) put(108, d);
  if (format == RowFormat::kQ4_K) {
    put(0, d);
    put(2, dmin);
  }
  if (format == RowFormat::kQ2_K) {
    put(80, d);
    put(82, dmin);
  }
  return row;
}

TEST(GgmlRows, GoldenRowsBitForBit) {
  const std::vector<GoldenRow> rows = GoldenRows();
  ASSERT_EQ(rows.size(), std::size(kBlockFormats));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const GoldenRow& golden = rows[i];
    ASSERT_EQ(golden.shape.format, kBlockFormats[i]);
    ASSERT_EQ(golden.row.size(), golden.shape.row_size_bytes());
    const std::vector<float> values = Floats(golden.shape, golden.row);
    std::vector<std::uint16_t> halves(values.size(), 0x1234);
    DequantizeToBf16(golden.shape, golden.row, halves);
    for (std::size_t j = 0; j < values.size(); ++j) {
      ASSERT_EQ(BitsFromFloat(values[j]), golden.bits[j]) << Name(golden.shape.format) << " " << j;
      ASSERT_EQ(halves[j], Bf16FromFloat(FloatFromBits(golden.bits[j]))) << j;
    }
  }
}

TEST(GgmlRows, SizesOfPublishedRows) {
  EXPECT_EQ((RowShape{RowFormat::kQ8_0, 256}.row_size_bytes()), 272U);
  EXPECT_EQ((RowShape{RowFormat::kQ8_0, 160}.row_size_bytes()), 170U);
  EXPECT_EQ((RowShape{RowFormat::kQ4_K, 256}.row_size_bytes()), 144U);
  EXPECT_EQ((RowShape{RowFormat::kQ3_K, 256}.row_size_bytes()), 110U);
  EXPECT_EQ((RowShape{RowFormat::kQ2_K, 512}.row_size_bytes()), 168U);
  EXPECT_EQ(BlockValueCount(RowFormat::kQ8_0), 32U);
  EXPECT_EQ(BlockValueCount(RowFormat::kQ2_K), 256U);
  EXPECT_EQ(BlockValueCount(RowFormat::kE4M3Block32), 32U);
  EXPECT_EQ(BlockValueCount(RowFormat::kBf16), 1U);
  EXPECT_EQ(static_cast<int>(RowFormat::kQ8_0), 5);  // Values are an ABI.
  EXPECT_EQ(static_cast<int>(RowFormat::kQ2_K), 8);
}

TEST(GgmlRows, NanAndInfiniteScalesComeThrough) {
  for (const RowFormat format : kBlockFormats) {
    const RowShape shape{format, BlockValueCount(format)};
    for (const float value : Floats(shape, Block(format, 0x11, 0x7E00, 0))) {
      EXPECT_TRUE(std::isnan(value)) << Name(format);
    }
    // 0xFF: the largest of every field, so no infinite scale meets a zero.
    for (const float value : Floats(shape, Block(format, 0x7F, 0x7C00, 0))) {
      EXPECT_FALSE(std::isfinite(value)) << Name(format);
    }
  }
}

TEST(GgmlRows, ScalesOfARow) {
  std::vector<std::byte> row = Block(RowFormat::kQ4_K, 0x55, 0xC000, 0x3800);  // -2 and 0.5.
  const std::vector<std::byte> second = Block(RowFormat::kQ4_K, 0x55, 0x4400, 0x7E00);
  row.insert(row.end(), second.begin(), second.end());  // 4 and NaN.
  const std::optional<ScaleRange> range = ScalesOf({RowFormat::kQ4_K, 512}, row);
  ASSERT_TRUE(range.has_value());
  EXPECT_EQ(range->low, 0.5F);
  EXPECT_EQ(range->high, 4.0F);
  EXPECT_TRUE(range->has_nan);

  const std::optional<ScaleRange> one =
      ScalesOf({RowFormat::kQ3_K, 256}, Block(RowFormat::kQ3_K, 0x55, 0x3C00, 0));
  ASSERT_TRUE(one.has_value());
  EXPECT_EQ(one->low, 1.0F);
  EXPECT_EQ(one->high, 1.0F);
  EXPECT_FALSE(one->has_nan);

  std::vector<std::byte> v41(66, std::byte{0x01});
  v41[64] = std::byte{120};
  v41[65] = std::byte{130};
  const std::optional<ScaleRange> block32 = ScalesOf({RowFormat::kE4M3Block32, 64}, v41);
  ASSERT_TRUE(block32.has_value());
  EXPECT_EQ(block32->low, 0x1p-7F);
  EXPECT_EQ(block32->high, 8.0F);
  EXPECT_FALSE(ScalesOf({RowFormat::kBf16, 1}, std::vector<std::byte>(2)).has_value());
}

TEST(GgmlRows, EveryFormatHasAName) {
  std::string names;
  for (const RowFormat format : kRowFormats) names += std::string(Name(format)) + " ";
  EXPECT_EQ(names, "e4m3-block32 e4m3-tensor bf16 fp16 fp32 q8_0 q4_k q3_k q2_k ");
}

}  // namespace
}  // namespace tiercel
