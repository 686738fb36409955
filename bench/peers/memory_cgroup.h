#ifndef TIERCEL_BENCH_PEERS_MEMORY_CGROUP_H_
#define TIERCEL_BENCH_PEERS_MEMORY_CGROUP_H_

#include <cstdint>
#include <string>
#include <utility>

#include "tiercel/status.h"

namespace tiercel::peers {

/// A memory cgroup of one arm's processes: page cache that they fill counts, too.
/// Removed with the object; its processes must have ended by then.
///
/// Threading: one thread at a time. Move-only.
class MemoryCgroup {
 public:
  MemoryCgroup() noexcept = default;
  MemoryCgroup(MemoryCgroup&& other) noexcept
      : path_(std::exchange(other.path_, {})), version_(other.version_) {}
  MemoryCgroup& operator=(MemoryCgroup&& other) noexcept;
  ~MemoryCgroup();

  [[nodiscard]] bool valid() const noexcept { return !path_.empty(); }
  /// File that a process writes its id to, to be limited.
  [[nodiscard]] std::string ProcsPath() const { return path_ + "/cgroup.procs"; }
  /// Processes that the kernel killed for want of memory.
  [[nodiscard]] std::uint64_t KillCount() const;

 private:
  friend class MemoryCgroupParent;
  MemoryCgroup(std::string path, int version) : path_(std::move(path)), version_(version) {}
  void Remove() noexcept;

  std::string path_;
  int version_ = 2;
};

/// Where memory cgroups can be made: below this process's own one (v1), or below it or
/// beside it (v2, which allows no group to hold both processes and limited groups).
class MemoryCgroupParent {
 public:
  /// Looks for a place, and makes and removes a group there to be sure.
  [[nodiscard]] static MemoryCgroupParent Find();

  [[nodiscard]] bool enforced() const noexcept { return !path_.empty(); }
  /// "cgroup v1 at ...", or "not enforced: why".
  [[nodiscard]] const std::string& description() const noexcept { return description_; }
  /// Makes a group with a limit. Errors: as ErrnoStatus. REQUIRES: enforced().
  [[nodiscard]] Result<MemoryCgroup> Make(const std::string& name, std::uint64_t limit_bytes) const;

 private:
  std::string path_;
  std::string description_;
  int version_ = 2;
};

}  // namespace tiercel::peers

#endif  // TIERCEL_BENCH_PEERS_MEMORY_CGROUP_H_
