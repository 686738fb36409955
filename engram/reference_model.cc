// A transformer with Engram layers, whose rows come from a store.

#include "tiercel/reference_model.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "base/prng.h"
#include "engram/layer_math.h"
#include "engram/model_weights.h"
#include "engram/product.h"
#include "tiercel/row_format.h"

namespace tiercel {
namespace {

using ModelClock = std::chrono::steady_clock;

/// Random weights. Each tensor has a generator of its own.
template <typename T>
void SeedTensor(std::uint64_t seed, ModelTensor<T>& tensor) {
  std::uint64_t size = 1;
  for (const std::uint64_t extent : tensor.shape) size *= extent;
  tensor.values->resize(size);
  Prng prng(seed);
  // Uniform in [-1, 1) has a variance of a third.
  const double matrix_scale = std::sqrt(3.0 / static_cast<double>(tensor.shape.back()));
  const auto streams = static_cast<std::uint64_t>(std::sqrt(static_cast<double>(size) + 1)) - 1;
  for (std::uint64_t i = 0; i < size; ++i) {
    const double random = 2 * prng.Unit() - 1;
    double value = 0;
    switch (tensor.role) {
      case WeightRole::kMatrix:
        value = random * matrix_scale;
        break;
      case WeightRole::kNorm:
        value = 1 + 0.1 * random;
        break;
      case WeightRole::kBias:
        value = 0.1 * random;
        break;
      case WeightRole::kMixing: {
        // 2n + n^2 = (n + 1)^2 - 1 numbers, the last n^2 of them a matrix.
        const bool diagonal = i >= 2 * streams && (i - 2 * streams) % (streams + 1) == 0;
        value = 0.1 * random + (diagonal ? 3.0 : 0.0);
        break;
      }
      case WeightRole::kGain:
        value = 0.1;
        break;
    }
    (*tensor.values)[i] = static_cast<T>(value);
  }
}

/// The rows of one Engram layer of a call, on their way.
struct LayerRows {
  std::uint32_t layer_id = 0;
  RowShape shape;
  std::vector<std::byte> bytes;
};

/// Where the rows of the config's layers go; an error where the store has no such layers.
Result<std::vector<LayerRows>> PlanRows(const ModelConfig& config, const Store& store,
                                        std::size_t token_count) {
  const CheckpointInfo& info = store.checkpoint();
  const std::size_t columns = info.recipe.column_count();
  std::vector<LayerRows> plan;
  for (const std::uint32_t id : config.engram_layer_ids) {
    const auto table = std::ranges::find(info.layers, id, &LayerTable::layer_id);
    if (table == info.layers.end() ||
        columns * table->shape.value_count != config.engram_embedding_dim) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("the model wants {} values a token for layer {}; {} {}",
                                config.engram_embedding_dim, id, info.path,
                                table == info.layers.end()
                                    ? std::string("has no such table")
                                    : fmt::format("has {}", columns * table->shape.value_count)));
    }
    const std::size_t row_bytes = table->shape.row_size_bytes();
    plan.push_back({id, table->shape, std::vector<std::byte>(token_count * columns * row_bytes)});
  }
  return plan;
}

/// The rows as numbers, shape [t, E].
template <typename T>
std::vector<T> Dequantized(const LayerRows& rows) {
  const std::size_t row_bytes = rows.shape.row_size_bytes();
  std::vector<T> values;
  std::vector<float> row(rows.shape.value_count);
  for (std::size_t at = 0; at < rows.bytes.size(); at += row_bytes) {
    DequantizeToFloat(rows.shape, std::span(rows.bytes).subspan(at, row_bytes), row);
    values.insert(values.end(), row.begin(), row.end());
  }
  return values;
}

