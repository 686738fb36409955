#ifndef TIERCEL_TOOLS_CURVE_RUN_H_
#define TIERCEL_TOOLS_CURVE_RUN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tiercel/curve.h"
#include "tiercel/status.h"
#include "tools/model_flags.h"
#include "tools/replay_schedule.h"
#include "tools/token_trace.h"

namespace tiercel::tools {

/// From a trace to its curve.
struct CurveRun {
  std::string verb;  ///< Whose progress bar it is.
  TracePaths trace;
  ReplayScheduleOptions schedule;
  double warm_fraction = 0.5;
  std::optional<double> sample_fraction;  ///< None: SuggestedSampleFraction().
  std::uint64_t seed = 1;
  std::vector<CurvePolicy> policies;
  std::vector<std::uint64_t> size_bytes;
  std::uint64_t known_token_count = 0;
  bool trace_known = false;
};

/// Reads the trace, serves it in the order of a replay, simulates. Draws a bar on a
/// terminal; an interrupt ends it.
///
/// Errors: as LoadModelHasher(), LoadTokenTrace(), GroupTrace; kCancelled.
[[nodiscard]] Result<Curve> RunCurve(const CurveRun& run, const ModelFlags& model);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_CURVE_RUN_H_
