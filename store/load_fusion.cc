// The weights of an Engram layer, under the names that its model gives them.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "engram/fusion_shape.h"
#include "store/checkpoint_shards.h"
#include "store/tensor_set.h"
#include "tiercel/checkpoint.h"
#include "tiercel/layer.h"

namespace tiercel {
namespace {

/// The files that may hold weights: all shards of the directory.
Result<std::vector<std::string>> ShardPaths(const CheckpointPlace& place) {
  if (!place.single_shard.empty()) return std::vector{place.single_shard};
  std::vector<std::string> paths;
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(place.directory, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    if (it->path().extension() == ".safetensors") paths.push_back(it->path().string());
  }
  if (error) {
    return Status(StatusCode::kIoError, fmt::format("{}: {}", place.directory, error.message()),
                  error.value());
  }
  std::ranges::sort(paths);
  return paths;
}

/// Collects tensors into weights and keeps the first error.
class FusionReader {
 public:
  FusionReader(const TensorSet& tensors, std::string prefix)
      : tensors_(tensors), prefix_(std::move(prefix)) {}

  /// Appends the tensor to `values`, which may be null; its shape, empty after an error.
  ///   wanted  0 stands for any extent.
  std::vector<std::uint64_t> Append(const std::string& name,
                                    const std::vector<std::uint64_t>& wanted,
                                    std::vector<float>* values, const std::string& scale = {}) {
    if (!status_.ok()) return {};
    Result<FloatTensor> tensor =
        tensors_.Read(prefix_ + name, scale.empty() ? scale : prefix_ + scale);
    if (!tensor.ok()) {
      status_ = std::move(tensor).TakeStatus();
      return {};
    }
    const auto fits = [](std::uint64_t extent, std::uint64_t want) {
      return want == 0 || extent == want;
    };
    if (!std::ranges::equal(tensor.value().shape, wanted, fits)) {
      status_ =
          Status(StatusCode::kInvalidArgument,
                 fmt::format("tensor {}{} has shape [{}] instead of [{}] (0: any)", prefix_, name,
                             fmt::join(tensor.value().shape, ", "), fmt::join(wanted, ", ")));
      return {};
    }
    values->insert(values->end(), tensor.value().values.begin(), tensor.value().values.end());
    return std::move(tensor.value().shape);
  }
  [[nodiscard]] bool Has(const std::string& name) const { return tensors_.Has(prefix_ + name); }
  [[nodiscard]] bool ok() const noexcept { return status_.ok(); }
  [[nodiscard]] Status TakeStatus() { return std::move(status_); }

