#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda/cuda_status.h"
#include "cuda/device_hash.h"
#include "cuda/hbm_cache.h"
#include "engram/group_space.h"
#include "engram/recipe_check.h"
#include "tiercel/cuda.h"

namespace tiercel {

struct DeviceHasher::Impl {
  Recipe recipe;
  WindowRules rules;
  std::vector<DeviceHashLayer> layers;
  std::byte* memory = nullptr;  ///< Device memory that holds all of it.
};

namespace {

/// What is to lie in device memory, put together on the host.
class DeviceImage {
 public:
  /// Returns where it will lie.
  template <typename T>
  std::uint64_t Add(std::span<const T> values) {
    static_assert(std::is_trivially_copyable_v<T>);
    const std::uint64_t offset_bytes = (bytes_.size() + 15) / 16 * 16;
    bytes_.resize(offset_bytes + values.size_bytes());
    if (!values.empty())
      std::memcpy(bytes_.data() + offset_bytes, values.data(), values.size_bytes());
    return offset_bytes;
  }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

struct LayerOffsets {
  std::uint64_t multipliers = 0;
  std::uint64_t heads = 0;
  std::uint64_t key_rules = 0;
};

LayerOffsets AddLayer(DeviceImage& image, const Recipe& recipe, const LayerRecipe& layer) {
  const std::size_t head_count = recipe.parameters.head_count;
  const MixRange range = recipe.parameters.kind == RecipeKind::kEngramDemo ? MixRange::kSigned64
                                                                           : MixRange::kUnsigned63;
  std::vector<Head> heads;
  std::vector<KeyRule> key_rules;
  for (std::size_t order = 0; order < recipe.order_count(); ++order) {
    const GroupSpace space(std::span(layer.head_sizes).subspan(order * head_count, head_count),
                           std::span(layer.offsets).subspan(order * head_count, head_count), range);
    heads.insert(heads.end(), space.heads().begin(), space.heads().end());
    key_rules.push_back(space.key_rule());
  }
  return {.multipliers = image.Add(std::span<const std::uint64_t>(layer.multipliers)),
          .heads = image.Add(std::span<const Head>(heads)),
          .key_rules = image.Add(std::span<const KeyRule>(key_rules))};
}

bool SameLayer(const LayerRecipe& a, const LayerRecipe& b) {
  return a.multipliers == b.multipliers && a.head_sizes == b.head_sizes && a.offsets == b.offsets;
}

Status CheckTokens(const DeviceTokens& tokens) {
  if (tokens.token_count > 0 &&
      (tokens.ids == nullptr || tokens.position == nullptr || tokens.run_start == nullptr)) {
    return Status(StatusCode::kInvalidArgument, "ids, position and run_start must not be null");
  }
  return {};
}

}  // namespace

DeviceHasher::DeviceHasher(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}

DeviceHasher::~DeviceHasher() {
  if (impl_->memory != nullptr) (void)cudaFree(impl_->memory);
}

Result<std::unique_ptr<DeviceHasher>> DeviceHasher::Create(const Recipe& recipe,
                                                           const TokenMap* token_map) {
  // The host's checks of recipe and map are its hasher's.
  Result<Hasher> checked = Hasher::Create(
      recipe, token_map == nullptr
                  ? nullptr
                  : std::shared_ptr<const TokenMap>(token_map, [](const TokenMap*) {}));
  if (!checked.ok()) return std::move(checked).TakeStatus();
  const RecipeParameters& parameters = recipe.parameters;
  const bool raw_ids = parameters.kind == RecipeKind::kQwen38;
  const bool mapped = token_map != nullptr && !raw_ids;
  DeviceImage image;
  const std::uint64_t classes = mapped ? image.Add(token_map->classes()) : 0;
  std::vector<LayerOffsets> offsets;
  for (const LayerRecipe& layer : recipe.layers) offsets.push_back(AddLayer(image, recipe, layer));

  std::unique_ptr<DeviceHasher> made(new DeviceHasher(std::make_unique<Impl>()));
  Impl& impl = *made->impl_;
  void* memory = nullptr;
  Status status = CudaStatus(cudaMalloc(&memory, image.bytes().size()), "memory of a hasher");
  if (!status.ok()) return status;
  impl.memory = static_cast<std::byte*>(memory);
  status = CudaStatus(
      cudaMemcpy(memory, image.bytes().data(), image.bytes().size(), cudaMemcpyHostToDevice),
      "copy of a hasher's constants");
  if (!status.ok()) return status;
  impl.rules = {
      .classes = mapped ? reinterpret_cast<const std::uint32_t*>(impl.memory + classes) : nullptr,
      .id_end = mapped ? static_cast<std::uint32_t>(token_map->entry_count())
                       : HashedVocabSize(parameters),
      .fill = static_cast<std::uint64_t>(raw_ids ? parameters.eos_token : parameters.pad_token)};
  for (const LayerOffsets& layer : offsets) {
    impl.layers.push_back(
        {.multipliers = reinterpret_cast<const std::uint64_t*>(impl.memory + layer.multipliers),
         .heads = reinterpret_cast<const Head*>(impl.memory + layer.heads),
         .key_rules = reinterpret_cast<const KeyRule*>(impl.memory + layer.key_rules)});
  }
  impl.recipe = recipe;
  return made;
}

Status DeviceHasher::HashOnStream(std::uint32_t layer_index, const DeviceTokens& tokens,
                                  const DeviceHashOutput& output, cudaStream_t stream) const {
  if (layer_index >= impl_->layers.size()) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("layer index {}; the recipe has {} layers", layer_index, impl_->layers.size()));
  }
  if (Status status = CheckTokens(tokens); !status.ok()) return status;
  const HashArguments arguments = {.kind = impl_->recipe.parameters.kind,
                                   .order_max = impl_->recipe.parameters.order_max,
                                   .head_count = impl_->recipe.parameters.head_count,
                                   .rules = impl_->rules,
                                   .layer = impl_->layers[layer_index],
                                   .tokens = tokens,
                                   .output = output};
  return CudaStatus(LaunchHash(arguments, nullptr, stream), "launch of a hash");
}

