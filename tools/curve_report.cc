#include "tools/curve_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/command_line.h"
#include "tools/svg_plot.h"

namespace tiercel::tools {
namespace {

using Json = nlohmann::ordered_json;

std::string Percent(const CurveRate& rate) {
  return fmt::format("{:.1f} %", 100.0 * rate.rate);
}

/// The largest standard error of a point's hit rate.
double LargestError(const Curve& curve) {
  double largest = 0.0;
  for (const CurveLine& line : curve.lines) {
    for (const CurvePoint& point : line.points) {
      largest = std::max(largest, point.hit_rate.standard_error);
    }
  }
  return largest;
}

std::string SampleWords(const Curve& curve) {
  if (curve.slice_count == 1) return "all n-grams: exact";
  return fmt::format(
      "{:.3g} % of the n-grams, in {} slices; standard errors of hit rates are {:.2f} points at "
      "most",
      100.0 * curve.sample_fraction, curve.slice_count, 100.0 * LargestError(curve));
}

std::string PolicyWords(CurvePolicy policy) {
  switch (policy) {
    case CurvePolicy::kLru:
      return "LRU";
    case CurvePolicy::kS3Fifo:
      return "S3-FIFO";
    case CurvePolicy::kTinyLfu:
      return "W-TinyLFU";
    case CurvePolicy::kOurs:
      return "Tiercel";
    case CurvePolicy::kTopK:
      return "top-K of the past";
    case CurvePolicy::kClairvoyant:
      return "clairvoyant";
    case CurvePolicy::kCache:
      return "Tiercel, the cache itself";
  }
  return "unknown";
}

/// A table with a line a size and a column a policy.
template <typename Cell>
std::string Table(const Curve& curve, std::string_view heading, const Cell& cell) {
  std::string text = fmt::format("\n{:>10} {:>18}", heading, "bytes");
  for (const CurveLine& line : curve.lines) text += fmt::format(" {:>8}", Name(line.policy));
  text += '\n';
  for (std::size_t i = 0; i < curve.lines.front().points.size(); ++i) {
    const std::uint64_t size_bytes = curve.lines.front().points[i].size_bytes;
    text += fmt::format("{:>10} {:>18}", FormatBinaryBytes(size_bytes), FormatCount(size_bytes));
    for (const CurveLine& line : curve.lines) text += fmt::format(" {:>8}", cell(line.points[i]));
    text += '\n';
  }
  return text;
}

Json RateJson(const CurveRate& rate) {
  return {{"hit_rate", rate.rate}, {"standard_error", rate.standard_error}};
}

Json OrdersJson(const std::vector<CurveRate>& rates) {
  Json json = Json::array();
  for (std::size_t i = 0; i < rates.size(); ++i) {
    Json order = {{"order", i + 2}};
    order.update(RateJson(rates[i]));
    json.push_back(std::move(order));
  }
  return json;
}

Json LineJson(const CurveLine& line) {
  Json points = Json::array();
  for (const CurvePoint& point : line.points) {
    Json json = {{"bytes", point.size_bytes}, {"ngrams", point.ngram_count}};
    json.update(RateJson(point.hit_rate));
    json["reads_per_token"] = point.rows_missed_per_token;
    json["orders"] = OrdersJson(point.order_hit_rates);
    points.push_back(std::move(json));
  }
  return {{"policy", Name(line.policy)}, {"points", std::move(points)}};
}

}  // namespace

std::string ReportText(const CurveReport& report) {
  const Curve& curve = report.curve;
  std::string text = fmt::format("{}\n", report.trace);
  text += fmt::format("  model     {}: {} rows of {} B a token, {} B an n-gram in {} table{}\n",
                      report.model, curve.rows_per_token, curve.row_size_bytes,
                      FormatCount(curve.ngram_size_bytes), curve.layer_count,
                      curve.layer_count == 1 ? "" : "s");
  text += fmt::format("  served    {} tokens after {} that warm up; {} streams, {} tokens a step\n",
                      FormatCount(curve.token_count), FormatCount(curve.warm_token_count),
                      report.schedule.stream_count, report.schedule.chunk_tokens);
  text += fmt::format("  sample    {}\n", SampleWords(curve));
  text += fmt::format("  n-grams   {} different ones; without bounds {} would hit\n",
                      FormatAmount(curve.unique_ngram_count), Percent(curve.unbounded_hit_rate));
  text += fmt::format("  time      {}\n", FormatSeconds(report.seconds));
  text += Table(curve, "hit rate", [](const CurvePoint& point) { return Percent(point.hit_rate); });
  for (std::size_t order = 0; report.orders && order < curve.unbounded_order_hit_rates.size();
       ++order) {
    text += Table(curve, fmt::format("{}-grams", order + 2), [order](const CurvePoint& point) {
      return Percent(point.order_hit_rates[order]);
    });
  }
  text += Table(curve, "reads", [](const CurvePoint& point) {
    return fmt::format("{:.1f}", point.rows_missed_per_token);
  });
  text += "(reads: rows a token that a cache of this size leaves to the disk)\n";
  return text;
}

std::string ReportJson(const CurveReport& report) {
  const Curve& curve = report.curve;
  Json json = {{"trace", report.trace},
               {"model", report.model},
               {"streams", report.schedule.stream_count},
               {"chunk", report.schedule.chunk_tokens},
               {"warm_tokens", curve.warm_token_count},
               {"tokens", curve.token_count},
               {"dead_tokens", curve.dead_token_count},
               {"rows_per_token", curve.rows_per_token},
               {"row_bytes", curve.row_size_bytes},
               {"layers", curve.layer_count},
               {"ngram_bytes", curve.ngram_size_bytes},
               {"sample_fraction", curve.sample_fraction},
               {"slices", curve.slice_count},
               {"unique_ngrams", curve.unique_ngram_count}};
  json["unbounded"] = RateJson(curve.unbounded_hit_rate);
  json["unbounded"]["orders"] = OrdersJson(curve.unbounded_order_hit_rates);
  json["policies"] = Json::array();
  for (const CurveLine& line : curve.lines) json["policies"].push_back(LineJson(line));
  json["seconds"] = report.seconds;
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<std::string> ReportSvg(const CurveReport& report) {
  const Curve& curve = report.curve;
  LineChart chart;
  chart.title = "Hit rate of n-grams over memory";
  const std::size_t slash = report.trace.rfind('/');
  chart.subtitle = fmt::format(
      "{}; {}, {} tokens counted; {}",
      report.trace.substr(slash == std::string::npos ? 0 : slash + 1), report.model,
      FormatAmount(static_cast<double>(curve.token_count)),
      curve.slice_count == 1
          ? std::string("exact")
          : fmt::format("sampled, standard error {:.2f} points", 100.0 * LargestError(curve)));
  chart.x = {.label = "Cache", .scale = PlotScale::kLog2, .unit = PlotUnit::kBytes};
  chart.y = {.label = "Hit rate", .scale = PlotScale::kLinear, .unit = PlotUnit::kPercent};
  for (const CurveLine& line : curve.lines) {
    PlotSeries series{.name = PolicyWords(line.policy), .points = {}};
    for (const CurvePoint& point : line.points) {
      series.points.push_back({static_cast<double>(point.size_bytes), 100.0 * point.hit_rate.rate});
    }
    std::sort(series.points.begin(), series.points.end(),
              [](const PlotPoint& a, const PlotPoint& b) { return a.x < b.x; });
    chart.series.push_back(std::move(series));
  }
  return LineChartSvg({&chart, 1});
}

}  // namespace tiercel::tools
