#ifndef TIERCEL_CACHE_MEMORY_LIMIT_H_
#define TIERCEL_CACHE_MEMORY_LIMIT_H_

#include <cstdint>
#include <string>

namespace tiercel {

/// The most memory that this process may ever have, and who says so.
struct MemoryLimit {
  std::uint64_t bytes = 0;
  std::string source;  ///< "physical memory", or the cgroup's file.
};

/// The least of physical memory and the limits of the process's cgroup and all
/// cgroups above it, version 1 and 2. What cannot be read sets no limit.
///
///   proc_root, cgroup_root  "/proc" and "/sys/fs/cgroup", but in tests.
[[nodiscard]] MemoryLimit ReadMemoryLimit(const std::string& proc_root = "/proc",
                                          const std::string& cgroup_root = "/sys/fs/cgroup");

}  // namespace tiercel

#endif  // TIERCEL_CACHE_MEMORY_LIMIT_H_
