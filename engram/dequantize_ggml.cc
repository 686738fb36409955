#include "engram/dequantize_ggml.h"

#include <cassert>

#include "base/byte_order.h"
#include "engram/float_formats.h"

namespace tiercel {
namespace {

constexpr std::uint32_t kSuperBlockValues = 256;

constexpr GgmlBlock kQ8Block{.value_count = 32, .size_bytes = 34, .d_offset = 0, .dmin_offset = 0};
constexpr GgmlBlock kQ4Block{
    .value_count = kSuperBlockValues, .size_bytes = 144, .d_offset = 0, .dmin_offset = 2};
constexpr GgmlBlock kQ3Block{
    .value_count = kSuperBlockValues, .size_bytes = 110, .d_offset = 108, .dmin_offset = 108};
constexpr GgmlBlock kQ2Block{
    .value_count = kSuperBlockValues, .size_bytes = 84, .d_offset = 80, .dmin_offset = 82};

/// Byte `i` of a block, as a number.
std::uint32_t ByteAt(const std::byte* block, std::uint32_t i) noexcept {
  return std::to_integer<std::uint32_t>(block[i]);
}

float HalfAt(const std::byte* block, std::uint32_t offset) noexcept {
  return FloatFromFp16(LoadLittleEndian<std::uint16_t>(block + offset));
}

template <typename T>
void DequantizeQ8(const std::byte* block, T* values) noexcept {
  const float d = HalfAt(block, kQ8Block.d_offset);
  for (std::uint32_t i = 0; i < kQ8Block.value_count; ++i) {
    const auto q = static_cast<std::int8_t>(ByteAt(block, 2 + i));
    StoreFloat(static_cast<float>(q) * d, values[i]);
  }
}

/// Scale and min of 32 values, 6 bits each. Those of the first four groups lie in the low 6
/// bits of bytes 0-3 and 4-7; of the last four, the low nibbles are bytes 8-11 and the high
/// pairs the two bits left over in the others.
struct ScaleAndMin {
  std::uint32_t scale;
  std::uint32_t min;
};
ScaleAndMin ScaleOfQ4(const std::byte* scales, std::uint32_t group) noexcept {
  if (group < 4) return {ByteAt(scales, group) & 63U, ByteAt(scales, group + 4) & 63U};
  const std::uint32_t low = ByteAt(scales, group + 4);
  return {(low & 15U) | (ByteAt(scales, group - 4) >> 6 << 4),
          (low >> 4) | (ByteAt(scales, group) >> 6 << 4)};
}

template <typename T>
void DequantizeQ4(const std::byte* block, T* values) noexcept {
  const float d = HalfAt(block, kQ4Block.d_offset);
  const float dmin = HalfAt(block, kQ4Block.dmin_offset);
  const std::byte* const scales = block + 4;
  const std::byte* const nibbles = block + 16;
  for (std::uint32_t group = 0; group < 8; ++group) {
    const ScaleAndMin of = ScaleOfQ4(scales, group);
    const float scale = d * static_cast<float>(of.scale);
    const float min = dmin * static_cast<float>(of.min);
    // Two groups share 32 bytes: the first one their low nibbles, the second the high ones.
    const std::byte* const bytes = nibbles + 32 * (group / 2);
    const std::uint32_t shift = 4 * (group % 2);
    for (std::uint32_t i = 0; i < 32; ++i) {
      const std::uint32_t q = (ByteAt(bytes, i) >> shift) & 15U;
      StoreFloat(scale * static_cast<float>(q) - min, values[32 * group + i]);
    }
  }
}

/// The 6-bit scale of 16 values: the low nibble is in bytes 0-7 (low halves for groups 0-7,
/// high halves for 8-15), the high pair in bytes 8-11.
std::uint32_t ScaleOfQ3(const std::byte* scales, std::uint32_t group) noexcept {
  const std::uint32_t low = (ByteAt(scales, group % 8) >> (4 * (group / 8))) & 15U;
  const std::uint32_t high = (ByteAt(scales, 8 + group % 4) >> (2 * (group / 4))) & 3U;
  return low | (high << 4);
}

template <typename T>
void DequantizeQ3(const std::byte* block, T* values) noexcept {
  const float d = HalfAt(block, kQ3Block.d_offset);
  const std::byte* const pairs = block + 32;
  const std::byte* const scales = block + 96;
  for (std::uint32_t group = 0; group < 16; ++group) {
    const auto stored = static_cast<std::int32_t>(ScaleOfQ3(scales, group));
    const float scale = d * static_cast<float>(stored - 32);
    // 128 values share 32 bytes, four pairs a byte; the high bits of all 256 are 8 planes.
    const std::uint32_t plane = group / 2;
    const std::byte* const bytes = pairs + 32 * (plane / 4);
    const std::uint32_t shift = 2 * (plane % 4);
    for (std::uint32_t i = 0; i < 16; ++i) {
      const std::uint32_t at = 16 * (group % 2) + i;
      const std::uint32_t low = (ByteAt(bytes, at) >> shift) & 3U;
      const std::uint32_t high = (ByteAt(block, at) >> plane) & 1U;
      const std::int32_t q = static_cast<std::int32_t>(low | (high << 2)) - 4;
      StoreFloat(scale * static_cast<float>(q), values[16 * group + i]);
    }
  }
}

template <typename T>
void DequantizeQ2(const std::byte* block, T* values) noexcept {
  const float d = HalfAt(block, kQ2Block.d_offset);
  const float dmin = HalfAt(block, kQ2Block.dmin_offset);
  const std::byte* const pairs = block + 16;
  for (std::uint32_t group = 0; group < 16; ++group) {
    const std::uint32_t of = ByteAt(block, group);
    const float scale = d * static_cast<float>(of & 15U);
    const float min = dmin * static_cast<float>(of >> 4);
    const std::uint32_t plane = group / 2;
    const std::byte* const bytes = pairs + 32 * (plane / 4) + 16 * (group % 2);
    const std::uint32_t shift = 2 * (plane % 4);
    for (std::uint32_t i = 0; i < 16; ++i) {
      const std::uint32_t q = (ByteAt(bytes, i) >> shift) & 3U;
      StoreFloat(scale * static_cast<float>(q) - min, values[16 * group + i]);
    }
  }
}

template <typename T>
void DequantizeBlocks(RowFormat format, const std::byte* row, std::uint32_t value_count,
                      T* values) noexcept {
  const GgmlBlock block = GgmlBlockOf(format);
  assert(block.value_count != 0 && value_count % block.value_count == 0);
  for (std::uint32_t done = 0; done < value_count; done += block.value_count) {
    switch (format) {
      case RowFormat::kQ8_0:
        DequantizeQ8(row, values + done);
        break;
      case RowFormat::kQ4_K:
        DequantizeQ4(row, values + done);
        break;
      case RowFormat::kQ3_K:
        DequantizeQ3(row, values + done);
        break;
      default:
        DequantizeQ2(row, values + done);
        break;
    }
    row += block.size_bytes;
  }
}

}  // namespace

GgmlBlock GgmlBlockOf(RowFormat format) noexcept {
  switch (format) {
    case RowFormat::kQ8_0:
      return kQ8Block;
    case RowFormat::kQ4_K:
      return kQ4Block;
    case RowFormat::kQ3_K:
      return kQ3Block;
    case RowFormat::kQ2_K:
      return kQ2Block;
    default:
      return {};
  }
}

void DequantizeGgml(RowFormat format, const std::byte* row, std::uint32_t value_count,
                    float* values) noexcept {
  DequantizeBlocks(format, row, value_count, values);
}

void DequantizeGgml(RowFormat format, const std::byte* row, std::uint32_t value_count,
                    std::uint16_t* values) noexcept {
  DequantizeBlocks(format, row, value_count, values);
}

}  // namespace tiercel