 private:
  const TensorSet& tensors_;
  std::string prefix_;
  Status status_;
};

/// Sets the sizes that `shape` has of the tensors.
void SetSizes(FusionShape& shape, std::uint64_t streams, std::uint64_t dim) {
  shape.stream_count = static_cast<std::uint32_t>(streams);
  shape.dim = static_cast<std::uint32_t>(dim);
}

void ReadV41(FusionReader& reader, LoadedFusion& loaded) {
  const std::vector<std::uint64_t> norm =
      reader.Append("q_weight", {0, 0}, &loaded.weights.query_norm);
  if (!reader.ok()) return;
  SetSizes(loaded.shape, norm[0], norm[1]);
  loaded.shape.rounding = FusionRounding::kDeepSeekV41;
  reader.Append("k_weight", norm, &loaded.weights.key_norm);
  reader.Append("wkv.weight", {(norm[0] + 1) * norm[1], loaded.shape.embedding_dim},
                &loaded.weights.kv_weight, "wkv.scale");
}

void ReadQwen(FusionReader& reader, LoadedFusion& loaded) {
  FusionWeights<float>& weights = loaded.weights;
  const std::uint64_t width = loaded.shape.embedding_dim;
  const auto key = reader.Append("key_proj.weight", {0, width}, &weights.kv_weight);
  const auto value = reader.Append("value_proj.weight", {0, width}, &weights.kv_weight);
  if (!reader.ok()) return;
  SetSizes(loaded.shape, key[0] / std::max<std::uint64_t>(value[0], 1), value[0]);
  reader.Append("norm_key.weight", {key[0]}, &weights.key_norm);
  reader.Append("norm_query.weight", {key[0]}, &weights.query_norm);
  reader.Append("norm_conv.weight", {key[0]}, &weights.conv_norm);
  reader.Append("conv1d.weight", {key[0], 1, loaded.shape.conv_kernel}, &weights.conv_weight);
}

void ReadDemo(FusionReader& reader, LoadedFusion& loaded) {
  FusionWeights<float>& weights = loaded.weights;
  const std::uint64_t width = loaded.shape.embedding_dim;
  std::vector<float> value;
  std::vector<float> value_bias;
  const auto shape = reader.Append("value_proj.weight", {0, width}, &value);
  if (!reader.ok()) return;
  const std::uint64_t dim = shape[0];
  reader.Append("value_proj.bias", {dim}, &value_bias);
  std::uint64_t streams = 0;
  for (; reader.Has(fmt::format("key_projs.{}.weight", streams)); ++streams) {
    reader.Append(fmt::format("key_projs.{}.weight", streams), {dim, width}, &weights.kv_weight);
    reader.Append(fmt::format("key_projs.{}.bias", streams), {dim}, &weights.kv_bias);
    reader.Append(fmt::format("norm1.{}.weight", streams), {dim}, &weights.key_norm);
    reader.Append(fmt::format("norm2.{}.weight", streams), {dim}, &weights.query_norm);
    reader.Append(fmt::format("short_conv.norms.{}.weight", streams), {dim}, &weights.conv_norm);
  }
  SetSizes(loaded.shape, streams, dim);
  reader.Append("short_conv.conv.weight", {streams * dim, 1, loaded.shape.conv_kernel},
                &weights.conv_weight);
  weights.kv_weight.insert(weights.kv_weight.end(), value.begin(), value.end());
  weights.kv_bias.insert(weights.kv_bias.end(), value_bias.begin(), value_bias.end());
}

}  // namespace

Result<LoadedFusion> LoadFusion(const std::string& path, std::uint32_t layer_id) {
  Result<CheckpointInfo> info = InspectCheckpoint(path);
  if (!info.ok()) return std::move(info).TakeStatus();
  const Recipe& recipe = info.value().recipe;
  if (!recipe.FindLayer(layer_id)) {
    return Status(StatusCode::kNotFound,
                  fmt::format("{}: block {} has no Engram layer; those with one are {}", path,
                              layer_id, fmt::join(recipe.parameters.layer_ids, ", ")));
  }
  Result<CheckpointPlace> place = LocateCheckpoint(path);
  if (!place.ok()) return std::move(place).TakeStatus();
  Result<std::vector<std::string>> paths = ShardPaths(place.value());
  if (!paths.ok()) return std::move(paths).TakeStatus();
  const RecipeKind kind = recipe.parameters.kind;
  const std::string prefix =
      fmt::format("layers.{}.{}.", layer_id, kind == RecipeKind::kQwen38 ? "ple" : "engram");
  Result<TensorSet> tensors = TensorSet::Open(paths.value(), [&](std::string_view name) {
    return name.find(prefix) != std::string_view::npos;
  });
  if (!tensors.ok()) return std::move(tensors).TakeStatus();
  LoadedFusion loaded;
  loaded.shape = PublishedFusionShape(kind, 0, recipe.column_count() * recipe.parameters.head_dim);
  FusionReader reader(tensors.value(), prefix);
  switch (kind) {
    case RecipeKind::kDeepSeekV41:
      ReadV41(reader, loaded);
      break;
    case RecipeKind::kQwen38:
      ReadQwen(reader, loaded);
      break;
    case RecipeKind::kEngramDemo:
      ReadDemo(reader, loaded);
      break;
  }
  if (!reader.ok()) {
    Status status = reader.TakeStatus();
    if (status.code() != StatusCode::kNotFound) return status;  // It names its file.
    return Status(StatusCode::kNotFound, fmt::format("{}: {}", path, status.message()));
  }
  if (Status status = CheckFusionShape(loaded.shape); !status.ok()) return status;
  return loaded;
}

}  // namespace tiercel
