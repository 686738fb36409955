#ifndef TIERCEL_BASE_CLOCK_H_
#define TIERCEL_BASE_CLOCK_H_

#include <chrono>
#include <cstdint>

namespace tiercel {

/// Time of a clock that never goes back, in ns since some moment. Any thread.
[[nodiscard]] inline std::uint64_t MonotonicNs() noexcept {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(now).count());
}

}  // namespace tiercel

#endif  // TIERCEL_BASE_CLOCK_H_
