// The Engram layer, forwards. docs/layer.md has the formulas and their sources.

#include <algorithm>
#include <cmath>
#include <utility>

#include "engram/float_formats.h"
#include "engram/fusion_shape.h"
#include "engram/layer_math.h"
#include "engram/product.h"
#include "engram/quantize_activation.h"
#include "tiercel/layer.h"

namespace tiercel {
namespace {

template <typename T>
void RoundToBf16(std::span<T> values) {
  for (T& value : values) {
    value = static_cast<T>(FloatFromBf16(Bf16FromFloat(static_cast<float>(value))));
  }
}

/// Through the activation quantiser and back.
template <typename T>
void RoundToQuantized(std::span<T> values) {
  std::vector<float> exact(values.begin(), values.end());
  std::vector<std::uint8_t> bytes(values.size());
  std::vector<std::uint8_t> scales(values.size() / kActivationBlock);
  QuantizeActivation(exact, bytes, scales);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] =
        static_cast<T>(FloatFromE4M3(bytes[i]) * FloatFromUe8m0(scales[i / kActivationBlock]));
  }
}

/// The weights as they are, or with the 1 that zero-centred ones leave out.
template <typename T>
std::vector<T> NormFactors(const std::vector<T>& weights, RecipeKind kind) {
  std::vector<T> factors = weights;
  if (kind == RecipeKind::kQwen38) {
    for (T& factor : factors) factor += T{1};
  }
  return factors;
}

/// The gate before its sigmoid: the square root of the score with the score's sign. At 0
/// torch.sign() gives 0, and copysign() the clamp with the sign of that zero.
template <typename T>
T SignedRoot(T score, RecipeKind kind) {
  const T root = std::sqrt(std::max(std::fabs(score), static_cast<T>(1e-6)));
  if (kind == RecipeKind::kDeepSeekV41) return std::copysign(root, score);
  return score == T{0} ? T{0} : std::copysign(root, score);
}

}  // namespace

template <typename T>
FusionWeights<T> ZeroFusionWeights(const FusionShape& shape) {
  const FusionSizes sizes = SizesOf(shape);
  return {.kv_weight = std::vector<T>(sizes.kv_weight),
          .kv_bias = std::vector<T>(sizes.kv_bias),
          .key_norm = std::vector<T>(sizes.norm),
          .query_norm = std::vector<T>(sizes.norm),
          .conv_norm = std::vector<T>(sizes.conv_norm),
          .conv_weight = std::vector<T>(sizes.conv_weight)};
}

template <typename T>
EngramFusion<T>::EngramFusion(const FusionShape& shape, FusionWeights<T> weights)
    : shape_(shape),
      weights_(std::move(weights)),
      key_norm_(NormFactors(weights_.key_norm, shape.kind)),
      query_norm_(NormFactors(weights_.query_norm, shape.kind)),
      conv_norm_(NormFactors(weights_.conv_norm, shape.kind)) {}

template <typename T>
Result<EngramFusion<T>> EngramFusion<T>::Create(const FusionShape& shape,
                                                FusionWeights<T> weights) {
  if (Status status = CheckFusionShape(shape); !status.ok()) return status;
  if (Status status = CheckFusionWeights(shape, weights); !status.ok()) return status;
  return EngramFusion(shape, std::move(weights));
}

template <typename T>
void EngramFusion<T>::Scores(std::span<const T> hidden, FusionTrace<T>& trace) const {
  const std::size_t dim = shape_.dim;
  const T epsilon = static_cast<T>(shape_.norm_epsilon);
  const T root_of_dim = std::sqrt(static_cast<T>(dim));
  std::vector<T> key(dim);
  std::vector<T> query(dim);
  for (std::size_t token = 0; token < trace.token_count; ++token) {
    for (std::size_t stream = 0; stream < shape_.stream_count; ++stream) {
      const std::span<const T> k =
          std::span<const T>(trace.kv).subspan(token * (shape_.plane() + dim) + stream * dim, dim);
      const std::span<const T> h = hidden.subspan(token * shape_.plane() + stream * dim, dim);
      const std::span<const T> key_norm = std::span<const T>(key_norm_).subspan(stream * dim, dim);
      const std::span<const T> query_norm =
          std::span<const T>(query_norm_).subspan(stream * dim, dim);
      T& score = trace.score[token * shape_.stream_count + stream];
      if (shape_.kind == RecipeKind::kDeepSeekV41) {
        // Norm weights count as a product alone; the sum is scaled at its end.
        for (std::size_t d = 0; d < dim; ++d) key[d] = h[d] * (query_norm[d] * key_norm[d]);
        score = Dot(key.data(), k.data(), dim) * (InverseRms(h, epsilon) * InverseRms(k, epsilon)) /
                root_of_dim;
      } else {
        RmsNorm<T>(k, key_norm, epsilon, key);
        RmsNorm<T>(h, query_norm, epsilon, query);
        score = Dot(key.data(), query.data(), dim) / root_of_dim;
      }
    }
  }
}

