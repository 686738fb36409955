#ifndef TIERCEL_TESTS_ENGRAM_ENGRAM_TEST_SUPPORT_H_
#define TIERCEL_TESTS_ENGRAM_ENGRAM_TEST_SUPPORT_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/hasher.h"
#include "tiercel/recipe.h"

namespace tiercel::testing {

/// A file of tests/data/golden, such as "v41_engram.json".
[[nodiscard]] nlohmann::json Golden(std::string_view name);

/// Seeds of a property test: TIERCEL_TEST_SEED alone where it is set, else `count`
/// fixed ones.
[[nodiscard]] std::vector<std::uint64_t> Seeds(std::uint64_t count);

/// The published configurations.
[[nodiscard]] RecipeParameters V41Parameters();
[[nodiscard]] RecipeParameters DemoParameters();
[[nodiscard]] RecipeParameters QwenParameters();

/// The recipe, or the end of the test program.
[[nodiscard]] Recipe Build(const RecipeParameters& parameters);
[[nodiscard]] Hasher MakeHasher(const RecipeParameters& parameters);

/// Row ids of `tokens` after `history`, one vector a token. An error fails the test.
[[nodiscard]] std::vector<std::vector<std::uint64_t>> RowsOf(
    const Hasher& hasher, std::uint32_t layer_index, const std::vector<std::int32_t>& history,
    const std::vector<std::int32_t>& tokens, std::vector<std::uint8_t>* dead = nullptr);

/// What the models' own Python does, in its own order: the whole window of every
/// position is looked up in the whole sequence, remainders are taken by division.
/// `ids`: compressed (Qwen3.8: raw), kDeadToken included. Shape of the result:
/// [ids.size(), column_count].
[[nodiscard]] std::vector<std::vector<std::uint64_t>> ReferenceRows(
    const Recipe& recipe, std::uint32_t layer_index, const std::vector<std::int32_t>& ids);

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_ENGRAM_ENGRAM_TEST_SUPPORT_H_
