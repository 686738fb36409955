#ifndef TIERCEL_RECIPE_H_
#define TIERCEL_RECIPE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/status.h"

namespace tiercel {

/// The published ways to turn token n-grams into row ids.
enum class RecipeKind : std::uint8_t {
  kDeepSeekV41 = 0,  ///< DeepSeek-V4.1 inference/engram.py: sticky dead tokens.
  kEngramDemo,       ///< engram_demo_v1.py of the paper's repository.
  kQwen38,           ///< Qwen3.8 "PLE" (transformers qwen4_exp): eos segments, raw ids.
};

/// "deepseek-v4.1", "engram-demo", "qwen3.8".
[[nodiscard]] std::string_view Name(RecipeKind kind) noexcept;

/// What a model's config says; all else of a recipe follows from it.
struct RecipeParameters {
  RecipeKind kind = RecipeKind::kDeepSeekV41;
  /// 0-based block index of each layer with a table, in the config's order. At most
  /// 256 layers, and 16,384 columns in all.
  std::vector<std::uint32_t> layer_ids;
  std::uint32_t order_max = 0;   ///< Longest n-gram, N. In [2, 8].
  std::uint32_t head_count = 0;  ///< Heads of one order, H. In [1, 64].
  std::uint32_t head_dim = 0;    ///< Values of one row. In [1, 65536].
  /// Where the search for head sizes starts, one entry for each order 2..N. In
  /// [2, 2^40), and so must be the head sizes. Qwen3.8: all the same.
  std::vector<std::uint64_t> head_size_bases;
  /// Raw vocabulary. Qwen3.8 takes its multiplier bound from it.
  std::uint32_t vocab_size = 0;
  /// Classes of the token map, V. 0 for Qwen3.8, which hashes raw ids.
  std::uint32_t compressed_vocab_size = 0;
  std::int32_t pad_token = 0;  ///< Compressed id that stands for "before the start". Not Qwen3.8.
  std::int32_t eos_token = 0;  ///< Qwen3.8: raw id that ends a segment.
  std::uint64_t seed = 0;      ///< Base seed; DeepSeek-V4.1 has none (0).
  /// Qwen3.8: the table is padded to a multiple of this, in [1, 2^20]. Else 1.
  std::uint32_t row_count_multiple = 1;
};

/// The derived numbers of one layer.
struct LayerRecipe {
  std::uint32_t layer_id = 0;
  std::vector<std::uint64_t> multipliers;  ///< Shape [order_max]: look-back 0, 1, ...
  std::vector<std::uint64_t> head_sizes;   ///< Shape [columns]: distinct primes, order-major.
  std::vector<std::uint64_t> offsets;      ///< Shape [columns]: exclusive prefix sums.
  std::uint64_t row_count = 0;             ///< Rows of the table, padding rows included.
};

/// The heads of one of `count` ranks that share a table: head h of every order is rank
/// (h mod count)'s, so that each rank has a like share of each order. Local head j of the
/// shard is head rank + j * count of the table.
struct HeadShard {
  std::uint32_t rank = 0;   ///< In [0, count).
  std::uint32_t count = 1;  ///< In [1, head_count]. 1: all heads.

  friend bool operator==(const HeadShard&, const HeadShard&) = default;
};

/// A complete, checked hash recipe. Make one with BuildRecipe, ParseRecipe or
/// ShardRecipe; those are what guarantees that the shapes agree.
struct Recipe {
  RecipeParameters parameters;
  std::vector<LayerRecipe> layers;  ///< In the order of parameters.layer_ids.
  HeadShard shard;                  ///< Whose heads these are; see ShardRecipe().

  [[nodiscard]] std::uint32_t order_count() const noexcept { return parameters.order_max - 1; }
  /// (order_max - 1) * head_count. Column (n-2)*H + h is head h of order n.
  [[nodiscard]] std::uint32_t column_count() const noexcept {
    return order_count() * parameters.head_count;
  }
  /// Index in `layers` of the block `layer_id`, if it has a table.
  [[nodiscard]] std::optional<std::uint32_t> FindLayer(std::uint32_t layer_id) const noexcept;
};

/// Derives multipliers, head sizes and offsets from `parameters`.
///
/// Errors: kInvalidArgument (a parameter out of the ranges above, layer ids that
/// repeat, a multiplier bound at or below 2^32, where numpy's stream differs).
[[nodiscard]] Result<Recipe> BuildRecipe(const RecipeParameters& parameters);

/// The recipe of the heads of one rank: as `recipe`, but parameters.head_count, head_sizes
/// and offsets are those of the shard's heads alone, in rising order, and so are columns.
/// Mixes are the same. Row ids stay ids of the whole table: offsets are no prefix sums of
/// the head sizes any more, and row_count is the whole table's. Group keys are those of
/// the local heads, and mean nothing to another shard.
///
/// Errors: kInvalidArgument (a rank that is not below the count, no ranks, more ranks than
/// an order has heads, a recipe that is a shard's already or whose parts do not fit).
[[nodiscard]] Result<Recipe> ShardRecipe(const Recipe& recipe, HeadShard shard);

/// Facts that a config leaves out.
struct ParseRecipeOptions {
  /// Classes of the token map. Needed where the config does not say (the demo's
  /// does not); checked against it where it does.
  std::optional<std::uint32_t> compressed_vocab_size;
};

/// Reads a recipe from JSON text: a Hugging Face config.json (keys at the top or
/// nested under `text_config`) or a recipe file as ToJson() writes it. A recipe
/// file may pin its multipliers and head sizes; then those are taken, checked for
/// consistency, instead of being derived. `source_name` names the file in messages.
///
/// Errors: kInvalidArgument (not JSON, an unknown model, a key that is missing or
/// of the wrong type or out of range, row counts that the config states and the
/// formulas contradict).
[[nodiscard]] Result<Recipe> ParseRecipe(std::string_view json, std::string_view source_name,
                                         const ParseRecipeOptions& options = {});

/// ParseRecipe of a file. Errors: also kNotFound, kPermissionDenied, kIoError.
[[nodiscard]] Result<Recipe> LoadRecipe(const std::string& path,
                                        const ParseRecipeOptions& options = {});

/// The recipe as a recipe file, multipliers and head sizes pinned. That of a shard has
/// "shard" and its offsets besides, and ParseRecipe refuses it: what is to be shared over
/// ranks is the whole recipe.
[[nodiscard]] std::string ToJson(const Recipe& recipe);

}  // namespace tiercel

#endif  // TIERCEL_RECIPE_H_