template <typename T>
void EngramFusion<T>::Convolve(std::span<const T> history, FusionTrace<T>& trace) const {
  const std::size_t dim = shape_.dim;
  const std::size_t plane = shape_.plane();
  const T epsilon = static_cast<T>(shape_.conv_norm_epsilon);
  for (std::size_t i = 0; i < trace.gated_value.size(); i += dim) {
    RmsNorm<T>(std::span<const T>(trace.gated_value).subspan(i, dim),
               std::span<const T>(conv_norm_).subspan(i % plane, dim), epsilon,
               std::span<T>(trace.conv_input).subspan(i, dim));
  }
  const std::size_t before = shape_.history_tokens();
  // Position p of the sequence, counted from the oldest of the history.
  const auto input_at = [&](std::size_t p, std::size_t channel) {
    return p < before ? history[p * plane + channel]
                      : trace.conv_input[(p - before) * plane + channel];
  };
  for (std::size_t token = 0; token < trace.token_count; ++token) {
    for (std::size_t channel = 0; channel < plane; ++channel) {
      T sum{0};
      for (std::size_t tap = 0; tap < shape_.conv_kernel; ++tap) {
        sum += weights_.conv_weight[channel * shape_.conv_kernel + tap] *
               input_at(token + tap * shape_.conv_dilation, channel);
      }
      trace.conv[token * plane + channel] = sum;
    }
  }
}

template <typename T>
Status EngramFusion<T>::Forward(std::span<const T> embeddings, std::span<const T> hidden,
                                std::span<const std::uint8_t> dead, FusionState<T>& state,
                                std::span<T> output, FusionTrace<T>* trace) const {
  const std::size_t plane = shape_.plane();
  const std::size_t dim = shape_.dim;
  const std::size_t tokens = hidden.size() / plane;
  const std::size_t history_size = shape_.history_tokens() * plane;
  if (Status status = CheckSizes("Engram layer",
                                 {{"hidden", hidden.size(), tokens * plane},
                                  {"embeddings", embeddings.size(), tokens * shape_.embedding_dim},
                                  {"dead", dead.size(), dead.empty() ? 0 : tokens},
                                  {"output", output.size(), tokens * plane},
                                  {"the state", state.conv_history.size(),
                                   state.conv_history.empty() ? 0 : history_size}});
      !status.ok()) {
    return status;
  }
  FusionTrace<T> local;
  FusionTrace<T>& t = trace != nullptr ? *trace : local;
  t.token_count = tokens;
  t.input.assign(embeddings.begin(), embeddings.end());
  t.kv.resize(tokens * (plane + dim));
  t.score.resize(tokens * shape_.stream_count);
  t.gate.resize(t.score.size());
  t.gated_value.resize(tokens * plane);
  t.conv_input.resize(shape_.has_conv() ? tokens * plane : 0);
  t.conv.resize(t.conv_input.size());
  t.conv_history = state.conv_history;
  t.conv_history.resize(history_size);

  const bool rounded = shape_.rounding == FusionRounding::kDeepSeekV41;
  if (rounded) {
    RoundToBf16<T>(t.input);
    RoundToQuantized<T>(t.input);
  }
  Product<T>(t.input, weights_.kv_weight, shape_.embedding_dim, t.kv);
  for (std::size_t i = 0; i < t.kv.size() && !weights_.kv_bias.empty(); ++i) {
    t.kv[i] += weights_.kv_bias[i % weights_.kv_bias.size()];
  }
  if (rounded) RoundToBf16<T>(t.kv);
  Scores(hidden, t);
  for (std::size_t i = 0; i < t.score.size(); ++i) {
    const std::size_t token = i / shape_.stream_count;
    const bool closed = !dead.empty() && dead[token] != 0;
    t.gate[i] = closed ? T{0} : Sigmoid(SignedRoot(t.score[i], shape_.kind));
    const T* const value = t.kv.data() + token * (plane + dim) + plane;
    for (std::size_t d = 0; d < dim; ++d) t.gated_value[i * dim + d] = t.gate[i] * value[d];
  }
  if (shape_.has_conv()) {
    Convolve(t.conv_history, t);
    std::vector<T>& history = state.conv_history;
    history = t.conv_history;
    history.insert(history.end(), t.conv_input.begin(), t.conv_input.end());
    history.erase(history.begin(), history.end() - static_cast<std::ptrdiff_t>(history_size));
  }
  for (std::size_t i = 0; i < output.size(); ++i) {
    // The convolution's part is added to the gated value first, as the models do.
    const T added = t.gated_value[i] + (shape_.has_conv() ? Silu(t.conv[i]) : T{0});
    output[i] = hidden[i] + added;
  }
  if (rounded) RoundToBf16<T>(output);
  return {};
}

