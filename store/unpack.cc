#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/byte_order.h"
#include "base/file.h"
#include "engram/float_formats.h"
#include "store/file_writer.h"
#include "store/packed_manifest.h"
#include "store/row_stream.h"
#include "store/safetensors_text.h"
#include "store/synthetic.h"
#include "store/work_directory.h"
#include "tiercel/packed.h"

namespace tiercel {
namespace {

/// A file of `out_dir`: the tensors of one layer, those of one part after those of another.
struct UnpackedFile {
  std::string name;
  std::string header;
  std::string tail;  ///< The bytes of the one scale of an E4M3 table.
  std::uint64_t size_bytes = 0;
  std::vector<TensorHead> tensors;
};

/// Type and row shape of the tensors of one part.
std::pair<TensorType, std::uint64_t> TypeOf(const PackedLayer& layer, std::uint32_t part) {
  const std::uint32_t part_bytes = layer.part_size_bytes[part];
  switch (layer.shape.format) {
    case RowFormat::kE4M3Block32:
      return {part == 0 ? TensorType::kF8E4M3 : TensorType::kF8E8M0, part_bytes};
    case RowFormat::kE4M3Tensor:
      return {TensorType::kF8E4M3, part_bytes};
    case RowFormat::kBf16:
      return {TensorType::kBf16, part_bytes / 2};
    case RowFormat::kFp16:
      return {TensorType::kF16, part_bytes / 2};
    case RowFormat::kFp32:
      return {TensorType::kF32, part_bytes / 4};
    default:
      return {TensorType::kU8, part_bytes};
  }
}

UnpackedFile PlanFile(const PackedLayer& layer, std::size_t index, std::size_t count) {
  UnpackedFile file;
  file.name = count == 1 ? "model.safetensors"
                         : fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
  for (const PackedTensor& tensor : layer.tensors) {
    const auto [type, columns] = TypeOf(layer, tensor.part);
    file.tensors.push_back({tensor.name,
                            type,
                            {tensor.row_count, columns},
                            tensor.row_count * layer.part_size_bytes[tensor.part]});
  }
  if (layer.shape.format == RowFormat::kE4M3Tensor) {
    const std::string& shard = layer.tensors.front().name;
    const std::string prefix = shard.substr(0, shard.rfind("shard_"));
    file.tensors.push_back({prefix + "weight_scale", TensorType::kBf16, {1}, 2});
    file.tail.resize(2);
    StoreLittleEndian(file.tail.data(), Bf16FromFloat(layer.shape.tensor_scale));
  }
  file.header = SafetensorsHeaderText(file.tensors);
  file.size_bytes = file.header.size();
  for (const TensorHead& tensor : file.tensors) file.size_bytes += tensor.size_bytes;
  return file;
}

/// Makes the bytes of a file: header, then each part of all rows, then the tail.
///
/// Threading: one thread at a time.
class TensorSource {
 public:
  TensorSource(const CheckpointInfo& source, const PackedLayer& layer, std::uint32_t layer_index,
               const UnpackedFile& file)
      : source_(source), layer_(layer), layer_index_(layer_index), tail_(file.tail) {
    const auto* const header = reinterpret_cast<const std::byte*>(file.header.data());
    piece_.assign(header, header + file.header.size());
    ready_ = piece_;
  }

  Status Fill(std::span<std::byte> bytes) {
    while (!bytes.empty()) {
      if (ready_.empty()) {
        if (Status status = NextPiece(); !status.ok()) return status;
      }
      const std::size_t count = std::min(bytes.size(), ready_.size());
      std::memcpy(bytes.data(), ready_.data(), count);
      bytes = bytes.subspan(count);
      ready_ = ready_.subspan(count);
    }
    return {};
  }

 private:
  Status NextPiece() {
    RowStream::Chunk chunk;
    while (stream_ == nullptr || !stream_->Next(chunk)) {
      if (next_part_ == layer_.part_size_bytes.size()) {
        const auto* const tail = reinterpret_cast<const std::byte*>(tail_.data());
        piece_.assign(tail, tail + tail_.size());
        ready_ = piece_;
        return {};
      }
      part_offset_bytes_ += next_part_ == 0 ? 0 : layer_.part_size_bytes[next_part_ - 1];
      ++next_part_;
      Result<std::unique_ptr<RowStream>> stream =
          RowStream::Make(source_, {{layer_index_, {0, layer_.row_count}}}, nullptr);
      if (!stream.ok()) return std::move(stream).TakeStatus();
      stream_ = std::move(stream).value();
    }
    if (chunk.failed_rows > 0) {
      return Status(StatusCode::kCorruption,
                    fmt::format("{} rows cannot be unpacked: {}; `tiercel verify` lists all damage",
                                chunk.failed_rows, stream_->failure()));
    }
    TakePart(chunk);
    return {};
  }

