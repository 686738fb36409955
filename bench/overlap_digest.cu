#include <algorithm>

#include "bench/overlap_digest_kernel.cuh"
#include "bench/overlap_gpu_kernels.h"

namespace tiercel::bench {
namespace {

/// Few: the digest is no part of the model, and what runs beside it keeps the rest.
constexpr std::uint64_t kDigestBlocksMax = 64;

__global__ void __launch_bounds__(kDigestThreads)
    DigestKernel(const uint4* words, std::uint64_t word_count, std::uint64_t first_index,
                 unsigned long long* sum) {
  AddDigest(words, word_count, first_index, sum);
}

}  // namespace

cudaError_t LaunchDigest(const void* rows, std::uint64_t size_bytes, std::uint64_t first_index,
                         std::uint64_t* sum, cudaStream_t stream) noexcept {
  const std::uint64_t pairs = size_bytes / sizeof(uint4);
  if (pairs == 0) return cudaSuccess;
  const std::uint64_t blocks =
      std::min((pairs + kDigestThreads - 1) / kDigestThreads, kDigestBlocksMax);
  DigestKernel<<<static_cast<unsigned>(blocks), kDigestThreads, 0, stream>>>(
      static_cast<const uint4*>(rows), 2 * pairs, first_index,
      reinterpret_cast<unsigned long long*>(sum));
  return cudaGetLastError();
}

}  // namespace tiercel::bench
