#ifndef TIERCEL_TOOLS_CURVE_REPORT_H_
#define TIERCEL_TOOLS_CURVE_REPORT_H_

#include <cstdint>
#include <string>

#include "tiercel/curve.h"
#include "tiercel/status.h"
#include "tools/replay_schedule.h"

namespace tiercel::tools {

/// A curve, and of what.
struct CurveReport {
  std::string trace;  ///< Path of its tokens.
  std::string model;  ///< Name of its recipe.
  ReplayScheduleOptions schedule;
  bool orders = false;  ///< The text has a table an order.
  double seconds = 0.0;
  Curve curve;
};

/// For people: what was simulated, and a table of hit rates with a line a size and a
/// column a policy.
[[nodiscard]] std::string ReportText(const CurveReport& report);

/// One JSON object on one line.
[[nodiscard]] std::string ReportJson(const CurveReport& report);

/// Hit rate over bytes, a line a policy. Errors: as LineChartSvg().
[[nodiscard]] Result<std::string> ReportSvg(const CurveReport& report);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_CURVE_REPORT_H_
