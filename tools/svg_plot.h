#ifndef TIERCEL_TOOLS_SVG_PLOT_H_
#define TIERCEL_TOOLS_SVG_PLOT_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tiercel/status.h"

namespace tiercel::tools {

/// How an axis places its values. A linear y axis and the axis of bars start at zero;
/// a logarithmic one takes positive values alone.
enum class PlotScale : std::uint8_t { kLinear, kLog2, kLog10 };

/// How values are written at ticks and bars.
enum class PlotUnit : std::uint8_t {
  kCount,           ///< "128", "12.5 k", "3 M".
  kNanoseconds,     ///< "90 ns", "85.3 µs", "4 ms", "1.2 s".
  kBytes,           ///< "512 B", "4 KiB", "1.5 GiB".
  kBytesPerSecond,  ///< "250 MB/s", "3.2 GB/s".
  kPercent,         ///< "42.5 %", of values such as 42.5.
};

struct PlotAxis {
  std::string label;
  PlotScale scale = PlotScale::kLinear;
  PlotUnit unit = PlotUnit::kCount;
};

struct PlotPoint {
  double x = 0.0;
  double y = 0.0;
};

/// One line of a chart, drawn through its points in their order.
struct PlotSeries {
  std::string name;
  std::vector<PlotPoint> points;  ///< None: only the legend tells of it, as "(no data)".
};

struct LineChart {
  std::string title;
  std::string subtitle;  ///< Machine, engine, date: what a reader must know beside it.
  PlotAxis x;
  PlotAxis y;
  std::vector<PlotSeries> series;
};

/// One bar with the range that its value was seen in, such as min and max of trials.
struct PlotBar {
  std::string label;
  double value = 0.0;
  double low = 0.0;  ///< low == high: no range is drawn.
  double high = 0.0;
};

struct BarChart {
  std::string title;
  std::string subtitle;
  PlotAxis axis;  ///< Linear or logarithmic, as an axis of a line chart.
  std::vector<PlotBar> bars;
};

/// "85.3 µs": `value` with three digits and the unit's prefix that suits it.
[[nodiscard]] std::string HumanValue(PlotUnit unit, double value);

/// An SVG document, 800 wide and 450 high for each chart, one below the other. Its
/// background is white, so it reads on a dark page too; text may be anything and is
/// escaped; colours suit the colour-blind, and markers differ as well.
/// The same charts give the same bytes, on every machine.
///
/// Errors: kInvalidArgument (no chart, a chart with no point at all, a value that is
/// not finite, or not positive on a logarithmic axis; the message names the series).
[[nodiscard]] Result<std::string> LineChartSvg(std::span<const LineChart> charts);

/// An SVG document, 800 wide, its height by the count of bars: horizontal bars from the
/// first one on top, each with its value in words. Errors: as LineChartSvg(), and a
/// range that does not hold the value.
[[nodiscard]] Result<std::string> BarChartSvg(const BarChart& chart);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_SVG_PLOT_H_
