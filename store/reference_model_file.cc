// A reference model's weights in a safetensors file.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/byte_order.h"
#include "base/file.h"
#include "engram/model_weights.h"
#include "store/tensor_set.h"
#include "tiercel/reference_model.h"

namespace tiercel {
namespace {

/// The file's bytes: the header's size, the header, padded with blanks to 8 bytes, the data.
template <typename T>
std::string SafetensorsBytes(const TensorList<T>& list) {
  nlohmann::json header = nlohmann::json::object();
  std::uint64_t offset = 0;
  for (const ModelTensor<T>& tensor : list) {
    const std::uint64_t end = offset + 4 * tensor.values->size();
    header[tensor.name] = {
        {"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string bytes(8, '\0');
  StoreLittleEndian<std::uint64_t>(reinterpret_cast<std::byte*>(bytes.data()), text.size());
  bytes += text;
  bytes.reserve(bytes.size() + offset);
  for (const ModelTensor<T>& tensor : list) {
    for (const T value : *tensor.values) {
      const auto single = static_cast<float>(value);
      bytes.append(reinterpret_cast<const char*>(&single), sizeof(single));
    }
  }
  return bytes;
}

}  // namespace

template <typename T>
Status ReferenceModel<T>::Save(const std::string& path) const {
  ModelWeights<T> weights = impl_->weights;
  for (const std::uint32_t layer : impl_->config.engram_layer_ids) {
    weights.blocks[layer].engram = impl_->fusions[layer]->weights();
  }
  return WriteFileAtomically(path, SafetensorsBytes(ListTensors(impl_->config, weights)));
}

template <typename T>
Result<ReferenceModel<T>> ReferenceModel<T>::Load(const ModelConfig& config,
                                                  const std::string& path) {
  if (Status status = CheckModelConfig(config); !status.ok()) return status;
  Result<TensorSet> tensors = TensorSet::Open({path}, [](std::string_view) { return true; });
  if (!tensors.ok()) return std::move(tensors).TakeStatus();
  ModelWeights<T> weights;
  for (const ModelTensor<T>& wanted : ListTensors(config, weights)) {
    Result<FloatTensor> tensor = tensors.value().Read(wanted.name);
    if (!tensor.ok()) {
      return Status(tensor.status().code(), fmt::format("{}: {}", path, tensor.status().message()),
                    tensor.status().os_error());
    }
    if (tensor.value().shape != wanted.shape) {
      return Status(
          StatusCode::kInvalidArgument,
          fmt::format("{}: tensor {} has shape [{}] instead of [{}]", path, wanted.name,
                      fmt::join(tensor.value().shape, ", "), fmt::join(wanted.shape, ", ")));
    }
    wanted.values->assign(tensor.value().values.begin(), tensor.value().values.end());
  }
  Result<std::unique_ptr<Impl>> impl = Impl::Make(config, std::move(weights));
  if (!impl.ok()) return std::move(impl).TakeStatus();
  return ReferenceModel(std::move(impl).value());
}

template Status ReferenceModel<float>::Save(const std::string&) const;
template Status ReferenceModel<double>::Save(const std::string&) const;
template Result<ReferenceModel<float>> ReferenceModel<float>::Load(const ModelConfig&,
                                                                   const std::string&);
template Result<ReferenceModel<double>> ReferenceModel<double>::Load(const ModelConfig&,
                                                                     const std::string&);

}  // namespace tiercel
