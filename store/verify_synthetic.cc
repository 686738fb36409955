#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/errno_status.h"
#include "base/file.h"
#include "base/mutex.h"
#include "base/thread_annotations.h"
#include "io/aligned_buffer.h"
#include "store/synthetic.h"
#include "tiercel/synthetic.h"

namespace tiercel {
namespace {

constexpr std::size_t kVerifyChunkBytes = std::size_t{4} << 20;
constexpr std::uint64_t kReadAlignmentBytes = 4096;
constexpr std::size_t kBufferCount = 4;
constexpr std::size_t kReaderCount = 2;
constexpr std::size_t kFindingsMax = 10;

/// Whole rows that lie one after another in one file, to be read and compared at once.
struct Chunk {
  const LayerTable* layer;
  const RowExtent* extent;
  std::uint32_t part;
  std::uint64_t first_row;  ///< Row id.
  std::uint64_t row_count;
  std::uint64_t offset_bytes;
  std::size_t size_bytes;
};

/// All chunks of a checkpoint, in file order.
std::vector<Chunk> ChunksOf(const CheckpointInfo& checkpoint) {
  std::vector<Chunk> chunks;
  for (const LayerTable& layer : checkpoint.layers) {
    for (std::uint32_t part = 0; part < layer.parts.size(); ++part) {
      const std::uint64_t row_bytes = layer.parts[part].size_bytes;
      const std::uint64_t chunk_rows = std::max<std::uint64_t>(1, kVerifyChunkBytes / row_bytes);
      for (const RowExtent& extent : layer.parts[part].extents) {
        for (std::uint64_t row = 0; row < extent.row_count; row += chunk_rows) {
          const std::uint64_t rows = std::min(chunk_rows, extent.row_count - row);
          chunks.push_back({.layer = &layer,
                            .extent = &extent,
                            .part = part,
                            .first_row = extent.first_row + row,
                            .row_count = rows,
                            .offset_bytes = extent.offset_bytes + row * row_bytes,
                            .size_bytes = rows * row_bytes});
        }
      }
    }
  }
  std::sort(chunks.begin(), chunks.end(), [](const Chunk& a, const Chunk& b) {
    return a.extent->file_index != b.extent->file_index
               ? a.extent->file_index < b.extent->file_index
               : a.offset_bytes < b.offset_bytes;
  });
  return chunks;
}

/// A file to verify, opened twice: the second way is for rows that O_DIRECT cannot
/// be used for one by one.
struct OpenedFile {
  FileDescriptor direct;  ///< Not valid where the file system has no O_DIRECT.
  FileDescriptor buffered;
  std::string error;  ///< Why it could not be opened; empty if it could.
};

/// Reads chunks ahead of the caller, on threads of its own, into a ring of buffers.
///
/// Threading: one thread at a time calls the public methods.
class ChunkReader {
 public:
  /// What became of a chunk.
  struct Chunkful {
    std::span<const std::byte> bytes;  ///< What could be read, from the chunk's start on.
    int os_error = 0;                  ///< 0: all of it, or up to the file's end.
  };

