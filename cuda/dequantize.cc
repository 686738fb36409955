#include "cuda/dequantize.h"

#include <fmt/format.h>

#include "cuda/cuda_status.h"
#include "tiercel/cuda.h"

namespace tiercel {
namespace {

/// Bytes that a row's address must be a multiple of.
std::uint32_t AlignmentBytes(RowFormat format) noexcept {
  switch (format) {
    case RowFormat::kE4M3Block32:
    case RowFormat::kE4M3Tensor:
      return 1;
    case RowFormat::kBf16:
    case RowFormat::kFp16:
      return 2;
    case RowFormat::kFp32:
      return 4;
    case RowFormat::kQ8_0:
    case RowFormat::kQ4_K:
    case RowFormat::kQ3_K:
    case RowFormat::kQ2_K:
      return 2;
  }
  return 0;
}

bool IsAligned(const void* pointer, std::uint32_t alignment_bytes) noexcept {
  return reinterpret_cast<std::uintptr_t>(pointer) % alignment_bytes == 0;
}

Status CheckArguments(const RowShape& shape, const std::byte* rows, const std::uint16_t* values) {
  const std::uint32_t alignment_bytes = AlignmentBytes(shape.format);
  if (alignment_bytes == 0) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("row format {} is none", static_cast<int>(shape.format)));
  }
  if (shape.value_count == 0 || shape.value_count % BlockValueCount(shape.format) != 0) {
    return Status(StatusCode::kInvalidArgument, fmt::format("{} values are no row of format {}",
                                                            shape.value_count, Name(shape.format)));
  }
  if (shape.format >= RowFormat::kQ8_0) {
    return Status(
        StatusCode::kUnavailable,
        fmt::format("row format {} has no kernel: dequantise on the host", Name(shape.format)));
  }
  if (rows == nullptr || values == nullptr) {
    return Status(StatusCode::kInvalidArgument, "rows and values must not be null");
  }
  if (!IsAligned(rows, alignment_bytes) || !IsAligned(values, sizeof(std::uint16_t))) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("rows must be aligned to {} bytes and values to {}", alignment_bytes,
                              sizeof(std::uint16_t)));
  }
  return {};
}

}  // namespace

Status DequantizeToBf16Async(const RowShape& shape, const std::byte* rows, std::uint64_t row_count,
                             std::uint16_t* values, cudaStream_t stream) {
  if (row_count == 0) return {};
  Status status = CheckArguments(shape, rows, values);
  if (!status.ok()) return status;
  const DequantizeArguments arguments = {.rows = rows,
                                         .values = values,
                                         .row_count = row_count,
                                         .row_size_bytes = shape.row_size_bytes(),
                                         .value_count = shape.value_count,
                                         .tensor_scale = shape.tensor_scale};
  return CudaStatus(LaunchDequantize(shape.format, arguments, stream),
                    "launch of the dequantisation");
}

}  // namespace tiercel
