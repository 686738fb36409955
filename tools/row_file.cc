#include "tools/row_file.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "tools/byte_source.h"

namespace tiercel::tools {
namespace {

/// Of a header; ours has two tensors a layer.
constexpr std::uint64_t kRowFileHeaderMax = std::uint64_t{16} << 20;

/// A tensor's entry of the header.
struct Tensor {
  std::string type;
  std::vector<std::uint64_t> shape;
  std::uint64_t first = 0;  ///< Of its bytes, in the data.
  std::uint64_t end = 0;

  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return end - first; }
};

Status BadRowFile(const std::string& path, const std::string& what) {
  return Status(
      StatusCode::kInvalidArgument,
      fmt::format("{} is no file of rows: {}; docs/format.md says how one is made", path, what));
}

std::uint32_t IdSizeBytes(const std::string& type) {
  if (type == "I64" || type == "U64") return 8;
  return type == "I32" || type == "U32" ? 4 : 0;
}

/// "layers.14.rows" -> 14 and "rows".
std::optional<std::pair<std::uint32_t, std::string_view>> ParseName(std::string_view name) {
  constexpr std::string_view kPrefix = "layers.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::uint32_t layer_id = 0;
  const auto [end, error] =
      std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), layer_id);
  const std::string_view rest(end, static_cast<std::size_t>(name.data() + name.size() - end));
  if (error != std::errc() || (rest != ".ids" && rest != ".rows")) return std::nullopt;
  return std::pair(layer_id, rest.substr(1));
}

/// Reads an entry; throws nlohmann's exceptions where it is none.
Tensor ParseTensor(const nlohmann::json& entry) {
  return {.type = entry.at("dtype").get<std::string>(),
          .shape = entry.at("shape").get<std::vector<std::uint64_t>>(),
          .first = entry.at("data_offsets").at(0).get<std::uint64_t>(),
          .end = entry.at("data_offsets").at(1).get<std::uint64_t>()};
}

}  // namespace

Status RowFile::ReadAt(std::uint64_t offset_bytes, std::span<std::byte> target) {
  if (fseeko(file_.get(), static_cast<off_t>(offset_bytes), SEEK_SET) == 0 &&
      std::fread(target.data(), 1, target.size(), file_.get()) == target.size()) {
    return {};
  }
  if (std::ferror(file_.get()) != 0) return FileError(errno, "read", path_);
  return Status(StatusCode::kCorruption, fmt::format("{} ends before {} B at {}: it is cut short",
                                                     path_, target.size(), offset_bytes));
}

Result<RowFile> RowFile::Open(const std::string& path, const CheckpointInfo& checkpoint) {
  RowFile opened;
  opened.path_ = path;
  opened.file_.reset(std::fopen(path.c_str(), "rbe"));
  if (opened.file_ == nullptr) return FileError(errno, "open", path);
  struct stat info {};
  if (fstat(fileno(opened.file_.get()), &info) != 0) return FileError(errno, "stat", path);
  const auto file_bytes = static_cast<std::uint64_t>(info.st_size);
  std::uint64_t header_bytes = 0;
  if (file_bytes < sizeof(header_bytes)) return BadRowFile(path, "it is empty or nearly so");
  Status status = opened.ReadAt(0, std::as_writable_bytes(std::span(&header_bytes, 1)));
  if (!status.ok()) return status;
  if (header_bytes > kRowFileHeaderMax || header_bytes > file_bytes - sizeof(header_bytes)) {
    return BadRowFile(path, fmt::format("a safetensors header of {} B does not fit", header_bytes));
  }
  std::string text(header_bytes, '\0');
  status = opened.ReadAt(sizeof(header_bytes), std::as_writable_bytes(std::span(text)));
  if (!status.ok()) return status;
  status = opened.ParseHeader(text, sizeof(header_bytes) + header_bytes, file_bytes, checkpoint);
  if (!status.ok()) return status;
  return opened;
}

