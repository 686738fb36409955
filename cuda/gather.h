#ifndef TIERCEL_CUDA_GATHER_H_
#define TIERCEL_CUDA_GATHER_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>

#include "cuda/hbm_device.h"
#include "tiercel/hbm.h"

namespace tiercel {

/// Launches the gather of layers of a batch on `stream` and returns what the launch said. What it
/// reads and writes: GatherArguments, BatchHeader, GroupSource.
///
///   multiprocessor_count  Of the device.
///
/// REQUIRES: as HbmDevice::Gather(); the shapes are ones, and the arguments' addresses are those
/// of the stream's device.
[[nodiscard]] cudaError_t LaunchGather(std::span<const GatherArguments> layers,
                                       std::uint32_t multiprocessor_count,
                                       cudaStream_t stream) noexcept;

/// Launches a gather of groups that lie in one slab, whose numbers the caller has.
/// REQUIRES: as LaunchGather(); group_count is not 0.
[[nodiscard]] cudaError_t LaunchSlabGather(const SlabGather& gather,
                                           std::uint32_t multiprocessor_count,
                                           cudaStream_t stream) noexcept;

/// Launches one thread that waits until *flag is not 0. `flag` is mapped host memory.
[[nodiscard]] cudaError_t LaunchFlagWait(const std::uint32_t* flag, cudaStream_t stream) noexcept;

}  // namespace tiercel

#endif  // TIERCEL_CUDA_GATHER_H_
