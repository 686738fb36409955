#ifndef TIERCEL_STORE_CHECKPOINT_MATCH_H_
#define TIERCEL_STORE_CHECKPOINT_MATCH_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "tiercel/recipe.h"

namespace tiercel {

/// What a tensor is to the table of its layer.
enum class TensorRole : std::uint8_t {
  kRows,         ///< All rows, or V4.1's weights.
  kBlockScales,  ///< V4.1's scales: head_dim / 32 bytes a row.
  kShard,        ///< Qwen3.8: the shard_index-th piece of the rows.
  kTensorScale,  ///< Qwen3.8 FP8: the one scale.
};

/// A tensor's name, understood.
struct TableTensorName {
  std::uint32_t layer_id = 0;
  TensorRole role = TensorRole::kRows;
  std::uint32_t shard_index = 0;
};

/// What the tensor `name` is to a model of that kind, if it belongs to a table. Names
/// are matched by suffix: exports put different prefixes before "layers.L.".
///
///   deepseek-v4.1  layers.L.engram.embed.{weight,scale}
///   qwen3.8        layers.L.ple.ple_embedding.ngram_embedding.shard_{i}.weight, .weight_scale
///   engram-demo    layers.L.engram.multi_head_embedding.embedding.weight
[[nodiscard]] std::optional<TableTensorName> MatchTableTensor(RecipeKind kind,
                                                              std::string_view name) noexcept;

/// The suffix after "layers.L." of the tensor that holds a model's rows, for messages.
[[nodiscard]] std::string_view RowsTensorSuffix(RecipeKind kind) noexcept;

}  // namespace tiercel

#endif  // TIERCEL_STORE_CHECKPOINT_MATCH_H_
