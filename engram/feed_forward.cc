#include "engram/feed_forward.h"

#include <algorithm>
#include <numeric>

#include "engram/layer_math.h"
#include "engram/product.h"

namespace tiercel {

template <typename T>
void FeedForward(const FeedForwardWeights<T>& weights, std::size_t dim, std::span<const T> x,
                 std::span<T> y) {
  const std::size_t width = weights.down.size() / dim;
  const std::size_t tokens = x.size() / dim;
  if (width == 0) {  // No shared experts.
    std::fill(y.begin(), y.end(), T{0});
    return;
  }
  std::vector<T> inner(tokens * width);
  std::vector<T> up(tokens * width);
  Product<T>(x, weights.gate, dim, inner);
  Product<T>(x, weights.up, dim, up);
  for (std::size_t i = 0; i < inner.size(); ++i) inner[i] = Silu(inner[i]) * up[i];
  Product<T>(inner, weights.down, width, y);
}

template <typename T>
std::vector<Route<T>> ChooseExperts(const MoeWeights<T>& weights, std::size_t dim,
                                    std::size_t active_count, std::span<const T> x) {
  const std::size_t expert_count = weights.router_bias.size();
  const std::size_t tokens = x.size() / dim;
  std::vector<T> affinity(tokens * expert_count);
  Product<T>(x, weights.router, dim, affinity);
  for (T& value : affinity) value = Sigmoid(value);
  std::vector<Route<T>> routes;
  std::vector<std::uint32_t> order(expert_count);
  for (std::size_t token = 0; token < tokens; ++token) {
    const T* const own = affinity.data() + token * expert_count;
    std::iota(order.begin(), order.end(), 0U);
    const auto chosen = order.begin() + static_cast<std::ptrdiff_t>(active_count);
    std::partial_sort(order.begin(), chosen, order.end(), [&](std::uint32_t a, std::uint32_t b) {
      const T of_a = own[a] + weights.router_bias[a];
      const T of_b = own[b] + weights.router_bias[b];
      return of_a != of_b ? of_a > of_b : a < b;
    });
    std::sort(order.begin(), chosen);
    T sum{0};
    for (auto it = order.begin(); it != chosen; ++it) sum += own[*it];
    for (auto it = order.begin(); it != chosen; ++it) routes.push_back({*it, own[*it] / sum});
  }
  return routes;
}

template <typename T>
void MixtureOfExperts(const MoeWeights<T>& weights, std::size_t dim, std::size_t active_count,
                      std::span<const T> x, std::span<T> y,
                      std::span<std::uint64_t> expert_tokens) {
  const std::vector<Route<T>> routes = ChooseExperts(weights, dim, active_count, x);
  FeedForward(weights.shared, dim, x, y);
  std::vector<std::size_t> chosen;  // Indices in `routes`.
  std::vector<T> gathered;
  std::vector<T> outputs;
  for (std::size_t expert = 0; expert < weights.experts.size(); ++expert) {
    chosen.clear();
    gathered.clear();
    for (std::size_t i = 0; i < routes.size(); ++i) {
      if (routes[i].expert != expert) continue;
      const std::span<const T> own = x.subspan(i / active_count * dim, dim);
      chosen.push_back(i);
      gathered.insert(gathered.end(), own.begin(), own.end());
    }
    if (!expert_tokens.empty()) expert_tokens[expert] += chosen.size();
    if (chosen.empty()) continue;
    outputs.resize(gathered.size());
    FeedForward<T>(weights.experts[expert], dim, gathered, outputs);
    // Experts come in rising order: so are a token's summed, whoever else is in the batch.
    for (std::size_t k = 0; k < chosen.size(); ++k) {
      T* const own = y.data() + chosen[k] / active_count * dim;
      for (std::size_t d = 0; d < dim; ++d) {
        own[d] += routes[chosen[k]].weight * outputs[k * dim + d];
      }
    }
  }
}

template <typename T>
void BalanceRouter(std::span<const std::uint64_t> expert_tokens, T rate, std::span<T> router_bias) {
  const std::uint64_t sum =
      std::accumulate(expert_tokens.begin(), expert_tokens.end(), std::uint64_t{0});
  for (std::size_t i = 0; i < router_bias.size(); ++i) {
    const std::uint64_t scaled = expert_tokens[i] * expert_tokens.size();  // Against the mean.
    if (scaled < sum) router_bias[i] += rate;
    if (scaled > sum) router_bias[i] -= rate;
  }
}

template void FeedForward<float>(const FeedForwardWeights<float>&, std::size_t,
                                 std::span<const float>, std::span<float>);
template void FeedForward<double>(const FeedForwardWeights<double>&, std::size_t,
                                  std::span<const double>, std::span<double>);
template std::vector<Route<float>> ChooseExperts<float>(const MoeWeights<float>&, std::size_t,
                                                        std::size_t, std::span<const float>);
template std::vector<Route<double>> ChooseExperts<double>(const MoeWeights<double>&, std::size_t,
                                                          std::size_t, std::span<const double>);
template void MixtureOfExperts<float>(const MoeWeights<float>&, std::size_t, std::size_t,
                                      std::span<const float>, std::span<float>,
                                      std::span<std::uint64_t>);
template void MixtureOfExperts<double>(const MoeWeights<double>&, std::size_t, std::size_t,
                                       std::span<const double>, std::span<double>,
                                       std::span<std::uint64_t>);
template void BalanceRouter<float>(std::span<const std::uint64_t>, float, std::span<float>);
template void BalanceRouter<double>(std::span<const std::uint64_t>, double, std::span<double>);

}  // namespace tiercel
