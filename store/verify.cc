#include "tiercel/verify.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "store/checksum_sidecar.h"
#include "store/range_reader.h"
#include "store/row_stream.h"
#include "store/synthetic.h"
#include "tiercel/synthetic.h"

namespace tiercel {
namespace {

constexpr std::size_t kFindingsMax = 10;
constexpr std::uint64_t kSumChunkBytes = std::uint64_t{4} << 20;

/// Holds rows against what they should be, and keeps the books.
///
/// Threading: one thread at a time.
class Verifier {
 public:
  Verifier(const CheckpointInfo& checkpoint, const RowStream& stream)
      : checkpoint_(checkpoint), stream_(stream) {}

  void Check(const RowStream::Chunk& chunk) {
    const LayerTable& table = checkpoint_.layers[chunk.layer_index];
    const std::size_t row_bytes = table.shape.row_size_bytes();
    expected_.resize(row_bytes);
    report_.rows_checked += chunk.row_count;
    if (chunk.damaged_frames > 0) {
      report_.damaged_frames += chunk.damaged_frames;
      AddFinding([this] { return stream_.failure(); });
    }
    for (std::uint64_t i = 0; i < chunk.row_count; ++i) {
      if (chunk.row_status[i] != RowStatus::kOk) {
        CountFailed(chunk, i);
        continue;
      }
      if (!checkpoint_.synthetic_seed) continue;
      const RowId row{chunk.first_row + i};
      SyntheticRow(*checkpoint_.synthetic_seed, table.layer_id, row, table.shape, expected_);
      const std::span<const std::byte> got = chunk.rows.subspan(i * row_bytes, row_bytes);
      if (std::memcmp(expected_.data(), got.data(), row_bytes) != 0) {
        CountDifferent(chunk.layer_index, Index(row), got);
      }
    }
  }

  VerifyReport TakeReport() { return std::move(report_); }

 private:
  void CountFailed(const RowStream::Chunk& chunk, std::uint64_t index) {
    const bool corrupt = chunk.row_status[index] == RowStatus::kCorruption;
    ++(corrupt ? report_.rows_corrupt : report_.rows_unreadable);
    AddFinding([&] {
      return fmt::format("{}{}", Where(chunk.layer_index, chunk.first_row + index, 0),
                         corrupt ? "a checksum does not hold"
                                 : fmt::format("cannot be read: {}", stream_.failure()));
    });
  }

  void CountDifferent(std::uint32_t layer_index, std::uint64_t row,
                      std::span<const std::byte> got) {
    ++report_.rows_different;
    AddFinding([&] {
      const auto at = std::ranges::mismatch(expected_, got).in1 - expected_.begin();
      std::size_t different = 0;
      for (std::size_t i = 0; i < got.size(); ++i) different += expected_[i] != got[i];
      return fmt::format(
          "{}differs from what was written: {} of the row's {} B, the first at "
          "byte {} of it",
          Where(layer_index, row, static_cast<std::size_t>(at)), different, got.size(), at);
    });
  }

  /// "FILE: layer L row R, at byte B in tensor T, " of the part in which byte `at` of the
  /// row lies.
  std::string Where(std::uint32_t layer_index, std::uint64_t row, std::size_t at) const {
    const LayerTable& table = checkpoint_.layers[layer_index];
    std::size_t part = 0;
    while (at >= table.parts[part].size_bytes) at -= table.parts[part++].size_bytes;
    for (const RowExtent& extent : table.parts[part].extents) {
      const std::uint64_t index = row - extent.first_row;
      if (index >= extent.row_count) continue;
      const RowPages& pages = table.parts[part].pages;
      const std::uint64_t offset_bytes =
          extent.offset_bytes + (pages.rows_per_page > 0
                                     ? index / pages.rows_per_page * pages.page_size_bytes
                                     : index * table.parts[part].size_bytes);
      return fmt::format("{}: layer {} row {}, at byte {} in tensor {}, ",
                         checkpoint_.files[extent.file_index].path, table.layer_id, row,
                         offset_bytes, extent.tensor);
    }
    return fmt::format("layer {} row {}, ", table.layer_id, row);
  }

  template <typename MakeText>
  void AddFinding(MakeText&& make_text) {
    if (report_.findings.size() < kFindingsMax) report_.findings.push_back(make_text());
  }

