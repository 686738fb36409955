#include "store/file_writer.h"

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

/// Satisfies every file system's O_DIRECT.
constexpr std::size_t kWriteAlignmentBytes = 4096;

}  // namespace

Result<std::unique_ptr<FileWriter>> FileWriter::Make() {
  std::unique_ptr<FileWriter> writer(new FileWriter());
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

FileWriter::~FileWriter() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
    changed_.NotifyAll();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void FileWriter::RunWriter() {
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

Result<FileDescriptor> FileWriter::Open(const FileJob& job) {
  const std::string& path = job.path;
  const bool resumed = job.start_bytes > 0;
  const int flags = O_WRONLY | (resumed ? 0 : O_CREAT | O_EXCL);
  Result<FileDescriptor> file = OpenFile(path, flags | O_DIRECT);
  file_is_direct_ = file.ok();
  if (!file.ok() && file.status().os_error() == EINVAL) {
    // The file system has no O_DIRECT. Some have made the file all the same.
    direct_io_ = false;
    if (!resumed) unlink(path.c_str());
    file = OpenFile(path, flags);
  }
  if (!file.ok()) return file;
  // Takes the space now: a full disk is noticed early, and the writes need not extend
  // the file, which would make them wait for each other.
  int error = 0;
  do {
    error =
        fallocate(file.value().get(), 0, 0, static_cast<off_t>(job.size_bytes)) == 0 ? 0 : errno;
  } while (error == EINTR);
  if (error != 0 && error != EOPNOTSUPP && error != ENOSYS) {
    return ErrnoStatus(error, fmt::format("reserve {} B for {}", job.size_bytes, path));
  }
  return file;
}

void FileWriter::WaitIdle() {
  const MutexLock lock(mutex_);
  while (std::any_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.busy; })) {
    changed_.Wait(mutex_);
  }
}

/// Hands a filled buffer to the writers.
void FileWriter::Submit(Slot& slot, std::uint64_t offset_bytes, std::size_t size_bytes) {
  // O_DIRECT writes whole blocks; what the last one has too much is cut off later.
  const std::size_t padded_bytes =
      (size_bytes + kWriteAlignmentBytes - 1) / kWriteAlignmentBytes * kWriteAlignmentBytes;
  std::memset(slot.buffer.data() + size_bytes, 0, padded_bytes - size_bytes);
  const MutexLock lock(mutex_);
  slot.offset_bytes = offset_bytes;
  slot.size_bytes = file_is_direct_ ? padded_bytes : size_bytes;
  slot.busy = true;
  ++chunks_made_;
  changed_.NotifyAll();
}

Status FileWriter::Sync(const FileJob& job, const FileDescriptor& file, std::uint64_t done_bytes) {
  WaitIdle();
  {
    const MutexLock lock(mutex_);
    if (!status_.ok()) return std::move(status_);
  }
  if (fdatasync(file.get()) != 0) return ErrnoStatus(errno, fmt::format("fsync {}", job.path));
  return job.synced(done_bytes);
}

Status FileWriter::Pump(const FileJob& job, const FileDescriptor& file) {
  std::uint64_t synced_bytes = job.start_bytes;
  for (std::uint64_t offset = job.start_bytes; offset < job.size_bytes;) {
    const std::size_t size_bytes =
        std::min<std::uint64_t>(job.chunk_bytes, job.size_bytes - offset);
    Slot* slot = nullptr;
    {
      const MutexLock lock(mutex_);
      slot = &slots_[chunks_made_ % kBufferCount];
      while (slot->busy) changed_.Wait(mutex_);
      if (!status_.ok()) return std::move(status_);
    }
    if (Status status = job.fill({slot->buffer.data(), size_bytes}); !status.ok()) return status;
    Submit(*slot, offset, size_bytes);
    offset += size_bytes;
    if (job.wrote && !job.wrote(size_bytes)) {
      return Status(StatusCode::kCancelled, fmt::format("stopped while writing {}", job.path));
    }
    if (job.sync_bytes > 0 && offset - synced_bytes >= job.sync_bytes) {
      if (Status status = Sync(job, file, offset); !status.ok()) return status;
      synced_bytes = offset;
    }
  }
  return {};
}

Status FileWriter::Write(const FileJob& job) {
  Result<FileDescriptor> opened = Open(job);
  if (!opened.ok()) return std::move(opened).TakeStatus();
  const FileDescriptor& file = opened.value();
  {
    const MutexLock lock(mutex_);
    file_ = &file;
    path_ = job.path;
    status_ = Status();
  }
  Status status = Pump(job, file);
  WaitIdle();
  {
    const MutexLock lock(mutex_);
    file_ = nullptr;
    if (status.ok()) status = std::move(status_);
  }
  if (!status.ok()) return status;
  if (ftruncate(file.get(), static_cast<off_t>(job.size_bytes)) != 0) {
    return ErrnoStatus(errno, fmt::format("set the size of {}", job.path));
  }
  if (fsync(file.get()) != 0) return ErrnoStatus(errno, fmt::format("fsync {}", job.path));
  return {};
}

}  // namespace tiercel
