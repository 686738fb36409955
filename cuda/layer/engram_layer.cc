#include "cuda/layer/engram_layer.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "cuda/cuda_status.h"
#include "cuda/layer/engram_kernels.h"
#include "cuda/layer/engram_product.h"
#include "engram/float_formats.h"

namespace tiercel {
namespace {

constexpr std::uint32_t kVectorValues = 8;
/// Tokens are the second dimension of a grid.
constexpr std::uint32_t kBatchTokensMax = 65535;
constexpr std::uintptr_t kAlignmentBytes = 16;

struct FreeDevice {
  void operator()(void* memory) const noexcept { cudaFree(memory); }
};
template <typename T>
using DeviceArray = std::unique_ptr<T, FreeDevice>;

template <typename T>
Status Allocate(std::size_t count, const char* what, DeviceArray<T>& array) {
  if (count == 0) return {};
  void* memory = nullptr;
  Status status = CudaStatus(cudaMalloc(&memory, count * sizeof(T)), what);
  if (status.ok()) array.reset(static_cast<T*>(memory));
  return status;
}

template <typename T>
Status Upload(const std::vector<T>& values, const char* what, DeviceArray<T>& array) {
  if (Status status = Allocate(values.size(), what, array); !status.ok() || values.empty()) {
    return status;
  }
  return CudaStatus(
      cudaMemcpy(array.get(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
      what);
}

std::vector<std::uint16_t> ToBf16(const std::vector<float>& values) {
  std::vector<std::uint16_t> bits;
  bits.reserve(values.size());
  for (const float value : values) bits.push_back(Bf16FromFloat(value));
  return bits;
}

bool IsAligned(const void* pointer) noexcept {
  return pointer != nullptr && reinterpret_cast<std::uintptr_t>(pointer) % kAlignmentBytes == 0;
}

/// The factors that a norm multiplies by.
std::vector<float> FactorsOf(const std::vector<float>& weights, RecipeKind kind) {
  std::vector<float> factors = weights;
  if (kind == RecipeKind::kQwen38) {
    for (float& factor : factors) factor += 1.0F;
  }
  return factors;
}

}  // namespace

struct CudaEngramLayer::Impl {
  FusionShape shape;
  std::uint32_t tokens_max = 0;
  std::unique_ptr<BfloatProduct> product;
  DeviceArray<std::uint16_t> kv_weight;
  DeviceArray<std::uint16_t> kv_bias;
  DeviceArray<float> score_weight;
  DeviceArray<float> conv_norm;
  DeviceArray<float> conv_weight;
  // Of a batch.
  DeviceArray<std::uint16_t> rounded;  ///< [t, E]: the embeddings, quantised.
  DeviceArray<std::uint16_t> kv;       ///< [t, (n + 1) * D].
  DeviceArray<float> gate;             ///< [t, n].
  DeviceArray<float> conv_input;       ///< [t, n, D].

  [[nodiscard]] Status UploadWeights(const FusionWeights<float>& weights) {
    std::vector<float> score = FactorsOf(weights.key_norm, shape.kind);
    const std::vector<float> query = FactorsOf(weights.query_norm, shape.kind);
    for (std::size_t i = 0; i < score.size(); ++i) score[i] *= query[i];
    Status status = Upload(ToBf16(weights.kv_weight), "the layer's matrix", kv_weight);
    if (status.ok()) status = Upload(ToBf16(weights.kv_bias), "the layer's bias", kv_bias);
    if (status.ok()) status = Upload(score, "the layer's norms", score_weight);
    if (status.ok()) {
      status = Upload(FactorsOf(weights.conv_norm, shape.kind), "the layer's norms", conv_norm);
    }
    if (status.ok()) status = Upload(weights.conv_weight, "the convolution's weights", conv_weight);
    return status;
  }

  [[nodiscard]] Status AllocateBatch() {
    const std::size_t tokens = tokens_max;
    const bool rounds = shape.rounding == FusionRounding::kDeepSeekV41;
    Status status = Allocate(tokens * (shape.plane() + shape.dim), "keys and values", kv);
    if (status.ok()) status = Allocate(tokens * shape.stream_count, "gates", gate);
    if (status.ok()) {
      status = Allocate(rounds ? tokens * shape.embedding_dim : 0, "embeddings", rounded);
    }
    if (status.ok()) {
      status = Allocate(shape.has_conv() ? tokens * shape.plane() : 0, "convolution", conv_input);
    }
    return status;
  }

  [[nodiscard]] Status Check(const CudaEngramBatch& batch) const {
    if (batch.token_count > tokens_max) {
      return Status(
          StatusCode::kInvalidArgument,
          fmt::format("{} tokens; the layer was made for {}", batch.token_count, tokens_max));
    }
    if (!IsAligned(batch.embeddings) || !IsAligned(batch.streams)) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("embeddings and streams must not be null, and aligned to {} bytes",
                                kAlignmentBytes));
    }
    if (shape.has_conv() && (batch.run_begins == nullptr || batch.history == nullptr ||
                             batch.run_count == 0 || batch.run_count > kBatchTokensMax)) {
      return Status(StatusCode::kInvalidArgument,
                    "a layer with a convolution needs run_begins, a history and from 1 to 65,535 "
                    "runs");
    }
    return {};
  }
};

CudaEngramLayer::CudaEngramLayer(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
CudaEngramLayer::~CudaEngramLayer() = default;

Result<std::unique_ptr<CudaEngramLayer>> CudaEngramLayer::Create(
    const FusionShape& shape, const FusionWeights<float>& weights, std::uint32_t tokens_max) {
  if (shape.dim % kVectorValues != 0 || shape.embedding_dim % kVectorValues != 0 ||
      tokens_max == 0 || tokens_max > kBatchTokensMax) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("on a GPU dim ({}) and embedding_dim ({}) must be multiples of {}, and "
                    "batches of 1 to {} tokens ({})",
                    shape.dim, shape.embedding_dim, kVectorValues, kBatchTokensMax, tokens_max));
  }
  // The host's layer checks all the rest.
  Result<EngramFusion<float>> checked = EngramFusion<float>::Create(shape, weights);
  if (!checked.ok()) return std::move(checked).TakeStatus();
  auto impl = std::make_unique<Impl>();
  impl->shape = shape;
  impl->tokens_max = tokens_max;
  if (Status status = impl->UploadWeights(weights); !status.ok()) return status;
  if (Status status = impl->AllocateBatch(); !status.ok()) return status;
  Result<std::unique_ptr<BfloatProduct>> product = BfloatProduct::Create(
      shape.embedding_dim, static_cast<std::uint32_t>(shape.plane()) + shape.dim,
      !weights.kv_bias.empty());
  if (!product.ok()) return std::move(product).TakeStatus();
  impl->product = std::move(product).value();
  return std::unique_ptr<CudaEngramLayer>(new CudaEngramLayer(std::move(impl)));
}

