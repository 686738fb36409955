#include "store/range_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/errno_status.h"

namespace tiercel {
namespace {

constexpr std::uint64_t kReadAlignmentBytes = 4096;

}  // namespace

Result<std::unique_ptr<RangeReader>> RangeReader::Make(const std::vector<TableFile>& files,
                                                       std::vector<FileRange> ranges) {
  std::unique_ptr<RangeReader> reader(new RangeReader(files, std::move(ranges)));
  if (Status status = reader->OpenAll(); !status.ok()) return status;
  std::size_t largest_bytes = 0;
  for (const FileRange& range : reader->ranges_) {
    largest_bytes = std::max(largest_bytes, range.size_bytes);
  }
  {
    const MutexLock lock(reader->mutex_);
    for (Slot& slot : reader->slots_) {
      // A range may start and end within a block.
      Result<AlignedBuffer> buffer =
          AlignedBuffer::Make(largest_bytes + 2 * kReadAlignmentBytes, "buffers to read tables");
      if (!buffer.ok()) return std::move(buffer).TakeStatus();
      slot.buffer = std::move(buffer).value();
    }
  }
  try {
    for (std::thread& thread : reader->threads_) {
      thread = std::thread([raw = reader.get()] { raw->RunReader(); });
    }
  } catch (const std::system_error& error) {
    return ErrnoStatus(error.code().value(), "start a thread that reads");
  }
  return reader;
}

RangeReader::~RangeReader() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
    changed_.NotifyAll();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

Status RangeReader::OpenAll() {
  Status first_error;
  bool any = files_.empty();
  for (const TableFile& table_file : files_) {
    OpenedFile& file = opened_.emplace_back();
    Result<FileDescriptor> buffered = OpenFile(table_file.path, O_RDONLY);
    if (!buffered.ok()) {
      Status status = std::move(buffered).TakeStatus();
      file.error = status.message();
      if (first_error.ok()) first_error = std::move(status);
      continue;
    }
    any = true;
    file.buffered = std::move(buffered).value();
    Result<FileDescriptor> direct = OpenFile(table_file.path, O_RDONLY | O_DIRECT);
    if (direct.ok()) file.direct = std::move(direct).value();
  }
  if (any || first_error.code() == StatusCode::kPermissionDenied) {
    return any ? Status() : std::move(first_error);
  }
  return Status(StatusCode::kIoError, std::string(first_error.message()), first_error.os_error());
}

RangeReader::Got RangeReader::Next() {
  const MutexLock lock(mutex_);
  TIERCEL_CHECK(next_ < ranges_.size() && next_ < released_ + kHeldMax);
  Slot& slot = slots_[next_++ % kBufferCount];
  while (!slot.full) changed_.Wait(mutex_);
  return {slot.bytes, slot.os_error};
}

void RangeReader::Release() {
  const MutexLock lock(mutex_);
  while (released_ < next_) slots_[released_++ % kBufferCount].full = false;
  changed_.NotifyAll();
}

Status RangeReader::ReadAgain(std::uint32_t file_index, std::uint64_t offset_bytes,
                              std::span<std::byte> target) const {
  const OpenedFile& file = opened_[file_index];
  if (!file.error.empty()) return Status(StatusCode::kIoError, file.error);
  return ReadAt(file.buffered, files_[file_index].path, offset_bytes, target);
}

void RangeReader::RunReader() {
  while (true) {
    std::uint64_t index = 0;
    Slot* slot = nullptr;
    {
      const MutexLock lock(mutex_);
      while (!stop_ && taken_ < ranges_.size() && taken_ >= released_ + kBufferCount) {
        changed_.Wait(mutex_);
      }
      if (stop_ || taken_ == ranges_.size()) return;
      index = taken_++;
      slot = &slots_[index % kBufferCount];
    }
    const Got got = Read(ranges_[index], slot->buffer);
    const MutexLock lock(mutex_);
    slot->bytes = got.bytes;
    slot->os_error = got.os_error;
    slot->full = true;
    changed_.NotifyAll();
  }
}

RangeReader::Got RangeReader::Read(const FileRange& range, const AlignedBuffer& buffer) const {
  const OpenedFile& file = opened_[range.file_index];
  if (!file.error.empty()) return {{}, ENOENT};
  const int fd = file.direct.valid() ? file.direct.get() : file.buffered.get();
  const std::uint64_t start = range.offset_bytes / kReadAlignmentBytes * kReadAlignmentBytes;
  const auto skip = static_cast<std::size_t>(range.offset_bytes - start);
  const std::size_t want = (skip + range.size_bytes + kReadAlignmentBytes - 1) /
                           kReadAlignmentBytes * kReadAlignmentBytes;
  std::size_t done = 0;
  int os_error = 0;
  while (done < want) {
    const ssize_t got =
        pread(fd, buffer.data() + done, want - done, static_cast<off_t>(start + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) os_error = errno;
    if (got <= 0) break;
    done += static_cast<std::size_t>(got);
    // A read that ends within a block has met the end of the file.
    if (done % kReadAlignmentBytes != 0) break;
  }
  const std::size_t size_bytes = done > skip ? std::min(done - skip, range.size_bytes) : 0;
  return {{buffer.data() + skip, size_bytes}, size_bytes == range.size_bytes ? 0 : os_error};
}

}  // namespace tiercel
