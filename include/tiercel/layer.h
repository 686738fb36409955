#ifndef TIERCEL_LAYER_H_
#define TIERCEL_LAYER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tiercel/recipe.h"
#include "tiercel/status.h"
#include "tiercel/types.h"

// The arithmetic of an Engram layer on the CPU: what a model does with the rows that the
// store hands over. A reference to check an engine against, and to train tables with; not
// tuned for speed. docs/layer.md has the formulas, where they come from, and in what the
// three published forms differ. Everything is instantiated for float and double.

namespace tiercel {

/// Where numbers are rounded on their way through the layer.
enum class FusionRounding : std::uint8_t {
  kNone,  ///< Nowhere: all of it in T.
  /// As DeepSeek-V4.1's inference/model.py: the embedding is rounded to bf16, quantised to
  /// E4M3 with a power-of-two scale for each 32 values, the product rounded to bf16, and so
  /// is the stream that leaves the layer. T in between.
  kDeepSeekV41,
};

/// What an Engram layer is, its weights aside.
struct FusionShape {
  RecipeKind kind = RecipeKind::kDeepSeekV41;  ///< Which of the published forms.
  std::uint32_t stream_count = 4;              ///< Residual streams, g. In [1, 64].
  std::uint32_t dim = 0;                       ///< Values of one stream, D. > 0.
  /// Values of the rows of one token, columns * head_dim, E. > 0; a multiple of 32 for
  /// FusionRounding::kDeepSeekV41.
  std::uint32_t embedding_dim = 0;
  std::uint32_t conv_kernel = 0;    ///< Taps of the short convolution, K; 0: there is none.
  std::uint32_t conv_dilation = 1;  ///< Tokens from one tap to the next. > 0.
  double norm_epsilon = 1e-6;       ///< Of the norms of key and query.
  double conv_norm_epsilon = 1e-6;  ///< Of the norm before the convolution.
  FusionRounding rounding = FusionRounding::kNone;

  [[nodiscard]] bool has_conv() const noexcept { return conv_kernel > 0; }
  /// Tokens that the convolution looks back at: (K - 1) * dilation.
  [[nodiscard]] std::size_t history_tokens() const noexcept {
    return has_conv() ? std::size_t{conv_kernel - 1} * conv_dilation : 0;
  }
  /// Values of all streams of a token.
  [[nodiscard]] std::size_t plane() const noexcept { return std::size_t{stream_count} * dim; }
};

/// The form with its published constants: four streams; demo: K 4, dilation 3, epsilons
/// 2^-23 (torch's default in float32) and 1e-5; V4.1: no convolution, 1e-20; Qwen3.8: K 4,
/// dilation 3, 1e-6. Rounding is kNone.
[[nodiscard]] FusionShape PublishedFusionShape(RecipeKind kind, std::uint32_t dim,
                                               std::uint32_t embedding_dim);

/// Weights of a layer, or the gradient of a loss by them. Rows of a matrix are outputs.
template <typename T>
struct FusionWeights {
  /// Shape [(stream_count + 1) * D, E]: the key of each stream, then the value.
  std::vector<T> kv_weight;
  /// Shape [(stream_count + 1) * D]: the demo's; empty in the other forms.
  std::vector<T> kv_bias;
  std::vector<T> key_norm;    ///< Shape [stream_count, D]. Qwen3.8: zero-centred, 1 + w counts.
  std::vector<T> query_norm;  ///< As key_norm.
  std::vector<T> conv_norm;   ///< As key_norm; empty without a convolution.
  /// Shape [stream_count * D, K]: tap K - 1 is the current token's. Empty without.
  std::vector<T> conv_weight;
};

/// Weights of the right shapes, all zero.
template <typename T>
[[nodiscard]] FusionWeights<T> ZeroFusionWeights(const FusionShape& shape);

/// What a sequence leaves for its next tokens: the last inputs of the convolution.
template <typename T>
struct FusionState {
  /// Shape [history_tokens(), stream_count * D], oldest first. Empty: the sequence starts.
  std::vector<T> conv_history;
};

/// Everything that a forward pass computed on its way, for backward passes and tests.
template <typename T>
struct FusionTrace {
  std::size_t token_count = 0;
  std::vector<T> conv_history;  ///< FusionState before the pass, zeros where it was empty.
  std::vector<T> input;         ///< Shape [t, E]: of the product, after its rounding.
  std::vector<T> kv;            ///< Shape [t, (stream_count + 1) * D]: keys, then the value.
  std::vector<T> score;         ///< Shape [t, stream_count]: s.
  std::vector<T> gate;          ///< Shape [t, stream_count]: a; 0 at a dead token.
  std::vector<T> gated_value;   ///< Shape [t, stream_count, D].
  std::vector<T> conv_input;    ///< Shape [t, stream_count, D]: normed. Empty without.
  std::vector<T> conv;          ///< Shape [t, stream_count, D]: before SiLU. Empty without.
};

/// One Engram layer.
///
/// Threading: immutable once made; all methods may run concurrently on states of their own.
template <typename T>
class EngramFusion {
 public:
  /// Errors: kInvalidArgument (a shape out of the ranges above, a weight of another size; the
  /// message names it).
  [[nodiscard]] static Result<EngramFusion> Create(const FusionShape& shape,
                                                   FusionWeights<T> weights);

