#ifndef TIERCEL_TESTS_SUPPORT_OWN_NEW_H_
#define TIERCEL_TESTS_SUPPORT_OWN_NEW_H_

// Replaces operator new of the whole program by one that asks first. Include it in one source
// file of a test program of its own, which defines MayAllocate().

#include <cstddef>
#include <cstdlib>
#include <new>

namespace tiercel::testing {

/// Asked before each allocation; false: it fails. Any thread; allocates nothing itself.
bool MayAllocate(std::size_t size_bytes) noexcept;

}  // namespace tiercel::testing

// Not inlined: GCC 12 would take malloc and free apart and warn of a mismatch.
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t& /*tag*/) noexcept {
  return tiercel::testing::MayAllocate(size) ? std::malloc(size == 0 ? 1 : size) : nullptr;
}
[[gnu::noinline]] void* operator new(std::size_t size) {
  if (void* const memory = operator new(size, std::nothrow)) return memory;
  throw std::bad_alloc();
}
// std::stable_sort takes its buffer with the nothrow form, and gives it back with these.
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t /*size*/) noexcept {
  std::free(memory);
}

#endif  // TIERCEL_TESTS_SUPPORT_OWN_NEW_H_
