#ifndef TIERCEL_ENGRAM_FEED_FORWARD_H_
#define TIERCEL_ENGRAM_FEED_FORWARD_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tiercel {

/// A gated feed-forward part: down(SiLU(gate(x)) * up(x)).
template <typename T>
struct FeedForwardWeights {
  std::vector<T> gate;  ///< Shape [width, dim].
  std::vector<T> up;    ///< Shape [width, dim].
  std::vector<T> down;  ///< Shape [dim, width].
};

/// A mixture of experts. DeepSeek-V3's router: affinities are sigmoids; a bias that follows
/// the load decides with them who is chosen, and has no part in the weights.
template <typename T>
struct MoeWeights {
  std::vector<T> router;                       ///< Shape [experts, dim].
  std::vector<T> router_bias;                  ///< Shape [experts].
  std::vector<FeedForwardWeights<T>> experts;  ///< Shape [experts].
  FeedForwardWeights<T> shared;                ///< All shared experts, side by side.
};

/// y = the feed-forward part of x.
///   x, y  shape [t, dim]; must not overlap.
template <typename T>
void FeedForward(const FeedForwardWeights<T>& weights, std::size_t dim, std::span<const T> x,
                 std::span<T> y);

/// Who is chosen for a token.
template <typename T>
struct Route {
  std::uint32_t expert = 0;
  T weight{0};  ///< Those of a token sum to 1.
};

/// The `active_count` experts with the highest affinity + bias, ties to the lower index, in
/// rising order; weights are their affinities over those affinities' sum.
///   x       shape [t, dim].
///   result  shape [t, active_count].
template <typename T>
[[nodiscard]] std::vector<Route<T>> ChooseExperts(const MoeWeights<T>& weights, std::size_t dim,
                                                  std::size_t active_count, std::span<const T> x);

/// y = the mixture of x: the chosen experts', weighted, and the shared ones'. Tokens are
/// gathered by expert, so that each expert's weights are read once; a token's bits do not
/// depend on the others.
///   x, y           shape [t, dim]; must not overlap.
///   expert_tokens  shape [experts], or empty: added to.
template <typename T>
void MixtureOfExperts(const MoeWeights<T>& weights, std::size_t dim, std::size_t active_count,
                      std::span<const T> x, std::span<T> y, std::span<std::uint64_t> expert_tokens);

/// bias_i += rate * sign(mean - tokens_i): see ReferenceModel::BalanceExperts().
template <typename T>
void BalanceRouter(std::span<const std::uint64_t> expert_tokens, T rate, std::span<T> router_bias);

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_FEED_FORWARD_H_
