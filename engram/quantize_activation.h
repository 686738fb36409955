#ifndef TIERCEL_ENGRAM_QUANTIZE_ACTIVATION_H_
#define TIERCEL_ENGRAM_QUANTIZE_ACTIVATION_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engram/float_formats.h"

namespace tiercel {

/// Values that share a scale.
inline constexpr std::size_t kActivationBlock = 32;

/// The E4M3 byte nearest to `value`, ties to even; beyond 448 it is 448, NaN stays NaN.
[[nodiscard]] TIERCEL_HOST_DEVICE inline std::uint8_t E4M3FromFloat(float value) noexcept {
  const std::uint32_t bits = BitsFromFloat(value);
  const auto sign = static_cast<std::uint8_t>((bits >> 24) & 0x80U);
  std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return sign | 0x7FU;
  if (magnitude > BitsFromFloat(448.0F)) magnitude = BitsFromFloat(448.0F);
  // Subnormal: steps of 2^-9. Eight of them are the least normal number, and its byte is 8.
  // Adding 2^23 rounds to whole steps, ties to even, and leaves their number in the low bits.
  if (magnitude < BitsFromFloat(0x1p-6F)) {
    const float steps = FloatFromBits(magnitude) * 0x1p9F + 0x1p23F;
    return sign | static_cast<std::uint8_t>(BitsFromFloat(steps) & 0xFU);
  }
  // 23 fraction bits become three, the exponent's bias 7 instead of 127.
  const std::uint32_t rounded = magnitude + 0x7FFFFU + ((magnitude >> 20) & 1U);
  return sign | static_cast<std::uint8_t>((rounded >> 20) - (120U << 3));
}

/// The UE8M0 scale of a block whose largest magnitude is `largest`: at least 1e-4, over 448,
/// rounded up to a power of two.
[[nodiscard]] TIERCEL_HOST_DEVICE inline std::uint8_t ActivationScale(float largest) noexcept {
  const std::uint32_t bits = BitsFromFloat((largest > 1e-4F ? largest : 1e-4F) * (1.0F / 448.0F));
  return static_cast<std::uint8_t>((bits >> 23) + ((bits & 0x7FFFFFU) != 0 ? 1U : 0U));
}

/// Quantises activations as DeepSeek-V4.1 does in front of its fp8 products
/// (inference/kernel.py, act_quant): the largest magnitude of 32 values, at least 1e-4,
/// over 448, rounded up to a power of two, is their scale.
///
///   values  shape [n], n a multiple of 32.
///   bytes   shape [n]: E4M3.
///   scales  shape [n / 32]: UE8M0.
///
/// Never blocks or allocates.
void QuantizeActivation(std::span<const float> values, std::span<std::uint8_t> bytes,
                        std::span<std::uint8_t> scales) noexcept;

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_QUANTIZE_ACTIVATION_H_
