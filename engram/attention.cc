#include "engram/attention.h"

#include <algorithm>
#include <cmath>

#include "engram/product.h"

namespace tiercel {
namespace {

/// One head of one token over the positions [0, count): softmax(q k) v.
///   keys, values  the head's of position 0; positions are `stride` apart.
///   scores        scratch, shape [count].
template <typename T>
void AttendHead(std::span<const T> query, const T* keys, const T* values, std::size_t count,
                std::size_t stride, std::span<T> scores, std::span<T> output) {
  const T scale = T{1} / std::sqrt(static_cast<T>(query.size()));
  for (std::size_t j = 0; j < count; ++j) {
    scores[j] = Dot(query.data(), keys + j * stride, query.size()) * scale;
  }
  const T largest = *std::max_element(scores.begin(), scores.end());
  T sum{0};
  for (T& score : scores) {
    score = std::exp(score - largest);
    sum += score;
  }
  std::fill(output.begin(), output.end(), T{0});
  for (std::size_t j = 0; j < count; ++j) {
    for (std::size_t d = 0; d < output.size(); ++d) {
      output[d] += scores[j] / sum * values[j * stride + d];
    }
  }
}

}  // namespace

template <typename T>
void RotatePosition(std::size_t position, double theta, std::span<T> x) {
  const std::size_t half = x.size() / 2;
  for (std::size_t i = 0; i < half; ++i) {
    const double turns = std::pow(theta, -static_cast<double>(i) / static_cast<double>(half));
    const double angle = static_cast<double>(position) * turns;
    const T cosine = static_cast<T>(std::cos(angle));
    const T sine = static_cast<T>(std::sin(angle));
    const T low = x[i];
    const T high = x[i + half];
    x[i] = low * cosine - high * sine;
    x[i + half] = high * cosine + low * sine;
  }
}

template <typename T>
void Attention(const AttentionShape& shape, const AttentionWeights<T>& weights,
               std::span<const T> x, KvCache<T>& cache, std::span<T> y) {
  const std::size_t tokens = x.size() / shape.dim;
  const std::size_t width = shape.head_count * shape.head_dim;
  const std::size_t kv_width = shape.kv_head_count * shape.head_dim;
  const std::size_t before = cache.keys.size() / kv_width;
  std::vector<T> queries(tokens * width);
  Product<T>(x, weights.query, shape.dim, queries);
  cache.keys.resize((before + tokens) * kv_width);
  cache.values.resize(cache.keys.size());
  const std::span<T> keys = std::span<T>(cache.keys).subspan(before * kv_width);
  Product<T>(x, weights.key, shape.dim, keys);
  Product<T>(x, weights.value, shape.dim, std::span<T>(cache.values).subspan(before * kv_width));
  for (std::size_t i = 0; i < queries.size(); i += shape.head_dim) {
    RotatePosition(before + i / width, shape.rope_theta,
                   std::span<T>(queries).subspan(i, shape.head_dim));
  }
  for (std::size_t i = 0; i < keys.size(); i += shape.head_dim) {
    RotatePosition(before + i / kv_width, shape.rope_theta, keys.subspan(i, shape.head_dim));
  }
  std::vector<T> heads(tokens * width);
  std::vector<T> scores(before + tokens);
  const std::size_t shared = shape.head_count / shape.kv_head_count;
  for (std::size_t token = 0; token < tokens; ++token) {
    const std::size_t count = before + token + 1;
    for (std::size_t head = 0; head < shape.head_count; ++head) {
      const std::size_t at = token * width + head * shape.head_dim;
      const std::size_t kv_at = head / shared * shape.head_dim;
      AttendHead<T>(std::span<const T>(queries).subspan(at, shape.head_dim),
                    cache.keys.data() + kv_at, cache.values.data() + kv_at, count, kv_width,
                    std::span<T>(scores).first(count),
                    std::span<T>(heads).subspan(at, shape.head_dim));
    }
  }
  Product<T>(heads, weights.output, width, y);
}

template void RotatePosition<float>(std::size_t, double, std::span<float>);
template void RotatePosition<double>(std::size_t, double, std::span<double>);
template void Attention<float>(const AttentionShape&, const AttentionWeights<float>&,
                               std::span<const float>, KvCache<float>&, std::span<float>);
template void Attention<double>(const AttentionShape&, const AttentionWeights<double>&,
                                std::span<const double>, KvCache<double>&, std::span<double>);

}  // namespace tiercel