Status HbmTier::ProbeOnStream(const DeviceHasher& hasher, std::uint32_t layer_id,
                              const DeviceTokens& tokens, const DeviceHashOutput& hash,
                              const DeviceProbeOutput& output, cudaStream_t stream) {
  if (Status status = CheckTokens(tokens); !status.ok()) return status;
  if (output.places == nullptr || output.misses == nullptr || output.miss_count == nullptr) {
    return Status(StatusCode::kInvalidArgument, "places, misses and miss_count must not be null");
  }
  if (cache_->mirror().buckets == nullptr) {
    return Status(StatusCode::kInvalidArgument,
                  "the HBM tier has no directory on the device: set device_directory");
  }
  Result<std::uint32_t> first_space = cache_->FirstSpaceOf(layer_id);
  if (!first_space.ok()) return std::move(first_space).TakeStatus();
  const DeviceHasher::Impl& impl = *hasher.impl_;
  const std::optional<std::uint32_t> index = impl.recipe.FindLayer(layer_id);
  // Keys of another recipe or shard would name other groups.
  const Recipe& served = cache_->store().hasher().recipe();
  const std::optional<std::uint32_t> served_index = served.FindLayer(layer_id);
  if (!index || !served_index || impl.recipe.parameters.kind != served.parameters.kind ||
      !SameLayer(impl.recipe.layers[*index], served.layers[*served_index])) {
    return Status(StatusCode::kInvalidArgument,
                  "the hasher is of another recipe, or another shard, than the store");
  }
  const HashArguments arguments = {.kind = impl.recipe.parameters.kind,
                                   .order_max = impl.recipe.parameters.order_max,
                                   .head_count = impl.recipe.parameters.head_count,
                                   .rules = impl.rules,
                                   .layer = impl.layers[*index],
                                   .tokens = tokens,
                                   .output = hash};
  const ProbeArguments probe = {
      .table = TableOf(cache_->mirror()), .first_space = first_space.value(), .output = output};
  return CudaStatus(LaunchHash(arguments, &probe, stream), "launch of a probe");
}

}  // namespace tiercel