Status CheckCall(const ModelConfig& config, std::span<const std::int32_t> tokens,
                 std::size_t logits_size) {
  const std::size_t vocab = config.vocab_size;
  if (tokens.empty() || (logits_size != vocab && logits_size != tokens.size() * vocab)) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} logits are neither those of {} tokens nor of the last, {} each",
                              logits_size, tokens.size(), vocab));
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    // The demo hashes -1 as it comes: it has no dead tokens.
    if (tokens[i] == kDeadToken && config.kind != RecipeKind::kEngramDemo) continue;
    if (tokens[i] >= 0 && static_cast<std::size_t>(tokens[i]) < vocab) continue;
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("token {} is {}; ids are below {}", i, tokens[i], vocab));
  }
  return {};
}

/// Asks for the rows of all layers of `rows`, which follow those of `before`.
Result<Ticket> StartRows(Store& store, std::span<const std::int32_t> before,
                         std::span<const std::int32_t> tokens, std::vector<LayerRows>& rows) {
  if (rows.empty()) return Ticket();
  const std::size_t history =
      std::min<std::size_t>(before.size(), store.checkpoint().recipe.order_count());
  const TokenRun run = {.history = before.last(history), .tokens = tokens};
  std::vector<PrefetchLayer> layers;
  for (LayerRows& layer : rows) {
    layers.push_back({.layer_id = layer.layer_id, .rows = layer.bytes});
  }
  std::ranges::sort(layers, {}, &PrefetchLayer::layer_id);
  return store.Start({&run, 1}, layers);
}

/// The streams before the first block, shape [t, n, dim]: each is the token's embedding.
template <typename T>
std::vector<T> Embedded(const ModelConfig& config, const std::vector<T>& table,
                        std::span<const std::int32_t> tokens) {
  std::vector<T> streams;
  for (const std::int32_t token : tokens) {
    std::vector<T> embedding(config.dim);  // Zeros for a dead token.
    if (token != kDeadToken) {
      const T* const own = table.data() + std::size_t{config.dim} * token;
      embedding.assign(own, own + config.dim);
    }
    for (std::uint32_t g = 0; g < config.stream_count; ++g) {
      streams.insert(streams.end(), embedding.begin(), embedding.end());
    }
  }
  return streams;
}

/// Logits of as many of the last tokens as there is room for.
template <typename T>
void Predict(const ModelConfig& config, const ModelWeights<T>& weights, std::span<const T> streams,
             std::span<T> logits) {
  const std::size_t plane = std::size_t{config.stream_count} * config.dim;
  const std::size_t tokens = logits.size() / config.vocab_size;
  const std::span<const T> last = streams.last(tokens * plane);
  std::vector<T> x(tokens * config.dim);
  for (std::size_t token = 0; token < tokens; ++token) {
    const std::span<T> sum = std::span<T>(x).subspan(token * config.dim, config.dim);
    for (std::size_t i = 0; i < plane; ++i) sum[i % config.dim] += last[token * plane + i];
    RmsNorm<T>(sum, weights.norm, static_cast<T>(config.norm_epsilon), sum);
  }
  Product<T>(x, weights.head, config.dim, logits);
}

/// A part of a block within its hyper-connections: `work` turns the normed input of all
/// tokens into their output.
///   streams  shape [t, n, dim].
template <typename T, typename Work>
void Connected(const ModelConfig& config, const HyperWeights<T>& hyper, const std::vector<T>& norm,
               std::span<T> streams, const Work& work) {
  const std::size_t plane = std::size_t{config.stream_count} * config.dim;
  const std::size_t tokens = streams.size() / plane;
  const T epsilon = static_cast<T>(config.norm_epsilon);
  std::vector<HyperMix<T>> mixes;
  std::vector<T> input(tokens * config.dim);
  std::vector<T> output(input.size());
  for (std::size_t token = 0; token < tokens; ++token) {
    const std::span<T> own = streams.subspan(token * plane, plane);
    const std::span<T> x = std::span<T>(input).subspan(token * config.dim, config.dim);
    mixes.push_back(MixOf<T>(hyper, config.stream_count, epsilon, own));
    ReadStreams<T>(mixes.back(), own, x);
    RmsNorm<T>(x, norm, epsilon, x);
  }
  work(std::span<const T>(input), std::span<T>(output));
  for (std::size_t token = 0; token < tokens; ++token) {
    WriteStreams<T>(mixes[token],
                    std::span<const T>(output).subspan(token * config.dim, config.dim),
                    streams.subspan(token * plane, plane));
  }
}

}  // namespace

