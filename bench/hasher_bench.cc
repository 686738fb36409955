// Hashing: from raw token ids to row ids, to mixes, and back from row ids to group
// keys; and stored rows to bf16. The aim of the first is 0.5 us a token for all 48 row
// ids of DeepSeek-V4.1 (two layers), token map included, on one core.
//
// Token ids are uniform, the worst case for the token map's cache lines: real text
// repeats itself.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "engram/dequantize_block32.h"
#include "tiercel/hasher.h"
#include "tiercel/row_format.h"

namespace tiercel {
namespace {

constexpr std::uint32_t kVocabSize = 129280;

RecipeParameters V41Parameters() {
  return {.kind = RecipeKind::kDeepSeekV41,
          .layer_ids = {1, 14},
          .order_max = 4,
          .head_count = 8,
          .head_dim = 256,
          .head_size_bases = {16000000, 16000000, 16000000},
          .vocab_size = kVocabSize,
          .compressed_vocab_size = 99092,
          .pad_token = 2};
}

/// The V4.1 hasher with a token map of its size; nothing on an error.
std::optional<Hasher> MakeHasher(benchmark::State& state) {
  std::vector<std::uint32_t> classes(kVocabSize);
  std::iota(classes.begin(), classes.begin() + 99092, 0U);
  Prng prng(1);
  for (std::size_t i = 99092; i < classes.size(); ++i) {
    classes[i] = static_cast<std::uint32_t>(prng.Below(99092));
  }
  Result<TokenMap> map = TokenMap::FromClasses(std::move(classes));
  Result<Recipe> recipe = BuildRecipe(V41Parameters());
  if (map.ok() && recipe.ok()) {
    auto shared = std::make_shared<const TokenMap>(std::move(map).value());
    Result<Hasher> hasher = Hasher::Create(std::move(recipe).value(), std::move(shared));
    if (hasher.ok()) return std::move(hasher).value();
  }
  state.SkipWithError("the hasher could not be made");
  return std::nullopt;
}

std::vector<std::int32_t> RandomTokens(std::size_t count) {
  Prng prng(2);
  std::vector<std::int32_t> tokens(count);
  for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(prng.Below(kVocabSize));
  return tokens;
}

/// All row ids of a token: both layers, token map included.
void BM_RowIdsV41(benchmark::State& state) {
  const std::optional<Hasher> hasher = MakeHasher(state);
  if (!hasher) return;
  const std::vector<std::int32_t> tokens = RandomTokens(static_cast<std::size_t>(state.range(0)));
  std::vector<RowId> rows(tokens.size() * 24);
  std::vector<std::uint8_t> dead(tokens.size());
  for (auto _ : state) {
    for (std::uint32_t layer = 0; layer < 2; ++layer) {
      if (!hasher->RowIds(layer, {{}, tokens}, rows, dead).ok()) state.SkipWithError("RowIds");
      benchmark::DoNotOptimize(rows.data());
      benchmark::ClobberMemory();
    }
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_RowIdsV41)->ArgName("tokens")->Arg(1)->Arg(64)->Arg(2048);

/// The mixes of both layers: what a lookup that goes by group needs.
void BM_MixesV41(benchmark::State& state) {
  const std::optional<Hasher> hasher = MakeHasher(state);
  if (!hasher) return;
  const std::vector<std::int32_t> tokens = RandomTokens(static_cast<std::size_t>(state.range(0)));
  std::vector<std::uint64_t> mixes(tokens.size() * 3);
  for (auto _ : state) {
    for (std::uint32_t layer = 0; layer < 2; ++layer) {
      if (!hasher->Mixes(layer, {{}, tokens}, mixes, {}).ok()) state.SkipWithError("Mixes");
      benchmark::DoNotOptimize(mixes.data());
      benchmark::ClobberMemory();
    }
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_MixesV41)->ArgName("tokens")->Arg(1)->Arg(64)->Arg(2048);

/// One group: 8 row ids back to their key.
void BM_GroupKeyOfRows(benchmark::State& state) {
  const std::optional<Hasher> hasher = MakeHasher(state);
  if (!hasher) return;
  Prng prng(3);
  std::vector<RowId> rows(256 * 8);
  for (std::size_t i = 0; i < 256; ++i) {
    hasher->RowsOfMix(0, 1, prng() >> 1, std::span(rows).subspan(i * 8, 8));
  }
  std::size_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        hasher->GroupKeyOfRows(0, 1, std::span<const RowId>(rows).subspan(next * 8, 8)));
    next = (next + 1) % 256;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_GroupKeyOfRows);

/// A row of bf16 to bf16: Qwen3.8 has such.
void BM_CopyBf16Row(benchmark::State& state) {
  const RowShape shape{RowFormat::kBf16, 256};
  std::vector<std::byte> row(512);
  Prng prng(5);
  for (std::byte& byte : row) byte = static_cast<std::byte>(prng.Below(127));
  std::vector<std::uint16_t> values(256);
  for (auto _ : state) {
    DequantizeToBf16(shape, row, values);
    benchmark::DoNotOptimize(values.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * 512);
}
BENCHMARK(BM_CopyBf16Row);

/// A V4.1 row to bf16, by the path that the processor allows or by the plain loop.
void BM_DequantizeV41Row(benchmark::State& state) {
  constexpr std::size_t kRowCount = 64;  // 17 KB: in the first-level cache.
  const RowShape shape{RowFormat::kE4M3Block32, 256};
  Prng prng(4);
  std::vector<std::byte> rows(kRowCount * 264);
  for (std::byte& byte : rows) byte = static_cast<std::byte>(prng.Below(127));
  for (std::size_t row = 0; row < kRowCount; ++row) {  // Scales as models have them.
    for (std::size_t i = 256; i < 264; ++i) {
      rows[row * 264 + i] = static_cast<std::byte>(110 + prng.Below(16));
    }
  }
  std::vector<std::uint16_t> values(256);
  std::size_t next = 0;
  for (auto _ : state) {
    const std::byte* const row = rows.data() + next * 264;
    if (state.range(0) == 0) {
      DequantizeBlock32Plain(row, row + 256, 256, values.data());
    } else {
      DequantizeToBf16(shape, {row, 264}, values);
    }
    benchmark::DoNotOptimize(values.data());
    benchmark::ClobberMemory();
    next = (next + 1) % kRowCount;
  }
  state.SetBytesProcessed(state.iterations() * 264);
}
BENCHMARK(BM_DequantizeV41Row)->ArgName("fast")->Arg(0)->Arg(1);

void BM_BuildRecipeV41(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(BuildRecipe(V41Parameters()));
}
BENCHMARK(BM_BuildRecipeV41)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace tiercel
