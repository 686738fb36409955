#ifndef TIERCEL_BENCH_PEERS_REPORT_H_
#define TIERCEL_BENCH_PEERS_REPORT_H_

#include <string>
#include <utility>
#include <vector>

#include "bench/peers/runner.h"
#include "tiercel/status.h"

namespace tiercel::peers {

/// A whole run, as it is reported.
struct Report {
  /// Facts about machine and method, in order: name and text.
  std::vector<std::pair<std::string, std::string>> facts;
  std::vector<WorkloadResult> workloads;
};

/// Tables for people.
[[nodiscard]] std::string ReportText(const Report& report);
/// The same for programs, with the spread of every figure.
[[nodiscard]] std::string ReportJson(const Report& report);
/// One bar chart a workload, one below the other: time of a row against the reference's.
/// Errors: as BarChartSvg; kInvalidArgument where there is nothing to draw.
[[nodiscard]] Result<std::string> ReportSvg(const Report& report);

}  // namespace tiercel::peers

#endif  // TIERCEL_BENCH_PEERS_REPORT_H_
