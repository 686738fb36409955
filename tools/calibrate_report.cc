#include "tools/calibrate_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "tools/command_line.h"
#include "tools/svg_plot.h"

namespace tiercel::tools {
namespace {

constexpr std::string_view kPageCache =
    "NO O_DIRECT on this file system: this is the page cache's speed, not a disk's";

std::string BlockWords(std::uint32_t block_bytes) {
  return HumanValue(PlotUnit::kBytes, block_bytes);
}

std::string EngineWords(const DiskProfile& profile) {
  return fmt::format("{}, {}", profile.engine, profile.direct ? "O_DIRECT" : "page cache");
}

std::string PointLine(const CalibrateReport& report, const DiskPoint& point) {
  const bool knee = point.block_bytes == report.choice.block_bytes &&
                    point.queue_depth == report.choice.queue_depth;
  return fmt::format(
      "{:>8} {:>6} {:>11} {:>10} {:>9} {:>9} {:>9} {:>9}{}\n", BlockWords(point.block_bytes),
      point.queue_depth, FormatCount(static_cast<std::uint64_t>(point.iops + 0.5)),
      HumanValue(PlotUnit::kBytesPerSecond, point.iops * point.block_bytes),
      HumanValue(PlotUnit::kNanoseconds, static_cast<double>(point.p50_ns)),
      HumanValue(PlotUnit::kNanoseconds, static_cast<double>(point.p99_ns)),
      HumanValue(PlotUnit::kNanoseconds, static_cast<double>(point.p999_ns)),
      HumanValue(PlotUnit::kNanoseconds, point.cpu_ns_per_read), knee ? "  <- knee" : "");
}

LineChart ChartOf(const CalibrateReport& report, std::string title, PlotAxis y,
                  double (*value)(const DiskPoint&)) {
  LineChart chart;
  chart.title = std::move(title);
  chart.subtitle = fmt::format("{}; {}; one thread", report.profile.disk.description,
                               EngineWords(report.profile));
  chart.x = {.label = "Reads in flight", .scale = PlotScale::kLog2, .unit = PlotUnit::kCount};
  chart.y = std::move(y);
  for (const DiskPoint& point : report.profile.points) {
    const std::string name = BlockWords(point.block_bytes) + " blocks";
    if (chart.series.empty() || chart.series.back().name != name)
      chart.series.push_back({name, {}});
    chart.series.back().points.push_back({static_cast<double>(point.queue_depth), value(point)});
  }
  return chart;
}

}  // namespace

std::string ReportText(const CalibrateReport& report) {
  const DiskProfile& profile = report.profile;
  std::string text = fmt::format("disk      {}\n", profile.disk.description);
  text += fmt::format("engine    {}\n", EngineWords(profile));
  if (!profile.engine_fallback.empty()) {
    text += fmt::format("          FELL BACK from io_uring: {}\n", profile.engine_fallback);
  }
  if (!profile.direct) text += fmt::format("          {}\n", kPageCache);
  text += fmt::format("read      {} file{}, {}, in {}; seed {}\n\n", report.files.size(),
                      report.files.size() == 1 ? "" : "s",
                      FormatBytes(static_cast<double>(report.file_bytes)),
                      FormatSeconds(report.seconds), report.seed);
  text += fmt::format("{:>8} {:>6} {:>11} {:>10} {:>9} {:>9} {:>9} {:>9}\n", "block", "depth",
                      "reads/s", "rate", "p50", "p99", "p99.9", "CPU/read");
  for (const DiskPoint& point : profile.points) text += PointLine(report, point);
  text += fmt::format(
      "\nsettings  {} reads in flight, blocks of {} B: the smallest depth with 95 % of the best, "
      "{} "
      "reads/s\n",
      profile.queue_depth, profile.block_bytes,
      FormatCount(static_cast<std::uint64_t>(report.choice.iops_max + 0.5)));
  if (report.choice.still_rising) {
    text += "          still rising at the deepest queue: try --depths with deeper ones\n";
  }
  text += report.saved_path.empty() ? "profile   not saved\n"
                                    : fmt::format("profile   {}\n", report.saved_path);
  return text;
}

std::string ReportJson(const CalibrateReport& report) {
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(DiskProfileJson(report.profile));
  json["iops_max"] = report.choice.iops_max;
  json["still_rising"] = report.choice.still_rising;
  json["files"] = report.files;
  json["file_bytes"] = report.file_bytes;
  json["seconds_per_point"] = report.seconds_per_point;
  json["seconds"] = report.seconds;
  json["seed"] = report.seed;
  json["saved_path"] = report.saved_path;
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

Result<std::string> ReportSvg(const CalibrateReport& report) {
  std::vector<LineChart> charts;
  charts.push_back(
      ChartOf(report, fmt::format("Random reads a second, {}", report.profile.engine),
              {.label = "Reads a second", .scale = PlotScale::kLinear, .unit = PlotUnit::kCount},
              [](const DiskPoint& point) { return point.iops; }));
  charts.push_back(
      ChartOf(report, "Latency that one read in a hundred exceeds (p99)",
              {.label = "p99", .scale = PlotScale::kLog10, .unit = PlotUnit::kNanoseconds},
              [](const DiskPoint& point) { return static_cast<double>(point.p99_ns); }));
  return LineChartSvg(charts);
}

}  // namespace tiercel::tools
