#include "engram/hyper_connections.h"

#include <algorithm>
#include <cmath>

#include "engram/layer_math.h"
#include "engram/product.h"

namespace tiercel {
namespace {

constexpr int kSinkhornRounds = 20;

/// Makes rows, then columns, sum to 1, again and again.
template <typename T>
void Sinkhorn(std::size_t n, std::span<T> matrix) {
  for (int round = 0; round < kSinkhornRounds; ++round) {
    for (std::size_t row = 0; row < n; ++row) {
      T sum{0};
      for (std::size_t column = 0; column < n; ++column) sum += matrix[row * n + column];
      for (std::size_t column = 0; column < n; ++column) matrix[row * n + column] /= sum;
    }
    for (std::size_t column = 0; column < n; ++column) {
      T sum{0};
      for (std::size_t row = 0; row < n; ++row) sum += matrix[row * n + column];
      for (std::size_t row = 0; row < n; ++row) matrix[row * n + column] /= sum;
    }
  }
}

}  // namespace

template <typename T>
HyperMix<T> MixOf(const HyperWeights<T>& weights, std::size_t stream_count, T epsilon,
                  std::span<const T> streams) {
  const std::size_t n = stream_count;
  const T inverse = InverseRms(streams, epsilon);
  std::vector<T> normed(streams.begin(), streams.end());
  for (T& value : normed) value *= inverse;
  std::vector<T> said(weights.bias.size());
  Product<T>(normed, weights.projection, streams.size(), said);
  for (std::size_t i = 0; i < said.size(); ++i) {
    said[i] = said[i] * weights.scale[std::min<std::size_t>(i / n, 2)] + weights.bias[i];
  }
  HyperMix<T> mix;
  for (std::size_t i = 0; i < n; ++i) mix.read.push_back(Sigmoid(said[i]));
  for (std::size_t i = 0; i < n; ++i) mix.write.push_back(T{2} * Sigmoid(said[n + i]));
  for (std::size_t i = 0; i < n * n; ++i) mix.mix.push_back(std::exp(said[2 * n + i]));
  Sinkhorn<T>(n, mix.mix);
  return mix;
}

template <typename T>
void ReadStreams(const HyperMix<T>& mix, std::span<const T> streams, std::span<T> input) {
  std::fill(input.begin(), input.end(), T{0});
  for (std::size_t g = 0; g < mix.read.size(); ++g) {
    for (std::size_t d = 0; d < input.size(); ++d) {
      input[d] += mix.read[g] * streams[g * input.size() + d];
    }
  }
}

template <typename T>
void WriteStreams(const HyperMix<T>& mix, std::span<const T> output, std::span<T> streams) {
  const std::size_t n = mix.write.size();
  const std::size_t dim = output.size();
  const std::vector<T> before(streams.begin(), streams.end());
  for (std::size_t g = 0; g < n; ++g) {
    for (std::size_t d = 0; d < dim; ++d) {
      T sum = mix.write[g] * output[d];
      for (std::size_t k = 0; k < n; ++k) sum += mix.mix[g * n + k] * before[k * dim + d];
      streams[g * dim + d] = sum;
    }
  }
}

template HyperMix<float> MixOf<float>(const HyperWeights<float>&, std::size_t, float,
                                      std::span<const float>);
template HyperMix<double> MixOf<double>(const HyperWeights<double>&, std::size_t, double,
                                        std::span<const double>);
template void ReadStreams<float>(const HyperMix<float>&, std::span<const float>, std::span<float>);
template void ReadStreams<double>(const HyperMix<double>&, std::span<const double>,
                                  std::span<double>);
template void WriteStreams<float>(const HyperMix<float>&, std::span<const float>, std::span<float>);
template void WriteStreams<double>(const HyperMix<double>&, std::span<const double>,
                                   std::span<double>);

}  // namespace tiercel
