// Goal: a group key names its rows exactly: it comes back from the rows alone, equal
// rows have equal keys, and rows that no mix gives have none.
//
// Method: random mixes and windows at full size and in tables shrunk down to the
// smallest primes, products on either side of 2^63 and 2^64; rows disturbed one at a
// time, judged by whether the answer gives them back. TIERCEL_TEST_SEED repeats a seed.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "base/prng.h"
#include "tests/engram/engram_test_support.h"
#include "tiercel/hasher.h"

namespace tiercel {
namespace {

__extension__ using Uint128 = unsigned __int128;
constexpr std::uint64_t kTwo63 = std::uint64_t{1} << 63;

RecipeParameters Parameters(RecipeKind kind, std::uint64_t base, std::uint32_t head_count) {
  RecipeParameters p = kind == RecipeKind::kEngramDemo    ? testing::DemoParameters()
                       : kind == RecipeKind::kDeepSeekV41 ? testing::V41Parameters()
                                                          : testing::QwenParameters();
  p.head_count = head_count;
  p.head_size_bases.assign(p.order_max - 1, base);
  return p;
}

/// Product of the head sizes of an order, or 2^64 if that is not larger.
Uint128 Product(const Recipe& recipe, std::uint32_t layer, std::uint32_t order) {
  Uint128 product = 1;
  for (std::uint32_t h = 0; h < recipe.parameters.head_count; ++h) {
    product *= recipe.layers[layer].head_sizes[order * recipe.parameters.head_count + h];
    if (product >> 64 != 0) return Uint128{1} << 64;
  }
  return product;
}

std::vector<RowId> RowsOf(const Hasher& hasher, std::uint32_t layer, std::uint32_t order,
                          std::uint64_t mix) {
  std::vector<RowId> rows(hasher.recipe().parameters.head_count);
  hasher.RowsOfMix(layer, order, mix, rows);
  return rows;
}

struct Tally {
  int reduced = 0;
  int whole = 0;
  int refused = 0;
  int consistent = 0;
};

/// Whatever the rows, an answer is believed only if it gives them back.
void CheckDisturbed(const Hasher& hasher, std::uint32_t layer, std::uint32_t order,
                    std::vector<RowId> rows, Prng& prng, Tally& tally) {
  const std::vector<RowId> good = rows;
  const std::size_t at = prng.Below(rows.size());
  rows[at] = RowId{Index(rows[at]) + (prng.Below(2) == 0 ? 1 : ~std::uint64_t{0})};
  const std::optional<std::uint64_t> key = hasher.GroupKeyOfRows(layer, order, rows);
  if (!key) {
    ++tally.refused;
    return;
  }
  ++tally.consistent;
  ASSERT_EQ(RowsOf(hasher, layer, order, *key), rows);
  ASSERT_NE(hasher.GroupKeyOfRows(layer, order, good), key);
}

void CheckKeys(const Hasher& hasher, Prng& prng, Tally& tally) {
  const Recipe& recipe = hasher.recipe();
  const bool is_signed = recipe.parameters.kind == RecipeKind::kEngramDemo;
  for (int i = 0; i < 200; ++i) {
    const auto layer = static_cast<std::uint32_t>(prng.Below(recipe.layers.size()));
    const auto order = static_cast<std::uint32_t>(prng.Below(recipe.order_count()));
    std::uint64_t mix = prng() >> prng.Below(40);
    if (i < 4) mix = std::vector<std::uint64_t>{0, kTwo63 - 1, kTwo63, ~std::uint64_t{0}}[i];
    if (!is_signed) mix &= kTwo63 - 1;
    const std::vector<RowId> rows = RowsOf(hasher, layer, order, mix);
    for (std::uint32_t head = 0; head < rows.size(); ++head) {
      ASSERT_EQ(hasher.RowOfMix(layer, order, mix, head), rows[head]);
    }
    const std::uint64_t key = hasher.GroupKey(layer, order, mix);
    ASSERT_EQ(hasher.GroupKeyOfRows(layer, order, rows), key) << mix;
    ASSERT_EQ(RowsOf(hasher, layer, order, key), rows) << mix;  // A key is itself a mix.
    ASSERT_EQ(hasher.GroupKey(layer, order, key), key);
    const Uint128 product = Product(recipe, layer, order);
    if (product < (is_signed ? Uint128{1} << 64 : Uint128{kTwo63})) {
      ++tally.reduced;
      if (mix < kTwo63 && product <= kTwo63) {
        ASSERT_EQ(key, mix % static_cast<std::uint64_t>(product));
      }
    } else {
      ++tally.whole;
      ASSERT_EQ(key, mix);
    }
    CheckDisturbed(hasher, layer, order, rows, prng, tally);
  }
}

TEST(GroupKey, ComesBackFromTheRowsAlone) {
  Tally tally;
  for (const std::uint64_t seed : testing::Seeds(3)) {
    SCOPED_TRACE("TIERCEL_TEST_SEED=" + std::to_string(seed));
    Prng prng(seed);
    for (const RecipeKind kind :
         {RecipeKind::kDeepSeekV41, RecipeKind::kEngramDemo, RecipeKind::kQwen38}) {
      // Full size, shrunk by 16, 1000 and 100,000, tiny, and sizes beyond 2^32.
      for (const std::uint64_t base :
           {std::uint64_t{16000000}, std::uint64_t{1000000}, std::uint64_t{16000},
            std::uint64_t{160}, std::uint64_t{2}, std::uint64_t{230}, std::uint64_t{256},
            std::uint64_t{1000000000000}}) {
        for (const std::uint32_t heads : {1U, 2U, 3U, 8U, 16U}) {
          SCOPED_TRACE(::testing::Message() << Name(kind) << " " << base << " x " << heads);
          CheckKeys(testing::MakeHasher(Parameters(kind, base, heads)), prng, tally);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
  EXPECT_GT(tally.reduced, 1000);
  EXPECT_GT(tally.whole, 1000);
  EXPECT_GT(tally.refused, 1000);
  EXPECT_GT(tally.consistent, 100);  // Where all residues are taken: small products.
}

TEST(GroupKey, OfAShardComesBackFromItsHeadsAlone) {
  Tally tally;
  Prng prng(11);
  for (const RecipeKind kind :
       {RecipeKind::kDeepSeekV41, RecipeKind::kEngramDemo, RecipeKind::kQwen38}) {
    for (const std::uint64_t base : {std::uint64_t{16000000}, std::uint64_t{160}}) {
      const Recipe whole = testing::Build(Parameters(kind, base, 8));
      for (const std::uint32_t count : {2U, 3U, 4U, 8U}) {
        for (std::uint32_t rank = 0; rank < count; ++rank) {
          SCOPED_TRACE(::testing::Message() << Name(kind) << " " << rank << "/" << count);
          Result<Recipe> recipe = ShardRecipe(whole, {.rank = rank, .count = count});
          ASSERT_TRUE(recipe.ok()) << recipe.status().ToString();
          Result<Hasher> hasher = Hasher::Create(std::move(recipe).value());
          ASSERT_TRUE(hasher.ok()) << hasher.status().ToString();
          CheckKeys(hasher.value(), prng, tally);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
  EXPECT_GT(tally.reduced, 1000);
  EXPECT_GT(tally.whole, 1000);  // Four heads, or three, of the full size.
  EXPECT_GT(tally.refused, 1000);
}

TEST(GroupKey, FullSizeRowsThatAreDisturbedHaveNone) {
  const Hasher hasher = testing::MakeHasher(testing::V41Parameters());
  Prng prng(4);
  for (int i = 0; i < 2000; ++i) {
    const std::uint64_t mix = prng() & (kTwo63 - 1);
    std::vector<RowId> rows = RowsOf(hasher, 0, 1, mix);
    ASSERT_EQ(hasher.GroupKeyOfRows(0, 1, rows), mix);
    const std::size_t at = prng.Below(8);
    const LayerRecipe& layer = hasher.recipe().layers[0];
    RowId& row = rows[at];
    const RowId before = row;
    row = RowId{layer.offsets[8 + at] + prng.Below(layer.head_sizes[8 + at])};
    if (row != before) {
      ASSERT_EQ(hasher.GroupKeyOfRows(0, 1, rows), std::nullopt);
    }
  }
}

TEST(GroupKey, RowsOutsideTheirColumnHaveNone) {
  const Hasher hasher = testing::MakeHasher(testing::V41Parameters());
  const std::vector<RowId> good = RowsOf(hasher, 0, 1, 123456789012345678U);
  const LayerRecipe& layer = hasher.recipe().layers[0];
  for (std::size_t at = 0; at < 8; ++at) {
    for (const std::uint64_t row :
         {layer.offsets[8 + at] - 1, layer.offsets[8 + at] + layer.head_sizes[8 + at],
          std::uint64_t{0}, ~std::uint64_t{0}}) {
      std::vector<RowId> rows = good;
      rows[at] = RowId{row};
      EXPECT_EQ(hasher.GroupKeyOfRows(0, 1, rows), std::nullopt);
    }
  }
  EXPECT_EQ(hasher.GroupKeyOfRows(0, 0, good), std::nullopt);  // Another order's columns.
  EXPECT_EQ(hasher.GroupKeyOfRows(1, 1, good), std::nullopt);  // Another layer's.
}

TEST(GroupKey, InATinyTableEachCombinationOfRowsIsOneGroup) {
  RecipeParameters p = testing::V41Parameters();
  p.head_count = 3;
  p.head_size_bases.assign(3, 2);
  const Hasher hasher = testing::MakeHasher(p);  // Order 2 of layer 1: sizes 2, 3, 5.
  std::set<std::uint64_t> keys;
  for (std::uint64_t mix = 0; mix < 300; ++mix) keys.insert(hasher.GroupKey(0, 0, mix));
  EXPECT_EQ(keys.size(), 30U);
  EXPECT_EQ(*keys.rbegin(), 29U);
}

}  // namespace
}  // namespace tiercel
