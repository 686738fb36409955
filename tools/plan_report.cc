#include "tools/plan_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string_view>

#include "tools/command_line.h"

namespace tiercel::tools {
namespace {

using Json = nlohmann::ordered_json;

std::string_view Bound(const PlanPoint& point) {
  return point.disk_bound() ? "disk" : "cpu";
}

std::string ScaleWords(const PlanModel& model, const PlanPoint& point) {
  if (model.row.scale_size_bytes == 0) return "none apart";
  return point.scale_bytes > 0 ? FormatBinaryBytes(point.scale_bytes) : "on disk";
}

std::string PointLine(const PlanReport& report, const PlanPoint& point) {
  return fmt::format("{:>10} {:>11} {:>10} {:>9} {:>11.1f} {:>10} {:>9}{}\n",
                     FormatBinaryBytes(point.dram_bytes), ScaleWords(report.model, point),
                     FormatBinaryBytes(point.cache_bytes), FormatPercent(point.hit_rate, 1.0),
                     point.reads_per_token, FormatAmount(point.tokens_per_second()), Bound(point),
                     point.dram_bytes == report.dram_bytes ? "  <- --dram" : "");
}

std::string TargetText(const PlanReport& report) {
  if (!report.target_tokens_per_second) return {};
  const double target = *report.target_tokens_per_second;
  if (report.target) {
    const PlanPoint& point = *report.target;
    return fmt::format("\n{} tokens/s need {} of DRAM: {} hits, {:.1f} reads a token\n",
                       FormatAmount(target), FormatBinaryBytes(point.dram_bytes),
                       FormatPercent(point.hit_rate, 1.0), point.reads_per_token);
  }
  return fmt::format(
      "\n{} tokens/s are OUT OF REACH with up to {} of DRAM: {:.1f} reads a token remain, which "
      "take {} reads/s and {:.1f} cores\n",
      FormatAmount(target), FormatBinaryBytes(report.target_dram_bytes_max),
      report.least_reads_per_token, FormatAmount(target * report.least_reads_per_token),
      target * (report.model.rows_per_token * static_cast<double>(report.model.row.row_size_bytes) /
                    report.machine.copy_bytes_per_second +
                report.least_reads_per_token * report.machine.cpu_ns_per_read * 1e-9));
}

Json PointJson(const PlanPoint& point) {
  return {{"dram_bytes", point.dram_bytes},
          {"resident_scale_bytes", point.scale_bytes},
          {"cache_bytes", point.cache_bytes},
          {"ngrams", point.ngram_count},
          {"hit_rate", point.hit_rate},
          {"reads_per_token", point.reads_per_token},
          {"tokens_per_second", point.tokens_per_second()},
          {"disk_tokens_per_second", point.disk_tokens_per_second},
          {"cpu_tokens_per_second", point.cpu_tokens_per_second},
          {"bound", Bound(point)}};
}

}  // namespace

std::string ReportText(const PlanReport& report) {
  const PlanModel& model = report.model;
  std::string text =
      fmt::format("{}: {} rows of {} B a token, {} of tables\n", model.name, model.rows_per_token,
                  model.row.row_size_bytes, FormatBytes(static_cast<double>(model.table_bytes())));
  text += fmt::format("  hit rates  {}\n", report.curve.source);
  text += fmt::format("  disk       {} reads/s, {}\n",
                      FormatAmount(report.machine.reads_per_second), report.disk);
  text += fmt::format("  cpu        {} core{}, {} copies a core, {:.1f} µs a read\n",
                      report.machine.core_count, report.machine.core_count == 1 ? "" : "s",
                      FormatBytes(report.machine.copy_bytes_per_second) + "/s",
                      report.machine.cpu_ns_per_read / 1000.0);
  text += fmt::format("\n{:>10} {:>11} {:>10} {:>9} {:>11} {:>10} {:>9}\n", "DRAM", "scales",
                      "cache", "hit rate", "reads/token", "tokens/s", "bound by");
  for (const PlanPoint& point : report.points) text += PointLine(report, point);
  return text + TargetText(report);
}

std::string ReportJson(const PlanReport& report) {
  Json json = {{"model", report.model.name},
               {"rows_per_token", report.model.rows_per_token},
               {"row_bytes", report.model.row.row_size_bytes},
               {"table_bytes", report.model.table_bytes()},
               {"scale_bytes", report.model.scale_bytes()},
               {"hit_rates_of", report.curve.source},
               {"iops", report.machine.reads_per_second},
               {"iops_of", report.disk},
               {"cores", report.machine.core_count},
               {"copy_bytes_per_second", report.machine.copy_bytes_per_second},
               {"cpu_ns_per_read", report.machine.cpu_ns_per_read}};
  json["points"] = Json::array();
  for (const PlanPoint& point : report.points) {
    json["points"].push_back(PointJson(point));
    if (point.dram_bytes == report.dram_bytes) json["plan"] = PointJson(point);
  }
  if (report.target_tokens_per_second) {
    json["target_tokens_per_second"] = *report.target_tokens_per_second;
    json["target"] = report.target ? PointJson(*report.target) : Json(nullptr);
    json["least_reads_per_token"] = report.least_reads_per_token;
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace tiercel::tools
