#include "tests/engram/engram_test_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "base/check.h"
#include "tests/support/scratch_dir.h"

namespace tiercel::testing {
namespace {

/// The ids of the window of `position`, newest first, by the words of the models.
std::vector<std::int64_t> WindowAt(const Recipe& recipe, const std::vector<std::int32_t>& ids,
                                   std::int64_t position) {
  const RecipeParameters& p = recipe.parameters;
  const auto at = [&](std::int64_t i) {
    const std::int32_t id = ids[static_cast<std::size_t>(i)];
    return p.kind == RecipeKind::kQwen38 && id == kDeadToken ? p.eos_token : id;
  };
  std::int64_t segment = 0;
  for (std::int64_t i = 0; i < position; ++i) {
    if (p.kind == RecipeKind::kQwen38 && at(i) == p.eos_token) segment = i + 1;
  }
  std::vector<std::int64_t> window;
  bool blocked = false;
  for (std::int64_t k = 0; k < p.order_max; ++k) {
    const std::int64_t from = position - k;
    if (p.kind == RecipeKind::kQwen38) {
      window.push_back(from >= segment ? at(from) : p.eos_token);
      continue;
    }
    blocked = blocked || from < 0;
    if (p.kind == RecipeKind::kDeepSeekV41) blocked = blocked || at(from) == kDeadToken;
    window.push_back(blocked ? p.pad_token : at(from));
  }
  return window;
}

}  // namespace

nlohmann::json Golden(std::string_view name) {
  return nlohmann::json::parse(ReadSourceFile("tests/data/golden/" + std::string(name)));
}

std::vector<std::uint64_t> Seeds(std::uint64_t count) {
  if (const char* const seed = std::getenv("TIERCEL_TEST_SEED")) {
    return {std::strtoull(seed, nullptr, 10)};
  }
  std::vector<std::uint64_t> seeds;
  for (std::uint64_t seed = 1; seed <= count; ++seed) seeds.push_back(seed);
  return seeds;
}

RecipeParameters V41Parameters() {
  return {.kind = RecipeKind::kDeepSeekV41,
          .layer_ids = {1, 14},
          .order_max = 4,
          .head_count = 8,
          .head_dim = 256,
          .head_size_bases = {16000000, 16000000, 16000000},
          .vocab_size = 129280,
          .compressed_vocab_size = 99092,
          .pad_token = 2};
}

RecipeParameters DemoParameters() {
  return {.kind = RecipeKind::kEngramDemo,
          .layer_ids = {1, 15},
          .order_max = 3,
          .head_count = 8,
          .head_dim = 64,
          .head_size_bases = {646400, 646400},
          .vocab_size = 129280,
          .compressed_vocab_size = 98627,
          .pad_token = 2};
}

RecipeParameters QwenParameters() {
  return {.kind = RecipeKind::kQwen38,
          .layer_ids = {1},
          .order_max = 3,
          .head_count = 8,
          .head_dim = 160,
          .head_size_bases = {20000000, 20000000},
          .vocab_size = 248320,
          .eos_token = 248044,
          .seed = 1234,
          .row_count_multiple = 128};
}

Recipe Build(const RecipeParameters& parameters) {
  Result<Recipe> recipe = BuildRecipe(parameters);
  if (!recipe.ok()) ADD_FAILURE() << recipe.status().ToString();
  TIERCEL_CHECK(recipe.ok());
  return std::move(recipe).value();
}

Hasher MakeHasher(const RecipeParameters& parameters) {
  Result<Hasher> hasher = Hasher::Create(Build(parameters));
  if (!hasher.ok()) ADD_FAILURE() << hasher.status().ToString();
  TIERCEL_CHECK(hasher.ok());
  return std::move(hasher).value();
}

std::vector<std::vector<std::uint64_t>> RowsOf(const Hasher& hasher, std::uint32_t layer_index,
                                               const std::vector<std::int32_t>& history,
                                               const std::vector<std::int32_t>& tokens,
                                               std::vector<std::uint8_t>* dead) {
  const std::size_t width = hasher.recipe().column_count();
  std::vector<RowId> rows(tokens.size() * width, RowId{~std::uint64_t{0}});
  std::vector<std::uint8_t> flags(tokens.size(), 0xAA);
  const Status status = hasher.RowIds(layer_index, {history, tokens}, rows, flags);
  EXPECT_TRUE(status.ok()) << status.ToString();
  if (dead != nullptr) *dead = flags;
  std::vector<std::vector<std::uint64_t>> result(tokens.size());
  for (std::size_t i = 0; i < rows.size(); ++i) result[i / width].push_back(Index(rows[i]));
  return result;
}

std::vector<std::vector<std::uint64_t>> ReferenceRows(const Recipe& recipe,
                                                      std::uint32_t layer_index,
                                                      const std::vector<std::int32_t>& ids) {
  const LayerRecipe& layer = recipe.layers[layer_index];
  const std::size_t heads = recipe.parameters.head_count;
  std::vector<std::vector<std::uint64_t>> result;
  for (std::size_t position = 0; position < ids.size(); ++position) {
    const std::vector<std::int64_t> window =
        WindowAt(recipe, ids, static_cast<std::int64_t>(position));
    std::vector<std::uint64_t>& rows = result.emplace_back();
    for (std::size_t n = 2; n <= recipe.parameters.order_max; ++n) {
      std::uint64_t bits = 0;
      for (std::size_t k = 0; k < n; ++k) {
        bits ^= static_cast<std::uint64_t>(window[k]) * layer.multipliers[k];
      }
      const auto mix = static_cast<std::int64_t>(bits);
      for (std::size_t h = 0; h < heads; ++h) {
        const std::size_t column = (n - 2) * heads + h;
        const auto size = static_cast<std::int64_t>(layer.head_sizes[column]);
        const std::int64_t remainder = (mix % size + size) % size;
        rows.push_back(static_cast<std::uint64_t>(remainder) + layer.offsets[column]);
      }
    }
  }
  return result;
}

}  // namespace tiercel::testing
