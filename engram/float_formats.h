#ifndef TIERCEL_ENGRAM_FLOAT_FORMATS_H_
#define TIERCEL_ENGRAM_FLOAT_FORMATS_H_

#include <cstdint>

/// Marks functions that kernels call too; nothing where nvcc is not compiling.
#ifdef __CUDACC__
#define TIERCEL_HOST_DEVICE __host__ __device__
#else
#define TIERCEL_HOST_DEVICE
#endif

// Conversions of single values, bit by bit: the reference for the vectorised code on
// the host and for the kernels. Every NaN that is made here is quiet, and keeps the
// sign of what it came from.

namespace tiercel {

TIERCEL_HOST_DEVICE constexpr float FloatFromBits(std::uint32_t bits) noexcept {
  return __builtin_bit_cast(float, bits);
}
TIERCEL_HOST_DEVICE constexpr std::uint32_t BitsFromFloat(float value) noexcept {
  return __builtin_bit_cast(std::uint32_t, value);
}

/// E4M3 ("fn": no infinities, 0x7f and 0xff are NaN, bias 7), exactly.
TIERCEL_HOST_DEVICE constexpr float FloatFromE4M3(std::uint8_t byte) noexcept {
  const std::uint32_t sign = (byte & 0x80U) << 24;
  const std::uint32_t magnitude = byte & 0x7FU;
  if (magnitude == 0x7FU) return FloatFromBits(sign | 0x7FC00000U);
  if (magnitude < 8) {  // Subnormal: steps of 2^-9.
    const float value = static_cast<float>(magnitude) * 0x1p-9F;
    return FloatFromBits(sign | BitsFromFloat(value));
  }
  // 3 fraction bits move to the top of 23, the exponent's bias from 7 to 127.
  return FloatFromBits(sign | ((magnitude << 20) + (120U << 23)));
}

/// UE8M0: 2^(byte - 127); 0 is 2^-127, a subnormal float; 255 is NaN.
TIERCEL_HOST_DEVICE constexpr float FloatFromUe8m0(std::uint8_t byte) noexcept {
  if (byte == 0) return FloatFromBits(0x00400000U);
  if (byte == 255) return FloatFromBits(0x7FC00000U);
  return FloatFromBits(static_cast<std::uint32_t>(byte) << 23);
}

TIERCEL_HOST_DEVICE constexpr float FloatFromBf16(std::uint16_t bits) noexcept {
  return FloatFromBits(static_cast<std::uint32_t>(bits) << 16);
}

/// Nearest, ties to even; NaN stays NaN (quiet), too large becomes infinite.
TIERCEL_HOST_DEVICE constexpr std::uint16_t Bf16FromFloat(float value) noexcept {
  const std::uint32_t bits = BitsFromFloat(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

/// Stores what the wanted type holds of `value`: the one place where floats and bf16 differ.
constexpr void StoreFloat(float value, float& target) noexcept {
  target = value;
}
constexpr void StoreFloat(float value, std::uint16_t& target) noexcept {
  target = Bf16FromFloat(value);
}

/// IEEE half, exactly.
TIERCEL_HOST_DEVICE constexpr float FloatFromFp16(std::uint16_t bits) noexcept {
  const std::uint32_t sign = (bits & 0x8000U) << 16;
  const std::uint32_t magnitude = bits & 0x7FFFU;
  if (magnitude > 0x7C00U) return FloatFromBits(sign | 0x7FC00000U | ((magnitude & 0x3FFU) << 13));
  if (magnitude == 0x7C00U) return FloatFromBits(sign | 0x7F800000U);
  if (magnitude < 0x400U) {  // Subnormal: steps of 2^-24.
    return FloatFromBits(sign | BitsFromFloat(static_cast<float>(magnitude) * 0x1p-24F));
  }
  return FloatFromBits(sign | ((magnitude << 13) + (112U << 23)));  // Bias 15 -> 127.
}

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_FLOAT_FORMATS_H_
