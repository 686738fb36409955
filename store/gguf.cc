#include "store/gguf.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "base/byte_order.h"
#include "store/gguf_cursor.h"
#include "store/name_hash.h"
#include "store/safetensors.h"

namespace tiercel {
namespace {

constexpr std::uint32_t kGgufMagic = 0x46554747U;  // "GGUF"
constexpr std::uint32_t kGgufVersionMin = 2;
constexpr std::uint32_t kGgufVersionMax = 3;
constexpr std::uint64_t kKeyCountMax = 65'536;
constexpr std::uint64_t kTensorCountMax = std::uint64_t{1} << 20;
constexpr std::uint64_t kNameBytesMax = 65'535;
constexpr std::uint64_t kTextBytesMax = 65'536;
constexpr std::uint32_t kDimensionCountMax = 8;
constexpr std::uint64_t kIntegersMax = std::uint64_t{16} << 20;
constexpr std::uint64_t kAlignmentDefault = 32;
constexpr std::uint64_t kAlignmentMax = std::uint64_t{1} << 20;
constexpr std::uint32_t kArrayDepthMax = 4;

constexpr std::array<GgufTensorType, 32> kTensorTypes = {{
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},
    {3, "Q4_1", 32, 20},      {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},
    {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 36},      {10, "Q2_K", 256, 84},
    {11, "Q3_K", 256, 110},   {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66},
    {17, "IQ2_XS", 256, 74},  {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},
    {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},  {22, "IQ2_S", 256, 82},
    {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},         {25, "I16", 1, 2},
    {26, "I32", 1, 4},        {27, "I64", 1, 8},        {28, "F64", 1, 8},
    {29, "IQ1_M", 256, 56},   {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},
}};

/// Bytes of a value of that type; 0 for a string, an array or no type at all.
std::uint32_t ValueBytes(GgufValueType type) noexcept {
  switch (type) {
    case GgufValueType::kU8:
    case GgufValueType::kI8:
    case GgufValueType::kBool:
      return 1;
    case GgufValueType::kU16:
    case GgufValueType::kI16:
      return 2;
    case GgufValueType::kU32:
    case GgufValueType::kI32:
    case GgufValueType::kF32:
      return 4;
    case GgufValueType::kU64:
    case GgufValueType::kI64:
    case GgufValueType::kF64:
      return 8;
    case GgufValueType::kString:
    case GgufValueType::kArray:
      break;
  }
  return 0;
}

bool IsSigned(GgufValueType type) noexcept {
  return type == GgufValueType::kI8 || type == GgufValueType::kI16 || type == GgufValueType::kI32 ||
         type == GgufValueType::kI64;
}

bool IsInteger(GgufValueType type) noexcept {
  return ValueBytes(type) != 0 && type != GgufValueType::kF32 && type != GgufValueType::kF64 &&
         type != GgufValueType::kBool;
}

/// What is kept of each tensor, wanted or not, to check that they fit together.
struct GgufSpan {
  std::uint64_t begin_bytes;  ///< In the file.
  std::uint64_t end_bytes;
  std::uint64_t name_hash;
};

/// Reads one header from its first byte to its last.
///
/// Threading: one thread at a time.
class GgufHeaderReader {
 public:
  GgufHeaderReader(ReadBytes read, std::uint64_t file_size_bytes, std::string_view source_name,
                   const GgufFilter& filter)
      : cursor_(std::move(read), file_size_bytes, source_name),
        file_size_bytes_(file_size_bytes),
        filter_(filter) {}

  Result<GgufHeader> Read() {
    std::uint64_t key_count = 0;
    ReadCounts(key_count);
    for (std::uint64_t i = 0; i < key_count && cursor_.ok(); ++i) ReadKey();
    // Offsets are told from the start of the data, which is where the infos end.
    if (cursor_.ok() && cursor_.Need(header_.tensor_count, kTensorInfoBytesMin)) {
      spans_.reserve(header_.tensor_count);
    }
    for (std::uint64_t i = 0; i < header_.tensor_count && cursor_.ok(); ++i) ReadTensor();
    if (cursor_.ok()) PlaceTensors();
    if (cursor_.ok()) CheckSpans();
    if (!cursor_.ok()) return cursor_.TakeStatus();
    return std::move(header_);
  }

 private:
  static constexpr std::uint64_t kKeyBytesMin = 8 + 4 + 1;
  static constexpr std::uint64_t kTensorInfoBytesMin = 8 + 4 + 4 + 8;

  void Invalid(std::string_view what) {
    cursor_.Fail(
        Status(StatusCode::kInvalidArgument, fmt::format("{}: {}", cursor_.source_name(), what)));
  }

