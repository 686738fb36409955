#ifndef TIERCEL_TESTS_SUPPORT_COUNTING_NEW_H_
#define TIERCEL_TESTS_SUPPORT_COUNTING_NEW_H_

// Replaces operator new of the whole program by one that counts. Include it in one
// source file of a test program of its own.

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace tiercel::testing {

/// Calls of operator new so far, by all threads.
inline std::atomic<std::uint64_t> g_allocations{0};

}  // namespace tiercel::testing

// Not inlined: GCC 12 would take malloc and free apart and warn of a mismatch.
[[gnu::noinline]] void* operator new(std::size_t size) {
  tiercel::testing::g_allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* const memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
// std::stable_sort takes its buffer with this form, and gives it back with the plain one.
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t& /*tag*/) noexcept {
  tiercel::testing::g_allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(size == 0 ? 1 : size);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t /*size*/) noexcept {
  std::free(memory);
}

#endif  // TIERCEL_TESTS_SUPPORT_COUNTING_NEW_H_