  /// `chunks` and `files` must outlive the reader. Errors: kResourceExhausted.
  static Result<std::unique_ptr<ChunkReader>> Make(const std::vector<Chunk>& chunks,
                                                   const std::vector<OpenedFile>& files) {
    std::unique_ptr<ChunkReader> reader(new ChunkReader(chunks, files));
    std::size_t largest_bytes = 0;
    for (const Chunk& chunk : chunks) largest_bytes = std::max(largest_bytes, chunk.size_bytes);
    {
      const MutexLock lock(reader->mutex_);
      for (Slot& slot : reader->slots_) {
        // A chunk may start and end within a block.
        Result<AlignedBuffer> buffer =
            AlignedBuffer::Make(largest_bytes + 2 * kReadAlignmentBytes, "buffers to verify with");
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
  ChunkReader(const ChunkReader&) = delete;
  ChunkReader& operator=(const ChunkReader&) = delete;
  ~ChunkReader() {
    {
      const MutexLock lock(mutex_);
      stop_ = true;
      changed_.NotifyAll();
    }
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }

  /// Waits for the next chunk in order. Its bytes are valid until Release().
  /// REQUIRES: fewer calls so far than there are chunks.
  Chunkful Next() {
    const MutexLock lock(mutex_);
    Slot& slot = slots_[released_ % kBufferCount];
    while (!slot.full) changed_.Wait(mutex_);
    return {slot.bytes, slot.os_error};
  }

  /// Gives the buffer of the last Next() back.
  void Release() {
    const MutexLock lock(mutex_);
    slots_[released_++ % kBufferCount].full = false;
    changed_.NotifyAll();
  }

 private:
  struct Slot {
    AlignedBuffer buffer;
    std::span<const std::byte> bytes;
    int os_error = 0;
    bool full = false;
  };

  ChunkReader(const std::vector<Chunk>& chunks, const std::vector<OpenedFile>& files)
      : chunks_(chunks), files_(files) {}

  void RunReader() {
    while (true) {
      std::uint64_t index = 0;
      Slot* slot = nullptr;
      {
        const MutexLock lock(mutex_);
        while (!stop_ && taken_ < chunks_.size() && taken_ >= released_ + kBufferCount) {
          changed_.Wait(mutex_);
        }
        if (stop_ || taken_ == chunks_.size()) return;
        index = taken_++;
        slot = &slots_[index % kBufferCount];
      }
      const Chunkful read = Read(chunks_[index], slot->buffer);
      const MutexLock lock(mutex_);
      slot->bytes = read.bytes;
      slot->os_error = read.os_error;
      slot->full = true;
      changed_.NotifyAll();
    }
  }

  Chunkful Read(const Chunk& chunk, const AlignedBuffer& buffer) const {
    const OpenedFile& file = files_[chunk.extent->file_index];
    if (!file.error.empty()) return {{}, ENOENT};
    const int fd = file.direct.valid() ? file.direct.get() : file.buffered.get();
    const std::uint64_t start = chunk.offset_bytes / kReadAlignmentBytes * kReadAlignmentBytes;
    const auto skip = static_cast<std::size_t>(chunk.offset_bytes - start);
    const std::size_t want = (skip + chunk.size_bytes + kReadAlignmentBytes - 1) /
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
    const std::size_t size_bytes = done > skip ? std::min(done - skip, chunk.size_bytes) : 0;
    return {{buffer.data() + skip, size_bytes}, size_bytes == chunk.size_bytes ? 0 : os_error};
  }

  const std::vector<Chunk>& chunks_;
  const std::vector<OpenedFile>& files_;
  Mutex mutex_;
  CondVar changed_;
  std::array<Slot, kBufferCount> slots_ TIERCEL_GUARDED_BY(mutex_);
  std::uint64_t taken_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t released_ TIERCEL_GUARDED_BY(mutex_) = 0;
  bool stop_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::array<std::thread, kReaderCount> threads_;
};

/// Compares chunks with the generator and keeps the books.
///
/// Threading: one thread at a time.
class Verifier {
 public:
  Verifier(const CheckpointInfo& checkpoint, const std::vector<OpenedFile>& files)
      : checkpoint_(checkpoint), files_(files) {}

  void Check(const Chunk& chunk, const ChunkReader::Chunkful& read) {
    const std::size_t row_bytes = chunk.layer->parts[chunk.part].size_bytes;
    // A row is counted where its first part is met.
    if (chunk.part == 0) report_.rows_checked += chunk.row_count;
    const std::uint64_t whole_rows = read.bytes.size() / row_bytes;
    CheckRows(chunk, 0, read.bytes.first(whole_rows * row_bytes));
    if (whole_rows == chunk.row_count) return;
    if (read.os_error != 0 && files_[chunk.extent->file_index].error.empty()) {
      Retry(chunk, whole_rows, row_bytes);
    } else {
      AddUnreadable(
          chunk, whole_rows, chunk.row_count - whole_rows,
          read.os_error != 0 ? files_[chunk.extent->file_index].error : "the file ends before it");
    }
  }

  VerifyReport TakeReport() { return std::move(report_); }

 private:
  void CheckRows(const Chunk& chunk, std::uint64_t first, std::span<const std::byte> bytes) {
    const std::size_t row_bytes = chunk.layer->parts[chunk.part].size_bytes;
    const std::uint64_t row_count = bytes.size() / row_bytes;
    // Small pieces stay in the core's cache between making and comparing.
    const std::uint64_t piece_rows = std::max<std::uint64_t>(1, (32U << 10) / row_bytes);
    expected_.resize(piece_rows * row_bytes);
    for (std::uint64_t row = 0; row < row_count; row += piece_rows) {
      const std::uint64_t rows = std::min(piece_rows, row_count - row);
      const std::span<std::byte> expected = std::span(expected_).first(rows * row_bytes);
      const std::byte* const got = bytes.data() + row * row_bytes;
      FillSyntheticPart({.seed = *checkpoint_.synthetic_seed,
                         .layer_id = chunk.layer->layer_id,
                         .shape = chunk.layer->shape},
                        chunk.part, chunk.first_row + first + row, rows, expected);
      if (std::memcmp(expected.data(), got, expected.size()) == 0) continue;
      for (std::uint64_t i = 0; i < rows; ++i) {
        const std::span<const std::byte> want = expected.subspan(i * row_bytes, row_bytes);
        CheckRow(chunk, first + row + i, want, {got + i * row_bytes, row_bytes});
      }
    }
  }

  void CheckRow(const Chunk& chunk, std::uint64_t row, std::span<const std::byte> want,
                std::span<const std::byte> got) {
    const auto at = std::mismatch(want.begin(), want.end(), got.begin()).first - want.begin();
    if (at == static_cast<std::ptrdiff_t>(want.size())) return;
    ++report_.rows_different;
    if (report_.findings.size() >= kFindingsMax) return;
    std::size_t different = 0;
    for (std::size_t i = 0; i < want.size(); ++i) different += want[i] != got[i];
    AddFinding(chunk, row,
               fmt::format("differs from what was written: {} of its {} B, the first at byte {} of "
                           "the file",
                           different, want.size(), OffsetOf(chunk, row) + at));
  }

  /// Reads rows one by one, to tell bad ones from good ones beside them.
  void Retry(const Chunk& chunk, std::uint64_t first, std::size_t row_bytes) {
    const std::uint32_t file_index = chunk.extent->file_index;
    row_.resize(row_bytes);
    for (std::uint64_t row = first; row < chunk.row_count; ++row) {
      const Status status = ReadAt(files_[file_index].buffered, checkpoint_.files[file_index].path,
                                   OffsetOf(chunk, row), row_);
      if (status.ok()) {
        CheckRows(chunk, row, row_);
      } else {
        AddUnreadable(chunk, row, 1, status.message());
      }
    }
  }

  void AddUnreadable(const Chunk& chunk, std::uint64_t first, std::uint64_t row_count,
                     std::string_view why) {
    report_.rows_unreadable += row_count;
    for (std::uint64_t i = 0; i < row_count && report_.findings.size() < kFindingsMax; ++i) {
      AddFinding(chunk, first + i, fmt::format("cannot be read: {}", why));
    }
  }

  void AddFinding(const Chunk& chunk, std::uint64_t row, std::string_view what) {
    report_.findings.push_back(fmt::format("{}: layer {} row {}, at byte {} in tensor {}, {}",
                                           checkpoint_.files[chunk.extent->file_index].path,
                                           chunk.layer->layer_id, chunk.first_row + row,
                                           OffsetOf(chunk, row), chunk.extent->tensor, what));
  }

  static std::uint64_t OffsetOf(const Chunk& chunk, std::uint64_t row) {
    return chunk.offset_bytes + row * chunk.layer->parts[chunk.part].size_bytes;
  }

  const CheckpointInfo& checkpoint_;
  const std::vector<OpenedFile>& files_;
  VerifyReport report_;
  std::vector<std::byte> expected_;
  std::vector<std::byte> row_;
};

/// Opens all files. Those that cannot be opened are findings, unless none can.
Result<std::vector<OpenedFile>> OpenAll(const CheckpointInfo& checkpoint) {
  std::vector<OpenedFile> files;
  Status first_error;
  bool any = false;
  for (const TableFile& table_file : checkpoint.files) {
    OpenedFile& file = files.emplace_back();
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
  if (any) return files;
  if (first_error.code() == StatusCode::kPermissionDenied) return first_error;
  return Status(StatusCode::kIoError, std::string(first_error.message()), first_error.os_error());
}

/// Whether the layout is one that FillSyntheticPart knows.
Status CheckShape(const CheckpointInfo& checkpoint) {
  if (!checkpoint.synthetic_seed) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} was not made from a seed ({} is not there): there is nothing to "
                              "compare its rows with",
                              checkpoint.path, kSyntheticMarkerName));
  }
  for (const LayerTable& layer : checkpoint.layers) {
    bool same = layer.parts.size() == SyntheticPartCount(layer.shape);
    for (std::uint32_t part = 0; same && part < layer.parts.size(); ++part) {
      same = layer.parts[part].size_bytes == SyntheticPartSizeBytes(layer.shape, part) &&
             layer.parts[part].size_bytes > 0;
    }
    if (!same) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("{}: layer {} has parts that its row shape does not",
                                checkpoint.path, layer.layer_id));
    }
  }
  return {};
}

}  // namespace

Result<VerifyReport> VerifySynthetic(const CheckpointInfo& checkpoint, const Progress& progress) {
  Status status = CheckShape(checkpoint);
  if (!status.ok()) return status;
  const std::vector<Chunk> chunks = ChunksOf(checkpoint);
  if (chunks.empty()) return VerifyReport{};
  Result<std::vector<OpenedFile>> files = OpenAll(checkpoint);
  if (!files.ok()) return std::move(files).TakeStatus();
  Result<std::unique_ptr<ChunkReader>> reader = ChunkReader::Make(chunks, files.value());
  if (!reader.ok()) return std::move(reader).TakeStatus();

  Verifier verifier(checkpoint, files.value());
  std::uint64_t done_bytes = 0;
  for (const Chunk& chunk : chunks) {
    verifier.Check(chunk, reader.value()->Next());
    reader.value()->Release();
    done_bytes += chunk.size_bytes;
    if (progress && !progress(done_bytes, checkpoint.table_bytes)) {
      return Status(StatusCode::kCancelled,
                    fmt::format("stopped after {} of {} B of {}", done_bytes,
                                checkpoint.table_bytes, checkpoint.path));
    }
  }
  return verifier.TakeReport();
}

}  // namespace tiercel
