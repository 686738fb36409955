#ifndef TIERCEL_BENCH_OVERLAP_DIGEST_KERNEL_CUH_
#define TIERCEL_BENCH_OVERLAP_DIGEST_KERNEL_CUH_

#include <cstdint>

#include "bench/overlap_digest.h"

// The digest of rows in device memory. No launch is in here and no CUDA header: a test runs the
// same text with threads of the host.

namespace tiercel::bench {

inline constexpr std::uint32_t kDigestThreads = 256;

/// Adds the terms of `word_count` words to *sum. Grid: any number of blocks.
///   words  device memory, aligned to 16 bytes; word_count is even.
__device__ inline void AddDigest(const uint4* words, std::uint64_t word_count,
                                 std::uint64_t first_index, unsigned long long* sum) {
  __shared__ unsigned long long block_sum;
  if (threadIdx.x == 0) block_sum = 0;
  __syncthreads();
  const std::uint64_t stride = std::uint64_t{gridDim.x} * kDigestThreads;
  std::uint64_t own = 0;
  for (std::uint64_t pair = std::uint64_t{blockIdx.x} * kDigestThreads + threadIdx.x;
       pair < word_count / 2; pair += stride) {
    const uint4 loaded = words[pair];
    const std::uint64_t first = loaded.x | std::uint64_t{loaded.y} << 32;
    const std::uint64_t second = loaded.z | std::uint64_t{loaded.w} << 32;
    own += DigestTerm(first, first_index + 2 * pair);
    own += DigestTerm(second, first_index + 2 * pair + 1);
  }
  atomicAdd(&block_sum, static_cast<unsigned long long>(own));
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(sum, block_sum);
}

}  // namespace tiercel::bench

#endif  // TIERCEL_BENCH_OVERLAP_DIGEST_KERNEL_CUH_
