#ifndef TIERCEL_CUDA_LAYER_ENGRAM_PRODUCT_H_
#define TIERCEL_CUDA_LAYER_ENGRAM_PRODUCT_H_

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "tiercel/status.h"

namespace tiercel {

/// y = x * w^T + bias in bf16 with float32 sums, by cuBLASLt. Owns nothing but the library's
/// handle, its descriptors and a workspace.
///
/// Threading: one thread at a time.
class BfloatProduct {
 public:
  /// Errors: kUnavailable, kResourceExhausted.
  [[nodiscard]] static Result<std::unique_ptr<BfloatProduct>> Create(std::uint32_t in_count,
                                                                     std::uint32_t out_count,
                                                                     bool has_bias);
  BfloatProduct(const BfloatProduct&) = delete;
  BfloatProduct& operator=(const BfloatProduct&) = delete;
  ~BfloatProduct();

  /// All device memory, aligned to 16 bytes.
  ///   x  [row_count, in_count].    w  [out_count, in_count].
  ///   bias  [out_count], or null without.    y  [row_count, out_count].
  /// The first call for a row_count looks for an algorithm, and must not be captured.
  [[nodiscard]] Status RunAsync(const std::uint16_t* x, std::uint32_t row_count,
                                const std::uint16_t* w, const std::uint16_t* bias, std::uint16_t* y,
                                cudaStream_t stream);

 private:
  /// How a product of some number of rows is run.
  struct Plan {
    cublasLtMatrixLayout_t x = nullptr;
    cublasLtMatrixLayout_t y = nullptr;
    cublasLtMatmulAlgo_t algorithm = {};
  };

  BfloatProduct(std::uint32_t in_count, std::uint32_t out_count)
      : in_count_(in_count), out_count_(out_count) {}
  [[nodiscard]] Status Init(bool has_bias);
  [[nodiscard]] Result<const Plan*> PlanFor(std::uint32_t row_count);

  const std::uint32_t in_count_;
  const std::uint32_t out_count_;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatrixLayout_t w_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  void* workspace_ = nullptr;
  std::map<std::uint32_t, Plan> plans_;  ///< By row_count.
};

}  // namespace tiercel

#endif  // TIERCEL_CUDA_LAYER_ENGRAM_PRODUCT_H_
