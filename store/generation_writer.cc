#include "store/generation_writer.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/errno_status.h"
#include "base/file.h"
#include "base/json.h"
#include "store/packed_page.h"

namespace tiercel {
namespace {

constexpr std::string_view kStateFormat = "tiercel-pack-state";

/// Makes the bytes of a layer's file, from a place on: header page, pages.
///
/// Threading: one thread at a time.
class PageSource {
 public:
  PageSource(const GenerationJob& job, const PackedLayer& layer, std::uint32_t layer_index,
             std::uint64_t digest)
      : job_(job),
        layer_(layer),
        layer_index_(layer_index),
        row_bytes_(layer.shape.row_size_bytes()),
        digest_(digest),
        carried_(std::size_t{layer.pages.rows_per_page} * row_bytes_) {}

  /// REQUIRES: start_bytes is a multiple of the page size.
  Status Open(std::uint64_t start_bytes) {
    header_done_ = start_bytes > 0;
    std::uint64_t page = header_done_ ? start_bytes / layer_.pages.page_size_bytes - 1 : 0;
    std::vector<StreamSpan> spans;
    for (const RowRange& range : layer_.ranges) {
      const std::uint64_t pages =
          (range.end - range.first + layer_.pages.rows_per_page - 1) / layer_.pages.rows_per_page;
      if (page >= pages) {
        page -= pages;
        continue;
      }
      left_.push_back({range.first + page * layer_.pages.rows_per_page, range.end});
      spans.push_back({layer_index_, left_.back()});
      page = 0;
    }
    std::ranges::reverse(left_);  // The next range is the last one.
    Result<std::unique_ptr<RowStream>> stream = RowStream::Make(job_.source, spans, job_.sums);
    if (!stream.ok()) return std::move(stream).TakeStatus();
    stream_ = std::move(stream).value();
    return {};
  }

  /// The next pages; `bytes` is a multiple of the page size.
  Status Fill(std::span<std::byte> bytes) {
    const std::size_t page_bytes = layer_.pages.page_size_bytes;
    if (!header_done_) {
      EncodeFileHeader(job_.manifest, layer_, bytes.first(page_bytes));
      bytes = bytes.subspan(page_bytes);
      header_done_ = true;
    }
    for (; !bytes.empty(); bytes = bytes.subspan(page_bytes)) {
      if (Status status = FillPage(bytes.first(page_bytes)); !status.ok()) return status;
    }
    return {};
  }

  /// Of all pages made, with what Open() began from.
  [[nodiscard]] std::uint64_t digest() const noexcept { return digest_; }

 private:
  Status FillPage(std::span<std::byte> page) {
    RowRange& range = left_.back();
    const std::uint64_t row_count =
        std::min<std::uint64_t>(layer_.pages.rows_per_page, range.end - range.first);
    std::span<const std::byte> rows;
    if (chunk_rows_.size() >= row_count * row_bytes_) {
      rows = chunk_rows_.first(row_count * row_bytes_);
      chunk_rows_ = chunk_rows_.subspan(rows.size());
    } else {
      const std::span<std::byte> target = std::span(carried_).first(row_count * row_bytes_);
      if (Status status = Carry(target); !status.ok()) return status;
      rows = target;
    }
    digest_ +=
        EncodePage(layer_.pages, static_cast<std::uint32_t>(row_bytes_), range.first, rows, page);
    range.first += row_count;
    if (range.first == range.end) left_.pop_back();
    return {};
  }

  /// Puts rows together that lie in several chunks.
  Status Carry(std::span<std::byte> target) {
    while (!target.empty()) {
      if (chunk_rows_.empty()) {
        if (Status status = NextChunk(); !status.ok()) return status;
      }
      const std::size_t count = std::min(target.size(), chunk_rows_.size());
      std::memcpy(target.data(), chunk_rows_.data(), count);
      target = target.subspan(count);
      chunk_rows_ = chunk_rows_.subspan(count);
    }
    return {};
  }

  Status NextChunk() {
    RowStream::Chunk chunk;
    if (!stream_->Next(chunk)) {
      return Status(StatusCode::kCorruption, fmt::format("{}: rows are missing", layer_.file_name));
    }
    if (chunk.failed_rows > 0) {
      const bool corrupt = std::ranges::count(chunk.row_status, RowStatus::kCorruption) > 0;
      return Status(
          corrupt ? StatusCode::kCorruption : StatusCode::kIoError,
          fmt::format("{} of rows {} to {} of layer {} cannot be had: {}; `tiercel "
                      "verify` lists all damage",
                      chunk.failed_rows, chunk.first_row, chunk.first_row + chunk.row_count,
                      layer_.layer_id, stream_->failure()));
    }
    chunk_rows_ = chunk.rows;
    if (!job_.patch) return {};
    patched_.assign(chunk.rows.begin(), chunk.rows.end());
    chunk_rows_ = patched_;
    return job_.patch(layer_index_, chunk.first_row, patched_);
  }

