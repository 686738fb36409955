#ifndef TIERCEL_STORE_RANGE_READER_H_
#define TIERCEL_STORE_RANGE_READER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/mutex.h"
#include "base/thread_annotations.h"
#include "io/aligned_buffer.h"
#include "tiercel/checkpoint.h"
#include "tiercel/status.h"

namespace tiercel {

/// Bytes of one file of a list, to be read in one piece.
struct FileRange {
  std::uint32_t file_index = 0;
  std::uint64_t offset_bytes = 0;
  std::size_t size_bytes = 0;
};

/// Reads ranges of files in order and ahead of the caller: two threads read with O_DIRECT
/// into a ring of eight buffers, so that a disk is kept at its sequential speed.
///
/// Threading: one thread at a time calls the public methods.
class RangeReader {
 public:
  /// What became of a range.
  struct Got {
    std::span<const std::byte> bytes;  ///< What could be read, from the range's start on.
    int os_error = 0;                  ///< 0: all of it, or up to the file's end.
  };
  static constexpr std::size_t kHeldMax = 4;

  /// Files that cannot be opened fail their ranges, unless none can.
  /// Errors: kResourceExhausted, kPermissionDenied, kIoError (no file can be opened).
  [[nodiscard]] static Result<std::unique_ptr<RangeReader>> Make(
      const std::vector<TableFile>& files, std::vector<FileRange> ranges);
  RangeReader(const RangeReader&) = delete;
  RangeReader& operator=(const RangeReader&) = delete;
  ~RangeReader();

  /// Waits for the next range. Its bytes are valid until Release(). At most kHeldMax
  /// may be held.
  /// REQUIRES: fewer calls so far than there are ranges.
  [[nodiscard]] Got Next();

  /// Gives back the buffers of all that Next() returned.
  void Release();

  /// Why a file could not be opened; empty if it could.
  [[nodiscard]] const std::string& open_error(std::uint32_t file_index) const noexcept {
    return opened_[file_index].error;
  }

  /// Reads at once, on the caller's thread, at any alignment: for what is left of a range
  /// that failed. Errors: as ReadAt(); why the file could not be opened.
  [[nodiscard]] Status ReadAgain(std::uint32_t file_index, std::uint64_t offset_bytes,
                                 std::span<std::byte> target) const;

 private:
  /// A file, opened twice: the second way is for reads that O_DIRECT cannot do.
  struct OpenedFile {
    FileDescriptor direct;  ///< Not valid where the file system has no O_DIRECT.
    FileDescriptor buffered;
    std::string error;  ///< Why it could not be opened; empty if it could.
  };
  struct Slot {
    AlignedBuffer buffer;
    std::span<const std::byte> bytes;
    int os_error = 0;
    bool full = false;
  };
  static constexpr std::size_t kBufferCount = 8;
  static constexpr std::size_t kReaderCount = 2;

  RangeReader(const std::vector<TableFile>& files, std::vector<FileRange> ranges)
      : files_(files), ranges_(std::move(ranges)) {}
  [[nodiscard]] Status OpenAll();
  void RunReader();
  [[nodiscard]] Got Read(const FileRange& range, const AlignedBuffer& buffer) const;

  const std::vector<TableFile>& files_;
  const std::vector<FileRange> ranges_;
  std::vector<OpenedFile> opened_;
  std::uint64_t next_ = 0;
  Mutex mutex_;
  CondVar changed_;
  std::array<Slot, kBufferCount> slots_ TIERCEL_GUARDED_BY(mutex_);
  std::uint64_t taken_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t released_ TIERCEL_GUARDED_BY(mutex_) = 0;
  bool stop_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::array<std::thread, kReaderCount> threads_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_RANGE_READER_H_
