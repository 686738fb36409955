#ifndef TIERCEL_ENGRAM_QUANTIZE_ACTIVATION_H_
#define TIERCEL_ENGRAM_QUANTIZE_ACTIVATION_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace tiercel {

/// Values that share a scale.
inline constexpr std::size_t kActivationBlock = 32;

/// The E4M3 byte nearest to `value`, ties to even; beyond 448 it is 448, NaN stays NaN.
[[nodiscard]] std::uint8_t E4M3FromFloat(float value) noexcept;

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
