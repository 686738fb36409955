// Token maps out of tokenizer.json files that somebody else wrote: what is taken has a
// class for every id, numbered in order of first appearance.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "tiercel/token_map.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const tiercel::Result<tiercel::TokenMap> map =
      tiercel::TokenMap::FromTokenizerJson(text, "fuzz.json");
  if (!map.ok()) {
    TIERCEL_CHECK(map.status().code() == tiercel::StatusCode::kInvalidArgument);
    return 0;
  }
  const auto classes = map.value().classes();
  const tiercel::Result<tiercel::TokenMap> again =
      tiercel::TokenMap::FromClasses({classes.begin(), classes.end()});
  TIERCEL_CHECK(again.ok());
  TIERCEL_CHECK(again.value().class_count() == map.value().class_count());
  return 0;
}
