#ifndef TIERCEL_IO_CALIBRATE_SLICE_H_
#define TIERCEL_IO_CALIBRATE_SLICE_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "io/device.h"
#include "io/place_shuffle.h"
#include "tiercel/disk_profile.h"
#include "tiercel/status.h"

namespace tiercel {

/// Places to read in some files, each given out once, in random order.
///
/// Threading: one thread at a time.
class Places {
 public:
  /// A place has `place_bytes`, aligned to that; a file's rest is no place.
  Places(const std::vector<std::uint64_t>& file_size_bytes, std::uint32_t place_bytes,
         std::uint64_t seed);

  [[nodiscard]] std::uint64_t count() const noexcept { return first_place_.back(); }
  [[nodiscard]] std::uint64_t left() const noexcept { return count() - used_; }

  /// The next place: `size_bytes` at a random multiple of that within it.
  /// REQUIRES: left() > 0; size_bytes divides place_bytes.
  [[nodiscard]] ReadRequest Take(std::uint32_t size_bytes) noexcept;

 private:
  std::uint32_t place_bytes_;
  std::vector<std::uint64_t> first_place_;  ///< Of each file; one more for the end.
  PlaceShuffle shuffle_;
  std::uint64_t used_ = 0;
};

/// What one slice of time is spent on.
struct SliceSpec {
  std::uint32_t block_bytes = 0;
  std::uint32_t queue_depth = 0;
  std::chrono::nanoseconds duration{0};
  std::uint64_t read_count_max = 0;  ///< At least 2 x queue_depth.
};

/// Keeps a queue of `device` full for one slice. Measured is what completes after the
/// first queue_depth reads, when the queue is in its steady state, and before the time
/// or the reads are used up: neither the start nor the drain counts.
///
/// Errors: kIoError (a read failed; the message names its file and offset),
/// kResourceExhausted (the queue is not as deep as it should be), NewQueue()'s.
[[nodiscard]] Result<DiskPoint> MeasureSlice(Device& device, const std::vector<std::string>& paths,
                                             const SliceSpec& spec, Places& places);

}  // namespace tiercel

#endif  // TIERCEL_IO_CALIBRATE_SLICE_H_
