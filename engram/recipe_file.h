#ifndef TIERCEL_ENGRAM_RECIPE_FILE_H_
#define TIERCEL_ENGRAM_RECIPE_FILE_H_

#include <nlohmann/json.hpp>
#include <string_view>

#include "tiercel/recipe.h"
#include "tiercel/status.h"

namespace tiercel {

/// Reads a recipe file: an object with "format": "tiercel-recipe", "version": 1.
///
/// Keys, all integers unless said: "kind" (a string, see Name(RecipeKind)),
/// "layer_ids", "order_max", "head_count", "head_dim", "head_size_bases" as in
/// RecipeParameters; "vocab_size", "compressed_vocab_size", "pad_token", "eos_token",
/// "seed" (0 where they are left out), "row_count_multiple" (1). "layers", a list of
/// objects with "layer_id", "multipliers", "head_sizes" and, to be checked, "row_count",
/// pins what is otherwise derived. Other keys are refused: a misspelt one would be
/// taken for a default.
///
/// Errors: kInvalidArgument.
[[nodiscard]] Result<Recipe> ReadRecipeFile(const nlohmann::json& top, std::string_view source_name,
                                            const ParseRecipeOptions& options);

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_RECIPE_FILE_H_
