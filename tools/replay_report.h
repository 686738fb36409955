#ifndef TIERCEL_TOOLS_REPLAY_REPORT_H_
#define TIERCEL_TOOLS_REPLAY_REPORT_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tiercel/store.h"
#include "tools/command_line.h"
#include "tools/replay_schedule.h"

namespace tiercel::tools {

/// Step times at four points of their distribution.
struct StepTimes {
  std::uint64_t p50_ns = 0;
  std::uint64_t p99_ns = 0;
  std::uint64_t p999_ns = 0;
  std::uint64_t max_ns = 0;
};

/// By nearest rank: p99 is the smallest time that 99 % of all steps do not exceed.
/// All 0 without steps. Puts `step_ns` out of order.
[[nodiscard]] StepTimes MeasureSteps(std::span<std::uint64_t> step_ns);

/// `after` with the counters of `before` taken off; what is no counter is `after`'s.
[[nodiscard]] StoreStats Difference(StoreStats after, const StoreStats& before);

/// What a replay measured. All counts are of the part after the warm-up.
struct ReplayReport {
  // What was replayed.
  std::string path;
  std::string layout;
  std::vector<std::uint32_t> layer_ids;
  std::uint32_t column_count = 0;  ///< Of one layer.
  ReplayScheduleOptions schedule;
  std::uint64_t warm_token_count = 0;  ///< Served before counting began.

  // What came of it.
  std::uint64_t token_count = 0;
  std::uint64_t step_count = 0;
  double lookup_seconds = 0.0;  ///< The sum of all steps.
  double wall_seconds = 0.0;    ///< With checking and all.
  StepTimes steps;
  std::uint64_t distinct_row_count = 0;  ///< Summed over steps.
  StoreStats stats;
  ResidentMemory memory;
  HotSetProgress hot_set;  ///< As it was at the end; kNone where none was loaded.

  // Whether it was right.
  bool verified = false;
  std::uint64_t rows_checked = 0;
  std::uint64_t rows_different = 0;
  std::uint64_t rows_failed = 0;
  std::vector<std::string> findings;  ///< The first few wrong rows, in words.

  [[nodiscard]] std::uint64_t row_count() const noexcept {
    return token_count * layer_ids.size() * column_count;
  }
};

/// The report for people, several aligned lines.
[[nodiscard]] std::string ReportText(const ReplayReport& report);

/// The report as one line of JSON.
[[nodiscard]] std::string ReportJson(const ReplayReport& report);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_REPLAY_REPORT_H_
