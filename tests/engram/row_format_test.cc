// Goal: stored rows become exactly the numbers that the models compute.
//
// Method: golden rows of DeepSeek-V4.1; all 256 bytes under all 256 scales, fast path
// against plain loop against arithmetic in double; all 65,536 halves and bfloat16s; NaN,
// infinity, subnormals and ties by hand.

#include "tiercel/row_format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "base/prng.h"
#include "engram/dequantize_block32.h"
#include "engram/float_formats.h"
#include "tests/engram/engram_test_support.h"

namespace tiercel {
namespace {

std::vector<std::byte> Bytes(const std::vector<std::uint8_t>& values) {
  std::vector<std::byte> bytes(values.size());
  std::memcpy(bytes.data(), values.data(), values.size());
  return bytes;
}

template <typename T>
std::vector<std::byte> BytesOf(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<float> ToFloat(const RowShape& shape, const std::vector<std::byte>& row) {
  EXPECT_EQ(row.size(), shape.row_size_bytes());
  std::vector<float> values(shape.value_count, -77.0F);
  DequantizeToFloat(shape, row, values);
  return values;
}

std::vector<std::uint16_t> ToBf16(const RowShape& shape, const std::vector<std::byte>& row) {
  std::vector<std::uint16_t> values(shape.value_count, 0x1234);
  DequantizeToBf16(shape, row, values);
  return values;
}

/// The E4M3 byte's value by the format's definition.
double E4M3(unsigned byte) {
  const double sign = (byte & 0x80U) != 0 ? -1.0 : 1.0;
  const unsigned exponent = (byte >> 3) & 15U;
  const unsigned fraction = byte & 7U;
  if (exponent == 15 && fraction == 7) return std::nan("");
  if (exponent == 0) return sign * std::ldexp(fraction, -9);
  return sign * std::ldexp(8 + fraction, static_cast<int>(exponent) - 10);
}

/// A double that has few significant bits, rounded to bf16 by the definition.
std::uint16_t Bf16ByDefinition(double value) {
  if (std::isnan(value)) return std::signbit(value) ? 0xFFC0 : 0x7FC0;
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  if (magnitude == 0) return sign;
  const int exponent = std::max(std::ilogb(magnitude), -126);
  const double step = std::ldexp(1.0, exponent - 7);
  const double rounded = std::nearbyint(magnitude / step) * step;  // Ties to even.
  if (rounded >= std::ldexp(1.0, 128)) return sign | 0x7F80;
  return sign | static_cast<std::uint16_t>(BitsFromFloat(static_cast<float>(rounded)) >> 16);
}

TEST(RowFormat, GoldenRowsOfDeepSeekV41) {
  const nlohmann::json golden = testing::Golden("fp8_v41.json")["row_dequant"];
  ASSERT_EQ(golden["weight_bytes"].size(), 3U);
  const RowShape shape{RowFormat::kE4M3Block32, 256};
  ASSERT_EQ(shape.row_size_bytes(), 264U);
  for (std::size_t i = 0; i < 3; ++i) {
    auto row = golden["weight_bytes"][i].get<std::vector<std::uint8_t>>();
    const auto scales = golden["scale_bytes"][i].get<std::vector<std::uint8_t>>();
    row.insert(row.end(), scales.begin(), scales.end());
    const std::vector<float> values = ToFloat(shape, Bytes(row));
    for (std::size_t j = 0; j < values.size(); ++j) {
      EXPECT_EQ(values[j], golden["float32"][i][j].get<float>()) << i << " " << j;
    }
    EXPECT_EQ(ToBf16(shape, Bytes(row)), golden["bf16_bits"][i].get<std::vector<std::uint16_t>>());
  }
}

TEST(RowFormat, GoldenTableOfE4M3) {
  const nlohmann::json table = testing::Golden("fp8_v41.json")["e4m3_table"];
  ASSERT_EQ(table.size(), 256U);
  int nans = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const float value = FloatFromE4M3(static_cast<std::uint8_t>(byte));
    if (byte == 0x7F || byte == 0xFF) {
      EXPECT_TRUE(std::isnan(value));
      ++nans;
    } else {
      EXPECT_EQ(value, table[byte].get<float>()) << byte;
      EXPECT_EQ(std::signbit(value), byte >= 0x80);
    }
  }
  EXPECT_EQ(nans, 2);
}

TEST(RowFormat, Block32AllBytesUnderAllScales) {
  const RowShape shape{RowFormat::kE4M3Block32, 256};
  for (unsigned scale = 0; scale < 256; ++scale) {
    std::vector<std::uint8_t> row(264, static_cast<std::uint8_t>(scale));
    for (unsigned byte = 0; byte < 256; ++byte) row[byte] = static_cast<std::uint8_t>(byte);
    const std::vector<std::byte> stored = Bytes(row);
    const std::vector<float> values = ToFloat(shape, stored);
    const std::vector<std::uint16_t> halves = ToBf16(shape, stored);
    std::vector<float> plain(256);
    std::vector<std::uint16_t> plain_halves(256);
    DequantizeBlock32Plain(stored.data(), stored.data() + 256, 256, plain.data());
    DequantizeBlock32Plain(stored.data(), stored.data() + 256, 256, plain_halves.data());
    for (unsigned byte = 0; byte < 256; ++byte) {
      const double exact =
          scale == 255 ? std::nan("") : std::ldexp(E4M3(byte), static_cast<int>(scale) - 127);
      if (std::isnan(exact)) {
        EXPECT_TRUE(std::isnan(values[byte]));
        EXPECT_EQ(halves[byte] & 0x7FFF, 0x7FC0);
      } else {
        EXPECT_EQ(values[byte], static_cast<float>(exact)) << byte << " " << scale;
        EXPECT_EQ(std::signbit(values[byte]), byte >= 0x80);
        EXPECT_EQ(halves[byte], Bf16ByDefinition(exact)) << byte << " " << scale;
      }
      EXPECT_EQ(BitsFromFloat(values[byte]), BitsFromFloat(plain[byte])) << byte << " " << scale;
      EXPECT_EQ(halves[byte], plain_halves[byte]) << byte << " " << scale;
    }
  }
}

TEST(RowFormat, Block32EveryBlockHasItsOwnScale) {
  const RowShape shape{RowFormat::kE4M3Block32, 96};
  std::vector<std::uint8_t> row(99, 0x38);  // 1.0
  row[96] = 127;
  row[97] = 128;
  row[98] = 0;
  const std::vector<float> values = ToFloat(shape, Bytes(row));
  for (std::size_t i = 0; i < 96; ++i) {
    EXPECT_EQ(values[i], i < 32 ? 1.0F : i < 64 ? 2.0F : 0x1p-127F) << i;
  }
}

TEST(RowFormat, TensorScaleIsRoundedOnceToBf16) {
  RowShape shape{RowFormat::kE4M3Tensor, 256};
  ASSERT_EQ(shape.row_size_bytes(), 256U);
  std::vector<std::uint8_t> row(256);
  for (unsigned byte = 0; byte < 256; ++byte) row[byte] = static_cast<std::uint8_t>(byte);
  // Qwen3.8's published scale; one that is no bf16; the smallest and the largest.
  for (const float scale : {1.9931793212890625e-04F, 0.1F, 0x1p-133F, 3.0e38F, 1.0F}) {
    shape.tensor_scale = scale;
    const double rounded_scale = FloatFromBf16(Bf16ByDefinition(scale));
    const std::vector<float> values = ToFloat(shape, Bytes(row));
    const std::vector<std::uint16_t> halves = ToBf16(shape, Bytes(row));
    for (unsigned byte = 0; byte < 256; ++byte) {
      const double exact = E4M3(byte) * rounded_scale;
      if (std::isnan(exact)) {
        EXPECT_TRUE(std::isnan(values[byte]));
        EXPECT_EQ(halves[byte] & 0x7FFF, 0x7FC0);
        continue;
      }
      EXPECT_EQ(halves[byte], Bf16ByDefinition(exact)) << byte << " " << scale;
      EXPECT_EQ(BitsFromFloat(values[byte]), std::uint32_t{halves[byte]} << 16);
    }
  }
}

TEST(RowFormat, Bf16IsKeptBitForBitButNanMadeQuiet) {
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  const RowShape shape{RowFormat::kBf16, 65536};
  const std::vector<float> values = ToFloat(shape, BytesOf(all));
  const std::vector<std::uint16_t> halves = ToBf16(shape, BytesOf(all));
  for (std::size_t i = 0; i < all.size(); ++i) {
    if ((i & 0x7FFF) > 0x7F80) {
      EXPECT_TRUE(std::isnan(values[i]));
      EXPECT_EQ(halves[i], i | 0x40);
    } else {
      ASSERT_EQ(BitsFromFloat(values[i]), i << 16);
      ASSERT_EQ(halves[i], i);
    }
  }
}

TEST(RowFormat, Fp16IsWidenedExactly) {
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  const RowShape shape{RowFormat::kFp16, 65536};
  const std::vector<float> values = ToFloat(shape, BytesOf(all));
  const std::vector<std::uint16_t> halves = ToBf16(shape, BytesOf(all));
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::size_t exponent = (i >> 10) & 31U;
    const std::size_t fraction = i & 1023U;
    if (exponent == 31 && fraction != 0) {
      EXPECT_TRUE(std::isnan(values[i]));
      EXPECT_EQ(halves[i] & 0x7FC0, 0x7FC0);
      continue;
    }
    double exact = exponent == 0 ? std::ldexp(fraction, -24)
                                 : std::ldexp(1024 + fraction, static_cast<int>(exponent) - 25);
    if (exponent == 31) exact = std::numeric_limits<double>::infinity();
    if (i >= 0x8000) exact = -exact;
    ASSERT_EQ(values[i], static_cast<float>(exact)) << i;
    ASSERT_EQ(std::signbit(values[i]), i >= 0x8000);
    const std::uint16_t sign = i >= 0x8000 ? 0x8000 : 0;
    ASSERT_EQ(halves[i], exponent == 31 ? sign | 0x7F80 : Bf16ByDefinition(exact)) << i;
  }
}

TEST(RowFormat, Fp32RoundsToNearestEvenBf16) {
  const std::vector<std::uint32_t> bits = {0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001,
                                           0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7F800001,
                                           0x00000001, 0x00008000, 0x00018000, 0x80000000};
  const std::vector<std::uint16_t> expected = {0x3F80, 0x3F80, 0x3F82, 0x3F81, 0x7F80, 0x7F80,
                                               0xFF80, 0x7FC0, 0x0000, 0x0000, 0x0002, 0x8000};
  const RowShape shape{RowFormat::kFp32, 12};
  ASSERT_EQ(shape.row_size_bytes(), 48U);
  EXPECT_EQ(ToBf16(shape, BytesOf(bits)), expected);
  const std::vector<float> values = ToFloat(shape, BytesOf(bits));
  EXPECT_EQ(std::memcmp(values.data(), bits.data(), 48), 0);
}

TEST(RowFormat, Fp32RandomBitsRoundByDefinition) {
  Prng prng(11);
  const RowShape shape{RowFormat::kFp32, 4096};
  std::vector<std::uint32_t> bits(4096);
  for (std::uint32_t& value : bits) value = static_cast<std::uint32_t>(prng());
  const std::vector<std::uint16_t> halves = ToBf16(shape, BytesOf(bits));
  for (std::size_t i = 0; i < bits.size(); ++i) {
    const float value = FloatFromBits(bits[i]);
    if (!std::isfinite(value)) continue;
    ASSERT_EQ(halves[i], Bf16ByDefinition(value)) << bits[i];
  }
}

TEST(RowFormat, SizesAndNames) {
  EXPECT_EQ((RowShape{RowFormat::kE4M3Tensor, 160}.row_size_bytes()), 160U);
  EXPECT_EQ((RowShape{RowFormat::kBf16, 160}.row_size_bytes()), 320U);
  EXPECT_EQ((RowShape{RowFormat::kFp16, 160}.row_size_bytes()), 320U);
  EXPECT_EQ((RowShape{RowFormat::kFp32, 64}.row_size_bytes()), 256U);
  EXPECT_EQ(Name(RowFormat::kE4M3Block32), "e4m3-block32");
  EXPECT_EQ(Name(RowFormat::kE4M3Tensor), "e4m3-tensor");
  EXPECT_EQ(Name(RowFormat::kBf16), "bf16");
  EXPECT_EQ(Name(RowFormat::kFp16), "fp16");
  EXPECT_EQ(Name(RowFormat::kFp32), "fp32");
}

}  // namespace
}  // namespace tiercel
