#ifndef TIERCEL_BASE_FILE_H_
#define TIERCEL_BASE_FILE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "tiercel/status.h"

namespace tiercel {

/// Owns a file descriptor. Move-only; closes in the destructor.
class FileDescriptor {
 public:
  FileDescriptor() noexcept = default;
  explicit FileDescriptor(int fd) noexcept : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool valid() const noexcept { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// open(2) with O_CLOEXEC added. Errors: as ErrnoStatus; the message names `path`.
[[nodiscard]] Result<FileDescriptor> OpenFile(const std::string& path, int flags,
                                              unsigned mode = 0644);

/// Size of a regular file or block device. Errors: kInvalidArgument (neither), as ErrnoStatus.
[[nodiscard]] Result<std::uint64_t> FileSizeBytes(const FileDescriptor& file,
                                                  const std::string& path);

/// Fills `target` from `offset_bytes` on; short reads and EINTR are carried on.
/// Errors: kCorruption (the file ends before the target is full), kIoError. `target`
/// is then unspecified.
[[nodiscard]] Status ReadAt(const FileDescriptor& file, const std::string& path,
                            std::uint64_t offset_bytes, std::span<std::byte> target);

/// Writes all of `bytes` at `offset_bytes`. Errors: kResourceExhausted (disk full), kIoError.
[[nodiscard]] Status WriteAt(const FileDescriptor& file, const std::string& path,
                             std::uint64_t offset_bytes, std::span<const std::byte> bytes);

/// The whole file. Errors: kInvalidArgument (larger than `size_bytes_max`), as ErrnoStatus.
[[nodiscard]] Result<std::string> ReadWholeFile(const std::string& path,
                                                std::uint64_t size_bytes_max);

/// What a file of the kernel's says (/proc, /sys), which has no size to ask for: its first
/// 16 KiB. Empty if it cannot be read.
[[nodiscard]] std::string ReadKernelFile(const std::string& path);

/// Puts `bytes` at `path` so that a crash leaves the old file or the new one:
/// write beside it, fsync, rename, fsync the directory.
/// Errors: as ErrnoStatus; `path` then holds what it held before, unless it was the
/// directory's fsync that failed: then it holds `bytes`, perhaps not durably.
[[nodiscard]] Status WriteFileAtomically(const std::string& path, std::string_view bytes);

/// fsync of a directory: makes a rename in it durable.
[[nodiscard]] Status SyncDirectory(const std::string& path);

}  // namespace tiercel

#endif  // TIERCEL_BASE_FILE_H_
