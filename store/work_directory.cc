#include "store/work_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "base/errno_status.h"

namespace tiercel {
namespace {

/// Room for directories, small files and the file system's own books.
constexpr std::uint64_t kSpareBytes = 4U << 20;

Result<WorkDirectory::Target> TargetOf(const std::string& out_dir) {
  WorkDirectory::Target target{.path = out_dir, .parent = {}};
  while (target.path.size() > 1 && target.path.back() == '/') target.path.pop_back();
  if (target.path.empty()) {
    return Status(StatusCode::kInvalidArgument, "out_dir is empty: name the directory to make");
  }
  target.parent = std::filesystem::path(target.path).parent_path().string();
  if (target.parent.empty()) target.parent = ".";
  struct stat info {};
  if (lstat(target.path.c_str(), &info) == 0) {
    return Status(StatusCode::kAlreadyExists,
                  fmt::format("{} exists; choose another path or remove it", target.path));
  }
  if (errno != ENOENT) return ErrnoStatus(errno, fmt::format("look for {}", target.path));
  return target;
}

/// True for a directory that no living process fills.
bool IsStale(const std::string& path, std::string_view pid_text) {
  pid_t pid = 0;
  const char* const end = pid_text.data() + pid_text.size();
  const auto [reached, error] = std::from_chars(pid_text.data(), end, pid);
  if (error != std::errc() || reached != end || pid <= 0) return false;
  if (pid != getpid() && (kill(pid, 0) == 0 || errno != ESRCH)) return false;
  // A process of another pid namespace, or another thread of ours, holds the lock.
  const Result<FileDescriptor> directory = OpenFile(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!directory.ok()) return false;
  return flock(directory.value().get(), LOCK_EX | LOCK_NB) == 0;
}

/// Removes what runs that were killed left beside the target.
void RemoveStale(const WorkDirectory::Target& target) {
  const std::string prefix = std::filesystem::path(target.path).filename().string() + ".tmp.";
  std::vector<std::filesystem::path> stale;
  std::error_code error;
  std::filesystem::directory_iterator at(target.parent, error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (!name.starts_with(prefix)) continue;
    if (IsStale(at->path().string(), std::string_view(name).substr(prefix.size()))) {
      stale.push_back(at->path());
    }
  }
  for (const std::filesystem::path& path : stale) std::filesystem::remove_all(path, error);
}

Status CheckFreeSpace(const WorkDirectory::Target& target, std::uint64_t size_bytes) {
  struct statvfs info {};
  if (statvfs(target.parent.c_str(), &info) != 0) {
    return ErrnoStatus(errno, fmt::format("free space of {}", target.parent));
  }
  if (info.f_blocks == 0) return {};  // The file system does not count (ramfs, some network ones).
  const std::uint64_t free_bytes = std::uint64_t{info.f_bavail} * info.f_frsize;
  if (free_bytes < size_bytes || free_bytes - size_bytes < kSpareBytes) {
    return Status(
        StatusCode::kResourceExhausted,
        fmt::format("{} takes {} B and {} B to spare, but {} has {} B free: free some, or "
                    "write less",
                    target.path, size_bytes, kSpareBytes, target.parent, free_bytes));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<WorkDirectory>> WorkDirectory::Make(const std::string& out_dir,
                                                           std::uint64_t size_bytes) {
  Result<Target> target = TargetOf(out_dir);
  if (!target.ok()) return std::move(target).TakeStatus();
  RemoveStale(target.value());
  if (Status status = CheckFreeSpace(target.value(), size_bytes); !status.ok()) return status;
  const std::string path = fmt::format("{}.tmp.{}", target.value().path, getpid());
  if (mkdir(path.c_str(), 0777) != 0) return ErrnoStatus(errno, fmt::format("make {}", path));
  std::unique_ptr<WorkDirectory> directory(new WorkDirectory(std::move(target).value(), path));
  Result<FileDescriptor> lock = OpenFile(path, O_RDONLY | O_DIRECTORY);
  if (!lock.ok()) return std::move(lock).TakeStatus();
  directory->lock_ = std::move(lock).value();
  // A file system without locks is no reason to stop: the pid in the name still tells.
  (void)flock(directory->lock_.get(), LOCK_EX | LOCK_NB);
  return directory;
}

WorkDirectory::~WorkDirectory() {
  std::error_code ignored;
  if (!published_) std::filesystem::remove_all(path_, ignored);
}

Status WorkDirectory::Publish() {
  Status status = SyncDirectory(path_);
  if (!status.ok()) return status;
  // Must not replace what somebody else put there meanwhile.
  int failed = renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target_.path.c_str(), RENAME_NOREPLACE);
  if (failed != 0 && (errno == EINVAL || errno == ENOSYS)) {
    failed = rename(path_.c_str(), target_.path.c_str());  // Replaces an empty directory only.
  }
  if (failed != 0) {
    return ErrnoStatus(errno, fmt::format("rename {} to {}", path_, target_.path));
  }
  published_ = true;
  return SyncDirectory(target_.parent);
}

WorkDirectory::WorkDirectory(Target target, std::string path)
    : target_(std::move(target)), path_(std::move(path)) {}

}  // namespace tiercel
