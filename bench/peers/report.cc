#include "bench/peers/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "tools/svg_plot.h"

namespace tiercel::peers {
namespace {

using tools::HumanValue;
using tools::PlotUnit;

/// At random reads a ratio is of rates (higher is better), as one speaks of IOPS; else
/// of times (lower is better).
bool RatesCompared(const WorkloadResult& result) {
  return result.workload.kind == WorkloadKind::kRandom;
}

Spread Inverse(const Spread& spread) {
  if (spread.count == 0) return {};
  return {1 / spread.median, 1 / spread.max, 1 / spread.min, spread.count};
}

Spread MainRatio(const WorkloadResult& result, const ArmResult& arm) {
  return RatesCompared(result) ? Inverse(arm.time_ratio) : arm.time_ratio;
}

std::string Ratio(const Spread& spread) {
  if (spread.count == 0) return "-";
  const auto digits = [](double value) {
    if (value < 0.1) return fmt::format("{:.2g}", value);
    return value < 10 ? fmt::format("{:.2f}", value) : fmt::format("{:.3g}", value);
  };
  return fmt::format("{} ({}..{})", digits(spread.median), digits(spread.min), digits(spread.max));
}

std::string Seconds(const Spread& spread) {
  return spread.count == 0 ? "-" : HumanValue(PlotUnit::kNanoseconds, spread.median * 1e9);
}

std::string Nanoseconds(const Spread& spread) {
  return spread.count == 0 ? "-" : HumanValue(PlotUnit::kNanoseconds, spread.median);
}

/// Pads to a width in characters: "µ" is two bytes but one column.
std::string Pad(const std::string& text, std::size_t width, bool left = false) {
  const auto columns = static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  const std::string spaces(width > columns ? width - columns : 0, ' ');
  return left ? text + spaces : spaces + text;
}

std::string TableRow(const std::vector<std::string>& cells) {
  constexpr std::array<std::size_t, 8> kWidths = {19, 9, 9, 9, 9, 9, 23, 21};
  std::string line;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    line += Pad(cells[i], i < kWidths.size() ? kWidths[i] : 21, i == 0) + " ";
  }
  while (line.ends_with(' ')) line.pop_back();
  return line + "\n";
}

std::string WorkloadText(const WorkloadResult& result) {
  const bool rates = RatesCompared(result);
  std::string text = fmt::format("\n{}: {}\n", result.workload.name, result.workload.summary);
  if (result.reference.empty()) return text + "  no arm ran\n";
  text += TableRow({"arm", rates ? "-" : "batch", rates ? "reads/s" : "rows/s",
                    rates ? "CPU/read" : "CPU/row", "p50", "p99",
                    fmt::format("{} / {}", rates ? "rate" : "time", result.reference),
                    "CPU / " + result.reference, "p99 / " + result.reference});
  for (const ArmResult& arm : result.arms) {
    if (!arm.not_run.empty()) continue;
    const bool reference = arm.name == result.reference;
    text +=
        TableRow({arm.name, rates ? "" : (arm.cut ? "~" : "") + Seconds(arm.batch_seconds),
                  HumanValue(PlotUnit::kCount, arm.rows_per_second.median),
                  Seconds(arm.cpu_seconds_per_row), Nanoseconds(arm.p50_ns),
                  Nanoseconds(arm.p99_ns), reference ? "1" : Ratio(MainRatio(result, arm)),
                  reference ? "1" : Ratio(arm.cpu_ratio), reference ? "1" : Ratio(arm.p99_ratio)});
  }
  for (const ArmResult& arm : result.arms) {
    if (!arm.not_run.empty())
      text += fmt::format("{} not run: {}\n", Pad(arm.name, 19, true), arm.not_run);
  }
  return text;
}

/// What ran under each name, once for each wording.
std::string DescriptionsText(const Report& report) {
  std::string text = "\nWhat ran:\n";
  std::vector<std::string> seen;
  for (const WorkloadResult& result : report.workloads) {
    for (const ArmResult& arm : result.arms) {
      if (!arm.not_run.empty()) continue;
      std::string line = fmt::format("  {} {}\n", Pad(arm.name, 19, true), arm.description);
      if (std::find(seen.begin(), seen.end(), line) != seen.end()) continue;
      text += line;
      seen.push_back(std::move(line));
    }
  }
  return text;
}

nlohmann::ordered_json SpreadJson(const Spread& spread) {
  if (spread.count == 0) return nullptr;
  return {
      {"median", spread.median}, {"min", spread.min}, {"max", spread.max}, {"count", spread.count}};
}

/// The charts of BarChartSvg, stacked in one document.
Result<std::string> Stack(const std::vector<std::string>& charts) {
  std::string body;
  std::uint64_t height = 0;
  for (const std::string& chart : charts) {
    const std::size_t begin = chart.find("<svg ");
    const std::size_t at = chart.find("height=\"", begin);
    if (begin == std::string::npos || at == std::string::npos) {
      return Status(StatusCode::kInvalidArgument, "a chart is not an SVG with a height");
    }
    body += fmt::format("<svg y=\"{}\" {}", height, chart.substr(begin + 5));
    height += std::strtoull(chart.c_str() + at + 8, nullptr, 10);
  }
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"800\" height=\"{0}\" "
      "viewBox=\"0 0 800 {0}\">\n{1}</svg>\n",
      height, body);
}

}  // namespace

