#ifndef TIERCEL_BENCH_PEERS_CPU_TIME_H_
#define TIERCEL_BENCH_PEERS_CPU_TIME_H_

#include <sys/resource.h>

namespace tiercel::peers {

/// User and system time of all threads of this process so far.
[[nodiscard]] inline double CpuSeconds() noexcept {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace tiercel::peers

#endif  // TIERCEL_BENCH_PEERS_CPU_TIME_H_