  void ReadCounts(std::uint64_t& key_count) {
    const auto magic = cursor_.Number<std::uint32_t>();
    if (cursor_.ok() && magic != kGgufMagic) {
      return Invalid("does not begin with \"GGUF\": it is no GGUF file, or damaged");
    }
    header_.version = cursor_.Number<std::uint32_t>();
    if (cursor_.ok() && header_.version % 65'536 == 0 && header_.version != 0) {
      return Invalid("is a big-endian GGUF file; this release reads little-endian ones");
    }
    if (cursor_.ok() && (header_.version < kGgufVersionMin || header_.version > kGgufVersionMax)) {
      return Invalid(fmt::format("is GGUF of version {}; this release reads {} and {}",
                                 header_.version, kGgufVersionMin, kGgufVersionMax));
    }
    header_.tensor_count = cursor_.Number<std::uint64_t>();
    key_count = cursor_.Number<std::uint64_t>();
    if (!cursor_.ok()) return;
    if (header_.tensor_count > kTensorCountMax || key_count > kKeyCountMax) {
      return Invalid(
          fmt::format("claims {} tensors and {} keys; at most {} and {} are read: it "
                      "is damaged, or no model's file",
                      header_.tensor_count, key_count, kTensorCountMax, kKeyCountMax));
    }
    (void)cursor_.Need(key_count, kKeyBytesMin);
  }

  /// A string of at most `bytes_max`; empty after an error.
  std::string ReadText(std::string_view what, std::uint64_t bytes_max) {
    const std::uint64_t at = cursor_.offset_bytes();
    const auto size = cursor_.Number<std::uint64_t>();
    if (!cursor_.ok()) return {};
    if (size > bytes_max) {
      Invalid(
          fmt::format("{} at byte {} has {} B; at most {} are read", what, at, size, bytes_max));
      return {};
    }
    if (!cursor_.Need(size, 1)) return {};
    std::string text(size, '\0');
    cursor_.Take(std::as_writable_bytes(std::span(text)));
    return text;
  }

  void SkipText() {
    const auto size = cursor_.Number<std::uint64_t>();
    cursor_.Skip(size);
  }

  void ReadKey() {
    const std::uint64_t at = cursor_.offset_bytes();
    const std::string key = ReadText("a key", kNameBytesMax);
    const auto type = static_cast<GgufValueType>(cursor_.Number<std::uint32_t>());
    if (!cursor_.ok()) return;
    const bool is_alignment = key == "general.alignment";
    const bool wanted = is_alignment || filter_.key(key);
    GgufValue value;
    value.type = type;
    where_ = fmt::format("key {} at byte {}", Printable(key), at);
    if (type == GgufValueType::kArray) {
      ReadArray(wanted, 1, value);
    } else if (type == GgufValueType::kString) {
      if (wanted) {
        value.text = ReadText(where_, kTextBytesMax);
      } else {
        SkipText();
      }
    } else {
      ReadElements(wanted, 1, value);
    }
    if (!cursor_.ok() || !wanted) return;
    if (is_alignment) TakeAlignment(value);
    if (!header_.values.emplace(key, std::move(value)).second) {
      Invalid(fmt::format("{} stands there twice", where_));
    }
  }

  void ReadArray(bool wanted, std::uint32_t depth, GgufValue& value) {
    const auto type = static_cast<GgufValueType>(cursor_.Number<std::uint32_t>());
    const auto count = cursor_.Number<std::uint64_t>();
    if (!cursor_.ok()) return;
    if (depth == 1) {
      value.is_array = true;
      value.type = type;
      value.count = count;
    }
    if (type == GgufValueType::kString) {
      if (!cursor_.Need(count, 8)) return;
      for (std::uint64_t i = 0; i < count && cursor_.ok(); ++i) SkipText();
      return;
    }
    if (type == GgufValueType::kArray) {
      if (depth == kArrayDepthMax) {
        return Invalid(fmt::format("{} nests arrays {} deep", where_, kArrayDepthMax + 1));
      }
      if (!cursor_.Need(count, 12)) return;
      for (std::uint64_t i = 0; i < count && cursor_.ok(); ++i) ReadArray(false, depth + 1, value);
      return;
    }
    GgufValue ignored;
    ignored.type = type;
    ReadElements(wanted && depth == 1, count, depth == 1 ? value : ignored);
  }

