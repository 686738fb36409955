// Goal: the hasher is the models' own computation on any input, does not care where a
// sequence is cut into runs, and refuses ids and spans that do not fit.
//
// Method: random sequences with dead tokens, ends of segments and (demo) negative ids,
// against a reference that looks up each window in the whole sequence; the same
// sequences cut at random points. A failure prints its seed; TIERCEL_TEST_SEED repeats
// it.

#include "tiercel/hasher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "engram/reduce.h"
#include "tests/engram/engram_test_support.h"

namespace tiercel {
namespace {

__extension__ using Int128 = __int128;
using Ids = std::vector<std::int32_t>;
using Rows = std::vector<std::vector<std::uint64_t>>;

/// A recipe of a random kind, order and size; full-size tables among them.
RecipeParameters RandomParameters(Prng& prng) {
  RecipeParameters p;
  p.kind = static_cast<RecipeKind>(prng.Below(3));
  p.layer_ids = {static_cast<std::uint32_t>(prng.Below(20)), 40};
  p.order_max = static_cast<std::uint32_t>(2 + prng.Below(7));
  p.head_count = static_cast<std::uint32_t>(1 + prng.Below(9));
  p.head_dim = 8;
  const std::uint64_t bases[] = {2, 160, 16000, 1000000, 16000000, 5000000000};
  p.head_size_bases.assign(p.order_max - 1, bases[prng.Below(6)]);
  const auto vocab = static_cast<std::uint32_t>(3 + prng.Below(130000));
  if (p.kind == RecipeKind::kQwen38) {
    p.vocab_size = vocab;
    p.eos_token = static_cast<std::int32_t>(prng.Below(vocab));
    p.row_count_multiple = 16;
  } else {
    p.compressed_vocab_size = vocab;
    p.pad_token = static_cast<std::int32_t>(prng.Below(3));
  }
  return p;
}

Ids RandomIds(const RecipeParameters& p, std::size_t count, Prng& prng) {
  const std::uint32_t end = p.kind == RecipeKind::kQwen38 ? p.vocab_size : p.compressed_vocab_size;
  const std::uint64_t special_percent = prng.Below(40);
  Ids ids(count);
  for (std::int32_t& id : ids) {
    id = static_cast<std::int32_t>(prng.Below(end));
    if (prng.Below(100) >= special_percent) continue;
    const bool ends_segment = p.kind == RecipeKind::kQwen38 && prng.Below(2) == 0;
    id = ends_segment ? p.eos_token : kDeadToken;
    if (p.kind == RecipeKind::kEngramDemo && prng.Below(2) == 0) {
      id = -1 - static_cast<std::int32_t>(prng.Below(std::uint64_t{1} << 31));
    }
  }
  return ids;
}

Ids Slice(const Ids& ids, std::size_t first, std::size_t last) {
  return {ids.begin() + static_cast<std::ptrdiff_t>(first),
          ids.begin() + static_cast<std::ptrdiff_t>(last)};
}

TEST(Hasher, IsTheModelsComputationHoweverTheSequenceIsCut) {
  int dead_count = 0;
  int cuts = 0;
  for (const std::uint64_t seed : testing::Seeds(150)) {
    SCOPED_TRACE("TIERCEL_TEST_SEED=" + std::to_string(seed));
    Prng prng(seed);
    const RecipeParameters p = RandomParameters(prng);
    const Hasher hasher = testing::MakeHasher(p);
    const Ids ids = RandomIds(p, 1 + prng.Below(60), prng);
    const auto layer = static_cast<std::uint32_t>(prng.Below(2));
    const Rows expected = testing::ReferenceRows(hasher.recipe(), layer, ids);
    std::vector<std::uint8_t> dead;
    ASSERT_EQ(testing::RowsOf(hasher, layer, {}, ids, &dead), expected);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const bool is_dead = p.kind != RecipeKind::kEngramDemo && ids[i] == kDeadToken;
      ASSERT_EQ(dead[i], is_dead ? 1 : 0);
      dead_count += dead[i];
    }
    for (std::size_t start = 0; start < ids.size();) {
      const std::size_t end = start + 1 + prng.Below(ids.size() - start);
      // Never less history than asked for; sometimes more, which must not matter.
      const std::size_t wanted = hasher.recipe().order_count() + prng.Below(5);
      const std::size_t history = start - std::min(start, wanted);
      ASSERT_EQ(testing::RowsOf(hasher, layer, Slice(ids, history, start), Slice(ids, start, end)),
                Rows(expected.begin() + static_cast<std::ptrdiff_t>(start),
                     expected.begin() + static_cast<std::ptrdiff_t>(end)))
          << "cut at " << start;
      start = end;
      ++cuts;
    }
  }
  if (testing::Seeds(150).size() == 1) return;
  EXPECT_GT(dead_count, 100);
  EXPECT_GT(cuts, 300);
}

TEST(Hasher, MixesNameTheRows) {
  for (const std::uint64_t seed : testing::Seeds(60)) {
    SCOPED_TRACE("TIERCEL_TEST_SEED=" + std::to_string(seed));
    Prng prng(seed);
    const RecipeParameters p = RandomParameters(prng);
    const Hasher hasher = testing::MakeHasher(p);
    const Ids ids = RandomIds(p, 30, prng);
    const std::uint32_t orders = hasher.recipe().order_count();
    std::vector<std::uint64_t> mixes(ids.size() * orders);
    ASSERT_TRUE(hasher.Mixes(1, {{}, ids}, mixes, {}).ok());
    const Rows expected = testing::ReferenceRows(hasher.recipe(), 1, ids);
    for (std::size_t i = 0; i < mixes.size(); ++i) {
      ASSERT_TRUE(p.kind == RecipeKind::kEngramDemo || mixes[i] >> 63 == 0);
      const auto order = static_cast<std::uint32_t>(i % orders);
      std::vector<RowId> rows(p.head_count);
      hasher.RowsOfMix(1, order, mixes[i], rows);
      for (std::size_t h = 0; h < rows.size(); ++h) {
        ASSERT_EQ(Index(rows[h]), expected[i / orders][order * p.head_count + h]);
      }
    }
  }
}

TEST(Hasher, DemoTakesNegativeIdsAsNumpyDoes) {
  // Python: multipliers of layer 1; mix = (-1 * m0) ^ (2 * m1), taken % 646403 etc.
  const Hasher hasher = testing::MakeHasher(testing::DemoParameters());
  const LayerRecipe& layer = hasher.recipe().layers[0];
  const std::int64_t mix = -76993395940407 ^ (2 * 4862694818241);
  ASSERT_LT(mix, 0);
  const auto rows = testing::RowsOf(hasher, 0, {}, {-1})[0];
  for (std::size_t h = 0; h < 8; ++h) {
    const auto size = static_cast<std::int64_t>(layer.head_sizes[h]);
    const std::int64_t remainder = mix % size + (mix % size < 0 ? size : 0);
    EXPECT_EQ(rows[h], static_cast<std::uint64_t>(remainder) + layer.offsets[h]);
  }
}

TEST(Hasher, MapsRawIdsToClasses) {
  const auto map =
      std::make_shared<const TokenMap>(TokenMap::FromClasses({0, 1, 2, 1, 3, 0}).value());
  RecipeParameters p = testing::V41Parameters();
  p.compressed_vocab_size = 4;
  p.vocab_size = 6;
  const Hasher mapped = std::move(Hasher::Create(testing::Build(p), map)).value();
  const Hasher plain = testing::MakeHasher(p);
  EXPECT_EQ(testing::RowsOf(mapped, 0, {5}, {3, -1, 4, 3, 5}),
            testing::RowsOf(plain, 0, {0}, {1, -1, 3, 1, 0}));
  p = testing::QwenParameters();
  const Hasher raw = std::move(Hasher::Create(testing::Build(p), map)).value();
  EXPECT_EQ(testing::RowsOf(raw, 0, {}, {3, 200000}),
            testing::RowsOf(testing::MakeHasher(p), 0, {}, {3, 200000}));
}

TEST(Hasher, RefusesAMapOfAnotherTokenizer) {
  const auto map = std::make_shared<const TokenMap>(TokenMap::FromClasses({0, 1, 2, 3, 4}).value());
  RecipeParameters p = testing::V41Parameters();
  p.compressed_vocab_size = 4;
  const Result<Hasher> hasher = Hasher::Create(testing::Build(p), map);
  ASSERT_FALSE(hasher.ok());
  EXPECT_EQ(hasher.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(hasher.status().message().find("5 classes"), std::string::npos);
}

TEST(Hasher, RefusesARecipeWhosePartsDoNotFit) {
  Recipe recipe = testing::Build(testing::V41Parameters());
  recipe.layers[0].offsets[3] += 1;
  EXPECT_FALSE(Hasher::Create(recipe).ok());
  recipe = testing::Build(testing::V41Parameters());
  recipe.layers[1].head_sizes.pop_back();
  EXPECT_FALSE(Hasher::Create(recipe).ok());
  EXPECT_FALSE(Hasher::Create(Recipe{}).ok());
}

TEST(Hasher, NamesThePositionOfAnUnknownId) {
  const auto error = [](const Hasher& hasher, const Ids& history, const Ids& tokens) {
    std::vector<RowId> rows(tokens.size() * hasher.recipe().column_count());
    const Status status = hasher.RowIds(0, {history, tokens}, rows, {});
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  const Hasher v41 = testing::MakeHasher(testing::V41Parameters());
  EXPECT_EQ(error(v41, {}, {1, 99092}),
            "token 1 is 99092; ids lie in [0, 99092), by the recipe's "
            "vocabulary");
  EXPECT_NE(error(v41, {}, {1, 2, -2}).find("token 2 is -2"), std::string::npos);
  EXPECT_NE(error(v41, {7, 99092, 7}, {1}).find("history token 1"), std::string::npos);
  const Hasher qwen = testing::MakeHasher(testing::QwenParameters());
  EXPECT_NE(error(qwen, {}, {248320}).find("248320"), std::string::npos);
  const Hasher demo = testing::MakeHasher(testing::DemoParameters());
  EXPECT_NE(error(demo, {}, {98627}).find("98627"), std::string::npos);
  // What lies further back than the window is not looked at.
  EXPECT_EQ(testing::RowsOf(v41, 0, {99092, 1, 2, 3}, {4}),
            testing::RowsOf(v41, 0, {1, 2, 3}, {4}));
}

TEST(Hasher, RefusesSpansOfTheWrongLength) {
  const Hasher hasher = testing::MakeHasher(testing::V41Parameters());
  const Ids tokens = {1, 2};
  std::vector<RowId> rows(48);
  std::vector<std::uint64_t> mixes(6);
  std::vector<std::uint8_t> dead(2);
  EXPECT_TRUE(hasher.RowIds(1, {{}, tokens}, rows, dead).ok());
  EXPECT_TRUE(hasher.RowIds(1, {{}, tokens}, rows, {}).ok());
  EXPECT_TRUE(hasher.RowIds(1, {}, {}, {}).ok());
  EXPECT_TRUE(hasher.Mixes(1, {{}, tokens}, mixes, dead).ok());
  const auto code = [](const Status& status) { return status.code(); };
  EXPECT_EQ(code(hasher.RowIds(2, {{}, tokens}, rows, dead)), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(hasher.RowIds(1, {{}, tokens}, std::span(rows).first(47), dead)),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code(hasher.RowIds(1, {{}, tokens}, rows, std::span(dead).first(1))),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code(hasher.Mixes(1, {{}, tokens}, std::span(mixes).first(5), dead)),
            StatusCode::kInvalidArgument);
}

TEST(Divisor, IsExactEverywhere) {
  Prng prng(2);
  std::vector<std::uint64_t> divisors = {
      2,          3,   5, 7, 16000057, (1ULL << 40) - 87, (1ULL << 62) + 1, (1ULL << 63) - 1,
      1ULL << 32, 4096};
  for (int i = 0; i < 300; ++i) divisors.push_back(2 + prng() % (1ULL << (2 + prng.Below(60))));
  const std::uint64_t two64 = ~std::uint64_t{0};
  for (const std::uint64_t d : divisors) {
    const Divisor divisor(d);
    std::vector<std::uint64_t> numbers = {0,
                                          1,
                                          d - 1,
                                          d,
                                          d + 1,
                                          two64,
                                          two64 - 1,
                                          two64 / d * d,
                                          two64 / d * d - 1,
                                          1ULL << 63,
                                          (1ULL << 63) - 1};
    for (int i = 0; i < 300; ++i) numbers.push_back(prng() >> prng.Below(64));
    for (const std::uint64_t x : numbers) {
      ASSERT_EQ(divisor.Remainder(x), x % d) << x << " mod " << d;
      const auto wide = static_cast<Int128>(static_cast<std::int64_t>(x));
      const auto size = static_cast<Int128>(d);
      ASSERT_EQ(divisor.FloorRemainder(x), static_cast<std::uint64_t>((wide % size + size) % size));
    }
  }
}

}  // namespace
}  // namespace tiercel
