#include <cstddef>
#include <cstdint>

#include "bench/gpu/report.h"

namespace tiercel::bench {
namespace {

constexpr std::uint32_t kWarp = 32;
constexpr std::uint32_t kWarps = 8;
constexpr std::uint32_t kUnits = 2;  // Loads of 8 bytes in flight a thread: 264 B are 33.

__global__ void __launch_bounds__(kWarp* kWarps)
    RowGatherKernel(const std::byte* table, const std::uint32_t* rows, std::uint64_t row_count,
                    std::uint32_t row_size_bytes, std::byte* target) {
  const std::uint64_t row = std::uint64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (row >= row_count) return;
  const std::uint32_t unit_count = row_size_bytes / sizeof(uint2);
  const auto* const source =
      reinterpret_cast<const uint2*>(table + std::uint64_t{rows[row]} * row_size_bytes);
  auto* const out = reinterpret_cast<uint2*>(target + row * row_size_bytes);
  for (std::uint32_t first = threadIdx.x % kWarp; first < unit_count; first += kWarp * kUnits) {
    uint2 loaded[kUnits];
#pragma unroll
    for (std::uint32_t i = 0; i < kUnits; ++i) {
      if (first + i * kWarp < unit_count) loaded[i] = source[first + i * kWarp];
    }
#pragma unroll
    for (std::uint32_t i = 0; i < kUnits; ++i) {
      if (first + i * kWarp < unit_count) out[first + i * kWarp] = loaded[i];
    }
  }
}

__global__ void NothingKernel() {}

}  // namespace

void LaunchRowGather(const std::byte* table, const std::uint32_t* rows, std::uint64_t row_count,
                     std::uint32_t row_size_bytes, std::byte* target, cudaStream_t stream) {
  const auto blocks = static_cast<std::uint32_t>((row_count + kWarps - 1) / kWarps);
  RowGatherKernel<<<blocks, kWarp * kWarps, 0, stream>>>(table, rows, row_count, row_size_bytes,
                                                         target);
  Check(cudaGetLastError(), "launch of the row gather");
}

void LaunchNothing(cudaStream_t stream) {
  NothingKernel<<<1, 1, 0, stream>>>();
  Check(cudaGetLastError(), "launch of an empty kernel");
}

}  // namespace tiercel::bench
