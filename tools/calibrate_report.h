#ifndef TIERCEL_TOOLS_CALIBRATE_REPORT_H_
#define TIERCEL_TOOLS_CALIBRATE_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tiercel/disk_profile.h"
#include "tiercel/status.h"

namespace tiercel::tools {

/// A profile, and how it came about.
struct CalibrateReport {
  DiskProfile profile;
  DiskChoice choice;  ///< ChooseDiskSettings() of its points.
  std::vector<std::string> files;
  std::uint64_t file_bytes = 0;
  double seconds_per_point = 0.0;
  double seconds = 0.0;  ///< All in all.
  std::uint64_t seed = 0;
  std::string saved_path;  ///< Empty: it was not saved.
};

/// For people: a table of the points, the settings and where they are kept.
[[nodiscard]] std::string ReportText(const CalibrateReport& report);

/// One JSON object on one line: the profile's own keys, and what is known beside it.
[[nodiscard]] std::string ReportJson(const CalibrateReport& report);

/// Two charts, one above the other: reads a second and p99 over reads in flight, a line
/// for each block size. Errors: as LineChartSvg().
[[nodiscard]] Result<std::string> ReportSvg(const CalibrateReport& report);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_CALIBRATE_REPORT_H_
