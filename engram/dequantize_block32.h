#ifndef TIERCEL_ENGRAM_DEQUANTIZE_BLOCK32_H_
#define TIERCEL_ENGRAM_DEQUANTIZE_BLOCK32_H_

#include <cstddef>
#include <cstdint>

namespace tiercel {

/// E4M3(byte) * 2^(scale_byte - 127), one scale for 32 bytes; exact as a float, and
/// rounded once (nearest, ties to even) as bf16.
///
///   bytes   [value_count]      scales  [value_count / 32]      values  [value_count]
///
/// Uses AVX2 and F16C where the processor has them, with the same results bit for bit.
/// REQUIRES: value_count is a multiple of 32.
void DequantizeBlock32(const std::byte* bytes, const std::byte* scales, std::uint32_t value_count,
                       float* values) noexcept;
void DequantizeBlock32(const std::byte* bytes, const std::byte* scales, std::uint32_t value_count,
                       std::uint16_t* values) noexcept;

/// The same by a plain loop: what the fast path is tested against.
void DequantizeBlock32Plain(const std::byte* bytes, const std::byte* scales,
                            std::uint32_t value_count, float* values) noexcept;
void DequantizeBlock32Plain(const std::byte* bytes, const std::byte* scales,
                            std::uint32_t value_count, std::uint16_t* values) noexcept;

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_DEQUANTIZE_BLOCK32_H_
