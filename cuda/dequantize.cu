#include "cuda/dequantize.h"

#include "cuda/dequantize_values.cuh"

// Eight values a thread: 8 stored bytes in (E4M3) and 16 bytes out, and a warp takes
// one row, so that it reads and writes whole lines. A V4.1 row is 264 = 33 * 8 bytes:
// every row starts at a multiple of 8, only every second one at a multiple of 16,
// hence loads of 8.

namespace tiercel {
namespace {

constexpr std::uint32_t kWarpSize = 32;
constexpr std::uint32_t kRowsPerBlock = 8;
/// Longer inputs are strided over.
constexpr std::uint64_t kBlocksMax = 1U << 20;

/// One warp a row, strided over rows and columns. kEight: eight values a thread, for
/// rows and pointers that are aligned to it; else one.
template <RowFormat kFormat, bool kEight>
__global__ void __launch_bounds__(kWarpSize* kRowsPerBlock)
    DequantizeKernel(DequantizeArguments arguments) {
  constexpr std::uint32_t kCount = kEight ? kValuesAtOnce : 1;
  const RowScales scales = {.value_count = arguments.value_count,
                            .tensor_scale = arguments.tensor_scale};
  const std::uint64_t row_stride = std::uint64_t{gridDim.x} * kRowsPerBlock;
  for (std::uint64_t index = std::uint64_t{blockIdx.x} * kRowsPerBlock + threadIdx.y;
       index < arguments.row_count; index += row_stride) {
    const std::byte* const row = arguments.rows + index * arguments.row_size_bytes;
    std::uint16_t* const values = arguments.values + index * arguments.value_count;
    for (std::uint32_t column = threadIdx.x * kCount; column < arguments.value_count;
         column += kWarpSize * kCount) {
      const std::uint8_t scale = LoadScale<kFormat>(scales, row, column);
      if constexpr (kEight) {
        const EightValues<kFormat> loaded = LoadEight<kFormat>(row, column);
        StoreEight<kFormat>(loaded, FactorOf<kFormat>(scales, scale), values + column);
      } else {
        const std::uint32_t loaded = LoadStored<kFormat>(row, column);
        values[column] = Bf16FromStored<kFormat>(loaded, FactorOf<kFormat>(scales, scale));
      }
    }
  }
}

template <RowFormat kFormat>
cudaError_t Launch(const DequantizeArguments& arguments, cudaStream_t stream) noexcept {
  constexpr std::uint32_t kAlignmentBytes = kLoadSizeBytes<kFormat>;
  const bool eight = arguments.value_count % kValuesAtOnce == 0 &&
                     arguments.row_size_bytes % kAlignmentBytes == 0 &&
                     reinterpret_cast<std::uintptr_t>(arguments.rows) % kAlignmentBytes == 0 &&
                     reinterpret_cast<std::uintptr_t>(arguments.values) % sizeof(uint4) == 0;
  const std::uint64_t block_count = (arguments.row_count - 1) / kRowsPerBlock + 1;
  const dim3 grid(static_cast<unsigned>(block_count < kBlocksMax ? block_count : kBlocksMax));
  const dim3 block(kWarpSize, kRowsPerBlock);
  if (eight) {
    DequantizeKernel<kFormat, true><<<grid, block, 0, stream>>>(arguments);
  } else {
    DequantizeKernel<kFormat, false><<<grid, block, 0, stream>>>(arguments);
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t LaunchDequantize(RowFormat format, const DequantizeArguments& arguments,
                             cudaStream_t stream) noexcept {
  switch (format) {
    case RowFormat::kE4M3Block32:
      return Launch<RowFormat::kE4M3Block32>(arguments, stream);
    case RowFormat::kE4M3Tensor:
      return Launch<RowFormat::kE4M3Tensor>(arguments, stream);
    case RowFormat::kBf16:
      return Launch<RowFormat::kBf16>(arguments, stream);
    case RowFormat::kFp16:
      return Launch<RowFormat::kFp16>(arguments, stream);
    case RowFormat::kFp32:
      return Launch<RowFormat::kFp32>(arguments, stream);
    case RowFormat::kQ8_0:
    case RowFormat::kQ4_K:
    case RowFormat::kQ3_K:
    case RowFormat::kQ2_K:
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace tiercel
