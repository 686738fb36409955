#ifndef TIERCEL_CUDA_DEVICE_HASH_H_
#define TIERCEL_CUDA_DEVICE_HASH_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/device_hash_arguments.h"

namespace tiercel {

/// Hashes tokens on the device and returns what the launch said. `probe` may be null.
[[nodiscard]] cudaError_t LaunchHash(const HashArguments& arguments, const ProbeArguments* probe,
                                     cudaStream_t stream) noexcept;

/// Takes `change_count` changes into the table: first all that went, then all that came. A
/// group may be in the list once as gone and once as come.
///
///   changes  device or mapped memory, shape [change_count].
[[nodiscard]] cudaError_t LaunchApplyChanges(const DeviceTable& table, const DeviceChange* changes,
                                             std::uint32_t change_count,
                                             cudaStream_t stream) noexcept;

}  // namespace tiercel

#endif  // TIERCEL_CUDA_DEVICE_HASH_H_
