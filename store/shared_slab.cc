#include "tiercel/shared_slab.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/errno_status.h"
#include "cache/memory_limit.h"

// Older headers of the C library lack it; the kernel has had it since 5.1.
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace tiercel {
namespace {

constexpr std::uint64_t kSharedHugePageBytes = std::uint64_t{2} << 20;
constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;

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

}  // namespace

Result<SharedSlab> SharedSlab::Create(std::uint64_t size_bytes, CachePages pages) {
  if (size_bytes == 0) return Status(StatusCode::kInvalidArgument, "a shared slab of 0 B");
  const bool hugetlb = pages == CachePages::kHugetlb;
  // Huge pages are set aside: the kernel has them or refuses.
  if (Status status = hugetlb ? Status() : CheckRoom(size_bytes); !status.ok()) return status;
  const auto page_bytes =
      hugetlb ? kSharedHugePageBytes : static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  SharedSlab slab;
  slab.writable_ = true;
  const std::uint64_t rounded = (size_bytes + page_bytes - 1) / page_bytes * page_bytes;
  slab.fd_ = memfd_create("tiercel-slab", MFD_CLOEXEC | MFD_ALLOW_SEALING |
                                              (hugetlb ? MFD_HUGETLB | MFD_HUGE_2MB : 0U));
  if (slab.fd_ < 0) return SharedSlabError(StatusCode::kIoError, "memfd_create", errno);
  const std::string what =
      fmt::format("{} B of shared memory{}", rounded,
                  hugetlb ? " in 2 MiB pages (set aside by sysctl vm.nr_hugepages)" : "");
  if (ftruncate(slab.fd_, static_cast<off_t>(rounded)) != 0 ||
      fallocate(slab.fd_, 0, 0, static_cast<off_t>(rounded)) != 0) {
    return SharedSlabError(StatusCode::kResourceExhausted, what, errno);
  }
  void* const data =
      mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_SHARED, slab.fd_, /*offset=*/0);
  if (data == MAP_FAILED) return SharedSlabError(StatusCode::kResourceExhausted, what, errno);
  slab.data_ = static_cast<std::byte*>(data);
  slab.size_bytes_ = rounded;
  if (pages == CachePages::kTransparentHuge) (void)madvise(data, rounded, MADV_HUGEPAGE);
  // This mapping stays writable; every later one can only be read.
  if (fcntl(slab.fd_, F_ADD_SEALS, kSizeSeals | F_SEAL_FUTURE_WRITE) != 0) {
    return SharedSlabError(StatusCode::kUnavailable,
                           "sealing of shared memory (F_SEAL_FUTURE_WRITE needs Linux 5.1)", errno);
  }
  return slab;
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
  void* const data = mmap(nullptr, size_bytes, PROT_READ, MAP_SHARED, slab.fd_, /*offset=*/0);
  if (data == MAP_FAILED) {
    return SharedSlabError(StatusCode::kResourceExhausted,
                           fmt::format("{} B of shared memory", size_bytes), errno);
  }
  slab.data_ = static_cast<std::byte*>(data);
  slab.size_bytes_ = size_bytes;
  return slab;
}

void SharedSlab::Swap(SharedSlab& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(fd_, other.fd_);
  std::swap(writable_, other.writable_);
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
