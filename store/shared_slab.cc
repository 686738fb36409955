#include "tiercel/shared_slab.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "base/errno_status.h"
#include "base/file.h"
#include "base/numa.h"
#include "cache/memory_limit.h"

// Older headers of the C library lack it; the kernel has had it since 5.1.
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace tiercel {
namespace {

constexpr std::uint64_t kSharedHugePageBytes = std::uint64_t{2} << 20;
constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;
/// Whole huge pages, taken within a millisecond or so.
constexpr std::size_t kTakenAtOnceBytes = std::size_t{4} << 20;
constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, of Linux 5.14.

Status SharedSlabError(StatusCode code, const std::string& what, int os_error) {
  return Status(code, fmt::format("{}: {}", what, ErrnoName(os_error)), os_error);
}

/// Memory that can be had without swapping, as the kernel estimates it; the most there is
/// where it does not say.
std::uint64_t AvailableBytes() {
  std::FILE* const file = std::fopen("/proc/meminfo", "re");
  if (file == nullptr) return ~std::uint64_t{0};
  char line[128];
  unsigned long long kib = ~0ULL >> 10;
  while (std::fgets(line, sizeof(line), file) != nullptr) {
    if (std::sscanf(line, "MemAvailable: %llu kB", &kib) == 1) break;
  }
  std::fclose(file);
  return std::uint64_t{kib} << 10;
}

/// The kernel does not refuse such memory: it takes pages until there are none, and then
/// kills somebody. So it is not even asked for more than there is.
Status CheckRoom(std::uint64_t size_bytes) {
  const MemoryLimit limit = ReadMemoryLimit();
  const std::uint64_t available_bytes = AvailableBytes();
  if (size_bytes <= limit.bytes && size_bytes <= available_bytes) return {};
  return Status(StatusCode::kResourceExhausted,
                fmt::format("{} B of shared memory: {} allows {} B, and {} B are available",
                            size_bytes, limit.source, limit.bytes, available_bytes));
}

constexpr const char* kShmemSwitch = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// Whether transparent huge pages are given to shared memory that asks for them.
bool SharedHugePagesAreOff() {
  const std::string chosen = ReadKernelFile(kShmemSwitch);
  return chosen.find("[never]") != std::string::npos || chosen.find("[deny]") != std::string::npos;
}

/// Asks for pages that nobody has touched yet; says what was asked for, or why not.
std::string Advise(std::span<std::byte> memory, CachePages pages) {
  // A crash dump need not hold a copy of what is on disk.
  (void)madvise(memory.data(), memory.size(), MADV_DONTDUMP);
  switch (pages) {
    case CachePages::kHugetlb:
      return "shared, 2 MiB pages that were set aside (hugetlb)";
    case CachePages::kPlain:
      (void)madvise(memory.data(), memory.size(), MADV_NOHUGEPAGE);
      return "shared, plain pages, as asked for";
    case CachePages::kTransparentHuge:
      break;
  }
  if (memory.size() < kSharedHugePageBytes) {
    return "shared, plain pages (smaller than a huge page)";
  }
  if (SharedHugePagesAreOff()) {
    return fmt::format("shared, plain pages (transparent huge pages of shared memory are off: {})",
                       kShmemSwitch);
  }
  if (madvise(memory.data(), memory.size(), MADV_HUGEPAGE) != 0) {
    return fmt::format("shared, plain pages (MADV_HUGEPAGE: {})", ErrnoName(errno));
  }
  return "shared, transparent huge pages advised";
}

/// Has the kernel give all pages of the file, which `memory` maps. Piece by piece: a signal
/// stops fallocate(2), which then gives back what it had; so do completions of an io_uring
/// that the thread has. Returns 0 or the errno.
int TakePages(int fd, std::span<std::byte> memory, CachePages pages) {
  for (std::size_t done = 0; done < memory.size(); done += kTakenAtOnceBytes) {
    const std::span<std::byte> piece =
        memory.subspan(done, std::min(kTakenAtOnceBytes, memory.size() - done));
    // By the map first, since what that is advised to be does not reach fallocate(2).
    if (pages == CachePages::kTransparentHuge) {
      while (madvise(piece.data(), piece.size(), kPopulateWrite) != 0 && errno == EINTR) {
      }
    }
    while (fallocate(fd, 0, static_cast<off_t>(done), static_cast<off_t>(piece.size())) != 0) {
      if (errno != EINTR) return errno;
    }
  }
  return 0;
}

}  // namespace

Result<SharedSlab> SharedSlab::Create(std::uint64_t size_bytes, CachePages pages) {
  return Create(size_bytes, MemoryOptions{.pages = pages, .numa = NumaPlacement::kNone});
}

Result<SharedSlab> SharedSlab::Create(std::uint64_t size_bytes, const MemoryOptions& options) {
  if (size_bytes == 0) return Status(StatusCode::kInvalidArgument, "a shared slab of 0 B");
  const bool hugetlb = options.pages == CachePages::kHugetlb;
  // Huge pages are set aside: the kernel has them or refuses.
  if (Status status = hugetlb ? Status() : CheckRoom(size_bytes); !status.ok()) return status;
  const auto page_bytes =
      hugetlb ? kSharedHugePageBytes : static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  SharedSlab slab;
  slab.writable_ = true;
  slab.fd_ = memfd_create("tiercel-slab", MFD_CLOEXEC | MFD_ALLOW_SEALING |
                                              (hugetlb ? MFD_HUGETLB | MFD_HUGE_2MB : 0U));
  if (slab.fd_ < 0) return SharedSlabError(StatusCode::kIoError, "memfd_create", errno);
  const std::uint64_t rounded = (size_bytes + page_bytes - 1) / page_bytes * page_bytes;
  if (Status status = slab.MapWritable(rounded, options); !status.ok()) return status;
  // This mapping stays writable; every later one can only be read.
  if (fcntl(slab.fd_, F_ADD_SEALS, kSizeSeals | F_SEAL_FUTURE_WRITE) != 0) {
    return SharedSlabError(StatusCode::kUnavailable,
                           "sealing of shared memory (F_SEAL_FUTURE_WRITE needs Linux 5.1)", errno);
  }
  return slab;
}

/// Sizes and maps the slab, says where and in what pages it is to be, and takes them.
Status SharedSlab::MapWritable(std::uint64_t size_bytes, const MemoryOptions& options) {
  const bool hugetlb = options.pages == CachePages::kHugetlb;
  const std::string what =
      fmt::format("{} B of shared memory{}", size_bytes,
                  hugetlb ? " in 2 MiB pages (set aside by sysctl vm.nr_hugepages)" : "");
  if (ftruncate(fd_, static_cast<off_t>(size_bytes)) != 0) {
    return SharedSlabError(StatusCode::kResourceExhausted, what, errno);
  }
  Status mapped = MapAligned(size_bytes, PROT_READ | PROT_WRITE, what);
  if (!mapped.ok()) return mapped;
  pages_ = Advise(writable_bytes(), options.pages);
  Result<std::string> bound = BindMemory(writable_bytes(), options);
  if (!bound.ok()) return std::move(bound).TakeStatus();
  pages_ += bound.value();
  const int os_error = TakePages(fd_, writable_bytes(), options.pages);
  return os_error == 0 ? Status() : SharedSlabError(StatusCode::kResourceExhausted, what, os_error);
}

/// At a multiple of a huge page, so that huge pages of the file are huge ones of the map.
Status SharedSlab::MapAligned(std::size_t size_bytes, int protection, const std::string& what) {
  const std::size_t reserved_bytes = size_bytes + kSharedHugePageBytes;
  void* const reserved =
      mmap(nullptr, reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) {
    return SharedSlabError(StatusCode::kResourceExhausted, what, errno);
  }
  auto* const first = static_cast<std::byte*>(reserved);
  const std::size_t skipped_bytes =
      (kSharedHugePageBytes - reinterpret_cast<std::uintptr_t>(first) % kSharedHugePageBytes) %
      kSharedHugePageBytes;
  void* const data =
      mmap(first + skipped_bytes, size_bytes, protection, MAP_SHARED | MAP_FIXED, fd_, 0);
  if (data == MAP_FAILED) {
    const int os_error = errno;
    (void)munmap(reserved, reserved_bytes);
    return SharedSlabError(StatusCode::kResourceExhausted, what, os_error);
  }
  if (skipped_bytes > 0) (void)munmap(first, skipped_bytes);
  // Of a size that another process chose, maybe not whole pages: a page more is the map's.
  const auto page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t mapped_bytes = (size_bytes + page_bytes - 1) / page_bytes * page_bytes;
  if (const std::size_t rest_bytes = kSharedHugePageBytes - skipped_bytes;
      rest_bytes > mapped_bytes - size_bytes) {
    (void)munmap(static_cast<std::byte*>(data) + mapped_bytes,
                 rest_bytes - (mapped_bytes - size_bytes));
  }
  data_ = static_cast<std::byte*>(data);
  size_bytes_ = size_bytes;
  return {};
}

Result<SharedSlab> SharedSlab::Open(int fd) {
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0) {
    return SharedSlabError(StatusCode::kInvalidArgument,
                           fmt::format("descriptor {} is no shared slab", fd), errno);
  }
  if ((seals & kSizeSeals) != kSizeSeals) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("descriptor {} is of a file that may change its size under its "
                              "readers: a slab of SharedSlab::Create() is sealed",
                              fd));
  }
  struct stat facts {};
  if (fstat(fd, &facts) != 0 || facts.st_size <= 0) {
    return SharedSlabError(StatusCode::kInvalidArgument,
                           fmt::format("the size of descriptor {}", fd), errno);
  }
  SharedSlab slab;
  slab.fd_ = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (slab.fd_ < 0) {
    return SharedSlabError(StatusCode::kResourceExhausted, "a descriptor of a slab", errno);
  }
  const auto size_bytes = static_cast<std::size_t>(facts.st_size);
  Status status = slab.MapAligned(size_bytes, PROT_READ,
                                  fmt::format("a map of {} B of shared memory", size_bytes));
  if (!status.ok()) return status;
  // The pages are what their maker asked for; this map may have them whole.
  (void)madvise(slab.data_, slab.size_bytes_, MADV_HUGEPAGE);
  (void)madvise(slab.data_, slab.size_bytes_, MADV_DONTDUMP);
  return slab;
}

void SharedSlab::Swap(SharedSlab& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(fd_, other.fd_);
  std::swap(writable_, other.writable_);
  std::swap(pages_, other.pages_);
}

SharedSlab::SharedSlab(SharedSlab&& other) noexcept {
  Swap(other);
}

SharedSlab& SharedSlab::operator=(SharedSlab&& other) noexcept {
  SharedSlab taken(std::move(other));
  Swap(taken);
  return *this;
}

SharedSlab::~SharedSlab() {
  if (data_ != nullptr) (void)munmap(data_, size_bytes_);
  if (fd_ >= 0) (void)close(fd_);
}

}  // namespace tiercel
