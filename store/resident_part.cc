#include "store/resident_part.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/errno_status.h"
#include "base/file.h"

namespace tiercel {
namespace {

constexpr std::uint64_t kChunkBytes = 1 << 20;

std::uint64_t RowCount(const RowPart& part) noexcept {
  return part.extents.empty() ? 0 : part.extents.back().first_row + part.extents.back().row_count;
}

std::uint64_t ChunkRows(const RowPart& part) noexcept {
  return std::max<std::uint64_t>(1, kChunkBytes / part.size_bytes);
}

std::uint64_t ChunkCount(const RowPart& part) noexcept {
  return (RowCount(part) + ChunkRows(part) - 1) / ChunkRows(part);
}

}  // namespace

std::uint64_t ResidentPart::MemoryBytes(const RowPart& part) noexcept {
  return RowCount(part) * part.size_bytes + ChunkCount(part);
}

Result<std::unique_ptr<ResidentPart>> ResidentPart::Load(
    const std::vector<TableFile>& files, const RowPart& part,
    std::function<void(std::string_view)> log) {
  const std::uint64_t size_bytes = RowCount(part) * part.size_bytes;
  void* const memory = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    return ErrnoStatus(errno, fmt::format("take {} B for resident scales", size_bytes));
  }
  madvise(memory, size_bytes, MADV_HUGEPAGE);  // Advice: plain pages are as right.
  return std::unique_ptr<ResidentPart>(
      new ResidentPart(files, part, std::move(log), static_cast<std::byte*>(memory)));
}

ResidentPart::ResidentPart(const std::vector<TableFile>& files, const RowPart& part,
                           std::function<void(std::string_view)> log, std::byte* memory)
    : files_(files),
      part_(part),
      log_(std::move(log)),
      chunk_rows_(ChunkRows(part)),
      memory_bytes_(MemoryBytes(part)),
      memory_(memory),
      loaded_(ChunkCount(part)),
      loader_([this] { Run(); }) {}

ResidentPart::~ResidentPart() {
  stop_.store(true, std::memory_order_relaxed);
  loader_.join();
  munmap(memory_, RowCount(part_) * part_.size_bytes);
}

bool ResidentPart::Copy(RowId row, std::span<std::byte> target) const noexcept {
  if (loaded_[Index(row) / chunk_rows_].load(std::memory_order_acquire) == 0) return false;
  std::memcpy(target.data(), memory_ + Index(row) * part_.size_bytes, part_.size_bytes);
  return true;
}

void ResidentPart::Run() {
  std::uint64_t failed_chunks = 0;
  for (std::uint64_t chunk = 0; chunk < loaded_.size(); ++chunk) {
    if (stop_.load(std::memory_order_relaxed)) return;
    Status status = LoadChunk(chunk);
    if (status.ok()) {
      loaded_[chunk].store(1, std::memory_order_release);
    } else if (failed_chunks++ == 0) {
      log_(fmt::format("scales that could not be loaded are read from disk row by row: {}",
                       status.ToString()));
    }
  }
}

Status ResidentPart::LoadChunk(std::uint64_t chunk) {
  const std::uint64_t chunk_first = chunk * chunk_rows_;
  const std::uint64_t chunk_end = std::min(chunk_first + chunk_rows_, RowCount(part_));
  for (const RowExtent& extent : part_.extents) {
    const std::uint64_t first = std::max(chunk_first, extent.first_row);
    const std::uint64_t end = std::min(chunk_end, extent.first_row + extent.row_count);
    if (first >= end) continue;
    const std::string& path = files_[extent.file_index].path;
    Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
    if (!file.ok()) return std::move(file).TakeStatus();
    const std::uint64_t offset_bytes =
        extent.offset_bytes + (first - extent.first_row) * part_.size_bytes;
    const std::uint64_t size_bytes = (end - first) * part_.size_bytes;
    Status status =
        ReadAt(file.value(), path, offset_bytes, {memory_ + first * part_.size_bytes, size_bytes});
    // The bytes are ours now; the cached pages would only push others out.
    posix_fadvise(file.value().get(), static_cast<off_t>(offset_bytes),
                  static_cast<off_t>(size_bytes), POSIX_FADV_DONTNEED);
    if (!status.ok()) return status;
  }
  return {};
}

}  // namespace tiercel
