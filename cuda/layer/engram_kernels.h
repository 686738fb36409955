#ifndef TIERCEL_CUDA_LAYER_ENGRAM_KERNELS_H_
#define TIERCEL_CUDA_LAYER_ENGRAM_KERNELS_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

// The kernels of the Engram layer, and what they get: checked by CudaEngramLayer, passed by
// value. All memory is the device's. bf16 is its bit pattern.

namespace tiercel {

/// What the gate and the convolution need.
struct EngramKernelArguments {
  std::uint32_t token_count = 0;
  std::uint32_t stream_count = 0;
  std::uint32_t dim = 0;  ///< A multiple of 8.
  float norm_epsilon = 0.0F;
  float conv_norm_epsilon = 0.0F;
  bool signed_zero = false;  ///< The root of a score of +-0 is +-1e-3, else 0.
  std::uint32_t conv_kernel = 0;
  std::uint32_t conv_dilation = 1;
  const std::uint16_t* kv = nullptr;          ///< [t, (n + 1) * dim], aligned to 16.
  std::uint16_t* streams = nullptr;           ///< [t, n, dim], aligned to 16; in place.
  const std::uint8_t* dead = nullptr;         ///< [t], or null.
  const float* score_weight = nullptr;        ///< [n, dim]: product of both norms' factors.
  const float* conv_norm = nullptr;           ///< [n, dim].
  const float* conv_weight = nullptr;         ///< [n * dim, conv_kernel].
  float* gate = nullptr;                      ///< [t, n]: written, read by the convolution.
  float* conv_input = nullptr;                ///< [t, n, dim]: likewise.
  std::uint32_t run_count = 0;                ///< Sequences of the batch.
  const std::uint32_t* run_begins = nullptr;  ///< [run_count + 1], from 0 to t.
  float* history = nullptr;                   ///< [run_count, (K - 1) * dilation, n * dim].
};

/// Scores and gates; without a convolution also the streams, with one its normed input.
[[nodiscard]] cudaError_t LaunchEngramGate(const EngramKernelArguments& arguments,
                                           cudaStream_t stream) noexcept;
/// The convolution and the streams, then the history for the next tokens.
[[nodiscard]] cudaError_t LaunchEngramConv(const EngramKernelArguments& arguments,
                                           cudaStream_t stream) noexcept;
/// bf16 through V4.1's activation quantiser and back, which bf16 holds exactly.
///   values, rounded  [count], count a multiple of 32.
[[nodiscard]] cudaError_t LaunchRoundActivations(const std::uint16_t* values, std::uint64_t count,
                                                 std::uint16_t* rounded,
                                                 cudaStream_t stream) noexcept;

}  // namespace tiercel

#endif  // TIERCEL_CUDA_LAYER_ENGRAM_KERNELS_H_
