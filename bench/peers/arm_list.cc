#include "bench/peers/arm_list.h"

#include <fmt/format.h>

namespace tiercel::peers {
namespace {

using Opened = Result<std::unique_ptr<Arm>>;

void AddMmapArms(std::vector<ArmEntry>& arms) {
  struct Advice {
    const char* name;
    MmapAdvice advice;
  };
  for (const Advice advice :
       {Advice{"mmap", MmapAdvice::kPlain}, Advice{"mmap-random", MmapAdvice::kRandom},
        Advice{"mmap-willneed", MmapAdvice::kWillNeed},
        Advice{"mmap-populate", MmapAdvice::kPopulate}}) {
    for (const std::uint32_t threads : {1U, 2U, 16U}) {
      const bool plain = advice.advice == MmapAdvice::kPlain;
      arms.push_back({.name = fmt::format("{}-{}", advice.name, threads),
                      .open =
                          [advice, threads](const PeerTable& table, const ArmOptions& options) {
                            return OpenMmapArm(table, options, advice.advice, threads);
                          },
                      .row_by_row = true,
                      .quick = plain ? threads <= 2 : threads == 16});
    }
  }
}

void AddRocksDbArms(std::vector<ArmEntry>& arms) {
  for (const bool verify : {false, true}) {
    for (const std::uint32_t threads : {1U, 4U, 16U, 64U}) {
      arms.push_back({.name = fmt::format("rocksdb-{}{}", threads, verify ? "-checked" : ""),
                      .open =
                          [verify, threads](const PeerTable& table, const ArmOptions& options) {
                            return OpenRocksDbArm(table, options, threads, verify);
                          },
                      .quick = threads == 16});
    }
  }
}

std::vector<ArmEntry> MakeArms() {
  std::vector<ArmEntry> arms;
  arms.push_back({.name = kTiercelName,
                  .open = [](const PeerTable& table, const ArmOptions& options) -> Opened {
                    return OpenTiercelArm(table, options, /*uring=*/true);
                  }});
  arms.push_back({.name = "tiercel-pread",
                  .open = [](const PeerTable& table, const ArmOptions& options) -> Opened {
                    return OpenTiercelArm(table, options, /*uring=*/false);
                  }});
  arms.push_back({.name = "tiercel-queue", .open = OpenQueueArm, .self_timed = true});
  arms.push_back({.name = kFioName, .open = OpenFioArm, .self_timed = true});
  for (const std::uint32_t threads : {16U, 64U}) {
    arms.push_back({.name = fmt::format("pread-{}", threads),
                    .open = [threads](const PeerTable& table, const ArmOptions& options) -> Opened {
                      return OpenPreadArm(table, options, threads);
                    }});
  }
  AddMmapArms(arms);
  AddRocksDbArms(arms);
  arms.push_back({.name = "dram", .open = OpenDramArm, .keep_open = true, .whole_table = true});
  return arms;
}

}  // namespace

const std::vector<ArmEntry>& AllArms() {
  static const std::vector<ArmEntry> arms = MakeArms();
  return arms;
}

bool Runs(const ArmEntry& arm, const Workload& workload) {
  if (workload.kind != WorkloadKind::kRandom) return !arm.self_timed;
  // At a fixed depth: what has one. A pool's depth is its threads.
  return arm.self_timed || arm.name.starts_with("tiercel") ||
         arm.name == fmt::format("pread-{}", workload.depth);
}

}  // namespace tiercel::peers
