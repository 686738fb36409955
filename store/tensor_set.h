#ifndef TIERCEL_STORE_TENSOR_SET_H_
#define TIERCEL_STORE_TENSOR_SET_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "store/safetensors.h"
#include "tiercel/status.h"

namespace tiercel {

/// A tensor in memory, as floats.
struct FloatTensor {
  std::vector<std::uint64_t> shape;
  std::vector<float> values;
};

/// The weights of a model that are small enough to be read whole, by name.
///
/// Threading: immutable once made; Read() may run concurrently.
class TensorSet {
 public:
  /// Reads the headers of `paths` and keeps what `wanted` picks.
  /// Errors: as ReadSafetensorsHeader(), OpenFile().
  [[nodiscard]] static Result<TensorSet> Open(const std::vector<std::string>& paths,
                                              const TensorFilter& wanted);

  /// Whether there is a tensor of that name, or one whose name ends with '.' and it.
  [[nodiscard]] bool Has(std::string_view name) const { return Find(name) != nullptr; }

  /// Reads it as floats: F32, BF16 and F16 as they are; F8_E4M3, which must be a matrix, with
  /// the UE8M0 scales of its 32 x 32 blocks in the tensor `scale_name`.
  ///
  /// Errors: kNotFound (no such tensor), kInvalidArgument (another type; scales of another
  /// shape), kResourceExhausted (more than 16 GiB), as ReadAt().
  [[nodiscard]] Result<FloatTensor> Read(std::string_view name,
                                         std::string_view scale_name = {}) const;

 private:
  struct Entry {
    TensorInfo info;
    std::size_t file_index = 0;
  };

  TensorSet() = default;
  [[nodiscard]] const Entry* Find(std::string_view name) const;
  [[nodiscard]] Result<std::vector<std::byte>> ReadBytes(const Entry& entry) const;
  [[nodiscard]] Status Scale(std::string_view name, FloatTensor& tensor) const;

  std::vector<std::string> paths_;
  std::vector<FileDescriptor> files_;
  std::vector<Entry> entries_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_TENSOR_SET_H_
