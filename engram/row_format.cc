#include "tiercel/row_format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/byte_order.h"
#include "engram/dequantize_block32.h"
#include "engram/dequantize_ggml.h"
#include "engram/float_formats.h"

namespace tiercel {
namespace {

/// Values of the 256 E4M3 bytes. 1 KiB: stays in the first-level cache.
constexpr std::array<float, 256> kE4M3Values = [] {
  std::array<float, 256> values{};
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = FloatFromE4M3(static_cast<std::uint8_t>(i));
  }
  return values;
}();

template <typename T>
void DequantizeTensor(const RowShape& shape, const std::byte* row, T* values) noexcept {
  // E4M3 has 4 significant bits and steps of 2^-9 at the least, bf16 8 and 2^-133:
  // the float product has 12 and 2^-142, so it is exact, and the bf16 is rounded once.
  const float scale = FloatFromBf16(Bf16FromFloat(shape.tensor_scale));
  for (std::uint32_t i = 0; i < shape.value_count; ++i) {
    const float product = kE4M3Values[std::to_integer<std::size_t>(row[i])] * scale;
    StoreFloat(FloatFromBf16(Bf16FromFloat(product)), values[i]);
  }
}

void CopyBf16(const std::byte* row, std::uint32_t count, float* values) noexcept {
  for (std::uint32_t i = 0; i < count; ++i) {
    values[i] = FloatFromBf16(LoadLittleEndian<std::uint16_t>(row + 2 * std::size_t{i}));
  }
}

/// As they are, but for NaN, which is made quiet. Eight at a time: GCC makes no vectors of
/// such a loop at -O2.
void CopyBf16(const std::byte* row, std::uint32_t count, std::uint16_t* values) noexcept {
  std::uint32_t i = 0;
  if constexpr (std::endian::native == std::endian::little) {
    using Eight [[gnu::vector_size(16)]] = std::int16_t;
    for (; count - i >= 8; i += 8) {
      Eight bits;
      std::memcpy(&bits, row + 2 * std::size_t{i}, sizeof(bits));
      const Eight is_nan = (bits & 0x7FFF) > 0x7F80;
      bits |= is_nan & 0x40;
      std::memcpy(values + i, &bits, sizeof(bits));
    }
  }
  for (; i < count; ++i) {
    values[i] =
        Bf16FromFloat(FloatFromBf16(LoadLittleEndian<std::uint16_t>(row + 2 * std::size_t{i})));
  }
}

template <typename T>
void Dequantize(const RowShape& shape, const std::byte* row, T* values) noexcept {
  switch (shape.format) {
    case RowFormat::kE4M3Block32:
      DequantizeBlock32(row, row + shape.value_count, shape.value_count, values);
      return;
    case RowFormat::kE4M3Tensor:
      DequantizeTensor(shape, row, values);
      return;
    case RowFormat::kBf16:
      CopyBf16(row, shape.value_count, values);
      return;
    case RowFormat::kFp16:
      for (std::uint32_t i = 0; i < shape.value_count; ++i) {
        StoreFloat(FloatFromFp16(LoadLittleEndian<std::uint16_t>(row + 2 * std::size_t{i})),
                   values[i]);
      }
      return;
    case RowFormat::kFp32:
      for (std::uint32_t i = 0; i < shape.value_count; ++i) {
        StoreFloat(FloatFromBits(LoadLittleEndian<std::uint32_t>(row + 4 * std::size_t{i})),
                   values[i]);
      }
      return;
    case RowFormat::kQ8_0:
    case RowFormat::kQ4_K:
    case RowFormat::kQ3_K:
    case RowFormat::kQ2_K:
      DequantizeGgml(shape.format, row, shape.value_count, values);
      return;
  }
}

void AddScale(float scale, ScaleRange& range) noexcept {
  if (std::isnan(scale)) {
    range.has_nan = true;
    return;
  }
  range.low = std::min(range.low, std::fabs(scale));
  range.high = std::max(range.high, std::fabs(scale));
}

}  // namespace

std::string_view Name(RowFormat format) noexcept {
  switch (format) {
    case RowFormat::kE4M3Block32:
      return "e4m3-block32";
    case RowFormat::kE4M3Tensor:
      return "e4m3-tensor";
    case RowFormat::kBf16:
      return "bf16";
    case RowFormat::kFp16:
      return "fp16";
    case RowFormat::kFp32:
      return "fp32";
    case RowFormat::kQ8_0:
      return "q8_0";
    case RowFormat::kQ4_K:
      return "q4_k";
    case RowFormat::kQ3_K:
      return "q3_k";
    case RowFormat::kQ2_K:
      return "q2_k";
  }
  return "unknown";
}

std::uint32_t BlockValueCount(RowFormat format) noexcept {
  if (format == RowFormat::kE4M3Block32) return 32;
  return std::max(GgmlBlockOf(format).value_count, 1U);
}

std::uint32_t RowShape::row_size_bytes() const noexcept {
  switch (format) {
    case RowFormat::kE4M3Block32:
      return value_count + value_count / 32;
    case RowFormat::kE4M3Tensor:
      return value_count;
    case RowFormat::kBf16:
    case RowFormat::kFp16:
      return 2 * value_count;
    case RowFormat::kFp32:
      return 4 * value_count;
    case RowFormat::kQ8_0:
    case RowFormat::kQ4_K:
    case RowFormat::kQ3_K:
    case RowFormat::kQ2_K: {
      const GgmlBlock block = GgmlBlockOf(format);
      return value_count / block.value_count * block.size_bytes;
    }
  }
  return 0;
}

void DequantizeToFloat(const RowShape& shape, std::span<const std::byte> row,
                       std::span<float> values) noexcept {
  assert(row.size() == shape.row_size_bytes() && values.size() == shape.value_count);
  Dequantize(shape, row.data(), values.data());
}

void DequantizeToBf16(const RowShape& shape, std::span<const std::byte> row,
                      std::span<std::uint16_t> values) noexcept {
  assert(row.size() == shape.row_size_bytes() && values.size() == shape.value_count);
  Dequantize(shape, row.data(), values.data());
}

std::optional<ScaleRange> ScalesOf(const RowShape& shape, std::span<const std::byte> row) noexcept {
  assert(row.size() == shape.row_size_bytes());
  ScaleRange range{.low = std::numeric_limits<float>::infinity(), .high = -1.0F, .has_nan = false};
  if (shape.format == RowFormat::kE4M3Block32) {
    for (const std::byte scale : row.subspan(shape.value_count)) {
      AddScale(FloatFromUe8m0(std::to_integer<std::uint8_t>(scale)), range);
    }
    return range;
  }
  const GgmlBlock block = GgmlBlockOf(shape.format);
  if (block.value_count == 0) return std::nullopt;
  for (std::size_t at = 0; at < row.size(); at += block.size_bytes) {
    for (const std::uint32_t offset : {block.d_offset, block.dmin_offset}) {
      AddScale(FloatFromFp16(LoadLittleEndian<std::uint16_t>(row.data() + at + offset)), range);
    }
  }
  return range;
}

}  // namespace tiercel
