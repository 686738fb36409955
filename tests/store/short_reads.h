#ifndef TIERCEL_TESTS_STORE_SHORT_READS_H_
#define TIERCEL_TESTS_STORE_SHORT_READS_H_

#include <cstdint>

namespace tiercel::testing {

/// Reads of this process that the kernel is asked to do only in part.
struct ShortReadOptions {
  double probability = 0;        ///< Of each read that is long enough.
  std::uint32_t unit_bytes = 1;  ///< What is left is a multiple of it (O_DIRECT: 512).
};

/// Applies to all reads from now on that go through pread() or io_uring_enter(). A
/// program gets this by having short_reads.cc among its sources, which takes the place of
/// pread(), syscall() and io_uring_queue_init_params(): the kernel really reads less, and says so.
void SetShortReads(const ShortReadOptions& options) noexcept;

struct ShortReadCounts {
  std::uint64_t pread = 0;
  std::uint64_t uring = 0;
};
/// Reads that were cut so far.
[[nodiscard]] ShortReadCounts GetShortReadCounts() noexcept;

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_STORE_SHORT_READS_H_
