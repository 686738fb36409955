#ifndef TIERCEL_STORE_SAFETENSORS_TEXT_H_
#define TIERCEL_STORE_SAFETENSORS_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "store/safetensors.h"

namespace tiercel {

/// What a safetensors header says of a tensor.
struct TensorHead {
  std::string name;
  TensorType type = TensorType::kU8;
  std::vector<std::uint64_t> shape;
  std::uint64_t size_bytes = 0;
};

/// The header of a file that holds `tensors` one after another, with its length before
/// it: as the reference implementation writes it, padded with spaces so that the data
/// starts at a multiple of 8. (Not of 4096: rows of real files are not aligned either.)
[[nodiscard]] std::string SafetensorsHeaderText(const std::vector<TensorHead>& tensors);

/// A tensor and the file that it is in.
struct IndexedTensor {
  std::string tensor;
  std::string file;
  std::uint64_t size_bytes = 0;
};

/// The text of model.safetensors.index.json.
[[nodiscard]] std::string SafetensorsIndexText(std::vector<IndexedTensor> tensors);

}  // namespace tiercel

#endif  // TIERCEL_STORE_SAFETENSORS_TEXT_H_
