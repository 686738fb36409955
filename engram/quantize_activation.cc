#include "engram/quantize_activation.h"

#include <algorithm>
#include <cmath>

#include "engram/float_formats.h"

namespace tiercel {

std::uint8_t E4M3FromFloat(float value) noexcept {
  const std::uint32_t bits = BitsFromFloat(value);
  const auto sign = static_cast<std::uint8_t>((bits >> 24) & 0x80U);
  if (std::isnan(value)) return sign | 0x7FU;
  const float magnitude = std::min(std::fabs(value), 448.0F);
  // Subnormal: steps of 2^-9. Eight of them are the least normal number, and its byte is 8.
  if (magnitude < 0x1p-6F) return sign | static_cast<std::uint8_t>(std::rint(magnitude * 0x1p9F));
  // 23 fraction bits become three, the exponent's bias 7 instead of 127.
  const std::uint32_t exact = BitsFromFloat(magnitude);
  const std::uint32_t rounded = exact + 0x7FFFFU + ((exact >> 20) & 1U);
  return sign | static_cast<std::uint8_t>((rounded >> 20) - (120U << 3));
}

void QuantizeActivation(std::span<const float> values, std::span<std::uint8_t> bytes,
                        std::span<std::uint8_t> scales) noexcept {
  for (std::size_t block = 0; block < scales.size(); ++block) {
    const std::span<const float> x = values.subspan(block * kActivationBlock, kActivationBlock);
    float largest = 1e-4F;
    for (const float value : x) largest = std::max(largest, std::fabs(value));
    const std::uint32_t bits = BitsFromFloat(largest * (1.0F / 448.0F));
    const std::uint32_t exponent = (bits >> 23) + ((bits & 0x7FFFFFU) != 0 ? 1U : 0U);
    scales[block] = static_cast<std::uint8_t>(exponent);
    const float scale = FloatFromUe8m0(scales[block]);
    for (std::size_t i = 0; i < kActivationBlock; ++i) {
      bytes[block * kActivationBlock + i] = E4M3FromFloat(x[i] / scale);
    }
  }
}

}  // namespace tiercel
