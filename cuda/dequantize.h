#ifndef TIERCEL_CUDA_DEQUANTIZE_H_
#define TIERCEL_CUDA_DEQUANTIZE_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "tiercel/row_format.h"

namespace tiercel {

/// What the kernel gets: checked by DequantizeToBf16Async, passed by value.
struct DequantizeArguments {
  const std::byte* rows = nullptr;  ///< Device memory, [row_count, row_size_bytes].
  std::uint16_t* values = nullptr;  ///< Device memory, [row_count, value_count].
  std::uint64_t row_count = 0;
  std::uint32_t row_size_bytes = 0;
  std::uint32_t value_count = 0;
  float tensor_scale = 1.0F;
};

/// Launches the kernel of `format` on `stream` and returns what the launch said.
/// REQUIRES: row_count and value_count are not 0.
[[nodiscard]] cudaError_t LaunchDequantize(RowFormat format, const DequantizeArguments& arguments,
                                           cudaStream_t stream) noexcept;

}  // namespace tiercel

#endif  // TIERCEL_CUDA_DEQUANTIZE_H_
