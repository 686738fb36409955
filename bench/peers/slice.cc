#include "bench/peers/slice.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/histogram.h"
#include "bench/peers/cpu_time.h"
#include "tiercel/synthetic.h"

namespace tiercel::peers {
namespace {

using Clock = std::chrono::steady_clock;

/// Rows that are handed to an arm at once where its batches may be cut.
constexpr std::size_t kCutRows = 4096;

std::uint64_t RowCount(const Batch& batch) {
  std::uint64_t count = 0;
  for (const LayerBatch& layer : batch.layers) count += layer.rows.size();
  return count;
}

/// Rows [begin, begin + count) of a layer of a batch of rows of `row_bytes`.
LayerBatch Slice(const LayerBatch& layer, std::size_t begin, std::size_t count,
                 std::size_t row_bytes) {
  return {layer.layer_index, layer.rows.subspan(begin, count),
          layer.out.subspan(begin * row_bytes, count * row_bytes),
          layer.row_status.subspan(begin, count)};
}

/// Runs one slice of one arm.
/// Threading: one thread at a time.
class SliceRunner {
 public:
  SliceRunner(Arm& arm, const ArmEntry& entry, const RunContext& context, const Workload& workload,
              std::uint64_t seed)
      : arm_(arm),
        entry_(entry),
        context_(context),
        workload_(workload),
        source_(*context.table, *context.hasher, *context.trace, workload, context.sizes, seed) {}

  Result<SliceFigures> Run() {
    std::uint64_t unused = 0;
    (void)arm_.TakeReadLatency(unused, unused);
    const bool replay = workload_.kind == WorkloadKind::kReplay;
    bool first = true;
    while (replay || (figures_.seconds < context_.slice_seconds &&
                      figures_.batches < static_cast<double>(context_.batches_max))) {
      Result<const Batch*> batch = source_.Next();
      if (!batch.ok()) return std::move(batch).TakeStatus();
      if (batch.value() == nullptr) break;
      const bool warming = source_.warming() || (first && WarmsUp(*batch.value()));
      if (Status status = RunBatch(*batch.value(), first, !warming); !status.ok()) return status;
      first = false;
      if (replay && all_seconds_ > 6 * context_.cap_seconds) {
        return Status(
            StatusCode::kUnavailable,
            fmt::format("given up: the replay took more than {} s", 6 * context_.cap_seconds));
      }
    }
    if (workload_.kind == WorkloadKind::kRandom) {
      if (!arm_.TakeReadLatency(figures_.p50_ns, figures_.p99_ns)) {
        figures_.p50_ns = figures_.p99_ns = 0;
      }
    } else if (figures_.cut_batches == 0) {
      figures_.p50_ns = batch_ns_.Percentile(0.5);
      figures_.p99_ns = batch_ns_.Percentile(0.99);
    }
    return figures_;
  }

 private:
  [[nodiscard]] bool WarmsUp(const Batch& batch) const {
    return workload_.kind == WorkloadKind::kCold && RowCount(batch) < kCutRows;
  }

  /// Runs a batch; whole, or in pieces until the time is up.
  Status RunBatch(const Batch& batch, bool check, bool counts) {
    if (!entry_.row_by_row || RowCount(batch) <= kCutRows) {
      return RunPiece(batch, check, counts, 1);
    }
    double seconds = 0;
    for (const LayerBatch& layer : batch.layers) {
      const std::size_t row_bytes = context_.table->row_size_bytes(layer.layer_index);
      for (std::size_t begin = 0; begin < layer.rows.size(); begin += kCutRows) {
        if (seconds > context_.cap_seconds) {
          ++figures_.cut_batches;
          return {};
        }
        const std::size_t count = std::min(kCutRows, layer.rows.size() - begin);
        Batch piece;
        piece.layers.push_back(Slice(layer, begin, count, row_bytes));
        const double before = all_seconds_;
        if (Status status =
                RunPiece(piece, check, counts,
                         static_cast<double>(count) / static_cast<double>(RowCount(batch)));
            !status.ok()) {
          return status;
        }
        seconds += all_seconds_ - before;
      }
    }
    return {};
  }

  /// Runs a part of a batch at once: `share` of it.
  Status RunPiece(const Batch& piece, bool check, bool counts, double share) {
    const double cpu_begin = CpuSeconds();
    const Clock::time_point begin = Clock::now();
    Status status = arm_.Run(piece);
    const auto took = Clock::now() - begin;
    const double cpu_seconds = CpuSeconds() - cpu_begin;
    if (!status.ok()) return status;
    const double seconds = std::chrono::duration<double>(took).count();
    all_seconds_ += seconds;
    if (check) {
      if (status = CheckBatch(*context_.table, piece); !status.ok()) return status;
    }
    if (!counts) return {};
    figures_.seconds += seconds;
    figures_.cpu_seconds += cpu_seconds;
    figures_.rows += RowCount(piece);
    figures_.batches += share;
    batch_ns_.Add(static_cast<std::uint64_t>(static_cast<double>(took.count()) / share));
    return {};
  }

  Arm& arm_;
  const ArmEntry& entry_;
  const RunContext& context_;
  const Workload& workload_;
  BatchSource source_;
  SliceFigures figures_;
  Histogram batch_ns_;
  double all_seconds_ = 0;  ///< Of what does not count, too.
};

}  // namespace

Status CheckBatch(const PeerTable& table, const Batch& batch) {
  for (const LayerBatch& layer : batch.layers) {
    const LayerTable& info = table.info().layers[layer.layer_index];
    const std::size_t row_bytes = info.shape.row_size_bytes();
    std::vector<std::byte> expected(row_bytes);
    for (std::size_t i = 0; i < layer.rows.size(); ++i) {
      SyntheticRow(table.seed(), info.layer_id, layer.rows[i], info.shape, expected);
      const std::span<const std::byte> got = layer.out.subspan(i * row_bytes, row_bytes);
      const auto differs = std::mismatch(expected.begin(), expected.end(), got.begin());
      if (differs.first == expected.end()) continue;
      return Status(
          StatusCode::kCorruption,
          fmt::format("WRONG BYTES: layer {}, row {} (number {} of the batch) differs "
                      "from byte {} on",
                      info.layer_id, Index(layer.rows[i]), i, differs.first - expected.begin()));
    }
  }
  return {};
}

Result<SliceFigures> RunSlice(Arm& arm, const ArmEntry& entry, const RunContext& context,
                              const Workload& workload, std::uint64_t seed) {
  if (entry.self_timed) {
    return arm.RunReads({.depth = workload.depth,
                         .block_bytes = context.table->block_bytes(),
                         .seconds = context.slice_seconds,
                         .seed = seed});
  }
  return SliceRunner(arm, entry, context, workload, seed).Run();
}

}  // namespace tiercel::peers
