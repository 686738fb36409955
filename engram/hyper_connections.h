#ifndef TIERCEL_ENGRAM_HYPER_CONNECTIONS_H_
#define TIERCEL_ENGRAM_HYPER_CONNECTIONS_H_

#include <cstddef>
#include <span>
#include <vector>

namespace tiercel {

/// Connections of a part of a block with n residual streams, by weights that the streams
/// themselves decide: manifold-constrained hyper-connections (arXiv 2512.24880).
template <typename T>
struct HyperWeights {
  /// Shape [2n + n^2, n * dim]: what the normed streams say to the n inputs, the n outputs and
  /// the n x n mixing of streams.
  std::vector<T> projection;
  std::vector<T> bias;   ///< Shape [2n + n^2].
  std::vector<T> scale;  ///< Shape [3]: of the three parts of the projection.
};

/// How one token's streams are read, mixed and written.
template <typename T>
struct HyperMix {
  std::vector<T> read;   ///< Shape [n]: sigmoid; the part's input is sum_g read_g h_g.
  std::vector<T> write;  ///< Shape [n]: 2 sigmoid; stream g gets write_g times the output.
  /// Shape [n, n]: stream g becomes sum_k mix_gk h_k. Rows and columns sum to 1, after 20
  /// rounds of Sinkhorn and Knopp.
  std::vector<T> mix;
};

///   streams  shape [n, dim]: of one token.
template <typename T>
[[nodiscard]] HyperMix<T> MixOf(const HyperWeights<T>& weights, std::size_t stream_count, T epsilon,
                                std::span<const T> streams);

/// input = sum_g read_g h_g.
///   streams  shape [n, dim].    input  shape [dim].
template <typename T>
void ReadStreams(const HyperMix<T>& mix, std::span<const T> streams, std::span<T> input);

/// h_g = sum_k mix_gk h_k + write_g * output.
///   streams  shape [n, dim].    output  shape [dim].
template <typename T>
void WriteStreams(const HyperMix<T>& mix, std::span<const T> output, std::span<T> streams);

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_HYPER_CONNECTIONS_H_
