#ifndef TIERCEL_MEMORY_OPTIONS_H_
#define TIERCEL_MEMORY_OPTIONS_H_

#include <cstdint>

namespace tiercel {

/// Pages of the DRAM cache. A copy out of it touches a page at random, so that with small
/// ones most of its time goes into address translation.
enum class CachePages : std::uint8_t {
  kTransparentHuge = 0,  ///< Huge where the kernel grants them; said aloud where it does not.
  kHugetlb,              ///< 2 MiB pages set aside by the administrator, or an error.
  kPlain,                ///< As small as they come.
};

/// Which NUMA nodes memory and threads are on. On a machine with one node all are the same.
enum class NumaPlacement : std::uint8_t {
  kInterleave = 0,  ///< The cache's pages in turn on all nodes; threads anywhere.
  kNone,            ///< As the kernel has it: mostly the node of who touches a page first.
  kNode,            ///< The cache's pages on one node, the I/O threads on its cores.
};

struct MemoryOptions {
  CachePages pages = CachePages::kTransparentHuge;
  NumaPlacement numa = NumaPlacement::kInterleave;
  std::uint32_t numa_node = 0;  ///< Of kNode: its number, as the kernel counts.
  /// The DRAM cache, index and all, is memory that other processes of the machine may map to
  /// read (Store::ShareCache(), shared_cache.h). All of it is taken at Open(), not as it fills.
  bool shared = false;
};

}  // namespace tiercel

#endif  // TIERCEL_MEMORY_OPTIONS_H_
