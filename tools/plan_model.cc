#include "tools/plan_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "tiercel/curve.h"
#include "tools/command_line.h"

namespace tiercel::tools {

PlanModel PlanModelOf(const Recipe& recipe, const RowSizes& sizes, std::string name) {
  PlanModel model{.name = std::move(name)};
  model.layer_count = static_cast<std::uint32_t>(recipe.layers.size());
  model.rows_per_token = recipe.column_count() * model.layer_count;
  model.rows_per_group = recipe.parameters.head_count;
  model.row = sizes;
  for (const LayerRecipe& layer : recipe.layers) model.row_count += layer.row_count;
  return model;
}

double HitCurve::HitRate(double ngram_count) const {
  const Point& first = points.front();
  if (ngram_count <= static_cast<double>(first.ngram_count)) {
    return first.hit_rate * Ratio(ngram_count, static_cast<double>(first.ngram_count));
  }
  for (std::size_t i = 1; i < points.size(); ++i) {
    const auto low = static_cast<double>(points[i - 1].ngram_count);
    const auto high = static_cast<double>(points[i].ngram_count);
    if (ngram_count > high) continue;
    const double share = Ratio(std::log(ngram_count / low), std::log(high / low));
    return points[i - 1].hit_rate + share * (points[i].hit_rate - points[i - 1].hit_rate);
  }
  return points.back().hit_rate;
}

double PlanPoint::tokens_per_second() const noexcept {
  return std::min(disk_tokens_per_second, cpu_tokens_per_second);
}

bool PlanPoint::disk_bound() const noexcept {
  return disk_tokens_per_second < cpu_tokens_per_second;
}

Result<PlanPoint> PlanFor(const PlanModel& model, const HitCurve& curve, const PlanMachine& machine,
                          ScalePlacement scales, std::uint64_t dram_bytes) {
  PlanPoint point{.dram_bytes = dram_bytes};
  // As the store decides: resident where they take no more than half.
  const bool resident = scales == ScalePlacement::kResident ||
                        (scales == ScalePlacement::kAuto && model.scale_bytes() <= dram_bytes / 2);
  if (resident) point.scale_bytes = model.scale_bytes();
  if (point.scale_bytes >= dram_bytes) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("{} do not hold the scales, {}: more memory, or --scales disk",
                              FormatBinaryBytes(dram_bytes), FormatBinaryBytes(point.scale_bytes)));
  }
  point.cache_bytes = dram_bytes - point.scale_bytes;
  Result<std::uint64_t> ngrams = CacheNgramCount(
      point.cache_bytes, model.rows_per_group * model.row.row_size_bytes, model.layer_count);
  if (!ngrams.ok()) return std::move(ngrams).TakeStatus();
  point.ngram_count = ngrams.value();
  point.hit_rate = curve.HitRate(static_cast<double>(point.ngram_count));
  const double reads_per_row = model.row.scale_size_bytes > 0 && !resident ? 2.0 : 1.0;
  // Where all hits, next to nothing is read: the quotients below stay numbers.
  point.reads_per_token =
      std::max((1.0 - point.hit_rate) * model.rows_per_token * reads_per_row, 1e-6);
  point.disk_tokens_per_second = machine.reads_per_second / point.reads_per_token;
  const double copy_seconds = static_cast<double>(model.rows_per_token) * model.row.row_size_bytes /
                              machine.copy_bytes_per_second;
  const double read_seconds = point.reads_per_token * machine.cpu_ns_per_read * 1e-9;
  point.cpu_tokens_per_second = machine.core_count / (copy_seconds + read_seconds);
  return point;
}

std::optional<PlanPoint> PlanForTarget(const PlanModel& model, const HitCurve& curve,
                                       const PlanMachine& machine, ScalePlacement scales,
                                       double tokens_per_second, std::uint64_t dram_bytes_max) {
  // Step by step, not by halves: where scales become resident, more memory may help less.
  constexpr double kFirstBytes = 16 << 20;  // The least that a store takes.
  for (double bytes = kFirstBytes; bytes <= static_cast<double>(dram_bytes_max); bytes *= 1.01) {
    Result<PlanPoint> point =
        PlanFor(model, curve, machine, scales, static_cast<std::uint64_t>(bytes));
    if (point.ok() && point.value().tokens_per_second() >= tokens_per_second) return point.value();
  }
  return std::nullopt;
}

}  // namespace tiercel::tools
