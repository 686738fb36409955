#include "store/hot_set_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/checksum.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "tiercel/hot_set.h"
#include "tiercel/row_format.h"

namespace tiercel {

Result<TableIdentity> IdentityOf(const CheckpointInfo& checkpoint) {
  // All that decides where a row lies and how it is read, as a text.
  std::string text = fmt::format("{}\n{}\n", checkpoint.layout, ToJson(checkpoint.recipe));
  for (const LayerTable& layer : checkpoint.layers) {
    text += fmt::format("layer {} {} {} {} {}\n", layer.layer_id, Name(layer.shape.format),
                        layer.shape.value_count, layer.shape.tensor_scale, layer.row_count);
    for (const RowPart& part : layer.parts) {
      text += fmt::format("part {}\n", part.size_bytes);
      if (part.pages.rows_per_page > 0) text += fmt::format("pages {:016x}\n", part.pages.tag);
      for (const RowExtent& extent : part.extents) {
        text += fmt::format("{} {} {} {}\n", extent.file_index, extent.offset_bytes,
                            extent.first_row, extent.row_count);
      }
    }
  }
  for (const TableFile& file : checkpoint.files) text += fmt::format("file {}\n", file.size_bytes);
  TableIdentity identity;
  identity.table_id = Checksum64(std::as_bytes(std::span(text)));
  text.clear();
  for (const TableFile& file : checkpoint.files) {
    struct stat info {};
    if (stat(file.path.c_str(), &info) != 0) return ErrnoStatus(errno, "stat " + file.path);
    text += fmt::format("{} {}.{}\n", info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
  }
  identity.content_id = Checksum64(std::as_bytes(std::span(text)), identity.table_id);
  return identity;
}

std::vector<HotSetSpace> HotSetSpacesOf(const Layout& layout) {
  std::vector<HotSetSpace> spaces;
  for (std::uint32_t i = 0; i < layout.group_space_count; ++i) {
    const Space& space = layout.spaces[i];
    spaces.push_back({.layer_id = layout.layers[space.layer_index].layer_id,
                      .order = space.order_index + 2,
                      .group_size_bytes = space.size_bytes});
  }
  return spaces;
}

Result<HotSetHeader> ReadHotSetHeader(const std::string& path) {
  Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
  if (!file.ok()) return std::move(file).TakeStatus();
  Result<std::uint64_t> size_bytes = FileSizeBytes(file.value(), path);
  if (!size_bytes.ok()) return std::move(size_bytes).TakeStatus();
  if (size_bytes.value() < kHotSetHeaderBytes) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} is no hot set, or cut short: it has {} B, but a hot set's header "
                              "has {} B",
                              path, size_bytes.value(), kHotSetHeaderBytes));
  }
  std::array<std::byte, kHotSetHeaderBytes> bytes;
  if (Status status = ReadAt(file.value(), path, 0, bytes); !status.ok()) return status;
  Result<HotSetHeader> header = DecodeHotSetHeader(bytes, path);
  if (!header.ok()) return std::move(header).TakeStatus();
  const std::uint64_t expected_bytes = header.value().file_bytes();
  if (size_bytes.value() < expected_bytes) {
    return Status(
        StatusCode::kCorruption,
        fmt::format("{} is truncated: it ends at {}, within block {} of {}, and should have {} B: "
                    "remove it and save the hot set again",
                    path, size_bytes.value(),
                    (size_bytes.value() - kHotSetHeaderBytes) / header.value().block_bytes,
                    header.value().block_count, expected_bytes));
  }
  if (size_bytes.value() > expected_bytes) {
    return Status(
        StatusCode::kCorruption,
        fmt::format("{} has {} B after its last block, {}: remove it and save the hot "
                    "set again",
                    path, size_bytes.value() - expected_bytes, header.value().block_count));
  }
  return header;
}

Status CheckHotSetIdentity(const HotSetHeader& header, const TableIdentity& identity,
                           bool use_bytes, const std::string& path,
                           const CheckpointInfo& checkpoint) {
  const HeadShard shard = checkpoint.recipe.shard;
  if (header.shard != shard) {
    // The table ids differ too, but say nothing of why.
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} is the hot set of head shard {}/{}, but this store of {} serves "
                              "shard {}/{}: groups of other heads; save one for each rank",
                              path, header.shard.rank, header.shard.count, checkpoint.path,
                              shard.rank, shard.count));
  }
  if (header.table_id != identity.table_id) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} is the hot set of other tables than {}: recipe, shapes, row "
                              "format or file sizes differ (table {:016x}, here {:016x}); save "
                              "one from a store of these",
                              path, checkpoint.path, header.table_id, identity.table_id));
  }
  if (use_bytes && header.content_id != identity.content_id) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} is a stale image: files of {} were written since it was saved, "
                              "so its rows may be others; load its keys alone "
                              "(HotSetLoadOptions::bytes = false, --hot-set-keys), which reads the "
                              "rows from the tables, or save it again",
                              path, checkpoint.path));
  }
  return {};
}

Result<HotSetInfo> InspectHotSet(const std::string& path) {
  Result<HotSetHeader> read = ReadHotSetHeader(path);
  if (!read.ok()) return std::move(read).TakeStatus();
  const HotSetHeader& header = read.value();
  HotSetInfo info{.path = path,
                  .version = kHotSetVersion,
                  .has_bytes = header.has_bytes,
                  .group_count = header.group_count,
                  .block_count = header.block_count,
                  .block_bytes = header.block_bytes,
                  .file_bytes = header.file_bytes(),
                  .saved_at_s = header.saved_at_s,
                  .table_id = header.table_id,
                  .content_id = header.content_id,
                  .shard = header.shard};
  for (const HotSetSpace& space : header.spaces) {
    info.spaces.push_back({.layer_id = space.layer_id,
                           .order = space.order,
                           .group_size_bytes = space.group_size_bytes,
                           .group_count = space.group_count});
  }
  return info;
}

const char* Name(HotSetState state) noexcept {
  switch (state) {
    case HotSetState::kNone:
      return "none";
    case HotSetState::kLoading:
      return "loading";
    case HotSetState::kLoaded:
      return "loaded";
    case HotSetState::kFailed:
      return "failed";
    case HotSetState::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

}  // namespace tiercel
