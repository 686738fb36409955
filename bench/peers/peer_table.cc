#include "bench/peers/peer_table.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "io/direct_io.h"

namespace tiercel::peers {

Result<PeerTable> PeerTable::Open(const std::string& path, std::uint32_t block_bytes) {
  Result<CheckpointInfo> info = InspectCheckpoint(path);
  if (!info.ok()) return std::move(info).TakeStatus();
  if (!info.value().synthetic_seed) {
    return Status(StatusCode::kInvalidArgument,
                  path +
                      ": not made by `tiercel make-checkpoint`, so that no arm's rows could be "
                      "checked; make one");
  }
  PeerTable table(std::move(info).value());
  for (const LayerTable& layer : table.info_.layers) {
    if (layer.parts.size() > 2) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("{}: rows of {} parts; this program knows two at most", path,
                                layer.parts.size()));
    }
  }
  for (const TableFile& file : table.info_.files) {
    Result<FileDescriptor> opened = OpenFile(file.path, O_RDONLY);
    if (!opened.ok()) return std::move(opened).TakeStatus();
    const DirectIoLimits limits = DirectIoLimitsOf(opened.value());
    if (block_bytes == 0) {
      table.block_bytes_ = std::max(table.block_bytes_, limits.block_bytes);
    } else if (!std::has_single_bit(block_bytes) || block_bytes > 65536 ||
               block_bytes < limits.offset_alignment_bytes) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("blocks of {} B: O_DIRECT wants a power of two from {} on, and "
                                "65536 is the most",
                                block_bytes, limits.offset_alignment_bytes));
    } else {
      table.block_bytes_ = block_bytes;
    }
  }
  return table;
}

Place PeerTable::Locate(const RowPart& part, RowId row) const noexcept {
  const auto after = std::upper_bound(
      part.extents.begin(), part.extents.end(), Index(row),
      [](std::uint64_t id, const RowExtent& extent) { return id < extent.first_row; });
  const RowExtent& extent = *(after - 1);
  return {.file_index = extent.file_index,
          .offset_bytes = extent.offset_bytes + (Index(row) - extent.first_row) * part.size_bytes};
}

std::uint64_t PeerTable::scale_bytes() const noexcept {
  std::uint64_t bytes = 0;
  for (const LayerTable& layer : info_.layers) {
    if (layer.parts.size() > 1) bytes += layer.row_count * layer.parts[1].size_bytes;
  }
  return bytes;
}

std::string PeerTable::Identity() const {
  std::string text = fmt::format("layout {} seed {}\n", info_.layout, seed());
  for (const LayerTable& layer : info_.layers) {
    text += fmt::format("layer {} rows {} bytes {}\n", layer.layer_id, layer.row_count,
                        layer.shape.row_size_bytes());
  }
  for (const TableFile& file : info_.files) {
    struct stat status {};
    (void)stat(file.path.c_str(), &status);
    text += fmt::format("file {} bytes {} changed {}.{:09}\n", file.path, file.size_bytes,
                        status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
  }
  return text;
}

PartReader::PartReader(const PeerTable& table, std::uint32_t layer_index, std::uint32_t part_index)
    : table_(table), part_(table.parts(layer_index)[part_index]) {}

Status PartReader::Next(std::span<std::byte> target) {
  while (!target.empty()) {
    const RowExtent& extent = part_.extents[extent_];
    if (open_file_ != extent.file_index) {
      const std::string& path = table_.info().files[extent.file_index].path;
      Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
      if (!file.ok()) return std::move(file).TakeStatus();
      file_ = std::move(file).value();
      open_file_ = extent.file_index;
      (void)posix_fadvise(file_.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
    }
    const std::uint64_t left_rows = extent.first_row + extent.row_count - row_;
    const std::uint64_t rows = std::min(left_rows, target.size() / part_.size_bytes);
    const std::uint64_t offset_bytes =
        extent.offset_bytes + (row_ - extent.first_row) * part_.size_bytes;
    const std::size_t size_bytes = rows * part_.size_bytes;
    if (Status status = ReadAt(file_, table_.info().files[open_file_].path, offset_bytes,
                               target.first(size_bytes));
        !status.ok()) {
      return status;
    }
    // Read once: the page cache is to forget it, or it would count as ours.
    (void)posix_fadvise(file_.get(), static_cast<off_t>(offset_bytes),
                        static_cast<off_t>(size_bytes), POSIX_FADV_DONTNEED);
    target = target.subspan(size_bytes);
    row_ += rows;
    if (row_ == extent.first_row + extent.row_count) ++extent_;
  }
  return {};
}

Result<ScaleTable> ScaleTable::Load(const PeerTable& table, bool resident) {
  ScaleTable scales;
  scales.resident_ = resident;
  for (std::uint32_t i = 0; i < table.info().layers.size(); ++i) {
    Layer& layer = scales.layers_.emplace_back();
    const std::vector<RowPart>& parts = table.parts(i);
    if (!resident || parts.size() < 2) continue;
    layer.part_bytes = parts[1].size_bytes;
    layer.row_offset_bytes = parts[0].size_bytes;
    layer.bytes.resize(table.info().layers[i].row_count * layer.part_bytes);
    PartReader reader(table, i, 1);
    // A piece at a time, so that the page cache never holds more than that.
    const std::size_t piece_bytes = (std::size_t{8} << 20) / layer.part_bytes * layer.part_bytes;
    for (std::span<std::byte> rest = layer.bytes; !rest.empty();) {
      const std::span<std::byte> piece = rest.first(std::min(rest.size(), piece_bytes));
      if (Status status = reader.Next(piece); !status.ok()) return status;
      rest = rest.subspan(piece.size());
    }
    scales.size_bytes_ += layer.bytes.size();
  }
  return scales;
}

void ScaleTable::Copy(std::uint32_t layer_index, RowId row, std::byte* row_bytes) const noexcept {
  const Layer& layer = layers_[layer_index];
  if (layer.part_bytes == 0) return;
  std::memcpy(row_bytes + layer.row_offset_bytes,
              layer.bytes.data() + Index(row) * layer.part_bytes, layer.part_bytes);
}

}  // namespace tiercel::peers
