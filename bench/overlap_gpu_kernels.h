#ifndef TIERCEL_BENCH_OVERLAP_GPU_KERNELS_H_
#define TIERCEL_BENCH_OVERLAP_GPU_KERNELS_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace tiercel::bench {

/// Adds the digest of rows (overlap_digest.h) to *sum. All device memory.
///   rows  aligned to 16 bytes; size_bytes is a multiple of 16.
[[nodiscard]] cudaError_t LaunchDigest(const void* rows, std::uint64_t size_bytes,
                                       std::uint64_t first_index, std::uint64_t* sum,
                                       cudaStream_t stream) noexcept;

}  // namespace tiercel::bench

#endif  // TIERCEL_BENCH_OVERLAP_GPU_KERNELS_H_
