#include "store/make_checkpoint_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <system_error>
#include <utility>

#include "base/errno_status.h"

namespace tiercel {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{4} << 20;
/// Satisfies every file system's O_DIRECT.
constexpr std::size_t kWriteAlignmentBytes = 4096;

}  // namespace

Result<std::unique_ptr<CheckpointWriter>> CheckpointWriter::Make() {
  std::unique_ptr<CheckpointWriter> writer(new CheckpointWriter());
  {
    const MutexLock lock(writer->mutex_);
    for (Slot& slot : writer->slots_) {
      Result<AlignedBuffer> buffer = AlignedBuffer::Make(kBufferBytes, "buffers to write from");
      if (!buffer.ok()) return std::move(buffer).TakeStatus();
      slot.buffer = std::move(buffer).value();
    }
  }
  try {
    for (std::thread& thread : writer->threads_) {
      thread = std::thread([raw = writer.get()] { raw->RunWriter(); });
    }
  } catch (const std::system_error& error) {
    return ErrnoStatus(error.code().value(), "start a thread that writes");
  }
  return writer;
}

CheckpointWriter::~CheckpointWriter() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
    changed_.NotifyAll();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void CheckpointWriter::RunWriter() {
  while (true) {
    Slot* slot = nullptr;
    const FileDescriptor* file = nullptr;
    const std::string* path = nullptr;
    {
      const MutexLock lock(mutex_);
      while (!stop_ && chunks_taken_ == chunks_made_) changed_.Wait(mutex_);
      if (stop_) return;
      slot = &slots_[chunks_taken_++ % kBufferCount];
      file = file_;
      path = &path_;
      if (!status_.ok()) file = nullptr;  // After an error the rest is dropped.
    }
    Status status;
    if (file != nullptr) {
      status = WriteAt(*file, *path, slot->offset_bytes,
                       std::span<const std::byte>(slot->buffer.data(), slot->size_bytes));
    }
    const MutexLock lock(mutex_);
    if (!status.ok() && status_.ok()) status_ = std::move(status);
    slot->busy = false;
    changed_.NotifyAll();
  }
}

Result<FileDescriptor> CheckpointWriter::Create(const std::string& path, std::uint64_t size_bytes) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL;
  Result<FileDescriptor> file = OpenFile(path, kFlags | O_DIRECT);
  file_is_direct_ = file.ok();
  if (!file.ok() && file.status().os_error() == EINVAL) {
    // The file system has no O_DIRECT. Some have made the file all the same.
    direct_io_ = false;
    unlink(path.c_str());
    file = OpenFile(path, kFlags);
  }
  if (!file.ok()) return file;
  // Takes the space now: a full disk is noticed early, and the writes need not extend
  // the file, which would make them wait for each other.
  int error = 0;
  do {
    error = fallocate(file.value().get(), 0, 0, static_cast<off_t>(size_bytes)) == 0 ? 0 : errno;
  } while (error == EINTR);
  if (error != 0 && error != EOPNOTSUPP && error != ENOSYS) {
    return ErrnoStatus(error, fmt::format("reserve {} B for {}", size_bytes, path));
  }
  return file;
}

void CheckpointWriter::WaitIdle() {
  const MutexLock lock(mutex_);
  while (std::any_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.busy; })) {
    changed_.Wait(mutex_);
  }
}

Status CheckpointWriter::Pump(const PlannedFile& file,
                              const std::function<bool(std::uint64_t)>& wrote) {
  PlannedFileStream stream(file);
  for (std::uint64_t offset = 0; offset < file.size_bytes; offset += kBufferBytes) {
    const std::size_t size_bytes = std::min<std::uint64_t>(kBufferBytes, file.size_bytes - offset);
    Slot* slot = nullptr;
    {
      const MutexLock lock(mutex_);
      slot = &slots_[chunks_made_ % kBufferCount];
      while (slot->busy) changed_.Wait(mutex_);
      if (!status_.ok()) return std::move(status_);
    }
    stream.Next({slot->buffer.data(), size_bytes});
    // O_DIRECT writes whole blocks; what the last one has too much is cut off later.
    const std::size_t padded_bytes =
        (size_bytes + kWriteAlignmentBytes - 1) / kWriteAlignmentBytes * kWriteAlignmentBytes;
    std::memset(slot->buffer.data() + size_bytes, 0, padded_bytes - size_bytes);
    {
      const MutexLock lock(mutex_);
      slot->offset_bytes = offset;
      slot->size_bytes = file_is_direct_ ? padded_bytes : size_bytes;
      slot->busy = true;
      ++chunks_made_;
      changed_.NotifyAll();
    }
    if (!wrote(size_bytes)) {
      return Status(StatusCode::kCancelled, fmt::format("stopped while writing {}", file.name));
    }
  }
  return {};
}

Status CheckpointWriter::WriteFile(const std::string& path, const PlannedFile& file,
                                   const std::function<bool(std::uint64_t)>& wrote) {
  Result<FileDescriptor> created = Create(path, file.size_bytes);
  if (!created.ok()) return std::move(created).TakeStatus();
  {
    const MutexLock lock(mutex_);
    file_ = &created.value();
    path_ = path;
    status_ = Status();
  }
  Status status = Pump(file, wrote);
  WaitIdle();
  {
    const MutexLock lock(mutex_);
    file_ = nullptr;
    if (status.ok()) status = std::move(status_);
  }
  if (!status.ok()) return status;
  if (ftruncate(created.value().get(), static_cast<off_t>(file.size_bytes)) != 0) {
    return ErrnoStatus(errno, fmt::format("set the size of {}", path));
  }
  if (fsync(created.value().get()) != 0) return ErrnoStatus(errno, fmt::format("fsync {}", path));
  return {};
}

}  // namespace tiercel
