// Goal: the GPU gives the host's bytes, value for value, in every format; what is
// wrong with the arguments or the machine is an error in words.
//
// Method: all 65,536 pairs of E4M3 byte and scale byte, all 65,536 half and bf16
// patterns and seeded float patterns, on both kernels (eight values a thread, and
// one), against DequantizeToBf16. Without a GPU the comparisons skip.

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/byte_order.h"
#include "base/prng.h"
#include "cuda/cuda_status.h"
#include "tiercel/cuda.h"

namespace tiercel {
namespace {

std::string NoGpuReason() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return CudaStatus(error, "cudaGetDeviceCount").ToString();
  return count > 0 ? "" : "no GPU";
}

struct DeviceFree {
  void operator()(void* memory) const { cudaFree(memory); }
};
using DeviceMemory = std::unique_ptr<void, DeviceFree>;

DeviceMemory DeviceAllocate(std::size_t size_bytes) {
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, size_bytes), cudaSuccess);
  return DeviceMemory(memory);
}

bool IsNan(std::uint16_t bf16) {
  return (bf16 & 0x7FFFU) > 0x7F80U;
}

/// Compares device and host over `rows`, shape [n, row_size_bytes], moved by
/// `shift_bytes` in device memory so that the other kernel is taken.
void ExpectSameAsHost(const RowShape& shape, std::span<const std::byte> rows,
                      std::size_t shift_bytes) {
  const std::size_t row_count = rows.size() / shape.row_size_bytes();
  const std::size_t total = row_count * shape.value_count;
  const DeviceMemory source = DeviceAllocate(rows.size() + shift_bytes);
  const DeviceMemory target = DeviceAllocate(total * sizeof(std::uint16_t));
  auto* const device_rows = static_cast<std::byte*>(source.get()) + shift_bytes;
  auto* const device_values = static_cast<std::uint16_t*>(target.get());
  ASSERT_EQ(cudaMemcpy(device_rows, rows.data(), rows.size(), cudaMemcpyHostToDevice), cudaSuccess);
  const Status status =
      DequantizeToBf16Async(shape, device_rows, row_count, device_values, /*stream=*/nullptr);
  ASSERT_TRUE(status.ok()) << status.ToString();
  std::vector<std::uint16_t> found(total);
  ASSERT_EQ(cudaMemcpy(found.data(), device_values, total * sizeof(std::uint16_t),
                       cudaMemcpyDeviceToHost),
            cudaSuccess);

  std::vector<std::uint16_t> expected(shape.value_count);
  std::size_t different = 0;
  for (std::size_t row = 0; row < row_count; ++row) {
    DequantizeToBf16(shape, rows.subspan(row * shape.row_size_bytes(), shape.row_size_bytes()),
                     expected);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const std::uint16_t value = found[row * expected.size() + i];
      if (value == expected[i] || (IsNan(value) && IsNan(expected[i]))) continue;
      if (++different <= 5)
        ADD_FAILURE() << "row " << row << ", value " << i << ": " << value << " instead of "
                      << expected[i];
    }
  }
  EXPECT_EQ(different, 0U);
}

/// Every pattern of `size_bytes` bytes (or as many seeded ones), in order.
std::vector<std::byte> Patterns(std::size_t size_bytes) {
  std::vector<std::byte> bytes(65536 * size_bytes);
  Prng prng(1);
  for (std::uint32_t i = 0; i < 65536; ++i) {
    if (size_bytes == 2) StoreLittleEndian(&bytes[i * 2], static_cast<std::uint16_t>(i));
    if (size_bytes == 4) StoreLittleEndian(&bytes[i * 4], static_cast<std::uint32_t>(prng()));
    if (size_bytes == 1) bytes[i] = static_cast<std::byte>(i);
  }
  return bytes;
}

class DequantizeOnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = NoGpuReason();
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
};

TEST_F(DequantizeOnGpu, EveryByteWithEveryBlockScale) {
  const RowShape shape = {.format = RowFormat::kE4M3Block32, .value_count = 256};
  ASSERT_EQ(shape.row_size_bytes(), 264U);
  std::vector<std::byte> rows(256 * 264);
  for (std::size_t scale = 0; scale < 256; ++scale) {
    for (std::size_t i = 0; i < 256; ++i) rows[scale * 264 + i] = static_cast<std::byte>(i);
    for (std::size_t i = 256; i < 264; ++i) rows[scale * 264 + i] = static_cast<std::byte>(scale);
  }
  ExpectSameAsHost(shape, rows, 0);
  ExpectSameAsHost(shape, rows, 1);
}

