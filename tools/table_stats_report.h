#ifndef TIERCEL_TOOLS_TABLE_STATS_REPORT_H_
#define TIERCEL_TOOLS_TABLE_STATS_REPORT_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tiercel/status.h"
#include "tools/table_stats.h"

namespace tiercel::tools {

/// What was measured, and how.
struct StatsReport {
  std::string path;
  TableSample sample;
  double seconds = 0.0;
  std::vector<LayerStats> layers;

  /// Whether a row could not be read, or holds a NaN or an infinity.
  [[nodiscard]] bool has_findings() const noexcept;
};

/// For people: per layer a line for each column, and the histogram of its norms.
[[nodiscard]] std::string StatsText(const StatsReport& report);
/// docs/cli.md lists the keys.
[[nodiscard]] nlohmann::ordered_json StatsJson(const StatsReport& report);
/// The histograms of norms, a chart for each layer and a line for each order of n-grams.
/// Errors: kInvalidArgument (no row has a norm).
[[nodiscard]] Result<std::string> StatsSvg(const StatsReport& report);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_TABLE_STATS_REPORT_H_
