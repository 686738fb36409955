#ifndef TIERCEL_CUDA_HBM_CUDA_DEVICE_H_
#define TIERCEL_CUDA_HBM_CUDA_DEVICE_H_

#include <memory>

#include "cuda/hbm_device.h"
#include "tiercel/hbm.h"

namespace tiercel {

/// The current CUDA device as an HbmDevice. An HbmStream is a cudaStream_t of it.
///
/// Errors: kUnavailable (no GPU or driver; FlagWait::kStreamValue where the device cannot),
/// and as CudaStatus().
[[nodiscard]] Result<std::unique_ptr<HbmDevice>> OpenCudaHbmDevice(FlagWait flag_wait);

}  // namespace tiercel

#endif  // TIERCEL_CUDA_HBM_CUDA_DEVICE_H_
