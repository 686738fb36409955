#ifndef TIERCEL_TOOLS_TABLE_STATS_H_
#define TIERCEL_TOOLS_TABLE_STATS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "tiercel/row_format.h"
#include "tiercel/status.h"
#include "tiercel/store.h"

namespace tiercel::tools {

/// Buckets of L2 norms: bucket i counts norms in [2^(i - 64), 2^(i - 63)); the first and the
/// last one take all that lie beyond.
inline constexpr std::size_t kNormBucketCount = 128;
/// Lower end of a bucket.
[[nodiscard]] double NormBucketLow(std::size_t bucket) noexcept;

/// What rows were found to be. A row counts under zero, nan or inf, or into the norms.
struct RowStats {
  std::uint64_t row_count = 0;         ///< Looked at, unreadable ones included.
  std::uint64_t unreadable_count = 0;  ///< That could not be read.
  std::uint64_t zero_count = 0;        ///< All values are 0.
  std::uint64_t nan_count = 0;         ///< With a NaN, in values or scales.
  std::uint64_t inf_count = 0;         ///< With an infinity, and no NaN.
  double norm_low = std::numeric_limits<double>::infinity();
  double norm_high = 0.0;
  double norm_sum = 0.0;
  /// Magnitudes of stored scales; low > high: there were none.
  float scale_low = std::numeric_limits<float>::infinity();
  float scale_high = -1.0F;
  std::array<std::uint64_t, kNormBucketCount> norms{};

  /// Rows whose norm was taken.
  [[nodiscard]] std::uint64_t norm_count() const noexcept {
    return row_count - unreadable_count - zero_count - nan_count - inf_count;
  }
  /// Adds one row.
  ///   row     shape [shape.row_size_bytes()].
  ///   values  shape [shape.value_count]: scratch.
  void Add(const RowShape& shape, std::span<const std::byte> row, std::span<float> values);
  /// Adds all rows of `other`.
  void Add(const RowStats& other);
};

/// The statistics of one table.
struct LayerStats {
  std::uint32_t layer_id = 0;
  RowShape shape;
  std::uint32_t head_count = 0;   ///< Columns of one order.
  HeadShard shard;                ///< Whose heads they are.
  std::vector<RowStats> columns;  ///< Order-major, as the recipe has them.
};

/// The order of a column, and its head in the whole table.
struct ColumnPlace {
  std::uint32_t order = 0;
  std::uint32_t head = 0;
};
[[nodiscard]] ColumnPlace PlaceOf(const LayerStats& layer, std::size_t column) noexcept;

/// Which rows are looked at.
struct TableSample {
  std::uint64_t rows_per_layer = 0;  ///< Spread evenly over each column; 0: all rows.
  std::uint64_t seed = 1;
};

/// Called now and then with what is done and the whole, in rows; false stops the work.
using StatsProgress = std::function<bool(std::uint64_t done_rows, std::uint64_t total_rows)>;

/// Reads rows of every table that `store` serves, through the store, and counts them. Rows
/// that no column addresses (padding) are left out. Blocks.
///
/// Errors: kCancelled, and as Store::LookupRows(); a row that cannot be read is counted.
[[nodiscard]] Result<std::vector<LayerStats>> MeasureTables(Store& store, const TableSample& sample,
                                                            const StatsProgress& progress);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_TABLE_STATS_H_