  void TakePart(const RowStream::Chunk& chunk) {
    const std::size_t row_bytes = layer_.shape.row_size_bytes();
    const std::size_t part_bytes = layer_.part_size_bytes[next_part_ - 1];
    piece_.resize(chunk.row_count * part_bytes);
    for (std::uint64_t i = 0; i < chunk.row_count; ++i) {
      std::memcpy(piece_.data() + i * part_bytes,
                  chunk.rows.data() + i * row_bytes + part_offset_bytes_, part_bytes);
    }
    ready_ = piece_;
  }

  const CheckpointInfo& source_;
  const PackedLayer& layer_;
  const std::uint32_t layer_index_;
  const std::string& tail_;
  std::unique_ptr<RowStream> stream_;
  std::size_t next_part_ = 0;
  std::size_t part_offset_bytes_ = 0;
  std::vector<std::byte> piece_;
  std::span<const std::byte> ready_;
};

/// The small files beside the tensors.
Status WriteTexts(const WorkDirectory& directory, const CheckpointInfo& source,
                  const PackedManifest& manifest, const std::vector<UnpackedFile>& files) {
  const auto write = [&directory](std::string_view name, const std::string& text) {
    return WriteFileAtomically(directory.File(name), text);
  };
  if (Status status = write("config.json", ToJson(manifest.recipe)); !status.ok()) return status;
  if (files.size() > 1) {
    std::vector<IndexedTensor> tensors;
    for (const UnpackedFile& file : files) {
      for (const TensorHead& tensor : file.tensors) {
        tensors.push_back({tensor.name, file.name, tensor.size_bytes});
      }
    }
    Status status = write("model.safetensors.index.json", SafetensorsIndexText(std::move(tensors)));
    if (!status.ok()) return status;
  }
  if (source.token_map != nullptr) {
    Status status = source.token_map->Save(directory.File(kPackedTokenMapName));
    if (!status.ok()) return status;
  }
  if (!manifest.synthetic_seed) return {};
  const nlohmann::ordered_json marker = {{"format", kSyntheticMarkerFormat},
                                         {"version", kSyntheticMarkerVersion},
                                         {"generator", kSyntheticGenerator},
                                         {"seed", *manifest.synthetic_seed}};
  return write(kSyntheticMarkerName, marker.dump(2) + "\n");
}

Status CheckWhole(const CheckpointInfo& source) {
  if (!source.packed) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} is no packed table: nothing to unpack", source.path));
  }
  if (source.packed->shard.count == 1) return {};
  return Status(StatusCode::kInvalidArgument,
                fmt::format("{} holds head shard {}/{} alone: only a whole table can be unpacked",
                            source.path, source.packed->shard.rank, source.packed->shard.count));
}

}  // namespace

Result<UnpackReport> UnpackTable(const std::string& source_path, const std::string& out_dir,
                                 const Progress& progress) {
  Result<CheckpointInfo> inspected = InspectCheckpoint(source_path);
  if (!inspected.ok()) return std::move(inspected).TakeStatus();
  const CheckpointInfo& source = inspected.value();
  if (Status status = CheckWhole(source); !status.ok()) return status;
  Result<PackedManifest> manifest = ReadManifest(source_path);
  if (!manifest.ok()) return std::move(manifest).TakeStatus();
  const std::vector<PackedLayer>& layers = manifest.value().layers;
  std::vector<UnpackedFile> files;
  std::uint64_t total_bytes = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    files.push_back(PlanFile(layers[i], i, layers.size()));
    total_bytes += files.back().size_bytes;
  }
  Result<std::unique_ptr<WorkDirectory>> directory = WorkDirectory::Make(out_dir, total_bytes);
  if (!directory.ok()) return std::move(directory).TakeStatus();
  Result<std::unique_ptr<FileWriter>> writer = FileWriter::Make();
  if (!writer.ok()) return std::move(writer).TakeStatus();
  std::uint64_t done_bytes = 0;
  for (std::uint32_t i = 0; i < layers.size(); ++i) {
    TensorSource tensors(source, layers[i], i, files[i]);
    Status status = writer.value()->Write(
        {.path = directory.value()->File(files[i].name),
         .size_bytes = files[i].size_bytes,
         .fill = [&tensors](std::span<std::byte> bytes) { return tensors.Fill(bytes); },
         .wrote =
             [&](std::uint64_t bytes) {
               done_bytes += bytes;
               return !progress || progress(done_bytes, total_bytes);
             }});
    if (!status.ok()) return status;
  }
  if (Status status = WriteTexts(*directory.value(), source, manifest.value(), files);
      !status.ok()) {
    return status;
  }
  if (Status status = directory.value()->Publish(); !status.ok()) return status;
  return UnpackReport{.file_count = files.size() + (files.size() > 1 ? 2U : 1U),
                      .bytes_written = total_bytes,
                      .direct_io = writer.value()->direct_io()};
}

}  // namespace tiercel
