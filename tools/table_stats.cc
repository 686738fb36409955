#include "tools/table_stats.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace tiercel::tools {
namespace {

constexpr std::size_t kStatsBatchRows = 4096;
constexpr int kNormExponentLow = -64;

/// SplitMix64 of a counter: one well-mixed word for each place.
std::uint64_t MixedWord(std::uint64_t seed, std::uint64_t at) noexcept {
  std::uint64_t x = seed * 0xD1342543DE82EF95U + (at + 1) * 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

/// Rows of a column that are looked at.
std::uint64_t SampledRows(const TableSample& sample, std::uint64_t columns, std::uint64_t rows) {
  if (sample.rows_per_layer == 0) return rows;
  return std::min(rows, (sample.rows_per_layer + columns - 1) / columns);
}

/// The i-th of `count` rows out of `rows`: one from each of as many even pieces, rising.
std::uint64_t SampledRow(const TableSample& sample, std::uint64_t i, std::uint64_t count,
                         std::uint64_t rows) noexcept {
  // In 128 bits: tables have up to 2^49 rows.
  const auto begin = static_cast<std::uint64_t>(static_cast<unsigned __int128>(i) * rows / count);
  const auto end = static_cast<std::uint64_t>(static_cast<unsigned __int128>(i + 1) * rows / count);
  return begin + MixedWord(sample.seed, begin) % std::max<std::uint64_t>(end - begin, 1);
}

/// Looks rows of one table up, batch by batch.
///
/// Threading: one thread at a time.
class StatsReader {
 public:
  StatsReader(Store& store, const LayerTable& table)
      : store_(store),
        table_(table),
        row_bytes_(table.shape.row_size_bytes()),
        bytes_(kStatsBatchRows * row_bytes_),
        statuses_(kStatsBatchRows),
        values_(table.shape.value_count) {
    ids_.reserve(kStatsBatchRows);
  }

  void Add(std::uint64_t row) { ids_.push_back(RowId{row}); }
  [[nodiscard]] bool full() const noexcept { return ids_.size() == kStatsBatchRows; }

  /// Reads what was added, and counts it into `stats`.
  Status Flush(RowStats& stats) {
    if (ids_.empty()) return {};
    const std::span<std::byte> bytes = std::span(bytes_).first(ids_.size() * row_bytes_);
    const std::span<RowStatus> statuses = std::span(statuses_).first(ids_.size());
    Status status = store_.LookupRows(
        ids_, {.layer_id = table_.layer_id, .rows = bytes, .row_status = statuses});
    if (!status.ok() && status.code() != StatusCode::kPartial) return status;
    for (std::size_t i = 0; i < ids_.size(); ++i) {
      if (statuses[i] == RowStatus::kOk) {
        stats.Add(table_.shape, bytes.subspan(i * row_bytes_, row_bytes_), values_);
      } else {
        ++stats.row_count;
        ++stats.unreadable_count;
      }
    }
    ids_.clear();
    return {};
  }

 private:
  Store& store_;
  const LayerTable& table_;
  std::size_t row_bytes_;
  std::vector<std::byte> bytes_;
  std::vector<RowStatus> statuses_;
  std::vector<float> values_;
  std::vector<RowId> ids_;
};

}  // namespace

double NormBucketLow(std::size_t bucket) noexcept {
  return std::ldexp(1.0, static_cast<int>(bucket) + kNormExponentLow);
}

void RowStats::Add(const RowShape& shape, std::span<const std::byte> row, std::span<float> values) {
  ++row_count;
  DequantizeToFloat(shape, row, values);
  bool has_nan = false;
  bool has_inf = false;
  double square_sum = 0.0;
  for (const float value : values) {
    has_nan = has_nan || std::isnan(value);
    has_inf = has_inf || std::isinf(value);
    square_sum += static_cast<double>(value) * value;
  }
  if (const std::optional<ScaleRange> scales = ScalesOf(shape, row)) {
    has_nan = has_nan || scales->has_nan;
    scale_low = std::min(scale_low, scales->low);
    scale_high = std::max(scale_high, scales->high);
  }
  if (has_nan) {
    ++nan_count;
  } else if (has_inf) {
    ++inf_count;
  } else if (square_sum == 0.0) {
    ++zero_count;
  } else {
    const double norm = std::sqrt(square_sum);
    norm_low = std::min(norm_low, norm);
    norm_high = std::max(norm_high, norm);
    norm_sum += norm;
    const int bucket = std::ilogb(norm) - kNormExponentLow;
    ++norms[static_cast<std::size_t>(
        std::clamp(bucket, 0, static_cast<int>(kNormBucketCount) - 1))];
  }
}

void RowStats::Add(const RowStats& other) {
  row_count += other.row_count;
  unreadable_count += other.unreadable_count;
  zero_count += other.zero_count;
  nan_count += other.nan_count;
  inf_count += other.inf_count;
  norm_low = std::min(norm_low, other.norm_low);
  norm_high = std::max(norm_high, other.norm_high);
  norm_sum += other.norm_sum;
  scale_low = std::min(scale_low, other.scale_low);
  scale_high = std::max(scale_high, other.scale_high);
  for (std::size_t i = 0; i < norms.size(); ++i) norms[i] += other.norms[i];
}

ColumnPlace PlaceOf(const LayerStats& layer, std::size_t column) noexcept {
  const auto local = static_cast<std::uint32_t>(column % layer.head_count);
  return {.order = static_cast<std::uint32_t>(column / layer.head_count) + 2,
          .head = layer.shard.rank + local * layer.shard.count};
}

Result<std::vector<LayerStats>> MeasureTables(Store& store, const TableSample& sample,
                                              const StatsProgress& progress) {
  const CheckpointInfo& info = store.checkpoint();
  std::uint64_t total_rows = 0;
  for (const LayerRecipe& layer : info.recipe.layers) {
    for (const std::uint64_t rows : layer.head_sizes) {
      total_rows += SampledRows(sample, layer.head_sizes.size(), rows);
    }
  }
  std::vector<LayerStats> stats;
  std::uint64_t done_rows = 0;
  for (std::size_t i = 0; i < info.layers.size(); ++i) {
    const LayerTable& table = info.layers[i];
    const LayerRecipe& recipe = info.recipe.layers[i];
    LayerStats& layer = stats.emplace_back();
    layer.layer_id = table.layer_id;
    layer.shape = table.shape;
    layer.head_count = info.recipe.parameters.head_count;
    layer.shard = info.recipe.shard;
    layer.columns.resize(recipe.head_sizes.size());
    StatsReader reader(store, table);
    for (std::size_t column = 0; column < layer.columns.size(); ++column) {
      const std::uint64_t rows = recipe.head_sizes[column];
      const std::uint64_t count = SampledRows(sample, layer.columns.size(), rows);
      for (std::uint64_t row = 0; row < count; ++row) {
        reader.Add(recipe.offsets[column] + SampledRow(sample, row, count, rows));
        if (!reader.full() && row + 1 < count) continue;
        if (Status status = reader.Flush(layer.columns[column]); !status.ok()) return status;
        if (progress && !progress(done_rows + row + 1, total_rows)) {
          return Status(StatusCode::kCancelled, "stopped while rows were read");
        }
      }
      done_rows += count;
    }
  }
  return stats;
}

}  // namespace tiercel::tools
