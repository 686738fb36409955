#ifndef TIERCEL_IO_FILE_SET_H_
#define TIERCEL_IO_FILE_SET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"
#include "io/device.h"
#include "io/read_slots.h"

namespace tiercel {

/// The open files of a device, and what reads of them must keep to.
///
/// Threading: immutable once opened.
struct FileSet {
  std::vector<FileDescriptor> files;
  std::vector<std::string> paths;
  std::uint32_t direct_count = 0;  ///< Files that are open with O_DIRECT.
  ReadLimits limits;               ///< The strictest of all files'.

  /// All files are read past the page cache, so the kernel pins the target pages.
  [[nodiscard]] bool all_direct() const noexcept { return direct_count == files.size(); }
  /// "O_DIRECT, 4096 B blocks", "page cache (no O_DIRECT on this file system)".
  [[nodiscard]] std::string Description(const DeviceOptions& options) const;
};

/// OK if each option is in its range; kInvalidArgument names the one that is not.
[[nodiscard]] Status CheckDeviceOptions(const DeviceOptions& options);

/// Checks the options and opens `paths` for reading.
/// Errors: kInvalidArgument (options, no path, not a file), and OpenFile()'s.
[[nodiscard]] Result<FileSet> OpenFileSet(const std::vector<std::string>& paths,
                                          const DeviceOptions& options);

}  // namespace tiercel

#endif  // TIERCEL_IO_FILE_SET_H_
