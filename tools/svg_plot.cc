#include "tools/svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

#include "tools/svg_scale.h"
#include "tools/svg_text.h"

namespace tiercel::tools {
namespace {

constexpr double kWidth = 800;
constexpr double kPanelHeight = 450;
constexpr double kMarginRight = 28;
constexpr double kMarginLeft = 84;  // Room for "999 MB/s" and the turned label.
constexpr double kTitleBaseline = 30;
constexpr double kSubtitleBaseline = 50;
constexpr double kLegendTop = 64;
constexpr double kLegendRowHeight = 20;
// Widths are guessed, for nobody lays text out here: 12 px of a sans serif face take
// 6.6 px a letter, and a guess that is too wide costs only space.
constexpr double kLetterWidth = 6.8;

constexpr std::string_view kInk = "#1f2328";
constexpr std::string_view kFaint = "#59636e";
constexpr std::string_view kGrid = "#e3e6ea";

// Okabe and Ito's colours, which the colour-blind tell apart; yellow is left out, for
// it does not show on white.
constexpr std::array<std::string_view, 7> kColours = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                                      "#E69F00", "#56B4E9", "#000000"};

/// Where a chart's data lies, in pixels. y grows downwards.
struct PlotArea {
  double left = 0;
  double top = 0;
  double right = 0;
  double bottom = 0;
};

Status Refuse(const std::string& what) {
  return Status(StatusCode::kInvalidArgument, "chart: " + what);
}

std::optional<std::string> Fault(const PlotAxis& axis, double value) {
  if (!std::isfinite(value)) return "is not finite";
  if (axis.scale != PlotScale::kLinear && value <= 0.0) {
    return fmt::format("is {}, which a logarithmic axis cannot show", value);
  }
  return std::nullopt;
}

Status Check(const LineChart& chart) {
  bool any = false;
  for (const PlotSeries& series : chart.series) {
    for (const PlotPoint& point : series.points) {
      any = true;
      if (const auto fault = Fault(chart.x, point.x)) {
        return Refuse(fmt::format("x of series '{}' {}", series.name, *fault));
      }
      if (const auto fault = Fault(chart.y, point.y)) {
        return Refuse(fmt::format("y of series '{}' {}", series.name, *fault));
      }
    }
  }
  if (!any) return Refuse(fmt::format("'{}' has no point to draw", chart.title));
  return Status();
}

Status Check(const BarChart& chart) {
  if (chart.bars.empty()) return Refuse(fmt::format("'{}' has no bar to draw", chart.title));
  for (const PlotBar& bar : chart.bars) {
    for (const double value : {bar.value, bar.low, bar.high}) {
      if (const auto fault = Fault(chart.axis, value)) {
        return Refuse(fmt::format("bar '{}' {}", bar.label, *fault));
      }
      if (value < 0.0) return Refuse(fmt::format("bar '{}' is {}, below 0", bar.label, value));
    }
    if (bar.low > bar.value || bar.value > bar.high) {
      return Refuse(fmt::format("bar '{}': its value {} lies outside its range [{}, {}]", bar.label,
                                bar.value, bar.low, bar.high));
    }
  }
  return Status();
}

/// Grows an SVG document.
class Canvas {
 public:
  explicit Canvas(double height) {
    Add(R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0:g}" height="{1:g}" )"
        R"(viewBox="0 0 {0:g} {1:g}" font-family="Helvetica, Arial, sans-serif" font-size="12">)"
        "\n",
        kWidth, height);
    Add(R"(<rect width="{:g}" height="{:g}" fill="#ffffff"/>)"
        "\n",
        kWidth, height);
  }

