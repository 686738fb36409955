#include "base/numa.h"

#include <fmt/format.h>

#if TIERCEL_HAVE_HWLOC

#include <hwloc.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace tiercel {
namespace {

struct Destroy {
  void operator()(hwloc_topology_t topology) const noexcept { hwloc_topology_destroy(topology); }
};
using Topology = std::unique_ptr<hwloc_topology, Destroy>;

/// Nodes and cores alone: caches, PCI and the rest would cost milliseconds of reading /sys.
Topology LoadTopology() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return nullptr;
  Topology topology(raw);
  hwloc_topology_set_all_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_NONE);
  return hwloc_topology_load(raw) == 0 ? std::move(topology) : nullptr;
}

Result<hwloc_obj_t> FindNode(hwloc_topology_t topology, std::uint32_t number) {
  std::string present;
  hwloc_obj_t found = nullptr;
  for (hwloc_obj_t node = nullptr;
       (node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node)) != nullptr;) {
    present += fmt::format("{}{}", present.empty() ? "" : ", ", node->os_index);
    if (node->os_index == number) found = node;
  }
  if (found != nullptr) return found;
  return Status(
      StatusCode::kInvalidArgument,
      fmt::format("there is no NUMA node {}; those of this machine: {} (see `numactl --hardware`)",
                  number, present.empty() ? "none" : present));
}

}  // namespace

Result<std::string> BindMemory(std::span<std::byte> pages, const MemoryOptions& options) {
  if (options.numa == NumaPlacement::kNone) return std::string();
  const Topology topology = LoadTopology();
  if (options.numa == NumaPlacement::kNode) {
    if (topology == nullptr) {
      return Status(StatusCode::kUnavailable, "hwloc cannot read this machine's NUMA nodes");
    }
    Result<hwloc_obj_t> node = FindNode(topology.get(), options.numa_node);
    if (!node.ok()) return std::move(node).TakeStatus();
    // Not strictly: a node that is full would have the process killed in the midst of it.
    if (hwloc_set_area_membind(topology.get(), pages.data(), pages.size(), node.value()->nodeset,
                               HWLOC_MEMBIND_BIND, HWLOC_MEMBIND_BYNODESET) == 0) {
      return fmt::format(", on NUMA node {}", options.numa_node);
    }
    // One node is where everything is, whether the kernel lets pages be bound or not.
    if (hwloc_get_nbobjs_by_type(topology.get(), HWLOC_OBJ_NUMANODE) == 1) {
      return fmt::format(", on NUMA node {}, the only one", options.numa_node);
    }
    return Status(StatusCode::kUnavailable,
                  fmt::format("memory cannot be bound to NUMA node {}: {}", options.numa_node,
                              std::strerror(errno)),
                  errno);
  }
  if (topology == nullptr) return std::string(", not bound: hwloc cannot read the NUMA nodes");
  const int node_count = hwloc_get_nbobjs_by_type(topology.get(), HWLOC_OBJ_NUMANODE);
  if (node_count <= 1) return std::string();
  // Page by page over all nodes: any thread may read any group, so no node is better for
  // one of them, and the bandwidth of all is had.
  const int result = hwloc_set_area_membind(topology.get(), pages.data(), pages.size(),
                                            hwloc_topology_get_topology_nodeset(topology.get()),
                                            HWLOC_MEMBIND_INTERLEAVE, HWLOC_MEMBIND_BYNODESET);
  if (result == 0) return fmt::format(", interleaved over {} NUMA nodes", node_count);
  return fmt::format(", not bound to the {} NUMA nodes ({})", node_count, std::strerror(errno));
}

Status BindThread(const MemoryOptions& options) {
  if (options.numa != NumaPlacement::kNode) return {};
  const Topology topology = LoadTopology();
  if (topology == nullptr) {
    return Status(StatusCode::kUnavailable, "hwloc cannot read this machine's NUMA nodes");
  }
  Result<hwloc_obj_t> node = FindNode(topology.get(), options.numa_node);
  if (!node.ok()) return std::move(node).TakeStatus();
  if (hwloc_bitmap_iszero(node.value()->cpuset) != 0) return {};  // Memory without cores.
  if (hwloc_set_cpubind(topology.get(), node.value()->cpuset, HWLOC_CPUBIND_THREAD) == 0) return {};
  return Status(StatusCode::kUnavailable,
                fmt::format("a thread cannot be bound to the cores of NUMA node {}: {}",
                            options.numa_node, std::strerror(errno)),
                errno);
}

}  // namespace tiercel

#else  // No hwloc.

namespace tiercel {
namespace {

Status NoHwloc(std::uint32_t node) {
  return Status(StatusCode::kUnavailable,
                fmt::format("NUMA node {} cannot be chosen: this build has no hwloc; install "
                            "libhwloc-dev and build again",
                            node));
}

}  // namespace

Result<std::string> BindMemory(std::span<std::byte> /*pages*/, const MemoryOptions& options) {
  if (options.numa == NumaPlacement::kNode) return NoHwloc(options.numa_node);
  return std::string(options.numa == NumaPlacement::kNone ? ""
                                                          : ", not bound: built without hwloc");
}

Status BindThread(const MemoryOptions& options) {
  return options.numa == NumaPlacement::kNode ? NoHwloc(options.numa_node) : Status();
}

}  // namespace tiercel

#endif  // TIERCEL_HAVE_HWLOC
