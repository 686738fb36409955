#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "store/row_stream.h"
#include "tiercel/row_format.h"
#include "tiercel/verify.h"

namespace tiercel {
namespace {

/// Rows of a stream that have not been compared yet.
class RowFeed {
 public:
  explicit RowFeed(std::unique_ptr<RowStream> stream) : stream_(std::move(stream)) {}

  /// Rows that are at hand; 0 at the end.
  std::uint64_t Available() {
    if (done_ == chunk_.row_count) {
      done_ = 0;
      if (!stream_->Next(chunk_)) chunk_ = {};
    }
    return chunk_.row_count - done_;
  }
  [[nodiscard]] std::uint64_t first_row() const noexcept { return chunk_.first_row + done_; }
  [[nodiscard]] RowStatus status(std::uint64_t index) const noexcept {
    return chunk_.row_status[done_ + index];
  }
  [[nodiscard]] const std::byte* row(std::uint64_t index, std::size_t row_bytes) const noexcept {
    return chunk_.rows.data() + (done_ + index) * row_bytes;
  }
  void Skip(std::uint64_t count) noexcept { done_ += count; }

 private:
  std::unique_ptr<RowStream> stream_;
  RowStream::Chunk chunk_;
  std::uint64_t done_ = 0;
};

Status CannotCompare(const CheckpointInfo& a, const CheckpointInfo& b, std::string_view why) {
  return Status(StatusCode::kInvalidArgument,
                fmt::format("{} and {} cannot be compared: {}", a.path, b.path, why));
}

Status CheckComparable(const CheckpointInfo& a, const CheckpointInfo& b) {
  if (a.layers.size() != b.layers.size()) {
    return CannotCompare(
        a, b, fmt::format("one has {} tables, the other {}", a.layers.size(), b.layers.size()));
  }
  for (std::size_t i = 0; i < a.layers.size(); ++i) {
    const LayerTable& x = a.layers[i];
    const LayerTable& y = b.layers[i];
    if (x.layer_id != y.layer_id || x.row_count != y.row_count) {
      return CannotCompare(a, b,
                           fmt::format("layer {} of {} rows against layer {} of {}", x.layer_id,
                                       x.row_count, y.layer_id, y.row_count));
    }
    if (x.shape.format != y.shape.format || x.shape.value_count != y.shape.value_count) {
      return CannotCompare(a, b,
                           fmt::format("rows of layer {} are {} values of {} and {} of {}",
                                       x.layer_id, x.shape.value_count, Name(x.shape.format),
                                       y.shape.value_count, Name(y.shape.format)));
    }
  }
  return {};
}

/// Rows of a layer that both hold.
std::vector<StreamSpan> CommonRows(const LayerTable& a, const LayerTable& b, std::uint32_t index) {
  std::vector<StreamSpan> spans;
  for (const RowExtent& x : a.parts[0].extents) {
    for (const RowExtent& y : b.parts[0].extents) {
      const std::uint64_t first = std::max(x.first_row, y.first_row);
      const std::uint64_t end = std::min(x.first_row + x.row_count, y.first_row + y.row_count);
      if (first < end) spans.push_back({index, {first, end}});
    }
  }
  return spans;
}

bool DigestsAgree(const CheckpointInfo& a, const CheckpointInfo& b, std::uint32_t layer_index) {
  return a.packed && b.packed && a.packed->shard == b.packed->shard &&
         a.packed->content_digests[layer_index] == b.packed->content_digests[layer_index];
}

/// Compares one layer. Adds the bytes compared to `done_bytes`; false: stopped.
Result<LayerDiff> DiffLayer(const CheckpointInfo& a, const CheckpointInfo& b,
                            std::uint32_t layer_index, const DiffOptions& options,
                            std::uint64_t& done_bytes) {
  const std::vector<StreamSpan> spans =
      CommonRows(a.layers[layer_index], b.layers[layer_index], layer_index);
  Result<std::unique_ptr<RowStream>> stream_a = RowStream::Make(a, spans, nullptr);
  if (!stream_a.ok()) return std::move(stream_a).TakeStatus();
  Result<std::unique_ptr<RowStream>> stream_b = RowStream::Make(b, spans, nullptr);
  if (!stream_b.ok()) return std::move(stream_b).TakeStatus();
  RowFeed feed_a(std::move(stream_a).value());
  RowFeed feed_b(std::move(stream_b).value());
  const std::size_t row_bytes = a.layers[layer_index].shape.row_size_bytes();
  LayerDiff diff{.layer_id = a.layers[layer_index].layer_id, .rows = {}};
  while (true) {
    const std::uint64_t count = std::min(feed_a.Available(), feed_b.Available());
    if (count == 0) return diff;
    for (std::uint64_t i = 0; i < count; ++i) {
      if (feed_a.status(i) != RowStatus::kOk || feed_b.status(i) != RowStatus::kOk) {
        ++diff.rows_unreadable;
        continue;
      }
      ++diff.rows_compared;
      if (std::memcmp(feed_a.row(i, row_bytes), feed_b.row(i, row_bytes), row_bytes) == 0) continue;
      ++diff.rows_different;
      if (diff.rows.size() < options.rows_listed_max) diff.rows.push_back(feed_a.first_row() + i);
    }
    feed_a.Skip(count);
    feed_b.Skip(count);
    done_bytes += count * row_bytes;
    if (options.progress && !options.progress(done_bytes, a.table_bytes)) {
      return Status(StatusCode::kCancelled, fmt::format("stopped after {} B", done_bytes));
    }
  }
}

}  // namespace

Result<std::vector<LayerDiff>> DiffTables(const CheckpointInfo& a, const CheckpointInfo& b,
                                          const DiffOptions& options) {
  if (Status status = CheckComparable(a, b); !status.ok()) return status;
  std::vector<LayerDiff> diffs;
  std::uint64_t done_bytes = 0;
  for (std::uint32_t i = 0; i < a.layers.size(); ++i) {
    if (!options.read_all && DigestsAgree(a, b, i)) {
      diffs.push_back({.layer_id = a.layers[i].layer_id, .rows = {}});
      continue;
    }
    Result<LayerDiff> diff = DiffLayer(a, b, i, options, done_bytes);
    if (!diff.ok()) return std::move(diff).TakeStatus();
    diffs.push_back(std::move(diff).value());
  }
  return diffs;
}

}  // namespace tiercel
