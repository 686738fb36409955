#ifndef TIERCEL_TESTS_CUDA_CUDA_TEST_SUPPORT_H_
#define TIERCEL_TESTS_CUDA_CUDA_TEST_SUPPORT_H_

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cuda/cuda_status.h"

namespace tiercel::testing {

/// Why there is no GPU to test on; empty where there is one.
inline std::string NoGpuReason() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return CudaStatus(error, "cudaGetDeviceCount").ToString();
  return count > 0 ? "" : "no GPU";
}

/// Skips, with the reason, where there is no GPU.
class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = NoGpuReason();
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
};

/// Device memory of n Ts, and copies of it.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t count) : count_(count) {
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, count * sizeof(T)), cudaSuccess);
    data_.reset(static_cast<T*>(memory));
    Fill(0xA5);
  }
  explicit DeviceArray(std::span<const T> values) : DeviceArray(values.size()) {
    EXPECT_EQ(cudaMemcpy(data_.get(), values.data(), values.size_bytes(), cudaMemcpyHostToDevice),
              cudaSuccess);
  }

  [[nodiscard]] T* data() const noexcept { return data_.get(); }
  [[nodiscard]] std::size_t size() const noexcept { return count_; }
  void Fill(int byte) { EXPECT_EQ(cudaMemset(data_.get(), byte, count_ * sizeof(T)), cudaSuccess); }
  [[nodiscard]] std::vector<T> Read() const {
    std::vector<T> values(count_);
    EXPECT_EQ(cudaMemcpy(values.data(), data_.get(), count_ * sizeof(T), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return values;
  }

 private:
  struct Free {
    void operator()(T* memory) const { cudaFree(memory); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t count_;
};

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_CUDA_CUDA_TEST_SUPPORT_H_
