#ifndef TIERCEL_TOOLS_SERVE_IDEAL_H_
#define TIERCEL_TOOLS_SERVE_IDEAL_H_

#include <chrono>
#include <cstdint>
#include <vector>

#include "tools/serve_engine.h"

namespace tiercel::tools {

/// Of many times: in ns.
struct ServeTimes {
  double mean_ns = 0.0;
  std::uint64_t p50_ns = 0;
  std::uint64_t p99_ns = 0;
  std::uint64_t max_ns = 0;
};
[[nodiscard]] ServeTimes MeasureTimes(std::vector<std::uint64_t> times_ns);

/// Exposed waits by layer, and of whole steps.
struct ServeExposed {
  std::vector<ServeTimes> layers;
  ServeTimes step;  ///< All layers of a step together.
};

/// What the arm's steps waited.
[[nodiscard]] ServeExposed MeasuredExposed(const ServeArm& arm);

/// Conditions other than those measured.
struct ServeWhatIf {
  double reads = 1.0;      ///< Times as many reads: fewer with more memory.
  double read_time = 1.0;  ///< Times as long for each: 0.5 for twice the reads a second.
  std::chrono::nanoseconds head_start{0};  ///< The ticket starts so much earlier.
};

/// What the arm's steps would have waited, had a schedule by earliest deadline, which costs
/// nothing, had the disk for itself: a layer is in place once a bare queue has made its
/// reads and those before (ServeLayerStep::burst_ns), and is waited for from the moment
/// that the model has come to it, earlier waits included.
[[nodiscard]] ServeExposed IdealExposed(const ServeArm& arm, const ServeOptions& options,
                                        const ServeWhatIf& what_if = {});

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_SERVE_IDEAL_H_
