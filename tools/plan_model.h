#ifndef TIERCEL_TOOLS_PLAN_MODEL_H_
#define TIERCEL_TOOLS_PLAN_MODEL_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tiercel/recipe.h"
#include "tiercel/status.h"
#include "tiercel/store.h"
#include "tools/row_sizes.h"

namespace tiercel::tools {

/// What a plan must know of a model.
struct PlanModel {
  std::string name;
  std::uint32_t layer_count = 0;
  std::uint32_t rows_per_token = 0;  ///< Of all layers.
  std::uint32_t rows_per_group = 0;  ///< Heads of one order.
  RowSizes row;
  std::uint64_t row_count = 0;  ///< Of all tables.

  [[nodiscard]] std::uint64_t scale_bytes() const noexcept {
    return row_count * row.scale_size_bytes;
  }
  [[nodiscard]] std::uint64_t table_bytes() const noexcept {
    return row_count * row.row_size_bytes;
  }
};

[[nodiscard]] PlanModel PlanModelOf(const Recipe& recipe, const RowSizes& sizes, std::string name);

/// Hit rate over the n-grams that a cache holds, at a few points.
struct HitCurve {
  struct Point {
    std::uint64_t ngram_count = 0;
    double hit_rate = 0.0;
  };
  std::string source;         ///< What it was measured on.
  std::vector<Point> points;  ///< By n-grams, rising; not empty.

  /// Between points straight in the logarithm of n-grams, as hit rates of text are; below
  /// the first in proportion to n-grams; above the last no more than there.
  [[nodiscard]] double HitRate(double ngram_count) const;
};

/// The machine.
struct PlanMachine {
  double reads_per_second = 0.0;  ///< Of the disk, at the depth that the store uses.
  std::uint32_t core_count = 2;
  double copy_bytes_per_second = 9.4e9;  ///< A core, of whole groups.
  double cpu_ns_per_read = 3000.0;
};

/// What to expect of one budget of memory.
struct PlanPoint {
  std::uint64_t dram_bytes = 0;
  std::uint64_t scale_bytes = 0;  ///< Of that, resident scales.
  std::uint64_t cache_bytes = 0;
  std::uint64_t ngram_count = 0;  ///< That the cache holds.
  double hit_rate = 0.0;
  double reads_per_token = 0.0;
  double disk_tokens_per_second = 0.0;  ///< As the disk allows.
  double cpu_tokens_per_second = 0.0;   ///< As the cores allow: copies and reads.

  [[nodiscard]] double tokens_per_second() const noexcept;
  [[nodiscard]] bool disk_bound() const noexcept;
};

/// Tokens a second, and what keeps them from being more.
///
/// A missed row is one read, or two where its scales lie apart and are not resident; a hit
/// and a delivered row alike are one copy. Waiting is not in it: a caller that asks for
/// what it needs in time keeps the disk busy.
///
/// Errors: kResourceExhausted (the budget holds no cache beside resident scales).
[[nodiscard]] Result<PlanPoint> PlanFor(const PlanModel& model, const HitCurve& curve,
                                        const PlanMachine& machine, ScalePlacement scales,
                                        std::uint64_t dram_bytes);

/// The least memory, to a hundredth, that gives `tokens_per_second`; none, if no more than
/// `dram_bytes_max` does.
[[nodiscard]] std::optional<PlanPoint> PlanForTarget(const PlanModel& model, const HitCurve& curve,
                                                     const PlanMachine& machine,
                                                     ScalePlacement scales,
                                                     double tokens_per_second,
                                                     std::uint64_t dram_bytes_max);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_PLAN_MODEL_H_
