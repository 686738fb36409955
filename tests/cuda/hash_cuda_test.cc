// Goal: row ids, keys and dead marks of the device are the host's and the models' own, bit
// for bit; a probe finds what the mirror has, and lists the rest.
//
// Method: the golden cases of all three recipes, token maps, and random batches of several
// runs with dead and unknown tokens, against Hasher.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/prng.h"
#include "cuda/device_hash.h"
#include "tests/cuda/cuda_test_support.h"
#include "tests/engram/engram_test_support.h"
#include "tiercel/cuda.h"

namespace tiercel {
namespace {

using testing::DeviceArray;
using HashOnGpu = testing::GpuTest;

/// Tokens of runs, as the device takes them.
struct DeviceBatch {
  explicit DeviceBatch(const std::vector<TokenRun>& runs) {
    for (const TokenRun& run : runs) {
      const auto start = static_cast<std::uint32_t>(ids.size());
      ids.insert(ids.end(), run.history.begin(), run.history.end());
      for (const std::int32_t token : run.tokens) {
        positions.push_back(static_cast<std::uint32_t>(ids.size()));
        starts.push_back(start);
        ids.push_back(token);
      }
    }
  }
  std::vector<std::int32_t> ids;
  std::vector<std::uint32_t> positions;
  std::vector<std::uint32_t> starts;
};

struct DeviceHashes {
  std::vector<std::uint64_t> keys;
  std::vector<RowId> rows;
  std::vector<std::uint8_t> dead;
  std::uint32_t unknown = 0;
};

DeviceHashes HashBatch(const Recipe& recipe, const TokenMap* map, std::uint32_t layer_index,
                       const DeviceBatch& batch) {
  DeviceHashes hashes;
  Result<std::unique_ptr<DeviceHasher>> hasher = DeviceHasher::Create(recipe, map);
  EXPECT_TRUE(hasher.ok()) << hasher.status().ToString();
  if (!hasher.ok()) return hashes;
  const std::size_t count = batch.positions.size();
  const DeviceArray<std::int32_t> ids{std::span<const std::int32_t>(batch.ids)};
  const DeviceArray<std::uint32_t> positions{std::span<const std::uint32_t>(batch.positions)};
  const DeviceArray<std::uint32_t> starts{std::span<const std::uint32_t>(batch.starts)};
  const DeviceArray<std::uint64_t> keys(count * recipe.order_count());
  const DeviceArray<RowId> rows(count * recipe.column_count());
  const DeviceArray<std::uint8_t> dead(count);
  DeviceArray<std::uint32_t> unknown(1);
  unknown.Fill(0);
  const Status status =
      hasher.value()->HashOnStream(layer_index,
                                   {.ids = ids.data(),
                                    .position = positions.data(),
                                    .run_start = starts.data(),
                                    .token_count = static_cast<std::uint32_t>(count)},
                                   {.keys = keys.data(),
                                    .rows = rows.data(),
                                    .dead = dead.data(),
                                    .unknown_count = unknown.data()},
                                   nullptr);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return {
      .keys = keys.Read(), .rows = rows.Read(), .dead = dead.Read(), .unknown = unknown.Read()[0]};
}

void ExpectGolden(const RecipeParameters& parameters, std::uint32_t layer_index,
                  const std::vector<std::int32_t>& ids, const nlohmann::json& rows) {
  const Recipe recipe = testing::Build(parameters);
  const TokenRun run = {.history = {}, .tokens = ids};
  const DeviceHashes hashes = HashBatch(recipe, nullptr, layer_index, DeviceBatch({run}));
  ASSERT_EQ(hashes.rows.size(), ids.size() * recipe.column_count());
  for (std::size_t token = 0; token < ids.size(); ++token) {
    for (std::size_t column = 0; column < recipe.column_count(); ++column) {
      EXPECT_EQ(Index(hashes.rows[token * recipe.column_count() + column]),
                rows[token][column].get<std::uint64_t>());
    }
  }
}

TEST_F(HashOnGpu, GoldenRowsOfAllRecipes) {
  const nlohmann::json golden_v41 = testing::Golden("v41_engram.json");
  for (const nlohmann::json& c : golden_v41["cases"]) {
    const auto ids = c["compressed_ids_dead_is_minus1"].get<std::vector<std::int32_t>>();
    ExpectGolden(testing::V41Parameters(), 0, ids, c["layers"]["1"]["rows"]);
    ExpectGolden(testing::V41Parameters(), 1, ids, c["layers"]["14"]["rows"]);
  }
  const nlohmann::json golden_demo = testing::Golden("demo_engram.json");
  for (const nlohmann::json& c : golden_demo["cases"]) {
    ExpectGolden(testing::DemoParameters(), 1, c["compressed_ids"].get<std::vector<std::int32_t>>(),
                 c["layers"]["15"]["rows"]);
  }
  const nlohmann::json golden_qwen38 = testing::Golden("qwen38_ple.json");
  for (const nlohmann::json& c : golden_qwen38["cases"]) {
    ExpectGolden(testing::QwenParameters(), 0, c["token_ids"].get<std::vector<std::int32_t>>(),
                 c["rows"]);
  }
}

/// Random runs, all of the device's output against the host's.
void ExpectSameAsHost(const Recipe& recipe, std::shared_ptr<const TokenMap> map,
                      std::uint64_t id_end, std::int32_t special, std::uint64_t seed) {
  Prng prng(seed);
  std::vector<std::vector<std::int32_t>> tokens(20);
  std::vector<TokenRun> runs;
  for (auto& ids : tokens) {
    const std::size_t history = prng.Below(6);
    ids.resize(history + prng.Below(50));
    for (std::int32_t& id : ids) {
      const std::uint64_t kind = prng.Below(10);
      id = kind == 0   ? kDeadToken
           : kind == 1 ? special
                       : static_cast<std::int32_t>(prng.Below(id_end));
    }
    const std::span<const std::int32_t> all = ids;
    runs.push_back({.history = all.first(std::min(history, ids.size())),
                    .tokens = all.subspan(std::min(history, ids.size()))});
  }
  Result<Hasher> hasher = Hasher::Create(recipe, map);
  ASSERT_TRUE(hasher.ok()) << hasher.status().ToString();
  for (std::uint32_t layer = 0; layer < recipe.layers.size(); ++layer) {
    const DeviceHashes hashes = HashBatch(recipe, map.get(), layer, DeviceBatch(runs));
    EXPECT_EQ(hashes.unknown, 0U);
    std::vector<RowId> rows;
    std::vector<std::uint64_t> keys;
    std::vector<std::uint8_t> dead;
    for (const TokenRun& run : runs) {
      std::vector<RowId> run_rows(run.tokens.size() * recipe.column_count());
      std::vector<std::uint64_t> mixes(run.tokens.size() * recipe.order_count());
      std::vector<std::uint8_t> run_dead(run.tokens.size());
      ASSERT_TRUE(hasher.value().RowIds(layer, run, run_rows, run_dead).ok());
      ASSERT_TRUE(hasher.value().Mixes(layer, run, mixes, {}).ok());
      rows.insert(rows.end(), run_rows.begin(), run_rows.end());
      dead.insert(dead.end(), run_dead.begin(), run_dead.end());
      for (std::size_t i = 0; i < mixes.size(); ++i) {
        keys.push_back(hasher.value().GroupKey(
            layer, static_cast<std::uint32_t>(i % recipe.order_count()), mixes[i]));
      }
    }
    EXPECT_EQ(hashes.rows, rows);
    EXPECT_EQ(hashes.keys, keys);
    EXPECT_EQ(hashes.dead, dead);
  }
}

TEST_F(HashOnGpu, RandomRunsAreTheHosts) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    ExpectSameAsHost(testing::Build(testing::V41Parameters()), nullptr, 99092, 2, seed);
    ExpectSameAsHost(testing::Build(testing::DemoParameters()), nullptr, 98627, -7, seed);
    ExpectSameAsHost(testing::Build(testing::QwenParameters()), nullptr, 248320, 248044, seed);
    // A shard of one head: keys are reduced by the product of the local sizes.
    Result<Recipe> shard =
        ShardRecipe(testing::Build(testing::V41Parameters()), {.rank = 3, .count = 8});
    ASSERT_TRUE(shard.ok());
    ExpectSameAsHost(shard.value(), nullptr, 99092, 2, seed);
  }
}

