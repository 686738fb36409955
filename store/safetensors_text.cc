#include "store/safetensors_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/byte_order.h"

namespace tiercel {

std::string SafetensorsHeaderText(const std::vector<TensorHead>& tensors) {
  nlohmann::ordered_json json = {{"__metadata__", {{"format", "pt"}}}};
  std::uint64_t offset_bytes = 0;
  for (const TensorHead& tensor : tensors) {
    json[tensor.name] = {{"dtype", Name(tensor.type)},
                         {"shape", tensor.shape},
                         {"data_offsets", {offset_bytes, offset_bytes + tensor.size_bytes}}};
    offset_bytes += tensor.size_bytes;
  }
  std::string text = json.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string header(8, '\0');
  StoreLittleEndian<std::uint64_t>(header.data(), text.size());
  return header + text;
}

std::string SafetensorsIndexText(std::vector<IndexedTensor> tensors) {
  std::ranges::sort(tensors, {}, [](const IndexedTensor& tensor) {
    return std::pair(tensor.tensor, tensor.file);
  });
  std::uint64_t total_size_bytes = 0;
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  for (const IndexedTensor& tensor : tensors) {
    total_size_bytes += tensor.size_bytes;
    map[tensor.tensor] = tensor.file;
  }
  const nlohmann::ordered_json json = {{"metadata", {{"total_size", total_size_bytes}}},
                                       {"weight_map", std::move(map)}};
  return json.dump(2) + "\n";
}

}  // namespace tiercel
