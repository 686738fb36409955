#ifndef TIERCEL_STORE_GGUF_H_
#define TIERCEL_STORE_GGUF_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "tiercel/status.h"

namespace tiercel {

/// Types of metadata values, as stored.
enum class GgufValueType : std::uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

/// A type of tensor (ggml.h, enum ggml_type): blocks of values.
struct GgufTensorType {
  std::uint32_t id = 0;  ///< As stored.
  std::string_view name;
  std::uint32_t block_values = 1;
  std::uint32_t block_bytes = 1;
};

/// Nothing for a type that this release does not know.
[[nodiscard]] std::optional<GgufTensorType> FindGgufTensorType(std::uint32_t id) noexcept;
[[nodiscard]] std::optional<GgufTensorType> FindGgufTensorType(std::string_view name) noexcept;

/// One value of the metadata.
struct GgufValue {
  GgufValueType type = GgufValueType::kU8;  ///< Of an array: its elements' type.
  bool is_array = false;
  std::uint64_t count = 1;  ///< Elements of an array, kept or not.
  /// The elements, if they are integers; one for a value that is no array.
  std::vector<std::uint64_t> integers;
  std::string text;  ///< Of a single string.
};

/// One tensor of a GGUF file.
struct GgufTensor {
  std::string name;
  std::uint32_t type = 0;  ///< See FindGgufTensorType().
  /// Innermost first: [values of a row, rows].
  std::vector<std::uint64_t> dimensions;
  std::uint64_t offset_bytes = 0;  ///< From the start of the file.
  std::uint64_t size_bytes = 0;    ///< 0 where the type is not known.
};

/// What the start of a GGUF file says, checked.
struct GgufHeader {
  std::uint32_t version = 0;
  std::uint64_t header_bytes = 0;       ///< Up to the end of the last tensor's entry.
  std::uint64_t data_offset_bytes = 0;  ///< Where tensor data starts in the file.
  std::uint64_t tensor_count = 0;       ///< All tensors, wanted or not.
  std::vector<GgufTensor> tensors;      ///< The wanted ones, in the file's order.
  std::map<std::string, GgufValue, std::less<>> values;  ///< The wanted ones, by key.
};

/// What is to be kept of a file.
struct GgufFilter {
  std::function<bool(std::string_view key)> key;
  std::function<bool(std::string_view name)> tensor;
};

/// Reads and checks the start of `file`: all of the metadata is walked over, all tensors are
/// checked (within the file, at the file's alignment, apart from each other), and what the
/// filter picks is kept. Reads no tensor data. Versions 2 and 3, little-endian.
///
/// Nothing is allocated on the word of a count or length alone: each is first held against
/// what is left of the file. Headers of more than 1 GiB, of more than 65,536 keys or
/// 1,048,576 tensors, and wanted integers below 0 or more than 16 Mi of them are refused.
///
/// Errors: kInvalidArgument (not GGUF, malformed), kCorruption (the file ends too early),
/// kIoError; the message names file, key or tensor, and offset.
[[nodiscard]] Result<GgufHeader> ReadGgufHeader(const FileDescriptor& file, const std::string& path,
                                                const GgufFilter& filter);

/// The same for a file whose first bytes are in memory.
///
///   start            the file from its first byte on, at least to the end of the header
///                    (or all of it).
///   file_size_bytes  size of the whole file.
[[nodiscard]] Result<GgufHeader> ParseGgufHeader(std::span<const std::byte> start,
                                                 std::uint64_t file_size_bytes,
                                                 std::string_view source_name,
                                                 const GgufFilter& filter);

}  // namespace tiercel

#endif  // TIERCEL_STORE_GGUF_H_
