#include "cuda/dequantize.h"
#include "engram/float_formats.h"

// Eight values a thread: 8 stored bytes in (E4M3) and 16 bytes out, and a warp takes
// one row, so that it reads and writes whole lines. A V4.1 row is 264 = 33 * 8 bytes:
// every row starts at a multiple of 8, only every second one at a multiple of 16,
// hence loads of 8. Compiled without fast-math and without flushing to zero:
// subnormals must come out as they do on the host.

namespace tiercel {
namespace {

constexpr std::uint32_t kWarpSize = 32;
constexpr std::uint32_t kRowsPerBlock = 8;
constexpr std::uint32_t kValuesPerThread = 8;
/// Longer inputs are strided over.
constexpr std::uint64_t kBlocksMax = 1U << 20;

// Variables, not functions: nvcc lets device code read constants of the host.
template <RowFormat kFormat>
constexpr std::uint32_t kValueSizeBytes =
    kFormat == RowFormat::kFp32                                  ? 4
    : kFormat == RowFormat::kBf16 || kFormat == RowFormat::kFp16 ? 2
                                                                 : 1;
/// Bytes that a thread loads at once.
template <RowFormat kFormat>
constexpr std::uint32_t kLoadSizeBytes = kValueSizeBytes<kFormat> == 1 ? 8 : 16;

/// One stored value as bf16. `factor` is the block's or the table's scale.
template <RowFormat kFormat>
__device__ std::uint16_t Bf16FromStored(std::uint32_t stored, float factor) {
  if constexpr (kFormat == RowFormat::kE4M3Block32 || kFormat == RowFormat::kE4M3Tensor) {
    return Bf16FromFloat(FloatFromE4M3(static_cast<std::uint8_t>(stored)) * factor);
  } else if constexpr (kFormat == RowFormat::kBf16) {
    return static_cast<std::uint16_t>(stored);
  } else if constexpr (kFormat == RowFormat::kFp16) {
    return Bf16FromFloat(FloatFromFp16(static_cast<std::uint16_t>(stored)));
  } else {
    return Bf16FromFloat(FloatFromBits(stored));
  }
}

template <RowFormat kFormat>
__device__ float FactorOf(const DequantizeArguments& arguments, const std::byte* row,
                          std::uint32_t column) {
  if constexpr (kFormat == RowFormat::kE4M3Block32) {
    return FloatFromUe8m0(static_cast<std::uint8_t>(row[arguments.value_count + column / 32]));
  } else if constexpr (kFormat == RowFormat::kE4M3Tensor) {
    return FloatFromBf16(Bf16FromFloat(arguments.tensor_scale));
  } else {
    return 1.0F;
  }
}

template <RowFormat kFormat>
__device__ std::uint32_t LoadStored(const std::byte* row, std::uint32_t column) {
  constexpr std::uint32_t kSizeBytes = kValueSizeBytes<kFormat>;
  const std::byte* const at = row + std::uint64_t{column} * kSizeBytes;
  if constexpr (kSizeBytes == 1) return static_cast<std::uint8_t>(*at);
  if constexpr (kSizeBytes == 2) return *reinterpret_cast<const std::uint16_t*>(at);
  if constexpr (kSizeBytes == 4) return *reinterpret_cast<const std::uint32_t*>(at);
}

/// The words that hold eight stored values from `column` on.
template <RowFormat kFormat>
__device__ void LoadEight(const std::byte* row, std::uint32_t column, std::uint32_t* words) {
  constexpr std::uint32_t kSizeBytes = kValueSizeBytes<kFormat>;
  const std::byte* const at = row + std::uint64_t{column} * kSizeBytes;
  if constexpr (kSizeBytes == 1) {
    const uint2 loaded = __ldg(reinterpret_cast<const uint2*>(at));
    words[0] = loaded.x;
    words[1] = loaded.y;
  } else {
    for (std::uint32_t i = 0; i < kSizeBytes / 2; ++i) {
      const uint4 loaded = __ldg(reinterpret_cast<const uint4*>(at) + i);
      words[4 * i] = loaded.x;
      words[4 * i + 1] = loaded.y;
      words[4 * i + 2] = loaded.z;
      words[4 * i + 3] = loaded.w;
    }
  }
}

template <RowFormat kFormat>
__device__ void ConvertEight(const DequantizeArguments& arguments, const std::byte* row,
                             std::uint32_t column, std::uint16_t* values) {
  constexpr std::uint32_t kSizeBytes = kValueSizeBytes<kFormat>;
  constexpr std::uint32_t kPerWord = 4 / kSizeBytes;
  std::uint32_t words[2 * kSizeBytes];
  LoadEight<kFormat>(row, column, words);
  const float factor = FactorOf<kFormat>(arguments, row, column);
  std::uint32_t packed[4];
  for (std::uint32_t i = 0; i < kValuesPerThread; i += 2) {
    std::uint32_t pair = 0;
    for (std::uint32_t j = 0; j < 2; ++j) {
      const std::uint32_t word = words[(i + j) / kPerWord];
      const std::uint32_t shifted = word >> (8 * kSizeBytes * ((i + j) % kPerWord));
      const std::uint32_t stored =
          kSizeBytes == 4 ? word : shifted & ((1U << (8 * kSizeBytes)) - 1);
      pair |= std::uint32_t{Bf16FromStored<kFormat>(stored, factor)} << (16 * j);
    }
    packed[i / 2] = pair;
  }
  // By name, for a plain assignment is compiled to four stores.
  __stwb(reinterpret_cast<uint4*>(values + column),
         make_uint4(packed[0], packed[1], packed[2], packed[3]));
}

/// One warp a row, strided over rows and columns. kEight: eight values a thread, for
/// rows and pointers that are aligned to it; else one.
template <RowFormat kFormat, bool kEight>
__global__ void __launch_bounds__(kWarpSize* kRowsPerBlock)
    DequantizeKernel(DequantizeArguments arguments) {
  constexpr std::uint32_t kCount = kEight ? kValuesPerThread : 1;
  const std::uint64_t row_stride = std::uint64_t{gridDim.x} * kRowsPerBlock;
  for (std::uint64_t index = std::uint64_t{blockIdx.x} * kRowsPerBlock + threadIdx.y;
       index < arguments.row_count; index += row_stride) {
    const std::byte* const row = arguments.rows + index * arguments.row_size_bytes;
    std::uint16_t* const values = arguments.values + index * arguments.value_count;
    for (std::uint32_t column = threadIdx.x * kCount; column < arguments.value_count;
         column += kWarpSize * kCount) {
      if constexpr (kEight) {
        ConvertEight<kFormat>(arguments, row, column, values);
      } else {
        values[column] = Bf16FromStored<kFormat>(LoadStored<kFormat>(row, column),
                                                 FactorOf<kFormat>(arguments, row, column));
      }
    }
  }
}

template <RowFormat kFormat>
cudaError_t Launch(const DequantizeArguments& arguments, cudaStream_t stream) noexcept {
  constexpr std::uint32_t kAlignmentBytes = kLoadSizeBytes<kFormat>;
  const bool eight = arguments.value_count % kValuesPerThread == 0 &&
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
