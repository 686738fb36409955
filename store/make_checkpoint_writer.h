#ifndef TIERCEL_STORE_MAKE_CHECKPOINT_WRITER_H_
#define TIERCEL_STORE_MAKE_CHECKPOINT_WRITER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "base/file.h"
#include "base/mutex.h"
#include "base/thread_annotations.h"
#include "io/aligned_buffer.h"
#include "store/make_checkpoint_plan.h"
#include "tiercel/status.h"

namespace tiercel {

/// Writes planned files at the disk's speed: the caller's thread makes the bytes
/// while two threads write them with O_DIRECT, from a ring of four 4 MiB buffers.
/// (Two writes in flight: the disk has work while the next one is set up.)
///
/// Threading: one thread at a time calls the public methods.
class CheckpointWriter {
 public:
  /// Takes the buffers and starts the threads. Errors: kResourceExhausted.
  [[nodiscard]] static Result<std::unique_ptr<CheckpointWriter>> Make();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;
  ~CheckpointWriter();

  /// Makes `path` and writes `file` into it; returns once it is on disk.
  ///
  ///   wrote  called with the bytes that came to be made since the last call;
  ///          returning false stops the work.
  ///
  /// Errors: kAlreadyExists, kResourceExhausted (disk full), kPermissionDenied,
  /// kIoError, kCancelled. `path` may then hold a part of the file.
  [[nodiscard]] Status WriteFile(const std::string& path, const PlannedFile& file,
                                 const std::function<bool(std::uint64_t)>& wrote);

  /// False once a file had to be written through the page cache.
  [[nodiscard]] bool direct_io() const noexcept { return direct_io_; }

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

  CheckpointWriter() = default;
  void RunWriter();
  [[nodiscard]] Result<FileDescriptor> Create(const std::string& path, std::uint64_t size_bytes);
  [[nodiscard]] Status Pump(const PlannedFile& file,
                            const std::function<bool(std::uint64_t)>& wrote);
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

#endif  // TIERCEL_STORE_MAKE_CHECKPOINT_WRITER_H_
