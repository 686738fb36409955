#include "store/row_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "store/packed_page.h"

namespace tiercel {
namespace {

constexpr std::uint64_t kStreamChunkBytes = std::uint64_t{4} << 20;

Layout LayoutOfAll(const CheckpointInfo& checkpoint) {
  Layout layout;
  for (std::uint32_t i = 0; i < checkpoint.layers.size(); ++i) {
    const LayerTable& table = checkpoint.layers[i];
    layout.layers.push_back(ServedLayer{.layer_id = table.layer_id,
                                        .recipe_index = i,
                                        .shape = table.shape,
                                        .row_size_bytes = table.shape.row_size_bytes(),
                                        .row_count = table.row_count});
  }
  return layout;
}

/// The extent that holds `row`; null if none does.
const RowExtent* ExtentOf(const RowPart& part, std::uint64_t row) {
  for (const RowExtent& extent : part.extents) {
    if (row - extent.first_row < extent.row_count) return &extent;
  }
  return nullptr;
}

/// The rows after `row` that are read with it: as many as lie in one extent of each part,
/// and up to the end of a page. 0: it is not there.
std::uint64_t StreamRows(const LayerTable& table, std::uint64_t row) {
  const RowPages& pages = table.parts[0].pages;
  std::uint64_t count =
      std::max<std::uint64_t>(1, kStreamChunkBytes / table.shape.row_size_bytes());
  for (const RowPart& part : table.parts) {
    const RowExtent* const extent = ExtentOf(part, row);
    if (extent == nullptr) return 0;
    const std::uint64_t index = row - extent->first_row;
    if (pages.rows_per_page > 0) {
      const std::uint64_t page_count =
          std::max<std::uint64_t>(1, kStreamChunkBytes / pages.page_size_bytes);
      count = page_count * pages.rows_per_page - index % pages.rows_per_page;
    }
    count = std::min(count, extent->row_count - index);
  }
  return count;
}

}  // namespace

RowStream::RowStream(const CheckpointInfo& checkpoint, const ChecksumSidecar* sums)
    : checkpoint_(checkpoint),
      sums_(sums),
      layout_(LayoutOfAll(checkpoint)),
      locator_(checkpoint, layout_) {
  locator_.SetChecksums(sums);
}

std::vector<StreamSpan> RowStream::AllRows(const CheckpointInfo& checkpoint) {
  std::vector<StreamSpan> spans;
  for (std::uint32_t i = 0; i < checkpoint.layers.size(); ++i) {
    for (const RowExtent& extent : checkpoint.layers[i].parts[0].extents) {
      spans.push_back({i, {extent.first_row, extent.first_row + extent.row_count}});
    }
  }
  return spans;
}

Result<std::unique_ptr<RowStream>> RowStream::Make(const CheckpointInfo& checkpoint,
                                                   std::vector<StreamSpan> spans,
                                                   const ChecksumSidecar* sums) {
  std::unique_ptr<RowStream> stream(new RowStream(checkpoint, sums));
  stream->Plan(spans);
  std::vector<FileRange> ranges;
  for (const Planned& planned : stream->chunks_) {
    const std::uint32_t part_count = stream->locator_.PartCount(planned.layer_index);
    for (std::uint32_t part = 0; part < part_count; ++part) {
      ranges.push_back(stream->RangeOf(planned, part));
    }
  }
  Result<std::unique_ptr<RangeReader>> reader =
      RangeReader::Make(checkpoint.files, std::move(ranges));
  if (!reader.ok()) return std::move(reader).TakeStatus();
  stream->reader_ = std::move(reader).value();
  return stream;
}

/// Cuts the spans into chunks.
void RowStream::Plan(const std::vector<StreamSpan>& spans) {
  for (const StreamSpan& span : spans) {
    for (std::uint64_t row = span.rows.first; row < span.rows.end;) {
      const std::uint64_t count =
          std::min(StreamRows(checkpoint_.layers[span.layer_index], row), span.rows.end - row);
      if (count == 0) break;  // REQUIRES in the header.
      chunks_.push_back({span.layer_index, row, count});
      row += count;
    }
  }
}

FileRange RowStream::RangeOf(const Planned& planned, std::uint32_t part) const {
  const RowRead first = locator_.Locate(planned.layer_index, part, RowId{planned.first_row});
  const RowRead last =
      locator_.Locate(planned.layer_index, part, RowId{planned.first_row + planned.row_count - 1});
  return {.file_index = first.file_index,
          .offset_bytes = first.offset_bytes,
          .size_bytes = last.offset_bytes + last.size_bytes - first.offset_bytes};
}

bool RowStream::Next(Chunk& chunk) {
  reader_->Release();
  if (next_ == chunks_.size()) return false;
  const Planned& planned = chunks_[next_++];
  const std::size_t row_bytes = layout_.layers[planned.layer_index].row_size_bytes;
  rows_.resize(planned.row_count * row_bytes);
  row_status_.assign(planned.row_count, RowStatus::kOk);
  failed_rows_ = 0;
  damaged_frames_ = 0;
  const std::uint32_t part_count = locator_.PartCount(planned.layer_index);
  for (std::uint32_t part = 0; part < part_count; ++part) {
    TakePart(planned, part, reader_->Next());
    if (part % RangeReader::kHeldMax == RangeReader::kHeldMax - 1) reader_->Release();
  }
  for (std::uint64_t i = 0; failed_rows_ > 0 && i < planned.row_count; ++i) {
    if (row_status_[i] != RowStatus::kOk) std::memset(rows_.data() + i * row_bytes, 0, row_bytes);
  }
  chunk = {.layer_index = planned.layer_index,
           .first_row = planned.first_row,
           .row_count = planned.row_count,
           .rows = rows_,
           .row_status = row_status_,
           .failed_rows = failed_rows_,
           .damaged_frames = damaged_frames_};
  return true;
}

/// Takes one part of all rows of a chunk out of what was read for it.
void RowStream::TakePart(const Planned& planned, std::uint32_t part, const RangeReader::Got& got) {
  const FileRange range = RangeOf(planned, part);
  const bool whole = got.bytes.size() == range.size_bytes;
  const bool packed = checkpoint_.layers[planned.layer_index].parts[part].pages.rows_per_page > 0;
  if (packed) CheckFrames(planned, got.bytes);
  // Most chunks pass as a whole; only in others the rows are looked at one by one.
  const bool checked =
      whole && !packed &&
      (sums_ == nullptr || sums_->Intact(range.file_index, range.offset_bytes, got.bytes));
  // Behind the file's end, or in a file that is not there, no row can be had.
  const std::string& open_error = reader_->open_error(range.file_index);
  const bool lost = !whole && (got.os_error == 0 || !open_error.empty());
  if (lost) {
    failure_ = open_error.empty() ? fmt::format("{} ends at {}, before its rows do",
                                                checkpoint_.files[range.file_index].path,
                                                range.offset_bytes + got.bytes.size())
                                  : open_error;
  }
  for (std::uint64_t i = 0; i < planned.row_count; ++i) {
    const RowRead place = locator_.Locate(planned.layer_index, part, RowId{planned.first_row + i});
    const std::uint64_t at = place.offset_bytes - range.offset_bytes;
    if (at + place.size_bytes <= got.bytes.size()) {
      TakeRow(planned, part, i, got.bytes.subspan(at, place.size_bytes), checked);
      continue;
    }
    if (lost) {
      Mark(i, RowStatus::kIoError, {});
      continue;
    }
    // By itself, to tell bad rows from good ones beside them.
    again_.resize(place.size_bytes);
    const Status status = reader_->ReadAgain(place.file_index, place.offset_bytes, again_);
    if (status.ok()) {
      TakeRow(planned, part, i, again_, false);
    } else {
      Mark(i, RowStatus::kIoError, std::string(status.message()));
    }
  }
}

void RowStream::CheckFrames(const Planned& planned, std::span<const std::byte> pages_read) {
  const LayerTable& table = checkpoint_.layers[planned.layer_index];
  const RowPages& pages = table.parts[0].pages;
  const RowExtent& extent = *ExtentOf(table.parts[0], planned.first_row);
  std::uint64_t page = (planned.first_row - extent.first_row) / pages.rows_per_page;
  while (pages_read.size() >= pages.page_size_bytes) {
    const std::uint64_t first = page * pages.rows_per_page;
    const auto row_count = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(pages.rows_per_page, extent.row_count - first));
    if (!PageFrameIntact(pages, table.shape.row_size_bytes(), extent.first_row + first, row_count,
                         pages_read.first(pages.page_size_bytes))) {
      ++damaged_frames_;
      failure_ = fmt::format("{}: page at byte {}: header or padding is damaged",
                             checkpoint_.files[extent.file_index].path,
                             extent.offset_bytes + page * pages.page_size_bytes);
    }
    pages_read = pages_read.subspan(pages.page_size_bytes);
    ++page;
  }
}

void RowStream::TakeRow(const Planned& planned, std::uint32_t part, std::uint64_t index,
                        std::span<const std::byte> read, bool checked) {
  const RowId row{planned.first_row + index};
  const RowRead place = locator_.Locate(planned.layer_index, part, row);
  if (!checked && !locator_.Intact(planned.layer_index, part, row, place, read)) {
    Mark(index, RowStatus::kCorruption,
         fmt::format("{}: layer {} row {}: a checksum of bytes {} to {} does not hold",
                     checkpoint_.files[place.file_index].path,
                     checkpoint_.layers[planned.layer_index].layer_id, Index(row),
                     place.offset_bytes, place.offset_bytes + place.size_bytes));
    return;
  }
  const std::size_t row_bytes = layout_.layers[planned.layer_index].row_size_bytes;
  std::memcpy(rows_.data() + index * row_bytes + place.row_offset_bytes,
              read.data() + place.skip_bytes, place.part_size_bytes);
}

void RowStream::Mark(std::uint64_t index, RowStatus status, std::string failure) {
  if (row_status_[index] == RowStatus::kOk) ++failed_rows_;
  row_status_[index] = status;
  if (!failure.empty()) failure_ = std::move(failure);
}

}  // namespace tiercel
