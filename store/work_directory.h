#ifndef TIERCEL_STORE_WORK_DIRECTORY_H_
#define TIERCEL_STORE_WORK_DIRECTORY_H_

#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/file.h"
#include "tiercel/status.h"

namespace tiercel {

/// A directory to fill, "OUT.tmp.PID", with a lock that its maker holds as long as it
/// lives. Removed by the destructor unless it was published.
///
/// Threading: one thread at a time.
class WorkDirectory {
 public:
  /// Where the directory goes, and its parent.
  struct Target {
    std::string path;  ///< Without '/' at the end.
    std::string parent;
  };

  /// Makes it, once there is room for what is to be written, and removes what runs that
  /// were killed left there.
  ///
  /// Errors: kInvalidArgument (no name), kAlreadyExists (`out_dir` is there), kNotFound
  /// (its parent is not), kResourceExhausted (not enough free space, with the figures),
  /// kPermissionDenied, kIoError.
  [[nodiscard]] static Result<std::unique_ptr<WorkDirectory>> Make(const std::string& out_dir,
                                                                   std::uint64_t size_bytes);
  WorkDirectory(const WorkDirectory&) = delete;
  WorkDirectory& operator=(const WorkDirectory&) = delete;
  ~WorkDirectory();

  [[nodiscard]] std::string File(std::string_view name) const {
    return fmt::format("{}/{}", path_, name);
  }

  /// Makes it durable and gives it its final name.
  Status Publish();

 private:
  WorkDirectory(Target target, std::string path);

  Target target_;
  std::string path_;
  FileDescriptor lock_;
  bool published_ = false;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_WORK_DIRECTORY_H_
