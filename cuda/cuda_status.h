#ifndef TIERCEL_CUDA_CUDA_STATUS_H_
#define TIERCEL_CUDA_CUDA_STATUS_H_

#include <cuda_runtime_api.h>

#include <string_view>

#include "tiercel/status.h"

namespace tiercel {

/// The Status for a CUDA error: its code, and "WHAT: TEXT (NAME); what to do". OK for
/// cudaSuccess. The one place where CUDA errors become codes.
///
///   what  what was being done, e.g. "launch of the dequantisation".
[[nodiscard]] Status CudaStatus(cudaError_t error, std::string_view what);

}  // namespace tiercel

#endif  // TIERCEL_CUDA_CUDA_STATUS_H_
