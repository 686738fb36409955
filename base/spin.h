#ifndef TIERCEL_BASE_SPIN_H_
#define TIERCEL_BASE_SPIN_H_

#include <cstdint>
#include <thread>

#include "base/clock.h"

namespace tiercel {

/// Waits that are over sooner than this cost less awake than asleep: a thread that sleeps
/// comes back some 50 us after it was woken, in a virtual machine.
inline constexpr std::uint64_t kSpinNs = 50'000;

/// Whether a thread may spin: whoever it waits for has another core to run on.
[[nodiscard]] inline bool MaySpin() noexcept {
  static const bool may = std::thread::hardware_concurrency() > 1;
  return may;
}

/// Looks whether `done()` for kSpinNs at most.
template <typename Done>
void SpinUntil(Done&& done) noexcept {
  if (!MaySpin()) return;
  const std::uint64_t until_ns = MonotonicNs() + kSpinNs;
  while (!done() && MonotonicNs() < until_ns) {
  }
}

}  // namespace tiercel

#endif  // TIERCEL_BASE_SPIN_H_
