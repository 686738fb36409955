#include "store/tensor_set.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "engram/float_formats.h"

namespace tiercel {
namespace {

/// Nothing that is read whole is larger.
constexpr std::uint64_t kTensorSizeBytesMax = std::uint64_t{16} << 30;
constexpr std::uint64_t kScaleBlock = 32;

/// Widens `count` elements of the type; false where there is no such way.
bool Widen(TensorType type, const std::byte* bytes, std::span<float> values) {
  const auto word = [&](std::size_t i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, bytes + 2 * i, 2);
    return bits;
  };
  for (std::size_t i = 0; i < values.size(); ++i) {
    switch (type) {
      case TensorType::kF32:
        std::memcpy(&values[i], bytes + 4 * i, 4);
        break;
      case TensorType::kBf16:
        values[i] = FloatFromBf16(word(i));
        break;
      case TensorType::kF16:
        values[i] = FloatFromFp16(word(i));
        break;
      case TensorType::kF8E4M3:
        values[i] = FloatFromE4M3(std::to_integer<std::uint8_t>(bytes[i]));
        break;
      default:
        return false;
    }
  }
  return true;
}

}  // namespace

Result<TensorSet> TensorSet::Open(const std::vector<std::string>& paths,
                                  const TensorFilter& wanted) {
  TensorSet set;
  for (const std::string& path : paths) {
    Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
    if (!file.ok()) return std::move(file).TakeStatus();
    Result<SafetensorsHeader> header = ReadSafetensorsHeader(file.value(), path, wanted);
    if (!header.ok()) return std::move(header).TakeStatus();
    for (TensorInfo& info : header.value().tensors) {
      set.entries_.push_back({std::move(info), set.files_.size()});
    }
    set.paths_.push_back(path);
    set.files_.push_back(std::move(file).value());
  }
  return set;
}

const TensorSet::Entry* TensorSet::Find(std::string_view name) const {
  const auto exact = std::ranges::find(
      entries_, name, [](const Entry& entry) -> std::string_view { return entry.info.name; });
  if (exact != entries_.end()) return &*exact;
  const std::string suffix = "." + std::string(name);
  for (const Entry& entry : entries_) {
    if (entry.info.name.ends_with(suffix)) return &entry;
  }
  return nullptr;
}

Result<std::vector<std::byte>> TensorSet::ReadBytes(const Entry& entry) const {
  const TensorInfo& info = entry.info;
  if (info.size_bytes > kTensorSizeBytesMax) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("{}: tensor {} has {} bytes; weights beside a table have at most {}",
                              paths_[entry.file_index], Printable(info.name), info.size_bytes,
                              kTensorSizeBytesMax));
  }
  std::vector<std::byte> bytes(info.size_bytes);
  Status status =
      ReadAt(files_[entry.file_index], paths_[entry.file_index], info.offset_bytes, bytes);
  if (!status.ok()) return status;
  return bytes;
}

Status TensorSet::Scale(std::string_view name, FloatTensor& tensor) const {
  const Entry* const entry = Find(name);
  if (entry == nullptr) {
    return Status(StatusCode::kNotFound, fmt::format("no tensor {} with scales", name));
  }
  const auto blocks = [](std::uint64_t count) { return (count + kScaleBlock - 1) / kScaleBlock; };
  const std::vector<std::uint64_t>& shape = tensor.shape;
  if (shape.size() != 2 || entry->info.type != TensorType::kF8E8M0 ||
      entry->info.shape != std::vector{blocks(shape[0]), blocks(shape[1])}) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: tensor {} is not the F8_E8M0 scales of 32 x 32 blocks",
                              paths_[entry->file_index], Printable(entry->info.name)));
  }
  Result<std::vector<std::byte>> bytes = ReadBytes(*entry);
  if (!bytes.ok()) return std::move(bytes).TakeStatus();
  for (std::uint64_t i = 0; i < tensor.values.size(); ++i) {
    const std::uint64_t row = i / shape[1] / kScaleBlock;
    const std::uint64_t column = i % shape[1] / kScaleBlock;
    tensor.values[i] *= FloatFromUe8m0(
        std::to_integer<std::uint8_t>(bytes.value()[row * blocks(shape[1]) + column]));
  }
  return {};
}

Result<FloatTensor> TensorSet::Read(std::string_view name, std::string_view scale_name) const {
  const Entry* const entry = Find(name);
  if (entry == nullptr) {
    return Status(StatusCode::kNotFound, fmt::format("there is no tensor named {}", name));
  }
  const bool scaled = entry->info.type == TensorType::kF8E4M3;
  Result<std::vector<std::byte>> bytes = ReadBytes(*entry);
  if (!bytes.ok()) return std::move(bytes).TakeStatus();
  FloatTensor tensor{.shape = entry->info.shape, .values = {}};
  tensor.values.resize(bytes.value().size() * 8 / SizeBits(entry->info.type));
  if (scaled != !scale_name.empty() ||
      !Widen(entry->info.type, bytes.value().data(), tensor.values)) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: tensor {} is {}, which is not how such weights are stored",
                              paths_[entry->file_index], Printable(entry->info.name),
                              Name(entry->info.type)));
  }
  if (scaled) {
    if (Status status = Scale(scale_name, tensor); !status.ok()) return status;
  }
  return tensor;
}

}  // namespace tiercel
