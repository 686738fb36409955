#include "io/direct_io.h"

// <sys/stat.h> must stay out of this file: glibc 2.36's struct statx lacks the
// STATX_DIOALIGN fields (they came with Linux 6.1) and clashes with the kernel's.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdio>

#ifndef STATX_DIOALIGN
#error "the kernel headers are older than Linux 6.1: STATX_DIOALIGN is missing"
#endif

namespace tiercel {
namespace {

/// The number in /sys/dev/block/MAJOR:MINOR/`name`, or 0.
std::uint32_t BlockQueueValue(const struct statx& info, const char* name) {
  // The file's own device first (a block device), else that of its file system.
  const bool is_device = info.stx_rdev_major != 0;
  const std::uint32_t device_major = is_device ? info.stx_rdev_major : info.stx_dev_major;
  const std::uint32_t device_minor = is_device ? info.stx_rdev_minor : info.stx_dev_minor;
  // A partition has no queue of its own; its disk is the folder above.
  for (const char* const folder : {"queue", "../queue"}) {
    const std::string path =
        fmt::format("/sys/dev/block/{}:{}/{}/{}", device_major, device_minor, folder, name);
    std::FILE* const file = std::fopen(path.c_str(), "re");
    if (file == nullptr) continue;
    unsigned value = 0;
    const int found = std::fscanf(file, "%u", &value);  // NOLINT(cert-err34-c)
    std::fclose(file);
    if (found == 1) return value;
  }
  return 0;
}

bool IsAlignment(std::uint32_t value_bytes) {
  return std::has_single_bit(value_bytes) && value_bytes <= (1U << 16);
}

}  // namespace

DirectIoLimits DirectIoLimitsOf(const FileDescriptor& file) {
  struct statx info {};
  const long rc =
      syscall(SYS_statx, file.get(), "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_DIOALIGN, &info);
  DirectIoLimits limits;
  if (rc != 0) {
    limits.offset_alignment_bytes = 4096;
    return limits;
  }
  const std::uint32_t logical_bytes = BlockQueueValue(info, "logical_block_size");
  const std::uint32_t physical_bytes = BlockQueueValue(info, "physical_block_size");
  if ((info.stx_mask & STATX_DIOALIGN) != 0 && IsAlignment(info.stx_dio_mem_align) &&
      IsAlignment(info.stx_dio_offset_align)) {
    // Slots are at least cache-line aligned whatever the kernel would allow.
    limits.memory_alignment_bytes = std::max(info.stx_dio_mem_align, 64U);
    limits.offset_alignment_bytes = info.stx_dio_offset_align;
    limits.from_kernel = true;
  } else {
    limits.offset_alignment_bytes = IsAlignment(logical_bytes) ? logical_bytes : 4096;
  }
  limits.block_bytes = limits.offset_alignment_bytes;
  if (IsAlignment(physical_bytes)) {
    limits.block_bytes = std::max(limits.block_bytes, physical_bytes);
  }
  return limits;
}

}  // namespace tiercel
