#ifndef TIERCEL_BENCH_PEERS_CHILD_H_
#define TIERCEL_BENCH_PEERS_CHILD_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "base/file.h"
#include "bench/peers/arm_list.h"
#include "bench/peers/memory_cgroup.h"
#include "bench/peers/slice.h"

namespace tiercel::peers {

/// A process that has one arm open and runs slices of it when told. A crash or a kill
/// of it is an error of the arm, not of the run.
///
/// Threading: one thread at a time; the calling process must have no other threads,
/// since the child is a fork of it that goes on without exec.
class ArmProcess {
 public:
  /// Starts the process in `group` (may be invalid: no limit) and opens the arm.
  /// All references must outlive it. Blocks until the arm is open.
  /// Errors: kUnavailable (the arm cannot run here as named), the arm's own,
  /// kCancelled (a signal came).
  [[nodiscard]] static Result<std::unique_ptr<ArmProcess>> Start(const ArmEntry& arm,
                                                                 const ArmOptions& options,
                                                                 const RunContext& context,
                                                                 MemoryCgroup group);
  ArmProcess(const ArmProcess&) = delete;
  ArmProcess& operator=(const ArmProcess&) = delete;
  /// Kills the process with all that it started, and removes its cgroup.
  ~ArmProcess();

  /// Runs one slice. Errors: as RunSlice; kResourceExhausted or kUnavailable when the
  /// process died; kCancelled.
  [[nodiscard]] Result<SliceFigures> RunSlice(const Workload& workload, std::uint64_t seed);
  /// What really runs, as the arm itself says.
  [[nodiscard]] const std::string& description() const noexcept { return description_; }

 private:
  ArmProcess() = default;
  /// Waits for a message of the child's. Errors: the one that it sent, or how it died.
  [[nodiscard]] Result<SliceFigures> Await();
  [[nodiscard]] Status DescribeDeath();

  std::string name_;
  MemoryCgroup group_;
  pid_t pid_ = -1;
  FileDescriptor to_child_;
  FileDescriptor from_child_;
  std::string description_;
};

}  // namespace tiercel::peers

#endif  // TIERCEL_BENCH_PEERS_CHILD_H_
