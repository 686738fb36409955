// Recipes out of text that somebody else wrote: ParseRecipe must end in time, and what
// it takes must come back from its own recipe file unchanged.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "tiercel/hasher.h"
#include "tiercel/recipe.h"

namespace {

void CheckRoundTrip(const tiercel::Recipe& recipe) {
  const std::string text = tiercel::ToJson(recipe);
  tiercel::Result<tiercel::Recipe> again = tiercel::ParseRecipe(text, "again");
  TIERCEL_CHECK(again.ok());
  TIERCEL_CHECK(tiercel::ToJson(again.value()) == text);
  // A recipe that was taken can be hashed with: shapes agree.
  TIERCEL_CHECK(tiercel::Hasher::Create(std::move(again).value()).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // The second try supplies what the demo's config leaves out.
  for (const bool with_vocabulary : {false, true}) {
    tiercel::ParseRecipeOptions options;
    if (with_vocabulary) options.compressed_vocab_size = 98627;
    const tiercel::Result<tiercel::Recipe> recipe =
        tiercel::ParseRecipe(text, "fuzz.json", options);
    if (recipe.ok()) {
      CheckRoundTrip(recipe.value());
    } else {
      TIERCEL_CHECK(recipe.status().code() == tiercel::StatusCode::kInvalidArgument);
    }
  }
  return 0;
}
