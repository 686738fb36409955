#ifndef TIERCEL_TESTS_SUPPORT_COUNTING_NEW_H_
#define TIERCEL_TESTS_SUPPORT_COUNTING_NEW_H_

// An operator new that counts. Include it as own_new.h says; MayAllocate() is defined here.

#include <atomic>
#include <cstdint>

#include "tests/support/own_new.h"

namespace tiercel::testing {

/// Calls of operator new so far, by all threads.
inline std::atomic<std::uint64_t> g_allocations{0};

bool MayAllocate(std::size_t /*size_bytes*/) noexcept {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  return true;
}

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_SUPPORT_COUNTING_NEW_H_
