#ifndef TIERCEL_BASE_NUMA_H_
#define TIERCEL_BASE_NUMA_H_

#include <cstddef>
#include <span>
#include <string>

#include "tiercel/memory_options.h"
#include "tiercel/status.h"

namespace tiercel {

// NUMA by hwloc. A build without hwloc leaves memory and threads where the kernel puts
// them, says so, and refuses kNode.

/// Binds pages that nobody has touched yet as options.numa says. Returns what was done, for
/// reports: ", interleaved over 2 NUMA nodes"; empty where there is nothing to say.
/// Errors: kInvalidArgument (no such node; the message names those there are), kUnavailable
/// (kNode in a build without hwloc, or the kernel refused it).
[[nodiscard]] Result<std::string> BindMemory(std::span<std::byte> pages,
                                             const MemoryOptions& options);

/// Binds the calling thread to the cores of kNode's node; else does nothing.
/// Errors: as BindMemory().
[[nodiscard]] Status BindThread(const MemoryOptions& options);

}  // namespace tiercel

#endif  // TIERCEL_BASE_NUMA_H_
