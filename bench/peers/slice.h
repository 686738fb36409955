#ifndef TIERCEL_BENCH_PEERS_SLICE_H_
#define TIERCEL_BENCH_PEERS_SLICE_H_

#include <cstdint>

#include "bench/peers/arm_list.h"
#include "bench/peers/peer_table.h"
#include "bench/peers/workload.h"

namespace tiercel::peers {

/// What all slices of a run share.
struct RunContext {
  const PeerTable* table = nullptr;
  const Hasher* hasher = nullptr;
  const PeerTrace* trace = nullptr;
  WorkloadSizes sizes;
  double slice_seconds = 1;
  double cap_seconds = 10;               ///< When a batch of an arm that may be cut is.
  std::uint64_t batches_max = 1U << 20;  ///< Of a slice.
};

/// Compares each row of a batch with the generator.
/// Errors: kCorruption (a row differs: layer, id and place in the batch are named).
[[nodiscard]] Status CheckBatch(const PeerTable& table, const Batch& batch);

/// Runs an arm at a workload for a slice of time, and checks its first batch. A small
/// batch goes ahead of those that count, so that threads and tables are warm; rows never
/// are.
/// Errors: as the arm's Run() and CheckBatch(); kUnavailable (a replay takes more than six
/// times cap_seconds).
[[nodiscard]] Result<SliceFigures> RunSlice(Arm& arm, const ArmEntry& entry,
                                            const RunContext& context, const Workload& workload,
                                            std::uint64_t seed);

}  // namespace tiercel::peers

#endif  // TIERCEL_BENCH_PEERS_SLICE_H_
