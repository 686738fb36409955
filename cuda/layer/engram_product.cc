#include "cuda/layer/engram_product.h"

#include <fmt/format.h>

#include <utility>

#include "cuda/cuda_status.h"

namespace tiercel {
namespace {

/// What Hopper's algorithms ask for.
constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;

Status BlasStatus(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return {};
  const StatusCode code =
      status == CUBLAS_STATUS_ALLOC_FAILED ? StatusCode::kResourceExhausted
      : status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE
          ? StatusCode::kInvalidArgument
          : StatusCode::kUnavailable;
  return Status(code, fmt::format("{}: cuBLASLt says {} ({})", what,
                                  cublasLtGetStatusString(status), static_cast<int>(status)));
}

}  // namespace

Result<std::unique_ptr<BfloatProduct>> BfloatProduct::Create(std::uint32_t in_count,
                                                             std::uint32_t out_count,
                                                             bool has_bias) {
  std::unique_ptr<BfloatProduct> product(new BfloatProduct(in_count, out_count));
  if (Status status = product->Init(has_bias); !status.ok()) return status;
  return product;
}

Status BfloatProduct::Init(bool has_bias) {
  if (Status status = CudaStatus(cudaMalloc(&workspace_, kWorkspaceBytes), "cuBLASLt's workspace");
      !status.ok()) {
    return status;
  }
  // cuBLASLt's matrices go down columns: what lies here in rows is to it the transpose, so it
  // is asked for y^T = w x^T, with w [in, out] to be transposed back.
  const cublasOperation_t transposed = CUBLAS_OP_T;
  const cublasLtEpilogue_t bias = CUBLASLT_EPILOGUE_BIAS;
  const std::size_t workspace_bytes = kWorkspaceBytes;
  cublasStatus_t status = cublasLtCreate(&handle_);
  if (status == CUBLAS_STATUS_SUCCESS) {
    status = cublasLtMatmulDescCreate(&product_, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  }
  if (status == CUBLAS_STATUS_SUCCESS) {
    status = cublasLtMatmulDescSetAttribute(product_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                            sizeof(transposed));
  }
  if (status == CUBLAS_STATUS_SUCCESS && has_bias) {
    status = cublasLtMatmulDescSetAttribute(product_, CUBLASLT_MATMUL_DESC_EPILOGUE, &bias,
                                            sizeof(bias));
  }
  if (status == CUBLAS_STATUS_SUCCESS) {
    status = cublasLtMatrixLayoutCreate(&w_, CUDA_R_16BF, in_count_, out_count_, in_count_);
  }
  if (status == CUBLAS_STATUS_SUCCESS) status = cublasLtMatmulPreferenceCreate(&preference_);
  if (status == CUBLAS_STATUS_SUCCESS) {
    status =
        cublasLtMatmulPreferenceSetAttribute(preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &workspace_bytes, sizeof(workspace_bytes));
  }
  return BlasStatus(status, "setting up the layer's product");
}

BfloatProduct::~BfloatProduct() {
  for (auto& [row_count, plan] : plans_) {
    if (plan.x != nullptr) cublasLtMatrixLayoutDestroy(plan.x);
    if (plan.y != nullptr) cublasLtMatrixLayoutDestroy(plan.y);
  }
  if (preference_ != nullptr) cublasLtMatmulPreferenceDestroy(preference_);
  if (w_ != nullptr) cublasLtMatrixLayoutDestroy(w_);
  if (product_ != nullptr) cublasLtMatmulDescDestroy(product_);
  if (handle_ != nullptr) cublasLtDestroy(handle_);
  cudaFree(workspace_);
}

Result<const BfloatProduct::Plan*> BfloatProduct::PlanFor(std::uint32_t row_count) {
  if (const auto known = plans_.find(row_count); known != plans_.end()) return &known->second;
  Plan plan;
  cublasStatus_t status =
      cublasLtMatrixLayoutCreate(&plan.x, CUDA_R_16BF, in_count_, row_count, in_count_);
  if (status == CUBLAS_STATUS_SUCCESS) {
    status = cublasLtMatrixLayoutCreate(&plan.y, CUDA_R_16BF, out_count_, row_count, out_count_);
  }
  cublasLtMatmulHeuristicResult_t found = {};
  int found_count = 0;
  if (status == CUBLAS_STATUS_SUCCESS) {
    status = cublasLtMatmulAlgoGetHeuristic(handle_, product_, w_, plan.x, plan.y, plan.y,
                                            preference_, 1, &found, &found_count);
  }
  if (status == CUBLAS_STATUS_SUCCESS && found_count == 0) status = CUBLAS_STATUS_NOT_SUPPORTED;
  plan.algorithm = found.algo;
  if (status != CUBLAS_STATUS_SUCCESS) {
    if (plan.x != nullptr) cublasLtMatrixLayoutDestroy(plan.x);
    if (plan.y != nullptr) cublasLtMatrixLayoutDestroy(plan.y);
    return BlasStatus(status, "looking for the product's algorithm");
  }
  return &plans_.emplace(row_count, plan).first->second;
}

Status BfloatProduct::RunAsync(const std::uint16_t* x, std::uint32_t row_count,
                               const std::uint16_t* w, const std::uint16_t* bias, std::uint16_t* y,
                               cudaStream_t stream) {
  Result<const Plan*> plan = PlanFor(row_count);
  if (!plan.ok()) return std::move(plan).TakeStatus();
  if (bias != nullptr) {
    const cublasStatus_t status = cublasLtMatmulDescSetAttribute(
        product_, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias));
    if (status != CUBLAS_STATUS_SUCCESS) return BlasStatus(status, "setting the product's bias");
  }
  const float one = 1.0F;
  const float zero = 0.0F;
  return BlasStatus(cublasLtMatmul(handle_, product_, &one, w, w_, x, plan.value()->x, &zero, y,
                                   plan.value()->y, y, plan.value()->y, &plan.value()->algorithm,
                                   workspace_, kWorkspaceBytes, stream),
                    "the layer's product");
}

}  // namespace tiercel
