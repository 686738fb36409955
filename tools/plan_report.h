#ifndef TIERCEL_TOOLS_PLAN_REPORT_H_
#define TIERCEL_TOOLS_PLAN_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/plan_model.h"

namespace tiercel::tools {

/// A plan, and what it stands on.
struct PlanReport {
  PlanModel model;
  HitCurve curve;
  PlanMachine machine;
  std::string disk;  ///< Where its reads a second come from.
  std::uint64_t dram_bytes = 0;
  std::vector<PlanPoint> points;  ///< By memory, rising; one has dram_bytes.
  std::optional<double> target_tokens_per_second;
  std::optional<PlanPoint> target;  ///< None: not asked for, or out of reach.
  std::uint64_t target_dram_bytes_max = 0;
  /// The last resort: what is left where the curve is flat.
  double least_reads_per_token = 0.0;
};

/// For people: what it stands on, a table with a line a size of memory, the target.
[[nodiscard]] std::string ReportText(const PlanReport& report);

/// One JSON object on one line.
[[nodiscard]] std::string ReportJson(const PlanReport& report);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_PLAN_REPORT_H_