  /// `count` numbers of value.type.
  void ReadElements(bool wanted, std::uint64_t count, GgufValue& value) {
    const std::uint32_t bytes = ValueBytes(value.type);
    if (bytes == 0) {
      return Invalid(
          fmt::format("{} has a value of type {}, which there is not: this program may "
                      "be too old for it",
                      where_, static_cast<std::uint32_t>(value.type)));
    }
    if (!cursor_.Need(count, bytes)) return;
    if (!wanted || !IsInteger(value.type)) {
      cursor_.Skip(count * bytes);
      return;
    }
    if (count > kIntegersMax - integers_kept_) {
      return Invalid(fmt::format("{} has {} integers; at most {} are kept of a file", where_, count,
                                 kIntegersMax));
    }
    integers_kept_ += count;
    value.integers.reserve(count);
    for (std::uint64_t i = 0; i < count && cursor_.ok(); ++i) {
      std::array<std::byte, 8> element{};
      cursor_.Take(std::span(element).first(bytes));
      if (IsSigned(value.type) && (element[bytes - 1] & std::byte{0x80}) != std::byte{0}) {
        return Invalid(fmt::format("{}: element {} is below 0", where_, i));
      }
      value.integers.push_back(LoadLittleEndian<std::uint64_t>(element.data()));
    }
  }

  void TakeAlignment(const GgufValue& value) {
    if (value.is_array || value.integers.size() != 1 ||
        !std::has_single_bit(value.integers.front()) || value.integers.front() > kAlignmentMax) {
      return Invalid(fmt::format("{} must be a power of two, at most {}", where_, kAlignmentMax));
    }
    alignment_ = value.integers.front();
  }

  void ReadTensor() {
    const std::uint64_t at = cursor_.offset_bytes();
    GgufTensor tensor;
    tensor.name = ReadText("a tensor's name", kNameBytesMax);
    const auto dimension_count = cursor_.Number<std::uint32_t>();
    if (!cursor_.ok()) return;
    where_ = fmt::format("tensor {} at byte {}", Printable(tensor.name), at);
    if (dimension_count > kDimensionCountMax) {
      return Invalid(fmt::format("{} has {} dimensions; at most {} are read", where_,
                                 dimension_count, kDimensionCountMax));
    }
    for (std::uint32_t i = 0; i < dimension_count; ++i) {
      tensor.dimensions.push_back(cursor_.Number<std::uint64_t>());
    }
    tensor.type = cursor_.Number<std::uint32_t>();
    tensor.offset_bytes = cursor_.Number<std::uint64_t>();
    if (!cursor_.ok()) return;
    if (!SizeTensor(tensor)) return;
    // All in the data's own offsets until it is known where it starts.
    if (tensor.offset_bytes % alignment_ != 0) {
      return Invalid(fmt::format("{} has its data at {}, which is no multiple of the alignment {}",
                                 where_, tensor.offset_bytes, alignment_));
    }
    if (tensor.offset_bytes > file_size_bytes_ ||
        tensor.size_bytes > file_size_bytes_ - tensor.offset_bytes) {
      return Truncated(where_, tensor.offset_bytes, tensor.size_bytes);
    }
    spans_.push_back(
        {tensor.offset_bytes, tensor.offset_bytes + tensor.size_bytes, HashName(tensor.name)});
    if (filter_.tensor(tensor.name)) header_.tensors.push_back(std::move(tensor));
  }

  bool SizeTensor(GgufTensor& tensor) {
    const std::optional<GgufTensorType> type = FindGgufTensorType(tensor.type);
    std::uint64_t values = 1;
    for (const std::uint64_t dimension : tensor.dimensions) {
      if (__builtin_mul_overflow(values, dimension, &values)) {
        Invalid(fmt::format("{}: dimensions [{}] are too large", where_,
                            fmt::join(tensor.dimensions, ", ")));
        return false;
      }
    }
    if (!type) return true;  // Its size is not known; it may be none of ours.
    const std::uint64_t row = tensor.dimensions.empty() ? 1 : tensor.dimensions.front();
    if (row % type->block_values != 0 ||
        __builtin_mul_overflow(values / type->block_values, std::uint64_t{type->block_bytes},
                               &tensor.size_bytes)) {
      Invalid(fmt::format("{}: dimensions [{}] are none of type {}, which has blocks of {}", where_,
                          fmt::join(tensor.dimensions, ", "), type->name, type->block_values));
      return false;
    }
    return true;
  }

  void Truncated(std::string_view what, std::uint64_t offset_bytes, std::uint64_t size_bytes) {
    cursor_.Fail(Status(
        StatusCode::kCorruption,
        fmt::format("{}: {} has {} B of data at {} of the data, but the file ends at {}: it is cut "
                    "short; fetch it again",
                    cursor_.source_name(), what, size_bytes, offset_bytes, file_size_bytes_)));
  }

