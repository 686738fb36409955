#ifndef TIERCEL_ENGRAM_RECIPE_CHECK_H_
#define TIERCEL_ENGRAM_RECIPE_CHECK_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tiercel/recipe.h"
#include "tiercel/status.h"

namespace tiercel {

inline constexpr std::uint32_t kOrderMax = 8;
inline constexpr std::uint32_t kHeadCountMax = 64;
inline constexpr std::uint32_t kHeadDimMax = 65536;
inline constexpr std::size_t kLayerCountMax = 256;
/// Columns of all layers together: bounds the work of the prime search.
inline constexpr std::size_t kColumnCountMax = 16384;
/// Head sizes stay below 2^40, row counts then below 2^40 * 7 * 64 < 2^49, and no
/// sum of them can overflow.
inline constexpr std::uint64_t kHeadSizeEnd = std::uint64_t{1} << 40;
/// Rows of any table that these bounds allow.
inline constexpr std::uint64_t kRowCountMax = std::uint64_t{1} << 49;
inline constexpr std::uint32_t kRowCountMultipleMax = 1U << 20;

/// Ids that a recipe hashes lie in [0, this): the compressed vocabulary, or the
/// raw one where the recipe has no token map.
[[nodiscard]] std::uint32_t HashedVocabSize(const RecipeParameters& parameters) noexcept;

/// Whether the parameters lie in the ranges that tiercel/recipe.h states.
/// Errors: kInvalidArgument, naming the parameter, its value and its range.
[[nodiscard]] Status CheckParameters(const RecipeParameters& parameters);

/// Whether `shard` is one of its count's, and an order has a head for each of them.
/// Errors: kInvalidArgument.
[[nodiscard]] Status CheckShard(HeadShard shard, std::uint32_t head_count);

/// A recipe whose multipliers and head sizes are given, not derived: offsets and
/// row counts of `layers` are computed here, the rest of them is checked.
/// Errors: kInvalidArgument (parameters out of range; layers that do not match
/// them; a multiplier that is even or lets a product reach 2^63; head sizes that
/// are not distinct primes below 2^40).
[[nodiscard]] Result<Recipe> PinRecipe(const RecipeParameters& parameters,
                                       std::vector<LayerRecipe> layers);

/// Whether a recipe that a caller may have put together by hand holds what
/// BuildRecipe guarantees, or, of a shard's, ShardRecipe. Errors: as PinRecipe, also
/// offsets or row counts that do not follow from the head sizes; of a shard's, offsets
/// that do not rise or leave the table.
[[nodiscard]] Status CheckRecipe(const Recipe& recipe);

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_RECIPE_CHECK_H_
