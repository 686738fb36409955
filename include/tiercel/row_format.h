#ifndef TIERCEL_ROW_FORMAT_H_
#define TIERCEL_ROW_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace tiercel {

/// How the values of a row are stored.
enum class RowFormat : std::uint8_t {
  /// n E4M3 bytes, then n / 32 UE8M0 scale bytes: one scale for 32 values.
  /// DeepSeek-V4.1: 256 + 8 = 264 bytes.
  kE4M3Block32 = 0,
  kE4M3Tensor,  ///< n E4M3 bytes; one scale for the whole table. Qwen3.8 FP8.
  kBf16,        ///< n bfloat16, little-endian.
  kFp16,        ///< n IEEE half, little-endian.
  kFp32,        ///< n IEEE single, little-endian.
  // Blocks of ggml, one after another, scales within (see docs/format.md).
  kQ8_0,  ///< 34 B for 32 values.
  kQ4_K,  ///< 144 B for 256 values.
  kQ3_K,  ///< 110 B for 256 values.
  kQ2_K,  ///< 84 B for 256 values.
};

/// All of them, in the order of their values.
inline constexpr RowFormat kRowFormats[] = {
    RowFormat::kE4M3Block32, RowFormat::kE4M3Tensor, RowFormat::kBf16,
    RowFormat::kFp16,        RowFormat::kFp32,       RowFormat::kQ8_0,
    RowFormat::kQ4_K,        RowFormat::kQ3_K,       RowFormat::kQ2_K};

/// "e4m3-block32", "e4m3-tensor", "bf16", "fp16", "fp32", "q8_0", "q4_k", "q3_k", "q2_k".
[[nodiscard]] std::string_view Name(RowFormat format) noexcept;

/// Values that cannot be parted: 32 for kE4M3Block32 and kQ8_0, 256 for kQ4_K, kQ3_K and
/// kQ2_K, else 1.
[[nodiscard]] std::uint32_t BlockValueCount(RowFormat format) noexcept;

/// Shape of a row: what it takes to turn its bytes into numbers.
struct RowShape {
  RowFormat format = RowFormat::kE4M3Block32;
  /// Values in a row. A multiple of BlockValueCount(format).
  std::uint32_t value_count = 0;
  /// kE4M3Tensor: the table's one scale. Otherwise not looked at.
  float tensor_scale = 1.0F;

  /// Bytes of one row, scales included.
  [[nodiscard]] std::uint32_t row_size_bytes() const noexcept;
};

/// Turns one stored row into floats.
///
///   row     shape [shape.row_size_bytes()].
///   values  shape [shape.value_count].
///
/// kE4M3Block32: E4M3(byte) * 2^(scale_byte - 127) in float32; scale byte 255 is
/// NaN, 0 is 2^-127 (DeepSeek-V4.1 inference/model.py, ParallelEngramEmbedding).
/// kE4M3Tensor: bf16(byte) * bf16(scale) rounded once to bf16, as vLLM does, then
/// widened. kQ8_0 to kQ2_K: as ggml's reference (ggml-quants.c, dequantize_row_*), bit for
/// bit. The rest: widened exactly. E4M3 0x7f and 0xff are NaN.
///
/// Never blocks, never allocates, cannot fail. Subnormal results need a thread
/// that does not flush them to zero (MXCSR FTZ/DAZ off).
/// REQUIRES: the spans have the shapes above and do not overlap.
void DequantizeToFloat(const RowShape& shape, std::span<const std::byte> row,
                       std::span<float> values) noexcept;

/// As DequantizeToFloat, rounded to bfloat16 (nearest, ties to even; NaN stays
/// NaN). `values` holds the bit patterns.
void DequantizeToBf16(const RowShape& shape, std::span<const std::byte> row,
                      std::span<std::uint16_t> values) noexcept;

/// Smallest and largest magnitude of the scales that are stored in a row: the UE8M0 scales of
/// kE4M3Block32, the halves d and dmin of ggml's blocks. A scale that is NaN counts for
/// neither; where none is left, low > high.
struct ScaleRange {
  float low = 0.0F;
  float high = 0.0F;
  bool has_nan = false;
};

/// The scales of a row; nothing for a format that stores none in a row.
///   row  shape [shape.row_size_bytes()].
/// Never blocks or allocates.
[[nodiscard]] std::optional<ScaleRange> ScalesOf(const RowShape& shape,
                                                 std::span<const std::byte> row) noexcept;

}  // namespace tiercel

#endif  // TIERCEL_ROW_FORMAT_H_
