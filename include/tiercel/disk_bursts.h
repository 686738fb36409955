#ifndef TIERCEL_DISK_BURSTS_H_
#define TIERCEL_DISK_BURSTS_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel {

struct DiskBurstOptions {
  Engine engine = Engine::kAuto;
  std::uint32_t queue_depth = 128;  ///< Reads in flight. In [1, 4096].
  std::uint32_t read_bytes = 256;   ///< Wanted of each read. In [1, 65536].
  std::uint32_t block_bytes = 0;    ///< Reads are widened to it; as StoreOptions has it.
  std::uint64_t seed = 1;           ///< Which places are read.
};

/// Bursts of random reads of a disk by a bare queue: no table, no cache, nobody else. What
/// a store can at best come to that needs the same reads.
///
/// Threading: one thread at a time, the one that called Open().
class DiskBursts {
 public:
  /// Errors: as CalibrateDisk(); kInvalidArgument (a file smaller than a read).
  [[nodiscard]] static Result<std::unique_ptr<DiskBursts>> Open(
      const std::vector<std::string>& paths, const DiskBurstOptions& options);
  DiskBursts(const DiskBursts&) = delete;
  DiskBursts& operator=(const DiskBursts&) = delete;
  virtual ~DiskBursts() = default;

  /// Makes counts[0] reads, then counts[1], and so on: all as soon as the queue takes them,
  /// in this order, as a schedule by earliest deadline would. Blocks until all are done.
  ///
  ///   done_after  shape [counts]: from the first submission until all reads of the part
  ///               and of those before it were done. 0 for parts without reads at the start.
  ///
  /// Errors: kIoError (a read failed), kInvalidArgument (lengths differ).
  [[nodiscard]] virtual Status Read(std::span<const std::uint32_t> counts,
                                    std::span<std::chrono::nanoseconds> done_after) = 0;

 protected:
  DiskBursts() = default;
};

}  // namespace tiercel

#endif  // TIERCEL_DISK_BURSTS_H_
