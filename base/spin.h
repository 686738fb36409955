#ifndef TIERCEL_BASE_SPIN_H_
#define TIERCEL_BASE_SPIN_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>

#include "base/clock.h"

namespace tiercel {

/// Waits that are over sooner than this cost less awake than asleep: a thread that sleeps
/// comes back some 50 us after it was woken, in a virtual machine.
inline constexpr std::uint64_t kSpinNs = 50'000;

/// Cores that threads may spin on: all but one, which whoever they wait for needs.
[[nodiscard]] inline std::uint32_t SpinningCores() noexcept {
  static const std::uint32_t cores = std::max(std::thread::hardware_concurrency(), 1U) - 1;
  return cores;
}

/// Looks whether `done()` for kSpinNs at most; not at all where other waiters have all
/// the cores that may be had for it.
template <typename Done>
void SpinUntil(Done&& done) noexcept {
  static std::atomic<std::uint32_t> spinners = 0;
  if (spinners.fetch_add(1, std::memory_order_relaxed) < SpinningCores()) {
    const std::uint64_t until_ns = MonotonicNs() + kSpinNs;
    while (!done() && MonotonicNs() < until_ns) {
    }
  }
  spinners.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace tiercel

#endif  // TIERCEL_BASE_SPIN_H_