// ---- backwards ------------------------------------------------------------------

/// From the output to the gated value: d_gated_value is written, the convolution's weights
/// are added to.
template <typename T>
void EngramFusion<T>::ConvGradients(const FusionTrace<T>& trace, std::span<const T> d_output,
                                    std::span<T> d_gated_value, FusionWeights<T>& d_weights) const {
  std::copy(d_output.begin(), d_output.end(), d_gated_value.begin());
  if (!shape_.has_conv()) return;
  const std::size_t plane = shape_.plane();
  const std::size_t before = shape_.history_tokens();
  std::vector<T> d_input(trace.conv_input.size());
  for (std::size_t token = 0; token < trace.token_count; ++token) {
    for (std::size_t channel = 0; channel < plane; ++channel) {
      const std::size_t i = token * plane + channel;
      const T sigmoid = Sigmoid(trace.conv[i]);
      const T d_conv = d_output[i] * sigmoid * (T{1} + trace.conv[i] * (T{1} - sigmoid));
      for (std::size_t tap = 0; tap < shape_.conv_kernel; ++tap) {
        const std::size_t p = token + tap * shape_.conv_dilation;
        const std::size_t w = channel * shape_.conv_kernel + tap;
        if (p < before) {
          d_weights.conv_weight[w] += d_conv * trace.conv_history[p * plane + channel];
        } else {
          d_weights.conv_weight[w] += d_conv * trace.conv_input[(p - before) * plane + channel];
          d_input[(p - before) * plane + channel] += d_conv * weights_.conv_weight[w];
        }
      }
    }
  }
  const T epsilon = static_cast<T>(shape_.conv_norm_epsilon);
  for (std::size_t i = 0; i < d_input.size(); i += shape_.dim) {
    AddRmsNormGradients<T>(std::span<const T>(trace.gated_value).subspan(i, shape_.dim),
                           std::span<const T>(conv_norm_).subspan(i % plane, shape_.dim), epsilon,
                           std::span<const T>(d_input).subspan(i, shape_.dim),
                           d_gated_value.subspan(i, shape_.dim),
                           std::span<T>(d_weights.conv_norm).subspan(i % plane, shape_.dim));
  }
}