  const GenerationJob& job_;
  const PackedLayer& layer_;
  const std::uint32_t layer_index_;
  const std::size_t row_bytes_;
  std::uint64_t digest_;
  bool header_done_ = false;
  std::vector<RowRange> left_;  ///< To be made, the next one last.
  std::unique_ptr<RowStream> stream_;
  std::span<const std::byte> chunk_rows_;  ///< Read and not made into pages yet.
  std::vector<std::byte> patched_;
  std::vector<std::byte> carried_;
};

std::string StatePath(const GenerationJob& job) {
  return fmt::format("{}/{}", job.directory, kPackStateName);
}

Result<std::uint32_t> LayerOf(const CheckpointInfo& source, std::uint32_t layer_id) {
  for (std::uint32_t i = 0; i < source.layers.size(); ++i) {
    if (source.layers[i].layer_id == layer_id) return i;
  }
  return Status(StatusCode::kNotFound,
                fmt::format("{}: layer {} has no table", source.path, layer_id));
}

/// Writes one layer's file from progress.layer_bytes on.
Status WriteLayer(const GenerationJob& job, PackedLayer& layer, FileWriter& writer,
                  GenerationProgress& progress, const std::function<bool(std::uint64_t)>& wrote) {
  Result<std::uint32_t> index = LayerOf(job.source, layer.layer_id);
  if (!index.ok()) return std::move(index).TakeStatus();
  const std::string path = fmt::format("{}/{}", job.directory, layer.file_name);
  if (progress.layer_bytes == 0) {
    if (unlink(path.c_str()) != 0 && errno != ENOENT) return ErrnoStatus(errno, "unlink " + path);
    progress.digests.resize(progress.layers_done);
    progress.digests.push_back(0);
  }
  PageSource source(job, layer, index.value(), progress.digests.back());
  if (Status status = source.Open(progress.layer_bytes); !status.ok()) return status;
  const std::size_t page_bytes = layer.pages.page_size_bytes;
  const FileJob file{.path = path,
                     .size_bytes = layer.file_bytes(),
                     .fill = [&source](std::span<std::byte> bytes) { return source.Fill(bytes); },
                     .chunk_bytes = FileWriter::kBufferBytes / page_bytes * page_bytes,
                     .start_bytes = progress.layer_bytes,
                     .wrote = wrote,
                     .sync_bytes = job.sync_bytes,
                     .synced =
                         [&](std::uint64_t done_bytes) {
                           progress.layer_bytes = done_bytes;
                           progress.digests.back() = source.digest();
                           return WriteFileAtomically(StatePath(job), progress.Encode());
                         }};
  if (Status status = writer.Write(file); !status.ok()) return status;
  layer.content_digest = source.digest();
  progress.digests.back() = source.digest();
  progress.layer_bytes = 0;
  ++progress.layers_done;
  return WriteFileAtomically(StatePath(job), progress.Encode());
}

}  // namespace

std::string GenerationProgress::Encode() const {
  nlohmann::ordered_json json = {{"format", kStateFormat},     {"version", 1},
                                 {"job_id", job_id},           {"layers_done", layers_done},
                                 {"layer_bytes", layer_bytes}, {"digests", digests}};
  return json.dump(1) + "\n";
}

Result<GenerationProgress> GenerationProgress::Decode(std::string_view text,
                                                      const std::string& source_name) {
  Result<nlohmann::json> json = ParseJson(text, source_name);
  const auto bad = [&source_name] {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: is not the state of an unfinished pack that this release can go "
                              "on with: remove the directory and pack again",
                              source_name));
  };
  if (!json.ok()) return bad();
  try {
    const nlohmann::json& top = json.value();
    if (top.at("format") != kStateFormat || top.at("version") != 1) return bad();
    GenerationProgress progress{.job_id = top.at("job_id").get<std::uint64_t>(),
                                .layers_done = top.at("layers_done").get<std::uint32_t>(),
                                .layer_bytes = top.at("layer_bytes").get<std::uint64_t>(),
                                .digests = top.at("digests").get<std::vector<std::uint64_t>>()};
    const std::size_t digests = progress.layers_done + (progress.layer_bytes > 0 ? 1U : 0U);
    if (progress.digests.size() < digests || progress.layer_bytes % kPackedPageBytes != 0) {
      return bad();
    }
    progress.digests.resize(digests);
    return progress;
  } catch (const nlohmann::json::exception&) {
    return bad();
  }
}

Result<GenerationReport> WriteGeneration(const GenerationJob& job, GenerationProgress& progress) {
  std::vector<PackedLayer>& layers = job.manifest.layers;
  Result<std::unique_ptr<FileWriter>> writer = FileWriter::Make();
  if (!writer.ok()) return std::move(writer).TakeStatus();
  GenerationReport report;
  std::uint64_t total_bytes = 0;
  for (std::uint32_t i = 0; i < layers.size(); ++i) {
    total_bytes += layers[i].file_bytes();
    if (i >= progress.layers_done) continue;
    layers[i].content_digest = progress.digests[i];
    report.resumed_bytes += layers[i].file_bytes();
  }
  report.resumed_bytes += progress.layer_bytes;
  const auto wrote = [&](std::uint64_t bytes) {
    report.bytes_written += bytes;
    return !job.progress || job.progress(report.resumed_bytes + report.bytes_written, total_bytes);
  };
  const std::string generation =
      fmt::format("{}/gen-{:06}", job.directory, job.manifest.generation);
  if (mkdir(generation.c_str(), 0777) != 0 && errno != EEXIST) {
    return ErrnoStatus(errno, fmt::format("make {}", generation));
  }
  while (progress.layers_done < layers.size()) {
    PackedLayer& layer = layers[progress.layers_done];
    Status status = WriteLayer(job, layer, *writer.value(), progress, wrote);
    if (!status.ok()) return status;
  }
  if (Status status = SyncDirectory(generation); !status.ok()) return status;
  report.direct_io = writer.value()->direct_io();
  return report;
}

}  // namespace tiercel
