#ifndef TIERCEL_ENGRAM_ATTENTION_H_
#define TIERCEL_ENGRAM_ATTENTION_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tiercel {

/// Attention with grouped queries: head_count / kv_head_count query heads share a key and
/// value head.
struct AttentionShape {
  std::size_t dim = 0;
  std::size_t head_count = 0;  ///< A multiple of kv_head_count.
  std::size_t kv_head_count = 0;
  std::size_t head_dim = 0;  ///< Even.
  double rope_theta = 10000.0;
};

template <typename T>
struct AttentionWeights {
  std::vector<T> query;   ///< Shape [head_count * head_dim, dim].
  std::vector<T> key;     ///< Shape [kv_head_count * head_dim, dim].
  std::vector<T> value;   ///< As key.
  std::vector<T> output;  ///< Shape [dim, head_count * head_dim].
};

/// Keys, rotated, and values of the tokens so far.
template <typename T>
struct KvCache {
  std::vector<T> keys;    ///< Shape [tokens so far, kv_head_count * head_dim].
  std::vector<T> values;  ///< As keys.
};

/// Rotates the pairs (x_i, x_{i + n/2}) by position * theta^(-2i/n) (RoPE, arXiv 2104.09864,
/// in the order of halves).
///   x  shape [n], n even.
template <typename T>
void RotatePosition(std::size_t position, double theta, std::span<T> x);

/// y = causal attention of the tokens of x, which follow those of `cache`; theirs are added.
///   x, y  shape [t, dim]; must not overlap.
template <typename T>
void Attention(const AttentionShape& shape, const AttentionWeights<T>& weights,
               std::span<const T> x, KvCache<T>& cache, std::span<T> y);

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_ATTENTION_H_