template <typename T>
struct ReferenceModel<T>::Sequence::State {
  std::vector<std::int32_t> tokens;     ///< All so far.
  std::vector<FusionState<T>> engrams;  ///< Shape [layer_count]; empty before the first call.
  std::vector<KvCache<T>> caches;       ///< Shape [layer_count].

  /// Runs block `index`; `embeddings` and `dead` are for its Engram layer.
  [[nodiscard]] Status RunBlock(const Impl& model, std::uint32_t index,
                                std::span<const T> embeddings, std::span<const std::uint8_t> dead,
                                std::span<T> streams, std::span<std::uint64_t> expert_tokens);
};

template <typename T>
Status ReferenceModel<T>::Sequence::State::RunBlock(const Impl& model, std::uint32_t index,
                                                    std::span<const T> embeddings,
                                                    std::span<const std::uint8_t> dead,
                                                    std::span<T> streams,
                                                    std::span<std::uint64_t> expert_tokens) {
  const ModelConfig& config = model.config;
  const BlockWeights<T>& block = model.weights.blocks[index];
  if (model.fusions[index]) {
    Status status =
        model.fusions[index]->Forward(embeddings, streams, dead, engrams[index], streams);
    if (!status.ok()) return status;
  }
  const AttentionShape attention = {.dim = config.dim,
                                    .head_count = config.head_count,
                                    .kv_head_count = config.kv_head_count,
                                    .head_dim = config.head_dim,
                                    .rope_theta = config.rope_theta};
  Connected<T>(config, block.attention_hyper, block.attention_norm, streams,
               [&](std::span<const T> x, std::span<T> y) {
                 Attention<T>(attention, block.attention, x, caches[index], y);
               });
  Connected<T>(config, block.feed_forward_hyper, block.feed_forward_norm, streams,
               [&](std::span<const T> x, std::span<T> y) {
                 if (index < config.dense_layer_count) {
                   FeedForward<T>(block.dense, config.dim, x, y);
                 } else {
                   MixtureOfExperts<T>(block.moe, config.dim, config.active_expert_count, x, y,
                                       expert_tokens);
                 }
               });
  return {};
}

template <typename T>
ReferenceModel<T>::Sequence::Sequence() : state_(std::make_unique<State>()) {}
template <typename T>
ReferenceModel<T>::Sequence::Sequence(const Sequence& other)
    : state_(std::make_unique<State>(*other.state_)) {}
template <typename T>
typename ReferenceModel<T>::Sequence& ReferenceModel<T>::Sequence::operator=(
    const Sequence& other) {
  if (this != &other) state_ = std::make_unique<State>(*other.state_);
  return *this;
}
template <typename T>
ReferenceModel<T>::Sequence::Sequence(Sequence&& other) noexcept = default;
template <typename T>
typename ReferenceModel<T>::Sequence& ReferenceModel<T>::Sequence::operator=(
    Sequence&& other) noexcept = default;
template <typename T>
ReferenceModel<T>::Sequence::~Sequence() = default;
template <typename T>
std::size_t ReferenceModel<T>::Sequence::token_count() const noexcept {
  return state_->tokens.size();
}

