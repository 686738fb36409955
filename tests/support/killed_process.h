#ifndef TIERCEL_TESTS_SUPPORT_KILLED_PROCESS_H_
#define TIERCEL_TESTS_SUPPORT_KILLED_PROCESS_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace tiercel::testing {

/// How a process ended that was to be killed at some moment.
struct KilledProcess {
  bool killed = false;  ///< False: it ended before.
  int exit_code = -1;   ///< If it did.
};

/// Runs a program and kills it with SIGKILL after `delay`, unless it ends before.
///   arguments  the program's path first.
[[nodiscard]] KilledProcess RunAndKill(const std::vector<std::string>& arguments,
                                       std::chrono::microseconds delay);

/// Kills of one test: the environment's TIERCEL_KILL_ROUNDS, else `count`.
[[nodiscard]] std::uint32_t KillCount(std::uint32_t count);

/// A file system of that many bytes, in memory, mounted on a folder; unmounted by the
/// destructor.
class SmallFileSystem {
 public:
  SmallFileSystem(std::string path, std::uint64_t size_bytes);
  SmallFileSystem(const SmallFileSystem&) = delete;
  SmallFileSystem& operator=(const SmallFileSystem&) = delete;
  ~SmallFileSystem();

  /// Empty, or why it could not be mounted: a test is then skipped.
  [[nodiscard]] const std::string& why_not() const noexcept { return why_not_; }

 private:
  std::string path_;
  std::string why_not_;
};

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_SUPPORT_KILLED_PROCESS_H_
