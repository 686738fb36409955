#include "store/safetensors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/byte_order.h"
#include "store/name_hash.h"

namespace tiercel {
namespace {

/// The reference implementation's limit.
constexpr std::uint64_t kHeaderSizeBytesMax = 100'000'000;
/// A tensor of more dimensions than this is no tensor.
constexpr std::size_t kDimensionsMax = 64;
constexpr std::size_t kPrefixBytes = 8;

struct TypeFacts {
  std::string_view name;
  std::uint32_t bits;
};
constexpr std::array<TypeFacts, static_cast<std::size_t>(TensorType::kCount)> kTypes = {{
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64},
}};

std::optional<TensorType> TypeOf(std::string_view name) noexcept {
  for (std::size_t i = 0; i < kTypes.size(); ++i) {
    if (kTypes[i].name == name) return static_cast<TensorType>(i);
  }
  return std::nullopt;
}

/// Walks over text and tells how far it got, so that a message can name the byte.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** reached) noexcept : at_(at), reached_(reached) {}
  reference operator*() const noexcept { return *at_; }
  CountingIterator& operator++() noexcept {
    *reached_ = ++at_;
    return *this;
  }
  CountingIterator operator++(int) noexcept {
    CountingIterator old = *this;
    ++*this;
    return old;
  }
  friend bool operator==(const CountingIterator& a, const CountingIterator& b) noexcept {
    return a.at_ == b.at_;
  }

 private:
  const char* at_;
  const char** reached_;
};

/// What is kept of each tensor, wanted or not, to check that they fit together.
struct Span {
  std::uint64_t begin_bytes;  ///< From the start of the data.
  std::uint64_t end_bytes;
  std::uint64_t name_hash;
  std::uint64_t index;  ///< In the header's order.
};
static_assert(sizeof(Span) == 32);

