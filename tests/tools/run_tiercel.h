#ifndef TIERCEL_TESTS_TOOLS_RUN_TIERCEL_H_
#define TIERCEL_TESTS_TOOLS_RUN_TIERCEL_H_

#include <sys/types.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/scratch_dir.h"

namespace tiercel::testing {

/// What a run of the program came to.
struct ProgramRun {
  int exit_code = -1;  ///< 128 + signal where a signal ended it.
  std::string out;
  std::string err;

  /// stdout as JSON: exactly one object, or the test fails.
  [[nodiscard]] nlohmann::json Json() const;
};

/// Runs the built program and waits for it.
[[nodiscard]] ProgramRun RunTiercel(const std::vector<std::string>& arguments,
                                    std::string_view stdin_bytes = {});

/// Starts the built program with stdout and stderr at /dev/null.
[[nodiscard]] pid_t StartTiercel(const std::vector<std::string>& arguments);

/// Waits for it; its exit code as in ProgramRun.
[[nodiscard]] int WaitForTiercel(pid_t pid);

/// Makes a small checkpoint at `path`: tables alone, 1/20,000 of a real head, which
/// is some 10 MB for DeepSeek-V4.1. Fails the test where that cannot be done.
void MakeSmallCheckpoint(const std::string& path, const std::string& model = "deepseek-v4.1-flash",
                         const std::vector<std::string>& more_arguments = {});

/// Where a row's bytes lie, one place for each of its parts, from `inspect --json`.
struct RowPlace {
  std::string file;
  std::uint64_t offset = 0;
};
[[nodiscard]] std::vector<RowPlace> FindRow(const nlohmann::json& inspected, std::uint32_t layer_id,
                                            std::uint64_t row);

/// Little-endian bytes of `words`.
[[nodiscard]] std::string Bytes32(const std::vector<std::int32_t>& words);
[[nodiscard]] std::string Bytes64(const std::vector<std::uint64_t>& words);

/// `bytes` packed with zstd, as one frame.
[[nodiscard]] std::string Compress(std::string_view bytes);

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_TOOLS_RUN_TIERCEL_H_
