#ifndef TIERCEL_CUDA_LAYER_ENGRAM_LAYER_H_
#define TIERCEL_CUDA_LAYER_ENGRAM_LAYER_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include "tiercel/layer.h"
#include "tiercel/status.h"

namespace tiercel {

/// A batch on its way through the layer. All memory is the device's; bf16 is its bit pattern.
struct CudaEngramBatch {
  std::uint32_t token_count = 0;  ///< t.
  /// Shape [t, E]: each token's rows, dequantised, as the HBM tier or DequantizeToBf16Async()
  /// writes them. Aligned to 16 bytes.
  const std::uint16_t* embeddings = nullptr;
  std::uint16_t* streams = nullptr;    ///< Shape [t, n, D]; in place. Aligned to 16 bytes.
  const std::uint8_t* dead = nullptr;  ///< Shape [t]; 1 closes the gate. Null: none is.
  // For a layer with a convolution; else not looked at.
  std::uint32_t run_count = 0;  ///< Sequences of the batch, their tokens one after another.
  /// Shape [run_count + 1]: where each begins, from 0 to t.
  const std::uint32_t* run_begins = nullptr;
  /// Shape [run_count, history_tokens(), n * D]: FusionState of each, zeros where it starts;
  /// updated.
  float* history = nullptr;
};

/// An Engram layer on the GPU: EngramFusion's forward pass in bf16, with sums in float32. The
/// product is cuBLASLt's; quantiser, gate with its norms, and convolution are fused kernels.
///
/// Numbers: weights of the product are rounded to bf16, which for V4.1's E4M3 with power-of-two
/// scales is exact; the product is rounded to bf16 in all forms, the streams are bf16. With
/// FusionRounding::kDeepSeekV41 the embeddings go through the activation quantiser, whose
/// values bf16 holds exactly: the factors are then those of the model's fp8 product.
///
/// Threading: one thread at a time; the memory between kernels is the layer's own, so that
/// batches on several streams must not overlap.
class CudaEngramLayer {
 public:
  /// Takes device memory for weights and for batches of up to `tokens_max` tokens, on the
  /// current device.
  ///
  /// Errors: kInvalidArgument (as EngramFusion::Create(); a dim that is no multiple of 8;
  /// tokens_max 0 or above 65,535), kUnavailable (no GPU, no cuBLASLt), kResourceExhausted.
  [[nodiscard]] static Result<std::unique_ptr<CudaEngramLayer>> Create(
      const FusionShape& shape, const FusionWeights<float>& weights, std::uint32_t tokens_max);

  CudaEngramLayer(const CudaEngramLayer&) = delete;
  CudaEngramLayer& operator=(const CudaEngramLayer&) = delete;
  ~CudaEngramLayer();

  /// Adds the layer's output to the streams. Does not synchronize `stream`; the batch's memory
  /// must stay until the work has run. May be captured in a CUDA graph, if a batch of as many
  /// tokens was run before: the first one looks for the product's algorithm.
  ///
  /// Errors: kInvalidArgument (too many tokens, a null or misaligned pointer; nothing is
  /// launched), others as a launch reports them.
  [[nodiscard]] Status ForwardAsync(const CudaEngramBatch& batch, cudaStream_t stream);

 private:
  struct Impl;
  explicit CudaEngramLayer(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tiercel

#endif  // TIERCEL_CUDA_LAYER_ENGRAM_LAYER_H_