/// Checks one tensor after the other as the parser meets it.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(std::string_view source_name, const TensorFilter& wanted)
      : source_name_(source_name), wanted_(wanted) {}

  // A name is read by someone else when an error about an earlier tensor has to name it.
  void PickOnly(std::uint64_t index) { picked_ = index; }
  void SetText(const char* begin) { begin_ = reached_ = begin; }
  const char** reached() { return &reached_; }

  bool null() override { return Scalar("null"); }
  bool boolean(bool /*value*/) override { return Scalar("a boolean"); }
  bool number_integer(number_integer_t /*value*/) override { return Scalar("a negative number"); }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override {
    return Scalar("a number that is no integer below 2^64");
  }
  bool binary(binary_t& /*value*/) override { return Scalar("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kShape) {
      if (tensor_.shape.size() == kDimensionsMax) {
        return Fail(fmt::format("has more than {} dimensions", kDimensionsMax));
      }
      tensor_.shape.push_back(value);
      return true;
    }
    if (place_ == Place::kOffsets) {
      if (offset_count_ == 2) return Fail("has more than two data_offsets");
      offsets_[offset_count_++] = value;
      return true;
    }
    return Scalar("a number");
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) return true;
    if (place_ == Place::kTensor && field_ == Field::kType) {
      const std::optional<TensorType> type = TypeOf(value);
      if (!type) {
        return Fail(fmt::format("has the unknown dtype \"{}\"; this program may be too old for it",
                                Printable(value)));
      }
      tensor_.type = *type;
      return true;
    }
    return Scalar("a string");
  }

  bool start_object(std::size_t /*count*/) override {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kTop;
        return true;
      case Place::kTop:
        place_ = tensor_.name == "__metadata__" ? Place::kMetadata : Place::kTensor;
        return true;
      default:
        return Scalar("an object");
    }
  }

  bool end_object() override {
    if (place_ == Place::kTensor) return FinishTensor();
    if (place_ == Place::kMetadata) {
      place_ = Place::kTop;
      return true;
    }
    return true;  // The header's own; the parser lets nothing follow it.
  }

  bool start_array(std::size_t /*count*/) override {
    if (place_ == Place::kTensor && field_ == Field::kShape) {
      place_ = Place::kShape;
      return true;
    }
    if (place_ == Place::kTensor && field_ == Field::kOffsets) {
      place_ = Place::kOffsets;
      return true;
    }
    return Scalar("an array");
  }

  bool end_array() override {
    place_ = Place::kTensor;
    return true;
  }

  bool key(string_t& name) override {
    if (place_ == Place::kTop) return StartTensor(name);
    if (place_ == Place::kMetadata) return true;
    // Place::kTensor: nothing else opens an object.
    field_ = name == "dtype"          ? Field::kType
             : name == "shape"        ? Field::kShape
             : name == "data_offsets" ? Field::kOffsets
                                      : Field::kUnknown;
    if (field_ == Field::kUnknown) {
      return Fail(fmt::format("has the unknown key \"{}\"", Printable(name)));
    }
    bool& seen = seen_[static_cast<std::size_t>(field_)];
    if (seen) return Fail(fmt::format("has the key \"{}\" twice", name));
    seen = true;
    return true;
  }

  bool parse_error(std::size_t /*position*/, const std::string& /*last_token*/,
                   const nlohmann::detail::exception& error) override {
    // Their text repeats the input; what follows the last ": " is the reason.
    return FailHeader(fmt::format("the header is not JSON ({})", Printable(error.what())));
  }

  std::string& error() { return error_; }
  std::vector<Span>& spans() { return spans_; }
  std::vector<TensorInfo>& tensors() { return tensors_; }

 private:
  enum class Place : std::uint8_t { kStart, kTop, kMetadata, kTensor, kShape, kOffsets };
  enum class Field : std::uint8_t { kType, kShape, kOffsets, kUnknown };

  bool StartTensor(string_t& name) {
    tensor_.name.assign(name);
    tensor_.shape.clear();
    offset_count_ = 0;
    seen_ = {};
    field_ = Field::kUnknown;
    if (name == "__metadata__") {
      if (metadata_seen_) return FailHeader("\"__metadata__\" stands twice in the header");
      metadata_seen_ = true;
    }
    return true;
  }

  bool FinishTensor() {
    place_ = Place::kTop;
    if (!seen_[0] || !seen_[1] || !seen_[2]) {
      return Fail(fmt::format("has no \"{}\"", !seen_[0]   ? "dtype"
                                               : !seen_[1] ? "shape"
                                                           : "data_offsets"));
    }
    if (offset_count_ != 2) return Fail("has fewer than two data_offsets");
    const auto [begin, end] = offsets_;
    if (begin > end)
      return Fail(fmt::format("has data_offsets [{}, {}], end before begin", begin, end));
    std::uint64_t bits = SizeBits(tensor_.type);
    for (const std::uint64_t dimension : tensor_.shape) {
      if (__builtin_mul_overflow(bits, dimension, &bits)) {
        return Fail(fmt::format("has the shape [{}], which overflows 64 bits",
                                fmt::join(tensor_.shape, ", ")));
      }
    }
    if (bits % 8 != 0) return Fail("does not end at a whole byte");
    if (end - begin != bits / 8) {
      return Fail(fmt::format("of {} [{}] takes {} B, but its data_offsets [{}, {}] span {} B",
                              Name(tensor_.type), fmt::join(tensor_.shape, ", "), bits / 8, begin,
                              end, end - begin));
    }
    const std::uint64_t index = spans_.size();
    spans_.push_back({begin, end, HashName(tensor_.name), index});
    if (picked_ ? *picked_ == index : wanted_ && wanted_(tensor_.name)) {
      tensor_.offset_bytes = begin;
      tensor_.size_bytes = end - begin;
      tensors_.push_back(tensor_);
    }
    return true;
  }

  // A value that has no business where it stands.
  bool Scalar(std::string_view what) {
    switch (place_) {
      case Place::kStart:
        return FailHeader(fmt::format("the header is {}, not an object", what));
      case Place::kTop:
        return Fail(fmt::format("is described by {}, not by an object", what));
      case Place::kMetadata:
        return FailHeader(fmt::format("\"__metadata__\" holds {}, not strings alone", what));
      case Place::kShape:
        return Fail(fmt::format("has {} in its shape", what));
      case Place::kOffsets:
        return Fail(fmt::format("has {} in its data_offsets", what));
      case Place::kTensor:
        break;
    }
    constexpr std::array<std::string_view, 3> kFields = {"dtype", "shape", "data_offsets"};
    return Fail(fmt::format("has {} as its {}", what, kFields[static_cast<std::size_t>(field_)]));
  }

  bool Fail(std::string_view what) {
    return FailHeader(fmt::format("tensor {} {}", Printable(tensor_.name), what));
  }

  bool FailHeader(std::string_view what) {
    error_ =
        fmt::format("{}: at byte {}: {}; the file is damaged or not safetensors: fetch it again",
                    source_name_, kPrefixBytes + static_cast<std::size_t>(reached_ - begin_), what);
    return false;
  }

  std::string_view source_name_;
  const TensorFilter& wanted_;
  std::optional<std::uint64_t> picked_;
  const char* begin_ = nullptr;
  const char* reached_ = nullptr;

  Place place_ = Place::kStart;
  Field field_ = Field::kUnknown;
  std::array<bool, 3> seen_ = {};
  bool metadata_seen_ = false;
  TensorInfo tensor_;  // The one being read; its memory is used again.
  std::array<std::uint64_t, 2> offsets_ = {};
  std::uint32_t offset_count_ = 0;

  std::vector<Span> spans_;
  std::vector<TensorInfo> tensors_;
  std::string error_;
};