  const CheckpointInfo& checkpoint_;
  const RowStream& stream_;
  VerifyReport report_;
  std::vector<std::byte> expected_;
};

Status Stopped(const CheckpointInfo& checkpoint, std::uint64_t done_bytes) {
  return Status(StatusCode::kCancelled, fmt::format("stopped after {} of {} B of {}", done_bytes,
                                                    checkpoint.table_bytes, checkpoint.path));
}

/// The pages of a sidecar, cut into what is read at once.
std::vector<FileRange> PageRanges(const CheckpointInfo& checkpoint, const ChecksumSidecar& sums) {
  std::vector<FileRange> ranges;
  for (std::uint32_t file = 0; file < checkpoint.files.size(); ++file) {
    for (const ChecksumSidecar::Range& range : sums.ranges(file)) {
      const std::uint64_t begin = range.first_page * ChecksumSidecar::kPageBytes;
      const std::uint64_t end = std::min(begin + range.page_count * ChecksumSidecar::kPageBytes,
                                         checkpoint.files[file].size_bytes);
      for (std::uint64_t at = begin; at < end; at += kSumChunkBytes) {
        ranges.push_back({file, at, std::min(kSumChunkBytes, end - at)});
      }
    }
  }
  return ranges;
}

void SumPages(const FileRange& range, std::span<const std::byte> bytes, ChecksumSidecar& sums) {
  std::uint64_t page = range.offset_bytes / ChecksumSidecar::kPageBytes;
  while (!bytes.empty()) {
    const std::size_t size_bytes = std::min<std::size_t>(bytes.size(), ChecksumSidecar::kPageBytes);
    sums.Set(range.file_index, page++, bytes.first(size_bytes));
    bytes = bytes.subspan(size_bytes);
  }
}

}  // namespace

Result<VerifyReport> VerifyTable(const CheckpointInfo& checkpoint, const VerifyOptions& options) {
  Result<std::optional<ChecksumSidecar>> sums =
      ChecksumSidecar::Find(checkpoint, options.checksums, options.checksums_path);
  if (!sums.ok()) return std::move(sums).TakeStatus();
  const ChecksumSidecar* const sidecar = sums.value() ? &*sums.value() : nullptr;
  Result<std::unique_ptr<RowStream>> stream =
      RowStream::Make(checkpoint, RowStream::AllRows(checkpoint), sidecar);
  if (!stream.ok()) return std::move(stream).TakeStatus();
  Verifier verifier(checkpoint, *stream.value());
  std::uint64_t done_bytes = 0;
  RowStream::Chunk chunk;
  while (stream.value()->Next(chunk)) {
    verifier.Check(chunk);
    done_bytes += chunk.rows.size();
    if (options.progress && !options.progress(done_bytes, checkpoint.table_bytes)) {
      return Stopped(checkpoint, done_bytes);
    }
  }
  VerifyReport report = verifier.TakeReport();
  if (checkpoint.packed) report.checks.emplace_back("page checksums");
  if (sidecar != nullptr) report.checks.emplace_back("checksum sidecar");
  if (checkpoint.synthetic_seed) report.checks.emplace_back("generator");
  return report;
}

Result<VerifyReport> VerifySynthetic(const CheckpointInfo& checkpoint, const Progress& progress) {
  if (!checkpoint.synthetic_seed) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} was not made from a seed ({} is not there): there is nothing to "
                              "compare its rows with",
                              checkpoint.path, kSyntheticMarkerName));
  }
  return VerifyTable(checkpoint, {.checksums_path = {}, .progress = progress});
}

Result<ChecksumsWritten> WriteChecksums(const CheckpointInfo& checkpoint, const std::string& path,
                                        const Progress& progress) {
  if (checkpoint.packed) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("{} is packed: its pages have checksums of their own", checkpoint.path));
  }
  ChecksumsWritten written;
  written.path = path.empty() ? ChecksumSidecar::DefaultPath(checkpoint) : path;
  struct stat info {};
  if (stat(written.path.c_str(), &info) == 0) {
    return Status(StatusCode::kAlreadyExists,
                  fmt::format("{} is there: verify against it, or remove it to make a new one",
                              written.path));
  }
  ChecksumSidecar sums = ChecksumSidecar::ForTables(checkpoint);
  const std::vector<FileRange> ranges = PageRanges(checkpoint, sums);
  Result<std::unique_ptr<RangeReader>> reader = RangeReader::Make(checkpoint.files, ranges);
  if (!reader.ok()) return std::move(reader).TakeStatus();
  std::uint64_t done_bytes = 0;
  for (const FileRange& range : ranges) {
    const RangeReader::Got got = reader.value()->Next();
    if (got.bytes.size() != range.size_bytes) {
      return Status(
          StatusCode::kIoError,
          fmt::format("{}: bytes {} to {} cannot be read: nothing was written",
                      checkpoint.files[range.file_index].path,
                      range.offset_bytes + got.bytes.size(), range.offset_bytes + range.size_bytes),
          got.os_error);
    }
    SumPages(range, got.bytes, sums);
    reader.value()->Release();
    done_bytes += range.size_bytes;
    if (progress &&
        !progress(std::min(done_bytes, checkpoint.table_bytes), checkpoint.table_bytes)) {
      return Stopped(checkpoint, done_bytes);
    }
  }
  if (Status status = sums.Write(written.path, checkpoint); !status.ok()) return status;
  written.page_count = sums.page_count();
  if (stat(written.path.c_str(), &info) == 0) {
    written.file_bytes = static_cast<std::uint64_t>(info.st_size);
  }
  return written;
}

}  // namespace tiercel