Status RowFile::ParseHeader(const std::string& text, std::uint64_t data_offset_bytes,
                            std::uint64_t file_bytes, const CheckpointInfo& checkpoint) {
  std::map<std::uint32_t, std::map<std::string, Tensor, std::less<>>> found;
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    for (const auto& [name, entry] : json.items()) {
      if (name == "__metadata__") continue;
      const auto parsed = ParseName(name);
      if (!parsed.has_value()) {
        return BadRowFile(path_, fmt::format("tensor '{}' is neither 'layers.L.ids' nor "
                                             "'layers.L.rows'",
                                             name));
      }
      const Tensor tensor = ParseTensor(entry);
      if (tensor.first > tensor.end || tensor.end > file_bytes - data_offset_bytes) {
        return BadRowFile(path_, fmt::format("tensor '{}' lies beyond its end", name));
      }
      found[parsed->first].emplace(parsed->second, tensor);
    }
  } catch (const nlohmann::json::exception& error) {
    return BadRowFile(path_, error.what());
  }
  if (found.empty()) return BadRowFile(path_, "it has no tensor");
  for (const auto& [layer_id, tensors] : found) {
    const auto refuse = [this, layer = layer_id](const std::string& what) {
      return BadRowFile(path_, fmt::format("layer {}: {}", layer, what));
    };
    const auto table = std::ranges::find(checkpoint.layers, layer_id, &LayerTable::layer_id);
    if (table == checkpoint.layers.end()) return refuse("the checkpoint has no such table");
    const auto ids = tensors.find("ids");
    const auto rows = tensors.find("rows");
    if (ids == tensors.end() || rows == tensors.end()) return refuse("'ids' or 'rows' is missing");
    const std::uint32_t id_bytes = IdSizeBytes(ids->second.type);
    if (id_bytes == 0 || ids->second.shape.size() != 1) {
      return refuse("'ids' must be of one dimension and of type I64, U64, I32 or U32");
    }
    const std::uint64_t count = ids->second.shape[0];
    const std::uint32_t row_bytes = table->shape.row_size_bytes();
    if (ids->second.size_bytes() / id_bytes != count || ids->second.size_bytes() % id_bytes != 0) {
      return refuse(fmt::format("'ids' has {} B for {} ids", ids->second.size_bytes(), count));
    }
    if (rows->second.shape.empty() || rows->second.shape[0] != count ||
        rows->second.size_bytes() % row_bytes != 0 ||
        rows->second.size_bytes() / row_bytes != count) {
      return refuse(fmt::format("'rows' has {} B, but {} rows of {} B are due",
                                rows->second.size_bytes(), count, row_bytes));
    }
    layers_.push_back({.layer_id = layer_id,
                       .row_count = count,
                       .row_size_bytes = row_bytes,
                       .id_size_bytes = id_bytes,
                       .ids_offset_bytes = data_offset_bytes + ids->second.first,
                       .rows_offset_bytes = data_offset_bytes + rows->second.first});
  }
  return {};
}

std::uint64_t RowFile::row_count() const noexcept {
  std::uint64_t count = 0;
  for (const Layer& layer : layers_) count += layer.row_count;
  return count;
}

Status RowFile::Read(const Layer& layer, std::uint64_t first, std::span<RowId> ids,
                     std::span<std::byte> rows) {
  std::vector<std::byte> raw(ids.size() * layer.id_size_bytes);
  Status status = ReadAt(layer.ids_offset_bytes + first * layer.id_size_bytes, raw);
  if (!status.ok()) return status;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    std::uint64_t id = 0;  // Little-endian, as every host that this is built for.
    std::memcpy(&id, raw.data() + i * layer.id_size_bytes, layer.id_size_bytes);
    ids[i] = RowId{id};  // A negative one is beyond any table, and refused as such.
  }
  return ReadAt(layer.rows_offset_bytes + first * layer.row_size_bytes, rows);
}

}  // namespace tiercel::tools