  template <typename... Args>
  void Add(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(svg_), format, std::forward<Args>(args)...);
  }

  void Line(double x1, double y1, double x2, double y2, std::string_view colour, double width = 1) {
    Add(R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="{:g}"/>)"
        "\n",
        x1, y1, x2, y2, colour, width);
  }

  void Text(double x, double y, std::string_view anchor, std::string_view colour,
            std::string_view text, std::string_view more = "") {
    Add(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="{}" fill="{}"{}>{}</text>)"
        "\n",
        x, y, anchor, colour, more, XmlEscape(text));
  }

  void Heading(double top, std::string_view title, std::string_view subtitle) {
    Text(20, top + kTitleBaseline, "start", kInk, title, R"( font-size="17" font-weight="bold")");
    if (!subtitle.empty()) Text(20, top + kSubtitleBaseline, "start", kFaint, subtitle);
  }

  /// A marker of series `index`: four shapes, so that colour is not all that differs.
  void Marker(double x, double y, std::size_t index) {
    const std::string_view colour = kColours[index % kColours.size()];
    switch (index % 4) {
      case 0:
        Add(R"(<circle cx="{:.1f}" cy="{:.1f}" r="3.5" fill="{}"/>)", x, y, colour);
        break;
      case 1:
        Add(R"(<rect x="{:.1f}" y="{:.1f}" width="7" height="7" fill="{}"/>)", x - 3.5, y - 3.5,
            colour);
        break;
      case 2:
        Add(R"(<path d="M{:.1f} {:.1f}l4.5 8h-9z" fill="{}"/>)", x, y - 5, colour);
        break;
      default:
        Add(R"(<path d="M{:.1f} {:.1f}l4.5 4.5l-4.5 4.5l-4.5 -4.5z" fill="{}"/>)", x, y - 4.5,
            colour);
    }
    svg_ += '\n';
  }

  std::string Finish() && { return std::move(svg_) + "</svg>\n"; }

 private:
  std::string svg_;
};

/// Draws the names of the series, from left to right, on as many rows as they need.
/// Returns the bottom of the last one.
double DrawLegend(Canvas& canvas, const LineChart& chart, double top) {
  double x = 20;
  double y = top + kLegendTop + 10;
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    const PlotSeries& series = chart.series[i];
    const std::string name = series.points.empty() ? series.name + " (no data)" : series.name;
    const double width = 34 + kLetterWidth * static_cast<double>(LetterCount(name)) + 18;
    if (x + width > kWidth - kMarginRight && x > 20) {
      x = 20;
      y += kLegendRowHeight;
    }
    canvas.Line(x, y - 4, x + 26, y - 4, kColours[i % kColours.size()], 2);
    canvas.Marker(x + 13, y - 4, i);
    canvas.Text(x + 34, y, "start", kInk, name);
    x += width;
  }
  return y + 6;
}

void DrawAxes(Canvas& canvas, const PlotArea& area, const LineChart& chart,
              const AxisRange& x_range, const AxisRange& y_range) {
  for (const double tick : y_range.ticks) {
    const double y = area.bottom - y_range.Place(tick) * (area.bottom - area.top);
    canvas.Line(area.left, y, area.right, y, kGrid);
    canvas.Text(area.left - 8, y + 4, "end", kFaint, HumanValue(chart.y.unit, tick));
  }
  for (const double tick : x_range.ticks) {
    const double x = area.left + x_range.Place(tick) * (area.right - area.left);
    canvas.Line(x, area.top, x, area.bottom, kGrid);
    canvas.Text(x, area.bottom + 18, "middle", kFaint, HumanValue(chart.x.unit, tick));
  }
  canvas.Line(area.left, area.bottom, area.right, area.bottom, kFaint);
  canvas.Line(area.left, area.top, area.left, area.bottom, kFaint);
  canvas.Text((area.left + area.right) / 2, area.bottom + 40, "middle", kInk, chart.x.label);
  const double middle = (area.top + area.bottom) / 2;
  canvas.Text(18, middle, "middle", kInk, chart.y.label,
              fmt::format(" transform=\"rotate(-90 18 {:.1f})\"", middle));
}

void DrawSeries(Canvas& canvas, const PlotArea& area, const PlotSeries& series, std::size_t index,
                const AxisRange& x_range, const AxisRange& y_range) {
  if (series.points.empty()) return;
  std::vector<PlotPoint> places;
  places.reserve(series.points.size());
  for (const PlotPoint& point : series.points) {
    places.push_back({area.left + x_range.Place(point.x) * (area.right - area.left),
                      area.bottom - y_range.Place(point.y) * (area.bottom - area.top)});
  }
  canvas.Add(
      R"(<polyline fill="none" stroke="{}" stroke-width="2" stroke-linejoin="round" points=")",
      kColours[index % kColours.size()]);
  for (std::size_t i = 0; i < places.size(); ++i) {
    canvas.Add("{}{:.1f},{:.1f}", i == 0 ? "" : " ", places[i].x, places[i].y);
  }
  canvas.Add("\"/>\n");
  for (const PlotPoint& place : places) canvas.Marker(place.x, place.y, index);
}

