#include "cache/slab.h"

#include <fmt/format.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/errno_status.h"
#include "base/file.h"
#include "base/numa.h"

namespace tiercel {
namespace {

constexpr std::uint64_t kHugePageBytes = std::uint64_t{2} << 20;

std::uint64_t PageBytes() noexcept {
  static const auto page_bytes = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  return page_bytes;
}

std::uint64_t ReadHugePageCount(const char* name) {
  return std::strtoull(
      ReadKernelFile(fmt::format("/sys/kernel/mm/hugepages/hugepages-2048kB/{}", name)).c_str(),
      nullptr, 10);
}

constexpr const char* kThpSwitch = "/sys/kernel/mm/transparent_hugepage/enabled";

bool HugePagesAreOff() {
  return ReadKernelFile(kThpSwitch).find("[never]") != std::string::npos;
}

}  // namespace

std::uint64_t Slab::RoundUp(std::uint64_t size_bytes) noexcept {
  return (size_bytes + PageBytes() - 1) / PageBytes() * PageBytes();
}

std::uint64_t Slab::RoundDown(std::uint64_t budget_bytes, CachePages pages) noexcept {
  const std::uint64_t page_bytes = pages == CachePages::kHugetlb ? kHugePageBytes : PageBytes();
  return budget_bytes / page_bytes * page_bytes;
}

Result<Slab> Slab::Map(std::uint64_t size_bytes, const MemoryOptions& options) {
  Result<Slab> mapped =
      options.pages == CachePages::kHugetlb ? MapHugetlb(size_bytes) : MapAligned(size_bytes);
  if (!mapped.ok()) return mapped;
  Slab slab = std::move(mapped).value();
  slab.Advise(options.pages);
  Result<std::string> bound = BindMemory(slab.bytes_, options);
  if (!bound.ok()) return std::move(bound).TakeStatus();
  slab.pages_ += bound.value();
  return slab;
}

/// Pages that the administrator has set aside: the kernel reserves them all here, or says no.
Result<Slab> Slab::MapHugetlb(std::uint64_t size_bytes) {
  const std::uint64_t page_count = (size_bytes + kHugePageBytes - 1) / kHugePageBytes;
  void* const start =
      mmap(nullptr, page_count * kHugePageBytes, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (21 << MAP_HUGE_SHIFT), -1, 0);
  if (start == MAP_FAILED) {
    const int os_error = errno;
    return Status(
        StatusCode::kResourceExhausted,
        fmt::format(
            "{} huge pages of 2 MiB are needed for {} B of the cache, and {} of {} that "
            "are set aside are free ({}): as root, `sysctl -w vm.nr_hugepages={}`, or "
            "leave --hugetlb (CachePages::kHugetlb) out",
            page_count, size_bytes, ReadHugePageCount("free_hugepages"),
            ReadHugePageCount("nr_hugepages"), ErrnoName(os_error),
            ReadHugePageCount("nr_hugepages") - ReadHugePageCount("free_hugepages") + page_count),
        os_error);
  }
  Slab slab;
  slab.bytes_ = {static_cast<std::byte*>(start), page_count * kHugePageBytes};
  return slab;
}

Result<Slab> Slab::MapAligned(std::uint64_t size_bytes) {
  // A huge page more of addresses, so that the slab can start at a multiple of one;
  // the rest is given back.
  const std::uint64_t wanted_bytes = RoundUp(size_bytes);
  const std::uint64_t reserved_bytes = wanted_bytes + kHugePageBytes;
  void* const reserved = mmap(nullptr, reserved_bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("mmap of {} B for the cache: {} ({}); lower the DRAM budget or raise "
                              "the limit on address space (ulimit -v)",
                              reserved_bytes, std::strerror(errno), ErrnoName(errno)),
                  errno);
  }
  auto* const first = static_cast<std::byte*>(reserved);
  const std::uint64_t skipped_bytes =
      (kHugePageBytes - reinterpret_cast<std::uintptr_t>(first) % kHugePageBytes) % kHugePageBytes;
  if (skipped_bytes > 0) munmap(first, skipped_bytes);
  std::byte* const start = first + skipped_bytes;
  munmap(start + wanted_bytes, reserved_bytes - skipped_bytes - wanted_bytes);

  Slab slab;
  slab.bytes_ = {start, wanted_bytes};
  return slab;
}

Slab::Slab(Slab&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})), pages_(std::move(other.pages_)) {}

Slab& Slab::operator=(Slab&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  std::swap(pages_, other.pages_);
  return *this;
}

Slab::~Slab() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

void Slab::Advise(CachePages pages) {
  if (pages == CachePages::kHugetlb) {
    pages_ = "2 MiB pages that were set aside (hugetlb)";
  } else if (pages == CachePages::kPlain) {
    madvise(bytes_.data(), bytes_.size(), MADV_NOHUGEPAGE);
    pages_ = "plain pages, as asked for";
  } else if (bytes_.size() < kHugePageBytes) {
    pages_ = "plain pages (smaller than a huge page)";
  } else if (HugePagesAreOff()) {
    pages_ = fmt::format("plain pages (transparent huge pages are off: {} says never)", kThpSwitch);
  } else if (madvise(bytes_.data(), bytes_.size(), MADV_HUGEPAGE) == 0) {
    pages_ = "transparent huge pages advised";
  } else {
    pages_ = fmt::format("plain pages (MADV_HUGEPAGE: {})", std::strerror(errno));
  }
  // A crash dump need not hold a copy of what is on disk.
  madvise(bytes_.data(), bytes_.size(), MADV_DONTDUMP);
}

}  // namespace tiercel
