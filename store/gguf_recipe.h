#ifndef TIERCEL_STORE_GGUF_RECIPE_H_
#define TIERCEL_STORE_GGUF_RECIPE_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "store/gguf.h"
#include "tiercel/recipe.h"
#include "tiercel/status.h"
#include "tiercel/token_map.h"

namespace tiercel {

using GgufValues = std::map<std::string, GgufValue, std::less<>>;

/// Whether ReadGgufRecipe() or the store looks at a key.
[[nodiscard]] bool IsGgufRecipeKey(std::string_view key) noexcept;

/// What a GGUF file says of hashing.
struct GgufRecipe {
  std::string prefix;  ///< "deepseek41" or "deepseek4": of the keys that were found.
  Recipe recipe;
  std::shared_ptr<const TokenMap> token_map;  ///< Null: the file has none.
  std::vector<std::string> notes;             ///< What a person should know, in words.
};

/// The recipe that the metadata of a file hold, its keys in the spellings of all known
/// converters. Multipliers and head sizes that are there are taken, if they are usable at
/// all, and compared with those that the formulas give: a difference becomes a note.
///
/// Errors: kNotFound (no Engram keys), kInvalidArgument (a key that is missing, of the wrong
/// type or length or out of range, offsets, row counts or a token map that contradict the
/// rest); the message names file and key.
[[nodiscard]] Result<GgufRecipe> ReadGgufRecipe(const GgufValues& values,
                                                std::string_view source_name);

}  // namespace tiercel

#endif  // TIERCEL_STORE_GGUF_RECIPE_H_