void DrawPanel(Canvas& canvas, const LineChart& chart, double top) {
  std::vector<double> xs;
  std::vector<double> ys;
  for (const PlotSeries& series : chart.series) {
    for (const PlotPoint& point : series.points) {
      xs.push_back(point.x);
      ys.push_back(point.y);
    }
  }
  const AxisRange x_range = RangeOf(xs, chart.x.scale, chart.x.unit, false);
  const AxisRange y_range = RangeOf(ys, chart.y.scale, chart.y.unit, true);
  canvas.Heading(top, chart.title, chart.subtitle);
  const PlotArea area = {.left = kMarginLeft,
                         .top = DrawLegend(canvas, chart, top) + 12,
                         .right = kWidth - kMarginRight,
                         .bottom = top + kPanelHeight - 58};
  DrawAxes(canvas, area, chart, x_range, y_range);
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    DrawSeries(canvas, area, chart.series[i], i, x_range, y_range);
  }
}

void DrawBar(Canvas& canvas, const PlotArea& area, const BarChart& chart, const PlotBar& bar,
             double y, const AxisRange& range) {
  const auto place = [&](double value) {
    return area.left + range.Place(value) * (area.right - area.left);
  };
  canvas.Text(area.left - 8, y + 4, "end", kInk, bar.label);
  canvas.Add(R"(<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="18" fill="{}"/>)"
             "\n",
             area.left, y - 9, std::max(place(bar.value) - area.left, 0.5), kColours[0]);
  std::string words = HumanValue(chart.axis.unit, bar.value);
  if (bar.low < bar.high) {
    canvas.Line(place(bar.low), y, place(bar.high), y, kInk, 1.5);
    canvas.Line(place(bar.low), y - 5, place(bar.low), y + 5, kInk, 1.5);
    canvas.Line(place(bar.high), y - 5, place(bar.high), y + 5, kInk, 1.5);
    words += fmt::format(" ({} to {})", HumanValue(chart.axis.unit, bar.low),
                         HumanValue(chart.axis.unit, bar.high));
  }
  canvas.Text(kWidth - 20, y + 4, "end", kInk, words);
}

/// Pixels for the longest of `texts`, within [least, most].
double WidthOf(const std::vector<std::string>& texts, double least, double most) {
  double width = least;
  for (const std::string& text : texts) {
    width = std::max(width, kLetterWidth * static_cast<double>(LetterCount(text)));
  }
  return std::min(width, most);
}

}  // namespace

Result<std::string> LineChartSvg(std::span<const LineChart> charts) {
  if (charts.empty()) return Refuse("no chart to draw");
  for (const LineChart& chart : charts) {
    if (Status status = Check(chart); !status.ok()) return status;
  }
  Canvas canvas(kPanelHeight * static_cast<double>(charts.size()));
  for (std::size_t i = 0; i < charts.size(); ++i) {
    DrawPanel(canvas, charts[i], kPanelHeight * static_cast<double>(i));
  }
  return std::move(canvas).Finish();
}

Result<std::string> BarChartSvg(const BarChart& chart) {
  if (Status status = Check(chart); !status.ok()) return status;
  constexpr double kRowHeight = 30;
  std::vector<double> values;
  std::vector<std::string> labels;
  bool ranges = false;
  for (const PlotBar& bar : chart.bars) {
    values.insert(values.end(), {bar.low, bar.value, bar.high});
    labels.push_back(bar.label);
    ranges |= bar.low < bar.high;
  }
  const AxisRange range = RangeOf(values, chart.axis.scale, chart.axis.unit, true);
  const double rows_height = kRowHeight * static_cast<double>(chart.bars.size());
  const PlotArea area = {.left = 28 + WidthOf(labels, 40, 300),
                         .top = 66,
                         .right = kWidth - (ranges ? 210 : 100),
                         .bottom = 66 + rows_height + 6};
  Canvas canvas(area.bottom + 58);
  canvas.Heading(0, chart.title, chart.subtitle);
  for (const double tick : range.ticks) {
    const double x = area.left + range.Place(tick) * (area.right - area.left);
    canvas.Line(x, area.top, x, area.bottom, kGrid);
    canvas.Text(x, area.bottom + 18, "middle", kFaint, HumanValue(chart.axis.unit, tick));
  }
  canvas.Line(area.left, area.top, area.left, area.bottom, kFaint);
  for (std::size_t i = 0; i < chart.bars.size(); ++i) {
    DrawBar(canvas, area, chart, chart.bars[i],
            area.top + kRowHeight * (static_cast<double>(i) + 0.5) + 3, range);
  }
  canvas.Text((area.left + area.right) / 2, area.bottom + 40, "middle", kInk, chart.axis.label);
  return std::move(canvas).Finish();
}

}  // namespace tiercel::tools
