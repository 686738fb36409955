#include "tools/table_stats_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "tools/command_line.h"
#include "tools/svg_plot.h"

namespace tiercel::tools {
namespace {

using Json = nlohmann::ordered_json;

/// Buckets in use: [first, last], or first > last.
struct BucketRange {
  std::size_t first = kNormBucketCount;
  std::size_t last = 0;

  void Cover(const RowStats& stats) {
    for (std::size_t i = 0; i < kNormBucketCount; ++i) {
      if (stats.norms[i] == 0) continue;
      first = std::min(first, i);
      last = std::max(last, i);
    }
  }
  [[nodiscard]] bool empty() const noexcept { return first > last; }
};

RowStats SumOf(const LayerStats& layer, std::size_t begin, std::size_t end) {
  RowStats sum;
  for (std::size_t i = begin; i < end; ++i) sum.Add(layer.columns[i]);
  return sum;
}

double MeanNorm(const RowStats& stats) {
  return Ratio(stats.norm_sum, static_cast<double>(stats.norm_count()));
}

bool HasScales(const RowStats& stats) noexcept {
  return stats.scale_low <= stats.scale_high;
}

Json RowStatsJson(const RowStats& stats) {
  Json json = {{"rows", stats.row_count},
               {"unreadable", stats.unreadable_count},
               {"zero", stats.zero_count},
               {"nan", stats.nan_count},
               {"inf", stats.inf_count}};
  const bool has_norms = stats.norm_count() > 0;
  json["norm_min"] = has_norms ? Json(stats.norm_low) : Json(nullptr);
  json["norm_mean"] = has_norms ? Json(MeanNorm(stats)) : Json(nullptr);
  json["norm_max"] = has_norms ? Json(stats.norm_high) : Json(nullptr);
  json["scale_min"] = HasScales(stats) ? Json(stats.scale_low) : Json(nullptr);
  json["scale_max"] = HasScales(stats) ? Json(stats.scale_high) : Json(nullptr);
  json["norms"] = Json::array();
  for (std::size_t i = 0; i < kNormBucketCount; ++i) {
    if (stats.norms[i] == 0) continue;
    json["norms"].push_back({{"from", NormBucketLow(i)}, {"rows", stats.norms[i]}});
  }
  return json;
}

std::string StatsLine(std::string_view name, const RowStats& stats) {
  std::string norms = fmt::format("{:>35}", "no norms");
  if (stats.norm_count() > 0) {
    norms = fmt::format("{:>11.4g} {:>11.4g} {:>11.4g}", stats.norm_low, MeanNorm(stats),
                        stats.norm_high);
  }
  std::string scales;
  if (HasScales(stats))
    scales = fmt::format("  {:.3g} to {:.3g}", stats.scale_low, stats.scale_high);
  return fmt::format("  {:<10}{:>13}{:>8}{:>8}{:>8}{:>8} {}{}\n", name,
                     FormatCount(stats.row_count), stats.zero_count, stats.nan_count,
                     stats.inf_count, stats.unreadable_count, norms, scales);
}

std::string HistogramText(const RowStats& sum) {
  BucketRange range;
  range.Cover(sum);
  if (range.empty()) return {};
  const std::uint64_t most = *std::max_element(sum.norms.begin(), sum.norms.end());
  std::string text = "  norms\n";
  for (std::size_t i = range.first; i <= range.last; ++i) {
    constexpr double kBarLength = 40.0;
    const double share = static_cast<double>(sum.norms[i]) / static_cast<double>(most);
    const auto length = static_cast<std::size_t>(share * kBarLength + 0.5);
    text += fmt::format(
        "  {:>10.4g} to {:<10.4g}{:>13} {:>7} {}\n", NormBucketLow(i), NormBucketLow(i + 1),
        FormatCount(sum.norms[i]),
        FormatPercent(static_cast<double>(sum.norms[i]), static_cast<double>(sum.norm_count())),
        std::string(length, '#'));
  }
  return text;
}

}  // namespace

bool StatsReport::has_findings() const noexcept {
  return std::any_of(layers.begin(), layers.end(), [](const LayerStats& layer) {
    return std::any_of(layer.columns.begin(), layer.columns.end(), [](const RowStats& column) {
      return column.unreadable_count + column.nan_count + column.inf_count > 0;
    });
  });
}

std::string StatsText(const StatsReport& report) {
  std::string text =
      report.sample.rows_per_layer == 0
          ? std::string("\nrow statistics of every row")
          : fmt::format("\nrow statistics of {} rows a layer, seed {}",
                        FormatCount(report.sample.rows_per_layer), report.sample.seed);
  text += fmt::format(", read in {}\n", FormatSeconds(report.seconds));
  for (const LayerStats& layer : report.layers) {
    text += fmt::format("\nlayer {}, {}\n", layer.layer_id, Name(layer.shape.format));
    text += fmt::format("  {:<10}{:>13}{:>8}{:>8}{:>8}{:>8} {:>11} {:>11} {:>11}{}\n", "column",
                        "rows", "zero", "NaN", "inf", "unread", "norm min", "mean", "max",
                        HasScales(layer.columns.front()) ? "  scales" : "");
    for (std::size_t column = 0; column < layer.columns.size(); ++column) {
      const ColumnPlace place = PlaceOf(layer, column);
      const std::string name = fmt::format("{}-gram {}", place.order, place.head);
      text += StatsLine(name, layer.columns[column]);
    }
    const RowStats sum = SumOf(layer, 0, layer.columns.size());
    text += StatsLine("all", sum);
    text += HistogramText(sum);
  }
  return text;
}

Json StatsJson(const StatsReport& report) {
  Json json = {{"sample_rows_per_layer", report.sample.rows_per_layer},
               {"seed", report.sample.seed},
               {"seconds", report.seconds}};
  json["layers"] = Json::array();
  for (const LayerStats& layer : report.layers) {
    Json columns = Json::array();
    for (std::size_t column = 0; column < layer.columns.size(); ++column) {
      const ColumnPlace place = PlaceOf(layer, column);
      Json entry = {{"order", place.order}, {"head", place.head}};
      entry.update(RowStatsJson(layer.columns[column]));
      columns.push_back(std::move(entry));
    }
    json["layers"].push_back({{"layer", layer.layer_id},
                              {"all", RowStatsJson(SumOf(layer, 0, layer.columns.size()))},
                              {"columns", std::move(columns)}});
  }
  return json;
}

Result<std::string> StatsSvg(const StatsReport& report) {
  std::vector<LineChart> charts;
  for (const LayerStats& layer : report.layers) {
    const RowStats all = SumOf(layer, 0, layer.columns.size());
    BucketRange range;
    range.Cover(all);
    if (range.empty()) continue;
    LineChart& chart = charts.emplace_back();
    chart.title = fmt::format("Row norms of layer {}", layer.layer_id);
    chart.subtitle =
        fmt::format("{}: {} rows of {}, {} zero, {} with NaN or infinity", report.path,
                    FormatCount(all.row_count), Name(layer.shape.format),
                    FormatCount(all.zero_count), FormatCount(all.nan_count + all.inf_count));
    chart.x = {.label = "L2 norm, from", .scale = PlotScale::kLog2, .unit = PlotUnit::kCount};
    chart.y = {.label = "rows", .scale = PlotScale::kLinear, .unit = PlotUnit::kPercent};
    // One bucket would be a chart without width: its empty neighbours stand beside it.
    const std::size_t first = range.first > 0 ? range.first - 1 : 0;
    const std::size_t last = std::min(range.last + 1, kNormBucketCount - 1);
    for (std::size_t begin = 0; begin < layer.columns.size(); begin += layer.head_count) {
      const RowStats order = SumOf(layer, begin, begin + layer.head_count);
      PlotSeries series{.name = fmt::format("{}-grams", begin / layer.head_count + 2),
                        .points = {}};
      for (std::size_t i = first; i <= last && order.norm_count() > 0; ++i) {
        const double share =
            static_cast<double>(order.norms[i]) / static_cast<double>(order.norm_count());
        series.points.push_back({.x = NormBucketLow(i), .y = 100.0 * share});
      }
      chart.series.push_back(std::move(series));
    }
  }
  if (charts.empty()) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("{}: no row that was read has a norm: there is nothing to draw", report.path));
  }
  return LineChartSvg(charts);
}

}  // namespace tiercel::tools
