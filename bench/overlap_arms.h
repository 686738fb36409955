#ifndef TIERCEL_BENCH_OVERLAP_ARMS_H_
#define TIERCEL_BENCH_OVERLAP_ARMS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/overlap_loop.h"
#include "bench/overlap_table.h"
#include "tiercel/checkpoint.h"
#include "tiercel/status.h"

namespace tiercel::bench {

/// The command line of an overlap benchmark.
struct OverlapFlags {
  std::string checkpoint;
  std::string trace;
  std::string offsets;
  std::string token_map;
  std::vector<std::string> budgets = {"256MiB", "1GiB", "4GiB"};
  std::vector<std::string> blocking_budgets = {"all"};
  std::string resident_budget = "6GiB";
  bool no_store = false;
  std::vector<std::string> hbm_budgets;
  bool hbm_table = false;
  bool pinned_table = false;
  std::uint32_t gather_multiprocessors = 16;
  double block_ms = 8.0;
  double prefill_block_ms = 8.0;
  std::uint32_t block_count = 16;
  SequenceChoice sequences;
  std::uint32_t warm_sequence_count = 512;
  double warm_seconds = 600.0;    ///< Of one arm, at most.
  double phase_seconds = 600.0;   ///< Of decode or prefill of one round, at most.
  double deadline_seconds = 0.0;  ///< 0: none.
  DecodeOptions decode;
  PrefillOptions prefill;
  std::uint32_t round_count = 3;
  bool dry_run = false;
  std::string memory;  ///< Empty: what the machine has.
  std::uint64_t reads_per_second = 100'000;
  bool json = false;
};

enum class TablePlace : std::uint8_t {
  kHbm,     ///< In device memory.
  kPinned,  ///< In host memory that the device reads over PCIe.
};

/// A way to serve, and what it came to.
struct OverlapArm {
  std::string name;
  OverlapFetch fetch = OverlapFetch::kNone;
  std::uint64_t budget_bytes = 0;  ///< DRAM of the store. 0: no store.
  bool resident = false;           ///< The store has seen all that the run asks for.
  std::uint64_t hbm_bytes = 0;     ///< Of the HBM tier. 0: none.
  std::optional<TablePlace> table;
  std::string left_out;  ///< Why it was not run; empty: it was.
  OverlapTimes decode;
  OverlapTimes prefill;
  std::uint64_t warm_tokens = 0;
  /// Of the groups that the loops asked the store for, those that were in DRAM.
  double hit_rate = 0.0;
  double hbm_hit_rate = 0.0;  ///< Of those that they asked the HBM tier for.
  double reads_per_token = 0.0;
  std::string engine;

  /// Whether its rows are those of the table.
  [[nodiscard]] bool has_rows() const noexcept { return budget_bytes > 0 || table.has_value(); }
};

/// A device that computes and takes rows, instead of the clock.
class OverlapDevice {
 public:
  OverlapDevice() = default;
  OverlapDevice(const OverlapDevice&) = delete;
  OverlapDevice& operator=(const OverlapDevice&) = delete;
  virtual ~OverlapDevice() = default;

  /// Called once, before all else. What it returns computes; it is the device's.
  [[nodiscard]] virtual Result<OverlapEngine*> Open(const CheckpointInfo& info,
                                                    const OverlapModel& model,
                                                    const OverlapFlags& flags) = 0;
  /// The HBM tier of `store`, of so many bytes. Must go before the store.
  [[nodiscard]] virtual Result<std::unique_ptr<OverlapSource>> OpenHbm(Store& store,
                                                                       std::uint64_t hbm_bytes) = 0;
  /// The table, generated where `place` says unless it is there already, until DropTable().
  ///   in_front  gathers on the model's stream, where nothing overlaps.
  [[nodiscard]] virtual Result<std::unique_ptr<OverlapSource>> OpenTable(
      const Hasher& hasher, const OverlapTableLayout& layout, TablePlace place, bool in_front) = 0;
  virtual void DropTable() noexcept = 0;
};

/// The arms that the flags ask for. Errors: kInvalidArgument (a size that is none).
[[nodiscard]] Result<std::vector<OverlapArm>> ArmsOf(const OverlapFlags& flags, bool on_device);

/// What an arm takes, before it is run.
struct OverlapCost {
  std::uint64_t host_bytes = 0;
  std::uint64_t device_bytes = 0;
  double seconds = 0.0;      ///< About, at the rates that PrintPlan() names.
  double seconds_max = 0.0;  ///< The most that the flags let it take, but for one step a phase.
};
[[nodiscard]] OverlapCost CostOf(const OverlapArm& arm, const OverlapFlags& flags,
                                 const CheckpointInfo& info);
/// Errors: kResourceExhausted (an arm whose memory is not there; the message names it).
[[nodiscard]] Status CheckMemory(std::span<const OverlapArm> arms, const OverlapFlags& flags,
                                 const CheckpointInfo& info);
void PrintPlan(std::span<const OverlapArm> arms, const OverlapFlags& flags,
               const CheckpointInfo& info);

/// What the arms came to: a table, or one JSON object.
void PrintText(const OverlapFlags& flags, std::span<const OverlapArm> arms);
void PrintJson(const OverlapFlags& flags, std::span<const OverlapArm> arms);

/// Parses the command line into `flags`. Nothing: go on; else main()'s value.
[[nodiscard]] std::optional<int> ParseOverlapFlags(int argc, char** argv, const char* name,
                                                   bool on_device, OverlapFlags& flags);

/// Parses the command line, runs all arms and prints what they came to. Returns main()'s value.
///   device  null: by the clock.
int OverlapMain(int argc, char** argv, const char* name, OverlapDevice* device);

}  // namespace tiercel::bench

#endif  // TIERCEL_BENCH_OVERLAP_ARMS_H_
