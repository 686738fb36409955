#ifndef TIERCEL_SHARED_SLAB_H_
#define TIERCEL_SHARED_SLAB_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "tiercel/memory_options.h"
#include "tiercel/status.h"

namespace tiercel {

/// Memory that processes of one machine share, so that a table or a slab of groups is there
/// once and not once a process: an anonymous file of the kernel's (memfd_create(2)), which
/// needs no /dev/shm, has no name to clean up, and is gone when the last process that maps
/// it or holds its descriptor ends, however it ends. Move-only.
///
/// One process writes: who created it. The kernel holds the others to reading, and the size
/// to what it was made with (seals: F_SEAL_FUTURE_WRITE, F_SEAL_SHRINK, F_SEAL_GROW).
///
/// To let another process have it, hand it the descriptor: by fork(2), by SCM_RIGHTS over a
/// Unix socket (unix(7)), or, within one user's processes, as /proc/PID/fd/N.
///
/// Threading: none of its own. What is written is seen by readers as memory between threads
/// is: order it by an atomic in the slab, or by a message.
class SharedSlab {
 public:
  /// Takes all of the memory now, zeroed, so that nobody is killed for a page later: it
  /// counts against this process's cgroup.
  ///
  ///   size_bytes  > 0; rounded up to pages (2 MiB ones for kHugetlb).
  ///   pages       kTransparentHuge is a wish: the kernel grants it to such memory only where
  ///               /sys/kernel/mm/transparent_hugepage/shmem_enabled is "advise" or more.
  ///
  /// Errors: kInvalidArgument (size 0), kResourceExhausted (not so much memory, or not so
  /// many huge pages set aside), kUnavailable (a kernel before 5.1), kIoError.
  [[nodiscard]] static Result<SharedSlab> Create(std::uint64_t size_bytes, CachePages pages);
  /// The same on the NUMA nodes that `options` ask for. Its `shared` is not looked at.
  /// Errors: as above; kInvalidArgument (no such node), kUnavailable (kNode in a build without
  /// hwloc).
  [[nodiscard]] static Result<SharedSlab> Create(std::uint64_t size_bytes,
                                                 const MemoryOptions& options);

  /// Maps another process's slab, to read. `fd` stays the caller's.
  /// Errors: kInvalidArgument (a descriptor that is none, or of a file that is not sealed: it
  /// could shrink under the reader), kResourceExhausted, kIoError.
  [[nodiscard]] static Result<SharedSlab> Open(int fd);

  SharedSlab() noexcept = default;
  SharedSlab(SharedSlab&& other) noexcept;
  SharedSlab& operator=(SharedSlab&& other) noexcept;
  ~SharedSlab();

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_bytes_}; }
  /// Empty where the slab was opened.
  [[nodiscard]] std::span<std::byte> writable_bytes() const noexcept {
    return {data_, writable_ ? size_bytes_ : 0};
  }
  /// To hand over. Closed on exec; stays this object's.
  [[nodiscard]] int fd() const noexcept { return fd_; }
  /// For reports: what pages it has and where, as far as the kernel tells. Empty where the
  /// slab was opened.
  [[nodiscard]] const std::string& pages() const noexcept { return pages_; }

 private:
  [[nodiscard]] Status MapWritable(std::uint64_t size_bytes, const MemoryOptions& options);
  [[nodiscard]] Status MapAligned(std::size_t size_bytes, int protection, const std::string& what);
  void Swap(SharedSlab& other) noexcept;

  std::byte* data_ = nullptr;
  std::size_t size_bytes_ = 0;
  int fd_ = -1;
  bool writable_ = false;
  std::string pages_;
};

}  // namespace tiercel

#endif  // TIERCEL_SHARED_SLAB_H_
