#include "store/resident_part.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
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

std::vector<RowRange> RowsInReach(const Recipe& recipe, std::uint32_t layer_index) {
  const LayerRecipe& layer = recipe.layers[layer_index];
  if (recipe.shard == HeadShard{}) return {{.first = 0, .end = layer.row_count}};
  std::vector<RowRange> ranges;
  for (std::size_t column = 0; column < layer.offsets.size(); ++column) {
    const std::uint64_t offset = layer.offsets[column];
    ranges.push_back({.first = offset, .end = offset + layer.head_sizes[column]});
  }
  return ranges;
}

ResidentPart::Chunks ResidentPart::ChunksOf(const RowPart& part, std::span<const RowRange> wanted) {
  Chunks chunks;
  chunks.slots.resize(ChunkCount(part), kNowhere);
  const std::uint64_t chunk_rows = ChunkRows(part);
  for (const RowRange& range : wanted) {
    for (std::uint64_t chunk = range.first / chunk_rows; chunk * chunk_rows < range.end; ++chunk) {
      if (chunks.slots[chunk] != kNowhere) continue;
      chunks.slots[chunk] = static_cast<std::uint32_t>(chunks.held.size());
      chunks.held.push_back(chunk);
      chunks.row_count += std::min(chunk_rows, RowCount(part) - chunk * chunk_rows);
    }
  }
  return chunks;
}

std::uint64_t ResidentPart::MemoryBytes(const RowPart& part, const Chunks& chunks) noexcept {
  return chunks.row_count * part.size_bytes + chunks.held.size() * (sizeof(std::uint64_t) + 1) +
         chunks.slots.size() * sizeof(std::uint32_t);
}

std::uint64_t ResidentPart::MemoryBytes(const RowPart& part, std::span<const RowRange> wanted) {
  return MemoryBytes(part, ChunksOf(part, wanted));
}

Result<std::unique_ptr<ResidentPart>> ResidentPart::Load(
    const std::vector<TableFile>& files, const RowPart& part, std::span<const RowRange> wanted,
    const ChecksumSidecar* sums, std::function<void(std::string_view)> log) {
  Chunks chunks = ChunksOf(part, wanted);
  const std::uint64_t size_bytes = chunks.row_count * part.size_bytes;
  void* const memory = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    return ErrnoStatus(errno, fmt::format("take {} B for resident scales", size_bytes));
  }
  madvise(memory, size_bytes, MADV_HUGEPAGE);  // Advice: plain pages are as right.
  return std::unique_ptr<ResidentPart>(new ResidentPart(
      files, part, std::move(chunks), sums, std::move(log), static_cast<std::byte*>(memory)));
}

ResidentPart::ResidentPart(const std::vector<TableFile>& files, const RowPart& part, Chunks chunks,
                           const ChecksumSidecar* sums, std::function<void(std::string_view)> log,
                           std::byte* memory)
    : files_(files),
      part_(part),
      chunks_(std::move(chunks)),
      sums_(sums),
      log_(std::move(log)),
      chunk_rows_(ChunkRows(part)),
      memory_bytes_(MemoryBytes(part, chunks_)),
      memory_(memory),
      loaded_(chunks_.held.size()),
      loader_([this] { Run(); }) {}

ResidentPart::~ResidentPart() {
  stop_.store(true, std::memory_order_relaxed);
  loader_.join();
  munmap(memory_, chunks_.row_count * part_.size_bytes);
}

bool ResidentPart::Copy(RowId row, std::span<std::byte> target) const noexcept {
  const std::uint64_t chunk = Index(row) / chunk_rows_;
  const std::uint32_t slot = chunks_.slots[chunk];
  if (slot == kNowhere || loaded_[slot].load(std::memory_order_acquire) == 0) return false;
  // Only the table's last chunk is short, and it lies in the last slot if it is held.
  const std::uint64_t held_row = slot * chunk_rows_ + (Index(row) - chunk * chunk_rows_);
  std::memcpy(target.data(), memory_ + held_row * part_.size_bytes, part_.size_bytes);
  return true;
}

void ResidentPart::Run() {
  std::uint64_t failed_chunks = 0;
  for (std::uint32_t slot = 0; slot < loaded_.size(); ++slot) {
    if (stop_.load(std::memory_order_relaxed)) return;
    Status status = LoadSlot(slot);
    if (status.ok()) {
      loaded_[slot].store(1, std::memory_order_release);
    } else if (failed_chunks++ == 0) {
      log_(fmt::format("scales that could not be loaded are read from disk row by row: {}",
                       status.ToString()));
    }
  }
}

Status ResidentPart::LoadSlot(std::uint32_t slot) {
  const std::uint64_t chunk_first = chunks_.held[slot] * chunk_rows_;
  std::byte* const target = memory_ + slot * chunk_rows_ * part_.size_bytes;
  const std::uint64_t chunk_end = std::min(chunk_first + chunk_rows_, RowCount(part_));
  for (const RowExtent& extent : part_.extents) {
    const std::uint64_t first = std::max(chunk_first, extent.first_row);
    const std::uint64_t end = std::min(chunk_end, extent.first_row + extent.row_count);
    if (first >= end) continue;
    const FileSpan span{extent.offset_bytes + (first - extent.first_row) * part_.size_bytes,
                        (end - first) * part_.size_bytes};
    Status status =
        LoadSpan(extent.file_index, span, target + (first - chunk_first) * part_.size_bytes);
    if (!status.ok()) return status;
  }
  return {};
}

/// Reads `span` of a file to `target`. What is to be checked is read with the whole pages
/// around it, in memory of its own.
Status ResidentPart::LoadSpan(std::uint32_t file_index, FileSpan span, std::byte* target) const {
  const std::string& path = files_[file_index].path;
  Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
  if (!file.ok()) return std::move(file).TakeStatus();
  Status status;
  if (sums_ == nullptr) {
    status = ReadAt(file.value(), path, span.offset_bytes, {target, span.size_bytes});
  } else {
    const FileSpan cover = sums_->Cover(file_index, span.offset_bytes, span.size_bytes);
    std::vector<std::byte> pages(cover.size_bytes);
    status = ReadAt(file.value(), path, cover.offset_bytes, pages);
    if (status.ok() && !sums_->Intact(file_index, cover.offset_bytes, pages)) {
      status =
          Status(StatusCode::kCorruption,
                 fmt::format("{}: a checksum of bytes {} to {} does not hold; `tiercel verify` "
                             "says which",
                             path, cover.offset_bytes, cover.offset_bytes + cover.size_bytes));
    }
    if (status.ok()) {
      std::memcpy(target, pages.data() + (span.offset_bytes - cover.offset_bytes), span.size_bytes);
    }
  }
  // The bytes are ours now; the cached pages would only push others out.
  posix_fadvise(file.value().get(), static_cast<off_t>(span.offset_bytes),
                static_cast<off_t>(span.size_bytes), POSIX_FADV_DONTNEED);
  return status;
}

}  // namespace tiercel
