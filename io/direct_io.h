#ifndef TIERCEL_IO_DIRECT_IO_H_
#define TIERCEL_IO_DIRECT_IO_H_

#include <cstdint>

#include "base/file.h"

namespace tiercel {

/// What O_DIRECT wants of the reads of one file. All are powers of two.
struct DirectIoLimits {
  std::uint32_t memory_alignment_bytes = 4096;
  /// Offsets and sizes must be multiples of this.
  std::uint32_t offset_alignment_bytes = 512;
  /// Multiple of offset_alignment_bytes that the disk reads as one piece: its
  /// physical block. A smaller read costs the disk a whole one, and on some disks
  /// more than that.
  std::uint32_t block_bytes = 4096;
  bool from_kernel =
      false;  ///< False: the kernel does not say (before 6.1); the values are a guess.
};

/// Asks the kernel (statx, STATX_DIOALIGN) and the disk's entry in /sys. Never
/// fails: what neither says is guessed, as 4096 B blocks at 512 B alignment or, with
/// no disk below (network, overlay), 4096 B for all.
[[nodiscard]] DirectIoLimits DirectIoLimitsOf(const FileDescriptor& file);

}  // namespace tiercel

#endif  // TIERCEL_IO_DIRECT_IO_H_