template <typename T>
ReferenceModel<T>::ReferenceModel(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
template <typename T>
ReferenceModel<T>::ReferenceModel(ReferenceModel&&) noexcept = default;
template <typename T>
ReferenceModel<T>& ReferenceModel<T>::operator=(ReferenceModel&&) noexcept = default;
template <typename T>
ReferenceModel<T>::~ReferenceModel() = default;

template <typename T>
const ModelConfig& ReferenceModel<T>::config() const noexcept {
  return impl_->config;
}

template <typename T>
Result<ReferenceModel<T>> ReferenceModel<T>::Seeded(const ModelConfig& config, std::uint64_t seed) {
  if (Status status = CheckModelConfig(config); !status.ok()) return status;
  ModelWeights<T> weights;
  std::uint64_t index = 0;
  for (ModelTensor<T>& tensor : ListTensors(config, weights)) {
    SeedTensor(SplitMix64(SplitMix64(seed) + index++), tensor);
  }
  Result<std::unique_ptr<Impl>> impl = Impl::Make(config, std::move(weights));
  if (!impl.ok()) return std::move(impl).TakeStatus();
  return ReferenceModel(std::move(impl).value());
}

template <typename T>
Status ReferenceModel<T>::BalanceExperts(std::span<const std::uint64_t> expert_tokens, T rate) {
  const std::size_t experts = impl_->config.expert_count;
  if (Status status = CheckSizes("BalanceExperts", {{"expert_tokens", expert_tokens.size(),
                                                     impl_->config.layer_count * experts}});
      !status.ok()) {
    return status;
  }
  for (std::size_t i = impl_->config.dense_layer_count; i < impl_->config.layer_count; ++i) {
    BalanceRouter<T>(expert_tokens.subspan(i * experts, experts), rate,
                     impl_->weights.blocks[i].moe.router_bias);
  }
  return {};
}

template <typename T>
Status ReferenceModel<T>::Forward(Store& store, Sequence& sequence,
                                  std::span<const std::int32_t> tokens, std::span<T> logits,
                                  ForwardReport* report) const {
  const ModelClock::time_point begin = ModelClock::now();
  const ModelConfig& config = impl_->config;
  if (Status status = CheckCall(config, tokens, logits.size()); !status.ok()) return status;
  Result<std::vector<LayerRows>> rows = PlanRows(config, store, tokens.size());
  if (!rows.ok()) return std::move(rows).TakeStatus();
  typename Sequence::State& state = *sequence.state_;
  // All rows are asked for now; those of later layers travel while earlier blocks compute.
  Result<Ticket> ticket = StartRows(store, state.tokens, tokens, rows.value());
  if (!ticket.ok()) return std::move(ticket).TakeStatus();

  state.engrams.resize(config.layer_count);
  state.caches.resize(config.layer_count);
  std::vector<std::uint8_t> dead;
  for (const std::int32_t token : tokens) dead.push_back(token == kDeadToken ? 1 : 0);
  std::vector<T> streams = Embedded<T>(config, impl_->weights.embedding, tokens);
  ForwardReport done;
  done.expert_tokens.resize(std::size_t{config.layer_count} * config.expert_count);
  for (std::uint32_t block = 0; block < config.layer_count; ++block) {
    std::vector<T> embeddings;
    if (impl_->fusions[block]) {
      const ModelClock::time_point asked = ModelClock::now();
      if (Status status = ticket.value().Wait(block); !status.ok()) return status;
      done.waited += ModelClock::now() - asked;
      embeddings = Dequantized<T>(*std::ranges::find(rows.value(), block, &LayerRows::layer_id));
    }
    const std::span<std::uint64_t> own_experts =
        std::span(done.expert_tokens)
            .subspan(std::size_t{block} * config.expert_count, config.expert_count);
    Status status = state.RunBlock(*impl_, block, embeddings, dead, streams, own_experts);
    if (!status.ok()) return status;
  }
  state.tokens.insert(state.tokens.end(), tokens.begin(), tokens.end());
  Predict<T>(config, impl_->weights, streams, logits);
  done.total = ModelClock::now() - begin;
  if (report != nullptr) *report = std::move(done);
  return {};
}

template class ReferenceModel<float>;
template class ReferenceModel<double>;

}  // namespace tiercel
