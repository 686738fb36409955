#ifndef TIERCEL_TOOLS_SVG_SCALE_H_
#define TIERCEL_TOOLS_SVG_SCALE_H_

#include <span>
#include <vector>

#include "tools/svg_plot.h"

namespace tiercel::tools {

/// The ends of an axis and the values that are marked on it.
struct AxisRange {
  PlotScale scale = PlotScale::kLinear;
  double low = 0.0;
  double high = 1.0;          ///< Above `low`.
  std::vector<double> ticks;  ///< Rising, within [low, high].

  /// Where `value` lies: 0 at `low`, 1 at `high`.
  [[nodiscard]] double Place(double value) const;
};

/// A range with round ends that holds all of `values`, which suit `scale` and are not
/// empty. `from_zero`: a linear one starts at 0, if no value is below.
[[nodiscard]] AxisRange RangeOf(std::span<const double> values, PlotScale scale, PlotUnit unit,
                                bool from_zero);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_SVG_SCALE_H_
