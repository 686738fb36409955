#ifndef TIERCEL_TOOLS_COMMAND_H_
#define TIERCEL_TOOLS_COMMAND_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "tiercel/status.h"
#include "tiercel/store.h"
#include "tools/command_line.h"

namespace tiercel::tools {

/// One verb of the program: its parsed options, and what to do with them.
struct Command {
  CLI::App* app = nullptr;
  /// Does the work. A Status means that it failed (exit code 3); a
  /// CLI::ValidationError that the options do not fit together (exit code 2).
  std::function<Result<ExitCode>()> run;
};

/// The value, or a usage error that names `option`.
template <typename T>
[[nodiscard]] T OrUsage(const char* option, Result<T> result) {
  if (!result.ok()) throw CLI::ValidationError(option, std::string(result.status().message()));
  return std::move(result).value();
}

/// A copy of the error of `result`, to be returned. REQUIRES: !result.ok().
template <typename T>
[[nodiscard]] Status ErrorOf(Result<T>& result) {
  return std::move(result).TakeStatus();
}

/// The options that say whether rows in place are checked against a sidecar.
struct ChecksumFlags {
  std::string use = "auto";
  std::string path;

  /// Declares them in `app`. `this` must outlive the parsing.
  void AddTo(CLI::App& app);
  /// Throws CLI::ValidationError.
  [[nodiscard]] ChecksumUse Use() const;
};

/// The options that say how a verb opens a store.
struct StoreFlags {
  std::string dram;  ///< Empty: must be given.
  std::string engine = "auto";
  std::string scales = "auto";
  std::uint32_t io_thread_count = StoreOptions{}.io_thread_count;
  std::uint32_t queue_depth = StoreOptions{}.queue_depth;
  std::string read_block = "0";
  std::string disk_profile;
  std::string shard = "0/1";
  bool hugetlb = false;
  std::string numa = "interleave";
  bool io_poll = false;
  bool submission_poll = false;
  std::string state;  ///< Empty: the table's own.
  std::string updates = "auto";
  ChecksumFlags checksums;

  /// Declares them in `app`. `this` must outlive the parsing.
  void AddTo(CLI::App& app);
  /// The options of a store whose log lines go to stderr as `verb`'s. Throws
  /// CLI::ValidationError.
  [[nodiscard]] StoreOptions ToOptions(const std::string& verb) const;
};

// Each declares its verb and the verb's options in `program`.
[[nodiscard]] Command AddCalibrateCommand(CLI::App& program);
[[nodiscard]] Command AddCompactCommand(CLI::App& program);
[[nodiscard]] Command AddCurveCommand(CLI::App& program);
[[nodiscard]] Command AddDiffCommand(CLI::App& program);
[[nodiscard]] Command AddHashCommand(CLI::App& program);
[[nodiscard]] Command AddInspectCommand(CLI::App& program);
[[nodiscard]] Command AddLookupCommand(CLI::App& program);
[[nodiscard]] Command AddMakeCheckpointCommand(CLI::App& program);
[[nodiscard]] Command AddPackCommand(CLI::App& program);
[[nodiscard]] Command AddPlanCommand(CLI::App& program);
[[nodiscard]] Command AddPlanModelCommand(CLI::App& program);
[[nodiscard]] Command AddReplayCommand(CLI::App& program);
[[nodiscard]] Command AddServeBenchCommand(CLI::App& program);
[[nodiscard]] Command AddTokenMapCommand(CLI::App& program);
[[nodiscard]] Command AddTraceCommand(CLI::App& program);
[[nodiscard]] Command AddUpdateCommand(CLI::App& program);
[[nodiscard]] Command AddUnpackCommand(CLI::App& program);
[[nodiscard]] Command AddVerifyCommand(CLI::App& program);
[[nodiscard]] Command AddWarmCommand(CLI::App& program);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_COMMAND_H_