TEST_F(HashOnGpu, ATokenMapIsApplied) {
  RecipeParameters parameters = testing::V41Parameters();
  std::vector<std::uint32_t> classes(129280);
  for (std::uint32_t i = 0; i < classes.size(); ++i) classes[i] = std::min(i, i % 99092);
  Result<TokenMap> map = TokenMap::FromClasses(classes);
  ASSERT_TRUE(map.ok()) << map.status().ToString();
  ExpectSameAsHost(testing::Build(parameters),
                   std::make_shared<const TokenMap>(std::move(map).value()), 129280, 5, 1);
}

TEST_F(HashOnGpu, UnknownTokensAreCountedAndDead) {
  const std::vector<std::int32_t> ids = {1, 2, 200000, 3, -5};
  const TokenRun run = {.history = {}, .tokens = ids};
  const DeviceHashes hashes =
      HashBatch(testing::Build(testing::V41Parameters()), nullptr, 0, DeviceBatch({run}));
  EXPECT_EQ(hashes.dead[2], 1);
  EXPECT_EQ(hashes.dead[4], 1);
  EXPECT_EQ(hashes.dead[0], 0);
}

TEST_F(HashOnGpu, TheMirrorTakesChangesAndIsProbed) {
  constexpr std::uint32_t kBuckets = 64;
  DeviceArray<DeviceEntry> entries(kBuckets * DeviceTable::kWays);
  entries.Fill(0);
  const DeviceTable table = {.entries = entries.data(), .bucket_count = kBuckets};
  const auto apply = [&](const std::vector<DeviceChange>& changes) {
    const DeviceArray<DeviceChange> list{std::span<const DeviceChange>(changes)};
    EXPECT_EQ(
        LaunchApplyChanges(table, list.data(), static_cast<std::uint32_t>(changes.size()), nullptr),
        cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  };
  const auto contents = [&] {
    std::vector<std::pair<std::uint64_t, std::uint32_t>> found;
    for (const DeviceEntry& entry : entries.Read()) {
      if (entry.space_plus_1 != 0) found.emplace_back(entry.key, entry.slot);
    }
    std::sort(found.begin(), found.end());
    return found;
  };
  std::vector<DeviceChange> changes;
  for (std::uint32_t i = 0; i < 200; ++i) {
    changes.push_back({.key = 1000 + i, .slot = i, .space = 1, .added = 1});
  }
  apply(changes);
  EXPECT_EQ(contents().size(), 200U);
  // Half of them leave; one comes back elsewhere in the same update.
  changes.clear();
  for (std::uint32_t i = 0; i < 100; ++i) {
    changes.push_back({.key = 1000 + i, .slot = i, .space = 1, .added = 0});
  }
  changes.push_back({.key = 1000, .slot = 77, .space = 1, .added = 1});
  apply(changes);
  ASSERT_EQ(contents().size(), 101U);
  EXPECT_EQ(contents()[0], (std::pair<std::uint64_t, std::uint32_t>{1000, 77}));
}

}  // namespace
}  // namespace tiercel