/// Runs `reader` over the header's text.
bool Walk(std::string_view text, HeaderReader& reader) {
  reader.SetText(text.data());
  return nlohmann::json::sax_parse(CountingIterator(text.data(), reader.reached()),
                                   CountingIterator(text.data() + text.size(), reader.reached()),
                                   &reader);
}

/// The `index`-th tensor of a header that Walk() has been through, for a message.
std::string Describe(std::string_view text, std::uint64_t index) {
  const TensorFilter none;
  HeaderReader reader("", none);
  reader.PickOnly(index);
  if (!Walk(text, reader) || reader.tensors().size() != 1) return fmt::format("number {}", index);
  const TensorInfo& tensor = reader.tensors().front();
  return fmt::format("{} [{}, {})", Printable(tensor.name), tensor.offset_bytes,
                     tensor.offset_bytes + tensor.size_bytes);
}

/// What is wrong with how the tensors lie in the data; empty if nothing is.
std::string CheckLayout(std::string_view text, std::vector<Span>& spans) {
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return a.begin_bytes != b.begin_bytes ? a.begin_bytes < b.begin_bytes
           : a.end_bytes != b.end_bytes   ? a.end_bytes < b.end_bytes
                                          : a.index < b.index;
  });
  std::uint64_t end_bytes = 0;
  for (std::size_t i = 0; i < spans.size(); ++i) {
    if (spans[i].begin_bytes < end_bytes) {
      return fmt::format("tensor {} overlaps tensor {} in the data", Describe(text, spans[i].index),
                         Describe(text, spans[i - 1].index));
    }
    if (spans[i].begin_bytes > end_bytes) {
      return fmt::format("tensor {} leaves a hole of {} B before it in the data",
                         Describe(text, spans[i].index), spans[i].begin_bytes - end_bytes);
    }
    end_bytes = spans[i].end_bytes;
  }
  return {};
}

/// A name that stands twice; empty if none does.
std::string CheckNames(std::string_view text, std::vector<Span>& spans) {
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return a.name_hash != b.name_hash ? a.name_hash < b.name_hash : a.index < b.index;
  });
  const auto twice =
      std::adjacent_find(spans.begin(), spans.end(),
                         [](const Span& a, const Span& b) { return a.name_hash == b.name_hash; });
  if (twice == spans.end()) return {};
  return fmt::format("tensor {} and tensor {} have one name", Describe(text, twice->index),
                     Describe(text, std::next(twice)->index));
}

/// Length of the header's text, once the first 8 bytes are there.
Result<std::uint64_t> HeaderSizeBytes(std::span<const std::byte> start,
                                      std::uint64_t file_size_bytes, std::string_view source_name) {
  if (file_size_bytes < kPrefixBytes || start.size() < kPrefixBytes) {
    return Status(
        StatusCode::kCorruption,
        fmt::format("{} has {} B, too few for a safetensors header at byte 0: the file is "
                    "truncated; fetch it again",
                    source_name, file_size_bytes));
  }
  const auto size_bytes = LoadLittleEndian<std::uint64_t>(start.data());
  if (size_bytes > kHeaderSizeBytesMax) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("{}: at byte 0: a header of {} B; the format allows {} B: the file is "
                    "damaged or not safetensors",
                    source_name, size_bytes, kHeaderSizeBytesMax));
  }
  if (size_bytes > file_size_bytes - kPrefixBytes) {
    return Status(StatusCode::kCorruption,
                  fmt::format("{}: at byte 0: a header of {} B, but the file has {} B: it is "
                              "truncated or not safetensors; fetch it again",
                              source_name, size_bytes, file_size_bytes));
  }
  return size_bytes;
}