std::string ReportText(const Report& report) {
  std::string text;
  for (const auto& [name, fact] : report.facts)
    text += fmt::format("{}{}\n", Pad(name, 18, true), fact);
  for (const WorkloadResult& result : report.workloads) text += WorkloadText(result);
  text += DescriptionsText(report);
  text +=
      "\nFigures are medians over slices. A ratio is the median of arm / reference, each slice "
      "against the\nnearest one of the reference in its repeat; in brackets the smallest and the "
      "largest. Rows of the\nfirst batch of every slice were compared with the generator. ~: the "
      "batches were given up "
      "before their end;\nthe time is that of their rows.\n";
  return text;
}

std::string ReportJson(const Report& report) {
  nlohmann::ordered_json json;
  for (const auto& [name, fact] : report.facts) json["facts"][name] = fact;
  json["workloads"] = nlohmann::ordered_json::array();
  for (const WorkloadResult& result : report.workloads) {
    nlohmann::ordered_json arms = nlohmann::ordered_json::array();
    for (const ArmResult& arm : result.arms) {
      if (!arm.not_run.empty()) {
        arms.push_back({{"name", arm.name}, {"not_run", arm.not_run}});
        continue;
      }
      arms.push_back({{"name", arm.name},
                      {"description", arm.description},
                      {"cut", arm.cut},
                      {"rows_per_second", SpreadJson(arm.rows_per_second)},
                      {"batch_seconds", SpreadJson(arm.batch_seconds)},
                      {"cpu_seconds_per_row", SpreadJson(arm.cpu_seconds_per_row)},
                      {"p50_ns", SpreadJson(arm.p50_ns)},
                      {"p99_ns", SpreadJson(arm.p99_ns)},
                      {"time_ratio", SpreadJson(arm.time_ratio)},
                      {"cpu_ratio", SpreadJson(arm.cpu_ratio)},
                      {"p99_ratio", SpreadJson(arm.p99_ratio)}});
    }
    json["workloads"].push_back({{"name", result.workload.name},
                                 {"summary", result.workload.summary},
                                 {"reference", result.reference},
                                 {"arms", std::move(arms)}});
  }
  return json.dump(2) + "\n";
}

Result<std::string> ReportSvg(const Report& report) {
  std::vector<std::string> charts;
  for (const WorkloadResult& result : report.workloads) {
    const bool rates = RatesCompared(result);
    tools::BarChart chart;
    const std::string& summary = result.workload.summary;
    chart.title = fmt::format("{}: {}", result.workload.name, summary.substr(0, summary.find(';')));
    chart.subtitle =
        fmt::format("{} of an arm / {}'s of the same repeat: median, smallest and largest",
                    rates ? "reads per second" : "time", result.reference);
    chart.axis = {
        .label = rates ? "times the rate (more is better)" : "times the time (less is better)",
        .scale = rates ? tools::PlotScale::kLinear : tools::PlotScale::kLog10};
    for (const ArmResult& arm : result.arms) {
      const Spread ratio = MainRatio(result, arm);
      if (arm.name == result.reference) {
        chart.bars.push_back({arm.name, 1, 1, 1});
      } else if (arm.not_run.empty() && ratio.count > 0) {
        chart.bars.push_back({arm.name, ratio.median, ratio.min, ratio.max});
      }
    }
    if (chart.bars.size() < 2) continue;
    Result<std::string> svg = tools::BarChartSvg(chart);
    if (!svg.ok()) return svg;
    charts.push_back(std::move(svg).value());
  }
  if (charts.empty()) {
    return Status(StatusCode::kInvalidArgument,
                  "no workload has two arms to draw beside each other");
  }
  return Stack(charts);
}

}  // namespace tiercel::peers
