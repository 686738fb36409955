#ifndef TIERCEL_CUDA_H_
#define TIERCEL_CUDA_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "tiercel/row_format.h"
#include "tiercel/status.h"

namespace tiercel {

/// Turns stored rows in device memory into bfloat16, bit for bit as
/// DequantizeToBf16 does on the host (any NaN may stand for a NaN). Runs on
/// `stream`, on the current device; does not synchronize it.
///
///   rows    device memory, shape [row_count, shape.row_size_bytes()]. Aligned to the
///           stored value: 2 bytes for bf16 and fp16, 4 for fp32. Fastest where a
///           row's size and `rows` are multiples of 8, as V4.1's 264 bytes are.
///   values  device memory, shape [row_count, shape.value_count], aligned to 2 bytes;
///           fastest at 16.
///
/// `rows` and `values` must stay valid until the work has run. May be captured in a
/// CUDA graph. Allocates nothing.
///
/// Errors: kInvalidArgument (a shape that is none, a null or misaligned pointer;
/// nothing is launched), kUnavailable (no GPU, or its driver is too old; ggml's block
/// formats, kQ8_0 to kQ2_K, which the host alone dequantises), others as the launch
/// reports them. An error of the work itself appears when the stream is synchronized, as
/// with all CUDA work.
///
/// REQUIRES: `rows` and `values` do not overlap.
[[nodiscard]] Status DequantizeToBf16Async(const RowShape& shape, const std::byte* rows,
                                           std::uint64_t row_count, std::uint16_t* values,
                                           cudaStream_t stream);

}  // namespace tiercel

#endif  // TIERCEL_CUDA_H_
