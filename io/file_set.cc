#include "io/file_set.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "io/direct_io.h"

namespace tiercel {

std::string FileSet::Description(const DeviceOptions& options) const {
  if (!options.direct) return "page cache (O_DIRECT not wanted)";
  if (direct_count == 0) return "page cache (the file system has no O_DIRECT)";
  std::string text = fmt::format("O_DIRECT, {} B blocks", limits.block_bytes);
  if (!all_direct()) {
    text += fmt::format(", {} of {} files through the page cache (no O_DIRECT there)",
                        files.size() - direct_count, files.size());
  }
  return text;
}

Status CheckDeviceOptions(const DeviceOptions& options) {
  if (options.depth < 1 || options.depth > 4096) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("DeviceOptions.depth is {}: it must be in [1, 4096]", options.depth));
  }
  if (options.read_size_bytes_max < 1 || options.read_size_bytes_max > (1U << 20)) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("DeviceOptions.read_size_bytes_max is {}: it must be in [1, 1048576]",
                              options.read_size_bytes_max));
  }
  if (options.block_bytes != 0 &&
      (!std::has_single_bit(options.block_bytes) || options.block_bytes > (1U << 16))) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("DeviceOptions.block_bytes is {}: it must be 0 or a power of two "
                              "up to 65536",
                              options.block_bytes));
  }
  return Status();
}

Result<FileSet> OpenFileSet(const std::vector<std::string>& paths, const DeviceOptions& options) {
  if (Status status = CheckDeviceOptions(options); !status.ok()) return status;
  if (paths.empty()) {
    return Status(StatusCode::kInvalidArgument, "a device needs at least one file");
  }
  FileSet set;
  set.paths = paths;
  set.files.reserve(paths.size());
  for (const std::string& path : paths) {
    bool direct = options.direct;
    Result<FileDescriptor> file = OpenFile(path, direct ? O_RDONLY | O_DIRECT : O_RDONLY);
    if (direct && !file.ok() && file.status().os_error() == EINVAL) {
      direct = false;  // tmpfs and others have no O_DIRECT and say so at open().
      file = OpenFile(path, O_RDONLY);
    }
    if (!file.ok()) return std::move(file).TakeStatus();
    // The size itself is not used: a file may grow. This refuses folders and pipes.
    Result<std::uint64_t> size_bytes = FileSizeBytes(file.value(), path);
    if (!size_bytes.ok()) return std::move(size_bytes).TakeStatus();
    if (direct) {
      DirectIoLimits found = DirectIoLimitsOf(file.value());
      if (options.block_bytes != 0) {
        found.block_bytes = std::max(options.block_bytes, found.offset_alignment_bytes);
      }
      ReadLimits& limits = set.limits;
      limits.block_bytes = std::max(limits.block_bytes, found.block_bytes);
      limits.offset_alignment_bytes =
          std::max(limits.offset_alignment_bytes, found.offset_alignment_bytes);
      limits.memory_alignment_bytes =
          std::max(limits.memory_alignment_bytes, found.memory_alignment_bytes);
      ++set.direct_count;
    }
    set.files.push_back(std::move(file).value());
  }
  return set;
}

}  // namespace tiercel
