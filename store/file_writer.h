#ifndef TIERCEL_STORE_FILE_WRITER_H_
#define TIERCEL_STORE_FILE_WRITER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include "base/file.h"
#include "base/mutex.h"
#include "base/thread_annotations.h"
#include "io/aligned_buffer.h"
#include "tiercel/status.h"

namespace tiercel {

/// A file to write, from its first byte to its last.
struct FileJob {
  std::string path;
  std::uint64_t size_bytes = 0;
  /// Makes the next bytes, as many as the span has: chunk_bytes, fewer at the end.
  std::function<Status(std::span<std::byte>)> fill;
  /// A multiple of 4,096, up to FileWriter::kBufferBytes.
  std::size_t chunk_bytes = std::size_t{4} << 20;
  /// Goes on with a file that is there, from this byte; a multiple of 4,096. 0: makes it.
  std::uint64_t start_bytes = 0;
  /// Called with the bytes that came to be made since the last call; false stops the work.
  std::function<bool(std::uint64_t)> wrote;
  /// Called about every sync_bytes with how much of the file is on disk for good, when just
  /// that much has been made. 0: never.
  std::uint64_t sync_bytes = 0;
  std::function<Status(std::uint64_t)> synced;
};

/// Writes files at the disk's speed: the caller's thread makes the bytes
/// while two threads write them with O_DIRECT, from a ring of four 4 MiB buffers.
/// (Two writes in flight: the disk has work while the next one is set up.)
///
/// Threading: one thread at a time calls the public methods.
class FileWriter {
 public:
  /// Takes the buffers and starts the threads. Errors: kResourceExhausted.
  [[nodiscard]] static Result<std::unique_ptr<FileWriter>> Make();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  ~FileWriter();

  /// Writes the file; returns once it is on disk.
  ///
  /// Errors: kAlreadyExists, kResourceExhausted (disk full), kPermissionDenied,
  /// kIoError, kCancelled, what `fill` and `synced` return. A part of the file may then be
  /// there.
  [[nodiscard]] Status Write(const FileJob& job);

  /// False once a file had to be written through the page cache.
  [[nodiscard]] bool direct_io() const noexcept { return direct_io_; }

  static constexpr std::size_t kBufferBytes = std::size_t{4} << 20;

 private:
  static constexpr std::size_t kBufferCount = 4;
  static constexpr std::size_t kWriterCount = 2;

  /// A buffer on its way: chunk i of a file is in slot i % kBufferCount.
  struct Slot {
    AlignedBuffer buffer;
    std::uint64_t offset_bytes = 0;
    std::size_t size_bytes = 0;
    bool busy = false;  ///< Handed to the writers and not written yet.
  };

  FileWriter() = default;
  void RunWriter();
  [[nodiscard]] Result<FileDescriptor> Open(const FileJob& job);
  [[nodiscard]] Status Pump(const FileJob& job, const FileDescriptor& file);
  [[nodiscard]] Status Sync(const FileJob& job, const FileDescriptor& file,
                            std::uint64_t done_bytes);
  void Submit(Slot& slot, std::uint64_t offset_bytes, std::size_t size_bytes);
  void WaitIdle();

  bool direct_io_ = true;
  bool file_is_direct_ = true;  // Of the file being written.

  Mutex mutex_;
  CondVar changed_;
  std::array<Slot, kBufferCount> slots_ TIERCEL_GUARDED_BY(mutex_);
  std::uint64_t chunks_made_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t chunks_taken_ TIERCEL_GUARDED_BY(mutex_) = 0;
  const FileDescriptor* file_ TIERCEL_GUARDED_BY(mutex_) = nullptr;
  std::string path_ TIERCEL_GUARDED_BY(mutex_);
  Status status_ TIERCEL_GUARDED_BY(mutex_);  // The first error of the writers.
  bool stop_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::array<std::thread, kWriterCount> threads_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_FILE_WRITER_H_