  /// Turns offsets within the data into offsets within the file.
  void PlaceTensors() {
    header_.header_bytes = cursor_.offset_bytes();
    header_.data_offset_bytes = (cursor_.offset_bytes() + alignment_ - 1) / alignment_ * alignment_;
    const std::uint64_t data_bytes =
        file_size_bytes_ - std::min(file_size_bytes_, header_.data_offset_bytes);
    for (GgufTensor& tensor : header_.tensors) tensor.offset_bytes += header_.data_offset_bytes;
    for (const GgufSpan& span : spans_) {
      if (span.end_bytes > data_bytes) {
        return Truncated("a tensor", span.begin_bytes, span.end_bytes - span.begin_bytes);
      }
    }
  }

  void CheckSpans() {
    std::sort(spans_.begin(), spans_.end(), [](const GgufSpan& a, const GgufSpan& b) {
      return a.begin_bytes != b.begin_bytes ? a.begin_bytes < b.begin_bytes
                                            : a.end_bytes < b.end_bytes;
    });
    std::uint64_t end_bytes = 0;
    for (const GgufSpan& span : spans_) {
      if (span.begin_bytes == span.end_bytes) continue;
      if (span.begin_bytes < end_bytes) {
        return Invalid(fmt::format("two tensors share byte {} of the data", span.begin_bytes));
      }
      end_bytes = span.end_bytes;
    }
    std::sort(spans_.begin(), spans_.end(),
              [](const GgufSpan& a, const GgufSpan& b) { return a.name_hash < b.name_hash; });
    const auto twice = std::adjacent_find(
        spans_.begin(), spans_.end(),
        [](const GgufSpan& a, const GgufSpan& b) { return a.name_hash == b.name_hash; });
    if (twice != spans_.end()) {
      Invalid(fmt::format("two tensors of one name, at {} and {} of the data", twice->begin_bytes,
                          std::next(twice)->begin_bytes));
    }
  }

  GgufCursor cursor_;
  std::uint64_t file_size_bytes_;
  const GgufFilter& filter_;
  GgufHeader header_;
  std::vector<GgufSpan> spans_;
  std::uint64_t alignment_ = kAlignmentDefault;
  std::uint64_t integers_kept_ = 0;
  std::string where_;  // The key or tensor that is being read, for messages.
};

Status BehindStart(std::string_view source_name) {
  return Status(StatusCode::kCorruption,
                fmt::format("{}: the header goes on behind what there is of it", source_name));
}

}  // namespace

std::optional<GgufTensorType> FindGgufTensorType(std::uint32_t id) noexcept {
  for (const GgufTensorType& type : kTensorTypes) {
    if (type.id == id) return type;
  }
  return std::nullopt;
}

std::optional<GgufTensorType> FindGgufTensorType(std::string_view name) noexcept {
  for (const GgufTensorType& type : kTensorTypes) {
    if (type.name == name) return type;
  }
  return std::nullopt;
}

Result<GgufHeader> ReadGgufHeader(const FileDescriptor& file, const std::string& path,
                                  const GgufFilter& filter) {
  Result<std::uint64_t> size_bytes = FileSizeBytes(file, path);
  if (!size_bytes.ok()) return std::move(size_bytes).TakeStatus();
  const auto read = [&](std::uint64_t offset_bytes, std::span<std::byte> target) {
    return ReadAt(file, path, offset_bytes, target);
  };
  return GgufHeaderReader(read, size_bytes.value(), path, filter).Read();
}

Result<GgufHeader> ParseGgufHeader(std::span<const std::byte> start, std::uint64_t file_size_bytes,
                                   std::string_view source_name, const GgufFilter& filter) {
  const auto read = [&](std::uint64_t offset_bytes, std::span<std::byte> target) {
    // The window may reach behind what is in memory: only what is there can be looked at.
    const std::uint64_t there =
        offset_bytes < start.size() ? std::uint64_t{start.size()} - offset_bytes : 0;
    const std::size_t count = std::min<std::uint64_t>(there, target.size());
    if (count == 0) return BehindStart(source_name);
    std::memcpy(target.data(), start.data() + offset_bytes, count);
    std::memset(target.data() + count, 0, target.size() - count);
    return Status();
  };
  Result<GgufHeader> header = GgufHeaderReader(read, file_size_bytes, source_name, filter).Read();
  if (header.ok() && header.value().header_bytes > start.size()) return BehindStart(source_name);
  return header;
}

}  // namespace tiercel
