#ifndef TIERCEL_BENCH_PEERS_MACHINE_H_
#define TIERCEL_BENCH_PEERS_MACHINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tiercel/status.h"

namespace tiercel::peers {

/// MemAvailable of /proc/meminfo; 0 where it cannot be read.
[[nodiscard]] std::uint64_t AvailableMemoryBytes();

/// What the figures were taken on, one line each: CPU, memory, kernel, disk.
struct Machine {
  std::string cpu;
  std::uint32_t core_count = 0;
  std::uint64_t memory_bytes = 0;
  std::string kernel;
  std::string disk;         ///< Device, model, block, read-ahead.
  std::string file_system;  ///< Of the checkpoint.
  double load = 0;          ///< Load average of the last minute, before the run.
};
[[nodiscard]] Machine DescribeMachine(const std::string& path);

/// Makes the kernel forget cached file bytes.
class PageCache {
 public:
  /// Tries drop_caches once, to know whether it is allowed. `everything` false: only
  /// the given files are dropped.
  explicit PageCache(bool everything);

  /// Forgets the bytes of `paths`: all of the page cache where allowed. Blocks.
  void Drop(const std::vector<std::string>& paths) const;
  /// What Drop() does here, and if it is less than wanted, why.
  [[nodiscard]] const std::string& description() const noexcept { return description_; }

 private:
  bool everything_ = false;
  std::string description_;
};

}  // namespace tiercel::peers

#endif  // TIERCEL_BENCH_PEERS_MACHINE_H_
