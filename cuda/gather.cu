#include "cuda/gather.h"

#include <algorithm>

#include "cuda/gather_kernel.cuh"

namespace tiercel {
namespace {

__global__ void FlagWaitKernel(const std::uint32_t* flag) {
  AwaitFlag(flag);
}

template <HbmFormat kFormat, RowFormat kRow>
void Launch(const GatherLaunch& launch, std::uint32_t block_count, cudaStream_t stream) noexcept {
  // Small batches take no more threads than they have groups for.
  const GatherArguments& first = launch.layers[0];
  const std::uint64_t groups = std::uint64_t{first.token_capacity} * first.order_count;
  const auto warps = static_cast<std::uint32_t>(groups < kWarpsPerBlock ? groups : kWarpsPerBlock);
  GatherKernel<kFormat, kRow>
      <<<block_count, warps * kWarpThreads, 0, stream>>>(launch, first.shape.row_size_bytes());
}
template <HbmFormat kFormat, RowFormat kRow>
void Launch(const SlabGather& gather, std::uint32_t block_count, cudaStream_t stream) noexcept {
  SlabGatherKernel<kFormat, kRow>
      <<<block_count, kBlockThreads, 0, stream>>>(gather, gather.shape.row_size_bytes());
}

/// Launches the kernel of the output's format and, where values are looked at, of the rows'.
template <typename Arguments>
cudaError_t LaunchFormat(const Arguments& arguments, HbmFormat format, RowFormat row_format,
                         std::uint32_t block_count, cudaStream_t stream) noexcept {
  constexpr RowFormat kAny = RowFormat::kE4M3Block32;
  if (format == HbmFormat::kStored) {
    Launch<HbmFormat::kStored, kAny>(arguments, block_count, stream);
    return cudaGetLastError();
  }
  if (format == HbmFormat::kRowsAndScales) {
    Launch<HbmFormat::kRowsAndScales, kAny>(arguments, block_count, stream);
    return cudaGetLastError();
  }
  switch (row_format) {
    case RowFormat::kE4M3Block32:
      Launch<HbmFormat::kBf16, RowFormat::kE4M3Block32>(arguments, block_count, stream);
      break;
    case RowFormat::kE4M3Tensor:
      Launch<HbmFormat::kBf16, RowFormat::kE4M3Tensor>(arguments, block_count, stream);
      break;
    case RowFormat::kBf16:
      Launch<HbmFormat::kBf16, RowFormat::kBf16>(arguments, block_count, stream);
      break;
    case RowFormat::kFp16:
      Launch<HbmFormat::kBf16, RowFormat::kFp16>(arguments, block_count, stream);
      break;
    case RowFormat::kFp32:
      Launch<HbmFormat::kBf16, RowFormat::kFp32>(arguments, block_count, stream);
      break;
  }
  return cudaGetLastError();
}

/// Blocks for so many groups, on no more multiprocessors than are allowed. At least one: an
/// empty batch tells its end too.
std::uint32_t BlockCount(std::uint64_t group_count, std::uint32_t groups_per_block,
                         std::uint32_t multiprocessor_count,
                         std::uint32_t multiprocessors_max) noexcept {
  const std::uint64_t wanted = (group_count + groups_per_block - 1) / groups_per_block;
  std::uint64_t limit = multiprocessor_count;
  if (multiprocessors_max != 0 && multiprocessors_max < limit) limit = multiprocessors_max;
  limit *= kBlocksPerMultiprocessor;
  const std::uint64_t count = wanted < limit ? wanted : limit;
  return count == 0 ? 1 : static_cast<std::uint32_t>(count);
}

}  // namespace

cudaError_t LaunchGather(std::span<const GatherArguments> layers,
                         std::uint32_t multiprocessor_count, cudaStream_t stream) noexcept {
  GatherLaunch launch;
  std::copy(layers.begin(), layers.end(), launch.layers);
  const GatherArguments& first = layers.front();
  const std::uint64_t group_count = std::uint64_t{first.token_capacity} * first.order_count;
  launch.blocks_per_layer =
      BlockCount(group_count, kGroupsPerBlock, multiprocessor_count, first.multiprocessors_max);
  return LaunchFormat(launch, first.format, first.shape.format,
                      launch.blocks_per_layer * static_cast<std::uint32_t>(layers.size()), stream);
}

cudaError_t LaunchSlabGather(const SlabGather& gather, std::uint32_t multiprocessor_count,
                             cudaStream_t stream) noexcept {
  return LaunchFormat(gather, gather.format, gather.shape.format,
                      BlockCount(gather.group_count, kWarpsPerBlock, multiprocessor_count,
                                 gather.multiprocessors_max),
                      stream);
}

cudaError_t LaunchFlagWait(const std::uint32_t* flag, cudaStream_t stream) noexcept {
  FlagWaitKernel<<<1, 1, 0, stream>>>(flag);
  return cudaGetLastError();
}

}  // namespace tiercel