TEST_F(DequantizeOnGpu, ScalesOfABlockStayInIt) {
  const RowShape shape = {.format = RowFormat::kE4M3Block32, .value_count = 96};
  std::vector<std::byte> rows(1000 * shape.row_size_bytes());
  Prng prng(2);
  for (std::byte& byte : rows) byte = static_cast<std::byte>(prng());
  ExpectSameAsHost(shape, rows, 0);
}

TEST_F(DequantizeOnGpu, TableScale) {
  for (const float scale : {1.0F, 0.0123F, 3.1e-38F, 1e-40F, 0.0F, 1e37F}) {
    for (const std::uint32_t value_count : {128U, 1U}) {
      const RowShape shape = {
          .format = RowFormat::kE4M3Tensor, .value_count = value_count, .tensor_scale = scale};
      ExpectSameAsHost(shape, Patterns(1), 0);
    }
  }
}

TEST_F(DequantizeOnGpu, WiderFormats) {
  const std::pair<RowFormat, std::size_t> formats[] = {
      {RowFormat::kBf16, 2}, {RowFormat::kFp16, 2}, {RowFormat::kFp32, 4}};
  for (const auto& [format, size_bytes] : formats) {
    const RowShape shape = {.format = format, .value_count = 64};
    ExpectSameAsHost(shape, Patterns(size_bytes), 0);
    ExpectSameAsHost(shape, Patterns(size_bytes), size_bytes);
  }
}

TEST(DequantizeArguments, WrongOnesAreRefusedBeforeAnyLaunch) {
  alignas(16) std::byte rows[512] = {};
  alignas(16) std::uint16_t values[512] = {};
  const RowShape good = {.format = RowFormat::kFp32, .value_count = 4};
  const auto code = [&](const RowShape& shape, const std::byte* from, std::uint16_t* to) {
    return DequantizeToBf16Async(shape, from, 1, to, nullptr).code();
  };
  EXPECT_EQ(code({.format = RowFormat::kE4M3Block32, .value_count = 31}, rows, values),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.format = RowFormat::kBf16, .value_count = 0}, rows, values),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.format = static_cast<RowFormat>(99), .value_count = 4}, rows, values),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.format = RowFormat::kQ4_K, .value_count = 128}, rows, values),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.format = RowFormat::kQ4_K, .value_count = 256}, rows, values),
            StatusCode::kUnavailable);
  EXPECT_EQ(code(good, nullptr, values), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(good, rows, nullptr), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(good, rows + 1, values), StatusCode::kInvalidArgument);
}

TEST(DequantizeArguments, NoRowsAreNoWork) {
  const RowShape shape = {.format = RowFormat::kBf16, .value_count = 4};
  EXPECT_TRUE(DequantizeToBf16Async(shape, nullptr, 0, nullptr, nullptr).ok());
}

TEST(DequantizeArguments, WithoutAGpuTheErrorSaysSo) {
  if (NoGpuReason().empty()) GTEST_SKIP() << "there is a GPU here";
  alignas(16) std::byte rows[264] = {};
  alignas(16) std::uint16_t values[256] = {};
  const RowShape shape = {.format = RowFormat::kE4M3Block32, .value_count = 256};
  const Status status = DequantizeToBf16Async(shape, rows, 1, values, nullptr);
  EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status.ToString();
  EXPECT_NE(status.message().find("cudaError"), std::string_view::npos) << status.message();
}

TEST(CudaStatus, CodesAndWords) {
  EXPECT_TRUE(CudaStatus(cudaSuccess, "x").ok());
  const Status memory = CudaStatus(cudaErrorMemoryAllocation, "cudaMalloc of 5 GiB");
  EXPECT_EQ(memory.code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(memory.message().starts_with("cudaMalloc of 5 GiB: ")) << memory.message();
  EXPECT_NE(memory.message().find("cudaErrorMemoryAllocation"), std::string_view::npos);
  EXPECT_EQ(CudaStatus(cudaErrorNoDevice, "x").code(), StatusCode::kUnavailable);
  EXPECT_EQ(CudaStatus(cudaErrorInvalidValue, "x").code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(CudaStatus(cudaErrorUnknown, "x").code(), StatusCode::kIoError);
}

}  // namespace
}  // namespace tiercel