/// Holds the end of the data against the end of the file.
Status CheckDataEnd(std::string_view text, const std::vector<Span>& spans,
                    std::uint64_t data_offset_bytes, std::uint64_t file_size_bytes,
                    std::string_view source_name) {
  const std::uint64_t data_size_bytes = spans.empty() ? 0 : spans.back().end_bytes;
  const std::uint64_t space_bytes = file_size_bytes - data_offset_bytes;
  if (data_size_bytes > space_bytes) {
    // The first tensor that is not whole: the most telling one.
    const auto cut = std::find_if(spans.begin(), spans.end(), [space_bytes](const Span& span) {
      return span.end_bytes > space_bytes;
    });
    return Status(
        StatusCode::kCorruption,
        fmt::format("{}: the file ends at byte {}, but tensor {} of the data that starts "
                    "at byte {} ends after that: the file is truncated; fetch it again",
                    source_name, file_size_bytes, Describe(text, cut->index), data_offset_bytes));
  }
  if (data_size_bytes < space_bytes) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: the last tensor{} ends at byte {}, but the file has {} B: what "
                              "follows belongs to no tensor; fetch the file again",
                              source_name,
                              spans.empty() ? "" : ", " + Describe(text, spans.back().index) + ",",
                              data_offset_bytes + data_size_bytes, file_size_bytes));
  }
  return {};
}

}  // namespace

std::string_view Name(TensorType type) noexcept {
  return type < TensorType::kCount ? kTypes[static_cast<std::size_t>(type)].name : "UNKNOWN";
}

std::uint32_t SizeBits(TensorType type) noexcept {
  return kTypes[static_cast<std::size_t>(type)].bits;
}

std::string Printable(std::string_view name) {
  constexpr std::size_t kBytesMax = 200;
  std::string text(name.substr(0, kBytesMax));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  if (name.size() > kBytesMax) text += "...";
  return text;
}

Result<SafetensorsHeader> ParseSafetensorsHeader(std::span<const std::byte> start,
                                                 std::uint64_t file_size_bytes,
                                                 std::string_view source_name,
                                                 const TensorFilter& wanted) {
  Result<std::uint64_t> size_bytes = HeaderSizeBytes(start, file_size_bytes, source_name);
  if (!size_bytes.ok()) return std::move(size_bytes).TakeStatus();
  if (start.size() - kPrefixBytes < size_bytes.value()) {
    return Status(StatusCode::kCorruption,
                  fmt::format("{}: the header ends at byte {}, its file before that", source_name,
                              kPrefixBytes + size_bytes.value()));
  }
  const std::string_view text(reinterpret_cast<const char*>(start.data()) + kPrefixBytes,
                              size_bytes.value());
  const auto bad = [&](std::string_view what) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: {}; the file is damaged or not safetensors: fetch it again",
                              source_name, what));
  };
  // The reference implementation refuses white space before the object. (A byte order
  // mark and a zero byte would be passed over in silence by the JSON parser.)
  if (text.empty() || text.front() != '{')
    return bad("at byte 8: the header does not start with '{'");
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
    return bad(fmt::format("at byte {}: a zero byte in the header", kPrefixBytes + zero));
  }
  HeaderReader reader(source_name, wanted);
  if (!Walk(text, reader)) {
    return Status(StatusCode::kInvalidArgument, std::move(reader.error()));
  }
  if (std::string what = CheckNames(text, reader.spans()); !what.empty()) return bad(what);
  if (std::string what = CheckLayout(text, reader.spans()); !what.empty()) return bad(what);

  SafetensorsHeader header;
  header.data_offset_bytes = kPrefixBytes + text.size();
  header.tensor_count = reader.spans().size();
  Status status =
      CheckDataEnd(text, reader.spans(), header.data_offset_bytes, file_size_bytes, source_name);
  if (!status.ok()) return status;
  header.tensors = std::move(reader.tensors());
  for (TensorInfo& tensor : header.tensors) tensor.offset_bytes += header.data_offset_bytes;
  return header;
}

Result<SafetensorsHeader> ReadSafetensorsHeader(const FileDescriptor& file, const std::string& path,
                                                const TensorFilter& wanted) {
  Result<std::uint64_t> file_size_bytes = FileSizeBytes(file, path);
  if (!file_size_bytes.ok()) return std::move(file_size_bytes).TakeStatus();
  std::vector<std::byte> start(std::min<std::uint64_t>(kPrefixBytes, file_size_bytes.value()));
  Status status = ReadAt(file, path, 0, start);
  if (!status.ok()) return status;
  Result<std::uint64_t> size_bytes = HeaderSizeBytes(start, file_size_bytes.value(), path);
  if (!size_bytes.ok()) return std::move(size_bytes).TakeStatus();
  start.resize(kPrefixBytes + size_bytes.value());
  status = ReadAt(file, path, kPrefixBytes, std::span(start).subspan(kPrefixBytes));
  if (!status.ok()) return status;
  return ParseSafetensorsHeader(start, file_size_bytes.value(), path, wanted);
}

}  // namespace tiercel
