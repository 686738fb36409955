#ifndef TIERCEL_TESTS_SUPPORT_KERNELS_ON_HOST_H_
#define TIERCEL_TESTS_SUPPORT_KERNELS_ON_HOST_H_

// Lets a .cuh file of kernels be compiled as C++ and run by threads of the host: include this
// first, then the file, then call RunOnHost(). Blocks run one after another, the threads of
// one at the same time, each a thread of the host; barriers are real ones, so that
// ThreadSanitizer sees a missing one. What it does not have is a GPU's memory model, its
// alignment faults (checked by UBSan) or its speed.

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static  // Blocks take turns.

namespace tiercel::testing::host_kernel {

struct Dim3 {
  std::uint32_t x = 0;
};
inline thread_local Dim3 thread_index;
inline thread_local Dim3 block_index;
inline Dim3 grid_size;
inline Dim3 block_size;
inline std::unique_ptr<std::barrier<>> block_barrier;
inline std::vector<std::unique_ptr<std::barrier<>>> warp_barriers;

}  // namespace tiercel::testing::host_kernel

#define threadIdx ::tiercel::testing::host_kernel::thread_index
#define blockIdx ::tiercel::testing::host_kernel::block_index
#define blockDim ::tiercel::testing::host_kernel::block_size
#define gridDim ::tiercel::testing::host_kernel::grid_size

struct alignas(8) uint2 {
  std::uint32_t x, y;
};
struct alignas(16) uint4 {
  std::uint32_t x, y, z, w;
};
inline uint4 make_uint4(std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) {
  return {x, y, z, w};
}
inline void __syncthreads() {
  ::tiercel::testing::host_kernel::block_barrier->arrive_and_wait();
}
inline void __syncwarp() {
  ::tiercel::testing::host_kernel::warp_barriers[threadIdx.x / 32]->arrive_and_wait();
}
inline void __threadfence() {}
inline void __threadfence_system() {}
template <typename T>
void __stwb(T* target, T value) {
  *target = value;
}
inline std::uint32_t atomicAdd(std::uint32_t* word, std::uint32_t value) {
  return std::atomic_ref<std::uint32_t>(*word).fetch_add(value);
}
inline unsigned long long atomicAdd(unsigned long long* word, unsigned long long value) {
  return std::atomic_ref<unsigned long long>(*word).fetch_add(value);
}
inline std::uint32_t atomicExch(std::uint32_t* word, std::uint32_t value) {
  return std::atomic_ref<std::uint32_t>(*word).exchange(value);
}
/// Up to `last`, then 0 again.
inline std::uint32_t atomicInc(std::uint32_t* word, std::uint32_t last) {
  std::uint32_t before = std::atomic_ref<std::uint32_t>(*word).load();
  while (!std::atomic_ref<std::uint32_t>(*word).compare_exchange_weak(
      before, before >= last ? 0 : before + 1)) {
  }
  return before;
}
inline std::uint32_t atomicCAS(std::uint32_t* word, std::uint32_t expected, std::uint32_t value) {
  std::atomic_ref<std::uint32_t>(*word).compare_exchange_strong(expected, value);
  return expected;
}

namespace tiercel::testing {

/// Runs `kernel(arguments...)` as a grid of `block_count` blocks of `thread_count` threads.
template <typename Kernel>
void RunOnHost(std::uint32_t block_count, std::uint32_t thread_count, const Kernel& kernel) {
  host_kernel::grid_size.x = block_count;
  host_kernel::block_size.x = thread_count;
  host_kernel::block_barrier =
      std::make_unique<std::barrier<>>(static_cast<std::ptrdiff_t>(thread_count));
  host_kernel::warp_barriers.clear();
  for (std::uint32_t warp = 0; warp < thread_count / 32; ++warp) {
    host_kernel::warp_barriers.push_back(std::make_unique<std::barrier<>>(32));
  }
  for (std::uint32_t block = 0; block < block_count; ++block) {
    std::vector<std::thread> threads;
    for (std::uint32_t thread = 0; thread < thread_count; ++thread) {
      threads.emplace_back([&kernel, block, thread] {
        host_kernel::block_index.x = block;
        host_kernel::thread_index.x = thread;
        kernel();
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_SUPPORT_KERNELS_ON_HOST_H_
