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

std::uint64_t RowCount(const Batch& batch) {
  std::uint64_t count = 0;
  for (const LayerBatch& layer : batch.layers) count += layer.rows.size();
  return count;
}

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

Result<SliceFigures> RunSlice(Arm& arm, const RunContext& context, const Workload& workload,
                              std::uint64_t seed, bool self_timed) {
  if (self_timed) {
    return arm.RunReads({.depth = workload.depth,
                         .block_bytes = context.table->block_bytes(),
                         .seconds = context.slice_seconds,
                         .seed = seed});
  }
  BatchSource source(*context.table, *context.hasher, *context.trace, workload, context.sizes,
                     seed);
  SliceFigures figures;
  Histogram batch_ns;
  std::uint64_t run_count = 0;
  std::uint64_t unused = 0;
  (void)arm.TakeReadLatency(unused, unused);
  const bool replay = workload.kind == WorkloadKind::kReplay;
  while (replay ||
         (figures.seconds < context.slice_seconds && figures.batches < context.batches_max)) {
    Result<const Batch*> batch = source.Next();
    if (!batch.ok()) return std::move(batch).TakeStatus();
    if (batch.value() == nullptr) break;
    const double cpu_begin = CpuSeconds();
    const Clock::time_point begin = Clock::now();
    Status status = arm.Run(*batch.value());
    const auto took = Clock::now() - begin;
    const double cpu_seconds = CpuSeconds() - cpu_begin;
    if (!status.ok()) return status;
    if (run_count++ == 0) {
      if (status = CheckBatch(*context.table, *batch.value()); !status.ok()) return status;
    }
    if (source.warming()) continue;
    figures.seconds += std::chrono::duration<double>(took).count();
    figures.cpu_seconds += cpu_seconds;
    figures.rows += RowCount(*batch.value());
    ++figures.batches;
    batch_ns.Add(static_cast<std::uint64_t>(took.count()));
  }
  if (workload.kind == WorkloadKind::kRandom) {
    if (!arm.TakeReadLatency(figures.p50_ns, figures.p99_ns)) figures.p50_ns = figures.p99_ns = 0;
  } else {
    figures.p50_ns = batch_ns.Percentile(0.5);
    figures.p99_ns = batch_ns.Percentile(0.99);
  }
  return figures;
}

}  // namespace tiercel::peers
