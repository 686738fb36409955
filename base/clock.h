#ifndef TIERCEL_BASE_CLOCK_H_
#define TIERCEL_BASE_CLOCK_H_

#include <time.h>

#include <chrono>
#include <cstdint>

namespace tiercel {

/// Time of a clock that never goes back, in ns since some moment. Any thread.
[[nodiscard]] inline std::uint64_t MonotonicNs() noexcept {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(now).count());
}

/// Sleeps for so long, or less if a signal comes. `ns` < 10^9. Any thread.
inline void SleepNs(std::uint64_t ns) noexcept {
  const timespec time{.tv_sec = 0, .tv_nsec = static_cast<long>(ns)};
  (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
}

}  // namespace tiercel

#endif  // TIERCEL_BASE_CLOCK_H_