  [[nodiscard]] const FusionShape& shape() const noexcept { return shape_; }
  [[nodiscard]] const FusionWeights<T>& weights() const noexcept { return weights_; }

  /// Adds the layer's output to the streams: hidden + engram(hidden, embeddings).
  ///
  ///   embeddings  shape [t, E]: each token's rows, dequantised, column after column.
  ///   hidden      shape [t, stream_count, D]: the streams before the layer.
  ///   dead        shape [t], or empty: 1 closes the gate of the token (V4.1's dead tokens,
  ///               Qwen3.8's padding).
  ///   state       of the sequence; its next tokens go on from there.
  ///   output      shape [t, stream_count, D]; may be `hidden`.
  ///   trace       null, or what is written in full.
  ///
  /// A token's bits do not depend on how the sequence is cut into calls: a prompt in one
  /// call and token by token give the same. Allocates; does not block.
  ///
  /// Errors: kInvalidArgument (a span or a state of the wrong size; nothing is written).
  [[nodiscard]] Status Forward(std::span<const T> embeddings, std::span<const T> hidden,
                               std::span<const std::uint8_t> dead, FusionState<T>& state,
                               std::span<T> output, FusionTrace<T>* trace = nullptr) const;

  /// The gradients of a loss, given that by the output of Forward(). What was rounded is
  /// taken as if it had not been (straight through); states before the call are constants.
  ///
  ///   trace        of that Forward().
  ///   hidden       shape [t, stream_count, D]: as it was given to it.
  ///   d_output     shape [t, stream_count, D].
  ///   d_hidden     shape [t, stream_count, D]; written.
  ///   d_embeddings shape [t, E]; written. See AddRowGradients().
  ///   d_weights    of the weights' sizes; added to.
  ///
  /// Where |s| <= 1e-6 the square root is clamped and passes no gradient on, as in torch.
  /// Errors: kInvalidArgument (a span of the wrong size; nothing is written).
  [[nodiscard]] Status Backward(const FusionTrace<T>& trace, std::span<const T> hidden,
                                std::span<const T> d_output, std::span<T> d_hidden,
                                std::span<T> d_embeddings, FusionWeights<T>& d_weights) const;

 private:
  EngramFusion(const FusionShape& shape, FusionWeights<T> weights);

  void Scores(std::span<const T> hidden, FusionTrace<T>& trace) const;
  void Convolve(std::span<const T> history, FusionTrace<T>& trace) const;
  void ConvGradients(const FusionTrace<T>& trace, std::span<const T> d_output,
                     std::span<T> d_gated_value, FusionWeights<T>& d_weights) const;
  void GateGradients(const FusionTrace<T>& trace, std::span<const T> hidden,
                     std::span<const T> d_gated_value, std::span<T> d_hidden, std::span<T> d_kv,
                     FusionWeights<T>& d_weights) const;

  FusionShape shape_;
  FusionWeights<T> weights_;
  // The factors that count: the weights, with the 1 of zero-centred ones.
  std::vector<T> key_norm_;
  std::vector<T> query_norm_;
  std::vector<T> conv_norm_;
};

/// The gradient of a table, by row id: only rows that were looked up have one.
template <typename T>
struct RowGradients {
  std::uint32_t head_dim = 0;  ///< Values of a row.
  std::vector<RowId> rows;     ///< Ascending, each id once.
  std::vector<T> values;       ///< Shape [rows.size(), head_dim].
};

/// Adds the gradients of the rows of t tokens to `gradients`: a row that several tokens, or
/// columns, looked up gets their sum, taken in the order of tokens and columns.
///
///   rows          shape [t, columns], as Hasher::RowIds() gives them.
///   d_embeddings  shape [t, columns * head_dim], as EngramFusion::Backward() gives them.
///   dead          shape [t], or empty: tokens with 1 add nothing.
///
/// Errors: kInvalidArgument (spans that do not fit together; head_dim 0, or another than
/// the gradients' own; nothing is written).
template <typename T>
[[nodiscard]] Status AddRowGradients(std::span<const RowId> rows, std::span<const T> d_embeddings,
                                     std::span<const std::uint8_t> dead,
                                     RowGradients<T>& gradients);

/// An Engram layer of a checkpoint; V4.1's rounds as V4.1 does.
struct LoadedFusion {
  FusionShape shape;
  FusionWeights<float> weights;
};

/// Reads the weights of the Engram layer of block `layer_id` from a checkpoint (see
/// InspectCheckpoint), under the names and in the types of its model: E4M3 with 32 x 32
/// block scales, bf16 or float32. Blocks; takes the weights' memory twice.
///
/// Errors: as InspectCheckpoint; kNotFound (a layer without a table, a tensor that is not
/// there: checkpoints made with tables alone have none), kInvalidArgument (a tensor of
/// another type or shape than the config's).
[[nodiscard]] Result<LoadedFusion> LoadFusion(const std::string& path, std::uint32_t layer_id);

}  // namespace tiercel

#endif  // TIERCEL_LAYER_H_
