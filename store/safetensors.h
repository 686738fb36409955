#ifndef TIERCEL_STORE_SAFETENSORS_H_
#define TIERCEL_STORE_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "tiercel/status.h"

namespace tiercel {

/// Element types of the safetensors format, in the order of its reference
/// implementation: the writer there sorts tensors by it, largest first.
enum class TensorType : std::uint8_t {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kI16,
  kU16,
  kF16,
  kBf16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
  kCount,  ///< Number of types; never a tensor's.
};

/// As the format spells it: "BF16", "F8_E4M3", ...
[[nodiscard]] std::string_view Name(TensorType type) noexcept;
/// Bits of one element.
[[nodiscard]] std::uint32_t SizeBits(TensorType type) noexcept;

/// One tensor of a safetensors file.
struct TensorInfo {
  std::string name;
  TensorType type = TensorType::kU8;
  std::vector<std::uint64_t> shape;
  std::uint64_t offset_bytes = 0;  ///< From the start of the file.
  std::uint64_t size_bytes = 0;
};

/// What a header says, checked.
struct SafetensorsHeader {
  std::uint64_t data_offset_bytes = 0;  ///< Where tensor data starts in the file.
  std::uint64_t tensor_count = 0;       ///< All tensors, wanted or not.
  std::vector<TensorInfo> tensors;      ///< The wanted ones, in the header's order.
};

/// Says whether a tensor of that name is wanted.
using TensorFilter = std::function<bool(std::string_view name)>;

/// Reads and checks the header of `file`; reads no tensor data. All tensors are
/// checked, as strictly as the reference implementation does (they cover the data
/// without overlap or hole, and it ends where the file does); only those that
/// `wanted` picks are kept. A tensor that is not wanted takes 32 bytes while this runs.
///
/// Errors: kInvalidArgument (the header lies or is malformed), kCorruption (the file
/// ends too early), kIoError, kResourceExhausted; the message names file, tensor and offset.
[[nodiscard]] Result<SafetensorsHeader> ReadSafetensorsHeader(const FileDescriptor& file,
                                                              const std::string& path,
                                                              const TensorFilter& wanted);

/// The same for a file whose first bytes are in memory.
///
///   start            the file from its first byte on, at least to the end of the header
///                    (or all of it).
///   file_size_bytes  size of the whole file.
[[nodiscard]] Result<SafetensorsHeader> ParseSafetensorsHeader(std::span<const std::byte> start,
                                                               std::uint64_t file_size_bytes,
                                                               std::string_view source_name,
                                                               const TensorFilter& wanted);

/// `name` fit for a message: cut at 200 bytes, control bytes replaced.
[[nodiscard]] std::string Printable(std::string_view name);

}  // namespace tiercel

#endif  // TIERCEL_STORE_SAFETENSORS_H_