Status CudaEngramLayer::ForwardAsync(const CudaEngramBatch& batch, cudaStream_t stream) {
  const FusionShape& shape = impl_->shape;
  if (batch.token_count == 0) return {};
  if (Status status = impl_->Check(batch); !status.ok()) return status;
  const std::uint16_t* input = batch.embeddings;
  if (impl_->rounded != nullptr) {
    Status status = CudaStatus(
        LaunchRoundActivations(input, std::uint64_t{batch.token_count} * shape.embedding_dim,
                               impl_->rounded.get(), stream),
        "launch of the activation quantiser");
    if (!status.ok()) return status;
    input = impl_->rounded.get();
  }
  Status status = impl_->product->RunAsync(input, batch.token_count, impl_->kv_weight.get(),
                                           impl_->kv_bias.get(), impl_->kv.get(), stream);
  if (!status.ok()) return status;
  const EngramKernelArguments arguments = {
      .token_count = batch.token_count,
      .stream_count = shape.stream_count,
      .dim = shape.dim,
      .norm_epsilon = static_cast<float>(shape.norm_epsilon),
      .conv_norm_epsilon = static_cast<float>(shape.conv_norm_epsilon),
      .signed_zero = shape.kind == RecipeKind::kDeepSeekV41,
      .conv_kernel = shape.conv_kernel,
      .conv_dilation = shape.conv_dilation,
      .kv = impl_->kv.get(),
      .streams = batch.streams,
      .dead = batch.dead,
      .score_weight = impl_->score_weight.get(),
      .conv_norm = impl_->conv_norm.get(),
      .conv_weight = impl_->conv_weight.get(),
      .gate = impl_->gate.get(),
      .conv_input = impl_->conv_input.get(),
      .run_count = batch.run_count,
      .run_begins = batch.run_begins,
      .history = batch.history};
  status = CudaStatus(LaunchEngramGate(arguments, stream), "launch of the gate");
  if (!status.ok() || !shape.has_conv()) return status;
  return CudaStatus(LaunchEngramConv(arguments, stream), "launch of the convolution");
}

}  // namespace tiercel
