#ifndef TIERCEL_BENCH_PEERS_ARM_LIST_H_
#define TIERCEL_BENCH_PEERS_ARM_LIST_H_

#include <functional>
#include <string>
#include <vector>

#include "bench/peers/arm.h"
#include "bench/peers/workload.h"

namespace tiercel::peers {

/// An arm that can be asked for by name.
struct ArmEntry {
  std::string name;
  std::function<Result<std::unique_ptr<Arm>>(const PeerTable&, const ArmOptions&)> open;
  bool self_timed = false;   ///< Reads at random, serves no rows: `random` alone.
  bool keep_open = false;    ///< Opening takes so long that its process stays.
  bool whole_table = false;  ///< Its memory limit is raised by the table's size.
  /// It takes row after row, so that the time of a batch too long to wait for is that
  /// of its rows.
  bool row_by_row = false;
  bool quick = true;  ///< Part of a --quick run unless arms are named.
};

/// Name of the arm that all are compared with.
inline constexpr const char* kTiercelName = "tiercel";
inline constexpr const char* kFioName = "fio";

[[nodiscard]] const std::vector<ArmEntry>& AllArms();

/// True if it makes sense to run the arm at the workload.
[[nodiscard]] bool Runs(const ArmEntry& arm, const Workload& workload);

}  // namespace tiercel::peers

#endif  // TIERCEL_BENCH_PEERS_ARM_LIST_H_
