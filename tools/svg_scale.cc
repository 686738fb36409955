#include "tools/svg_scale.h"

#include <algorithm>
#include <cmath>

namespace tiercel::tools {
namespace {

/// Most ticks of an axis; more would run into each other.
constexpr double kTicksMax = 11;

/// The smallest of 1, 2, 5, 10, 20, ... that is not below `step`; for bytes, of the
/// powers of two, which read well as KiB and MiB.
double RoundStep(double step, PlotUnit unit) {
  if (unit == PlotUnit::kBytes) return std::exp2(std::ceil(std::log2(step)));
  const double decade = std::pow(10.0, std::floor(std::log10(step)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    // The margin is for quotients such as 0.30000000000000004 / 0.1.
    if (factor * decade >= step * (1 - 1e-9)) return factor * decade;
  }
  return 10 * decade;
}

AxisRange LinearRange(double low, double high, PlotUnit unit, bool from_zero) {
  if (from_zero && low >= 0.0) low = 0.0;
  if (low == high) high = low + (low == 0.0 ? 1.0 : std::abs(low));
  const double step = RoundStep((high - low) / 6, unit);
  AxisRange range;
  const double first = std::floor(low / step + 1e-9);
  const double last = std::ceil(high / step - 1e-9);
  range.low = first * step;
  range.high = last * step;
  for (double i = first; i <= last; ++i) range.ticks.push_back(i * step);
  return range;
}

AxisRange Log2Range(double low, double high) {
  AxisRange range;
  double first = std::floor(std::log2(low) + 1e-9);
  double last = std::ceil(std::log2(high) - 1e-9);
  if (first == last) {
    first -= 1;
    last += 1;
  }
  range.low = std::exp2(first);
  range.high = std::exp2(last);
  const double step = std::ceil((last - first + 1) / kTicksMax);
  for (double i = first; i <= last; i += step) range.ticks.push_back(std::exp2(i));
  return range;
}

AxisRange Log10Range(double low, double high) {
  AxisRange range;
  const double first = std::floor(std::log10(low) + 1e-9);
  double last = std::ceil(std::log10(high) - 1e-9);
  if (first == last) last += 1;
  range.low = std::pow(10.0, first);
  range.high = std::pow(10.0, last);
  // Up to three decades have room for what lies between.
  const bool between = last - first <= 3;
  const double step = std::ceil((last - first + 1) / kTicksMax);
  for (double i = first; i <= last; i += step) {
    range.ticks.push_back(std::pow(10.0, i));
    if (!between || i == last) continue;
    range.ticks.push_back(2 * std::pow(10.0, i));
    range.ticks.push_back(5 * std::pow(10.0, i));
  }
  return range;
}

}  // namespace

double AxisRange::Place(double value) const {
  if (scale == PlotScale::kLinear) return (value - low) / (high - low);
  return std::log2(value / low) / std::log2(high / low);
}

AxisRange RangeOf(std::span<const double> values, PlotScale scale, PlotUnit unit, bool from_zero) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  AxisRange range;
  switch (scale) {
    case PlotScale::kLinear:
      range = LinearRange(*low, *high, unit, from_zero);
      break;
    case PlotScale::kLog2:
      range = Log2Range(*low, *high);
      break;
    case PlotScale::kLog10:
      range = Log10Range(*low, *high);
      break;
  }
  range.scale = scale;
  return range;
}

}  // namespace tiercel::tools
