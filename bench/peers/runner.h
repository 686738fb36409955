#ifndef TIERCEL_BENCH_PEERS_RUNNER_H_
#define TIERCEL_BENCH_PEERS_RUNNER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "bench/peers/arm_list.h"
#include "bench/peers/machine.h"
#include "bench/peers/memory_cgroup.h"
#include "bench/peers/slice.h"

namespace tiercel::peers {

/// How a run goes about it.
struct RunPlan {
  std::vector<const ArmEntry*> arms;
  std::vector<Workload> workloads;
  std::uint32_t repeat_count = 5;
  /// Slices of other arms between two of the reference.
  std::uint32_t slices_between = 3;
  std::uint64_t seed = 0;
  ArmOptions arm_options;
  std::uint64_t limit_bytes = 0;
};

/// A figure over repeats: the middle one, and between which it lay.
struct Spread {
  double median = 0;
  double min = 0;
  double max = 0;
  std::uint64_t count = 0;  ///< 0: there is no figure.
};
[[nodiscard]] Spread SpreadOf(std::vector<double> values);

/// What came out for one arm at one workload.
struct ArmResult {
  std::string name;
  std::string description;
  bool cut = false;     ///< Batches were given up after cap_seconds: see RunSlice().
  std::string not_run;  ///< Why there are no figures; empty if there are.
  Spread rows_per_second;
  Spread batch_seconds;
  Spread cpu_seconds_per_row;
  Spread p50_ns;
  Spread p99_ns;
  // Arm / reference, slice by slice against the nearest one of the same repeat.
  Spread time_ratio;  ///< Time of a row.
  Spread cpu_ratio;   ///< CPU time of a row.
  Spread p99_ratio;
};

struct WorkloadResult {
  Workload workload;
  std::string reference;  ///< The arm that ratios are against; empty: none ran.
  std::vector<ArmResult> arms;
};

/// Runs all arms at all workloads. Prints progress to stderr.
///
/// Errors: kCorruption (an arm gave a wrong byte: nothing it measured is worth anything),
/// kCancelled. An arm that cannot run, dies or fails is a result, not an error.
[[nodiscard]] Result<std::vector<WorkloadResult>> RunAll(const RunPlan& plan,
                                                         const RunContext& context,
                                                         const MemoryCgroupParent& cgroups,
                                                         const PageCache& page_cache);

}  // namespace tiercel::peers

#endif  // TIERCEL_BENCH_PEERS_RUNNER_H_
