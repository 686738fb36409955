#include "cache/slab.h"

#include <fmt/format.h>
#include <hwloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "base/errno_status.h"

namespace tiercel {
namespace {

constexpr std::uint64_t kHugePageBytes = std::uint64_t{2} << 20;

std::uint64_t PageBytes() noexcept {
  static const auto page_bytes = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  return page_bytes;
}

}  // namespace

std::uint64_t Slab::RoundUp(std::uint64_t size_bytes) noexcept {
  return (size_bytes + PageBytes() - 1) / PageBytes() * PageBytes();
}

Result<Slab> Slab::Map(std::uint64_t size_bytes) {
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
  slab.AdviseHugePages();
  slab.SpreadOverNodes();
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

void Slab::AdviseHugePages() {
  if (bytes_.size() < kHugePageBytes) {
    pages_ = "plain pages (smaller than a huge page)";
  } else if (madvise(bytes_.data(), bytes_.size(), MADV_HUGEPAGE) == 0) {
    pages_ = "transparent huge pages advised";
  } else {
    pages_ = fmt::format("plain pages (MADV_HUGEPAGE: {})", std::strerror(errno));
  }
  // A crash dump need not hold a copy of what is on disk.
  madvise(bytes_.data(), bytes_.size(), MADV_DONTDUMP);
}

void Slab::SpreadOverNodes() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return;
  const auto destroy = [](hwloc_topology_t topology) { hwloc_topology_destroy(topology); };
  const std::unique_ptr<hwloc_topology, decltype(destroy)> topology(raw, destroy);
  // Nodes alone: caches, PCI and the rest would cost milliseconds of reading /sys.
  hwloc_topology_set_all_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_NONE);
  if (hwloc_topology_load(raw) != 0) return;
  const int node_count = hwloc_get_nbobjs_by_type(raw, HWLOC_OBJ_NUMANODE);
  if (node_count <= 1) return;
  // Page by page over all nodes: any thread may read any group, so no node is better
  // for one of them, and the bandwidth of all is had. Before the first touch.
  const int result = hwloc_set_area_membind(raw, bytes_.data(), bytes_.size(),
                                            hwloc_topology_get_topology_nodeset(raw),
                                            HWLOC_MEMBIND_INTERLEAVE, HWLOC_MEMBIND_BYNODESET);
  pages_ += result == 0 ? fmt::format(", interleaved over {} NUMA nodes", node_count)
                        : fmt::format(", not bound to the {} NUMA nodes ({})", node_count,
                                      std::strerror(errno));
}

}  // namespace tiercel
