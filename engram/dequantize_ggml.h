#ifndef TIERCEL_ENGRAM_DEQUANTIZE_GGML_H_
#define TIERCEL_ENGRAM_DEQUANTIZE_GGML_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "tiercel/row_format.h"

// Rows of ggml's block formats (ggml-quants.c, dequantize_row_*). A row is whole blocks, one
// after another; halves are little-endian.
//
//   Q8_0   32 values, 34 B:   half d; int8 q[32].
//                             q * d
//   Q4_K  256 values, 144 B:  half d, dmin; 12 B of 6-bit scales and mins; 128 B of nibbles.
//                             d * scale * q - dmin * min, 32 values a scale
//   Q3_K  256 values, 110 B:  32 B of high bits; 64 B of low pairs; 12 B of 6-bit scales; half d.
//                             d * (scale - 32) * q, q in [-4, 3], 16 values a scale
//   Q2_K  256 values, 84 B:   16 B, low nibble scale, high nibble min; 64 B of pairs; half d, dmin.
//                             d * scale * q - dmin * min, 16 values a scale
//
// All products are exact as floats (an 11-bit half times at most 10 bits), so the one
// subtraction is all that rounds, and fused or not makes no difference.

namespace tiercel {

/// Facts of a block format.
struct GgmlBlock {
  std::uint32_t value_count = 0;  ///< Of one block. 0: no block format.
  std::uint32_t size_bytes = 0;   ///< Of one block.
  std::uint32_t d_offset = 0;     ///< Of the half d in it.
  /// Of the half dmin; equal to d_offset where there is none.
  std::uint32_t dmin_offset = 0;
};
[[nodiscard]] GgmlBlock GgmlBlockOf(RowFormat format) noexcept;

/// The values of a row, exact as ggml's reference as floats, rounded once more as bf16.
///
///   row  shape [value_count / block's value_count * block's size_bytes].
///
/// REQUIRES: `format` is a block format, value_count a multiple of its block's.
void DequantizeGgml(RowFormat format, const std::byte* row, std::uint32_t value_count,
                    float* values) noexcept;
void DequantizeGgml(RowFormat format, const std::byte* row, std::uint32_t value_count,
                    std::uint16_t* values) noexcept;

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_DEQUANTIZE_GGML_H_
