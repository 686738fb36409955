#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "base/errno_status.h"

namespace tiercel {

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  // What this held is closed now, not when `other` dies.
  const FileDescriptor old(std::exchange(fd_, std::exchange(other.fd_, -1)));
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

Result<FileDescriptor> OpenFile(const std::string& path, int flags, unsigned mode) {
  int fd = -1;
  do {
    fd = open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return ErrnoStatus(errno, fmt::format("open {}", path));
  return FileDescriptor(fd);
}

Result<std::uint64_t> FileSizeBytes(const FileDescriptor& file, const std::string& path) {
  struct stat info {};
  if (fstat(file.get(), &info) != 0) return ErrnoStatus(errno, fmt::format("stat {}", path));
  if (S_ISREG(info.st_mode)) return static_cast<std::uint64_t>(info.st_size);
  if (S_ISBLK(info.st_mode)) {
    std::uint64_t size_bytes = 0;
    if (ioctl(file.get(), BLKGETSIZE64, &size_bytes) != 0) {
      return ErrnoStatus(errno, fmt::format("size of {}", path));
    }
    return size_bytes;
  }
  return Status(StatusCode::kInvalidArgument,
                fmt::format("{} is neither a regular file nor a block device", path));
}

Status ReadAt(const FileDescriptor& file, const std::string& path, std::uint64_t offset_bytes,
              std::span<std::byte> target) {
  std::size_t done = 0;
  while (done < target.size()) {
    const ssize_t got = pread(file.get(), target.data() + done, target.size() - done,
                              static_cast<off_t>(offset_bytes + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return ErrnoStatus(errno, fmt::format("read of {} B at {} of {}", target.size() - done,
                                            offset_bytes + done, path));
    }
    if (got == 0) {
      return Status(
          StatusCode::kCorruption,
          fmt::format("{} ends at {}, but {} B were expected at {}: the file is truncated", path,
                      offset_bytes + done, target.size(), offset_bytes));
    }
    done += static_cast<std::size_t>(got);
  }
  return {};
}

Status WriteAt(const FileDescriptor& file, const std::string& path, std::uint64_t offset_bytes,
               std::span<const std::byte> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t put = pwrite(file.get(), bytes.data() + done, bytes.size() - done,
                               static_cast<off_t>(offset_bytes + done));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) {
      return ErrnoStatus(
          put < 0 ? errno : ENOSPC,
          fmt::format("write of {} B at {} of {}", bytes.size() - done, offset_bytes + done, path));
    }
    done += static_cast<std::size_t>(put);
  }
  return {};
}

Result<std::string> ReadWholeFile(const std::string& path, std::uint64_t size_bytes_max) {
  Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
  if (!file.ok()) return std::move(file).TakeStatus();
  Result<std::uint64_t> size_bytes = FileSizeBytes(file.value(), path);
  if (!size_bytes.ok()) return std::move(size_bytes).TakeStatus();
  if (size_bytes.value() > size_bytes_max) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} has {} B; at most {} B are expected of such a file", path,
                              size_bytes.value(), size_bytes_max));
  }
  std::string text(size_bytes.value(), '\0');
  Status status = ReadAt(file.value(), path, 0, std::as_writable_bytes(std::span(text)));
  if (!status.ok()) return status;
  return text;
}

std::string ReadKernelFile(const std::string& path) {
  const auto close = [](std::FILE* file) { std::fclose(file); };
  const std::unique_ptr<std::FILE, decltype(close)> file(std::fopen(path.c_str(), "re"), close);
  if (file == nullptr) return {};
  std::string text(16384, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  return text;
}

Status WriteFileAtomically(const std::string& path, std::string_view bytes) {
  // Of its own for each call: two threads may write one path.
  static std::atomic<std::uint64_t> serial = 0;
  const std::string temporary = fmt::format("{}.tmp.{}.{}", path, getpid(), serial++);
  auto write = [&]() -> Status {
    Result<FileDescriptor> file = OpenFile(temporary, O_WRONLY | O_CREAT | O_TRUNC);
    if (!file.ok()) return std::move(file).TakeStatus();
    Status status = WriteAt(file.value(), temporary, 0, std::as_bytes(std::span(bytes)));
    if (!status.ok()) return status;
    if (fsync(file.value().get()) != 0) return ErrnoStatus(errno, "fsync " + temporary);
    if (rename(temporary.c_str(), path.c_str()) != 0) {
      return ErrnoStatus(errno, fmt::format("rename {} to {}", temporary, path));
    }
    return {};
  };
  Status status = write();
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return SyncDirectory(parent.empty() ? "." : parent);
}

Status SyncDirectory(const std::string& path) {
  Result<FileDescriptor> directory = OpenFile(path, O_RDONLY | O_DIRECTORY);
  if (!directory.ok()) return std::move(directory).TakeStatus();
  // EINVAL: some network file systems cannot sync a directory, and need not.
  if (fsync(directory.value().get()) != 0 && errno != EINVAL) {
    return ErrnoStatus(errno, fmt::format("fsync {}", path));
  }
  return {};
}

}  // namespace tiercel
