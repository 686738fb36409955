#include "engram/quantize_activation.h"

#include <algorithm>
#include <cmath>

namespace tiercel {

void QuantizeActivation(std::span<const float> values, std::span<std::uint8_t> bytes,
                        std::span<std::uint8_t> scales) noexcept {
  for (std::size_t block = 0; block < scales.size(); ++block) {
    const std::span<const float> x = values.subspan(block * kActivationBlock, kActivationBlock);
    float largest = 0.0F;
    for (const float value : x) largest = std::max(largest, std::fabs(value));
    scales[block] = ActivationScale(largest);
    const float scale = FloatFromUe8m0(scales[block]);
    for (std::size_t i = 0; i < kActivationBlock; ++i) {
      bytes[block * kActivationBlock + i] = E4M3FromFloat(x[i] / scale);
    }
  }
}

}  // namespace tiercel