/// From the gated value to streams, keys and values: d_hidden and d_kv are added to. The
/// score is that of normed key and query in all three forms.
template <typename T>
void EngramFusion<T>::GateGradients(const FusionTrace<T>& trace, std::span<const T> hidden,
                                    std::span<const T> d_gated_value, std::span<T> d_hidden,
                                    std::span<T> d_kv, FusionWeights<T>& d_weights) const {
  const std::size_t dim = shape_.dim;
  const std::size_t plane = shape_.plane();
  const T epsilon = static_cast<T>(shape_.norm_epsilon);
  std::vector<T> key(dim);
  std::vector<T> query(dim);
  for (std::size_t i = 0; i < trace.score.size(); ++i) {
    const std::size_t token = i / shape_.stream_count;
    const std::size_t at = i % shape_.stream_count * dim;  // Of the stream, in a plane.
    const std::span<const T> kv = std::span<const T>(trace.kv).subspan(token * (plane + dim));
    const std::span<T> d_key_value = d_kv.subspan(token * (plane + dim));
    const T* const d_gated = d_gated_value.data() + i * dim;
    T d_gate{0};
    for (std::size_t d = 0; d < dim; ++d) {
      d_gate += d_gated[d] * kv[plane + d];
      d_key_value[plane + d] += trace.gate[i] * d_gated[d];
    }
    const T magnitude = std::fabs(trace.score[i]);
    if (!(magnitude > static_cast<T>(1e-6))) continue;  // Clamped: a constant.
    const T d_score =
        d_gate * trace.gate[i] * (T{1} - trace.gate[i]) / (T{2} * std::sqrt(magnitude));
    const T factor = d_score / std::sqrt(static_cast<T>(dim));
    const std::span<const T> k = kv.subspan(at, dim);
    const std::span<const T> h = hidden.subspan(i * dim, dim);
    const std::span<const T> key_norm = std::span<const T>(key_norm_).subspan(at, dim);
    const std::span<const T> query_norm = std::span<const T>(query_norm_).subspan(at, dim);
    RmsNorm<T>(k, key_norm, epsilon, key);
    RmsNorm<T>(h, query_norm, epsilon, query);
    for (std::size_t d = 0; d < dim; ++d) {
      const T normed_key = key[d];
      key[d] = factor * query[d];  // The gradient by the key from here on.
      query[d] = factor * normed_key;
    }
    AddRmsNormGradients<T>(k, key_norm, epsilon, key, d_key_value.subspan(at, dim),
                           std::span<T>(d_weights.key_norm).subspan(at, dim));
    AddRmsNormGradients<T>(h, query_norm, epsilon, query, d_hidden.subspan(i * dim, dim),
                           std::span<T>(d_weights.query_norm).subspan(at, dim));
  }
}

template <typename T>
Status EngramFusion<T>::Backward(const FusionTrace<T>& trace, std::span<const T> hidden,
                                 std::span<const T> d_output, std::span<T> d_hidden,
                                 std::span<T> d_embeddings, FusionWeights<T>& d_weights) const {
  const std::size_t size = trace.token_count * shape_.plane();
  if (Status status = CheckFusionWeights(shape_, d_weights); !status.ok()) return status;
  if (Status status = CheckSizes(
          "Engram layer's gradients",
          {{"the trace", trace.gated_value.size(), size},
           {"hidden", hidden.size(), size},
           {"d_output", d_output.size(), size},
           {"d_hidden", d_hidden.size(), size},
           {"d_embeddings", d_embeddings.size(), trace.token_count * shape_.embedding_dim}});
      !status.ok()) {
    return status;
  }
  std::copy(d_output.begin(), d_output.end(), d_hidden.begin());
  std::vector<T> d_gated_value(size);
  std::vector<T> d_kv(trace.kv.size());
  ConvGradients(trace, d_output, d_gated_value, d_weights);
  GateGradients(trace, hidden, d_gated_value, d_hidden, d_kv, d_weights);
  for (std::size_t i = 0; i < d_kv.size() && !weights_.kv_bias.empty(); ++i) {
    d_weights.kv_bias[i % weights_.kv_bias.size()] += d_kv[i];
  }
  AddWeightGradient<T>(d_kv, trace.input, shape_.embedding_dim, d_weights.kv_weight);
  std::fill(d_embeddings.begin(), d_embeddings.end(), T{0});
  AddInputGradient<T>(d_kv, weights_.kv_weight, shape_.embedding_dim, d_embeddings);
  return {};
}

template FusionWeights<float> ZeroFusionWeights<float>(const FusionShape& shape);
template FusionWeights<double> ZeroFusionWeights<double>(const FusionShape& shape);
template class EngramFusion<float>;
template class EngramFusion<double>;

}  // namespace tiercel
