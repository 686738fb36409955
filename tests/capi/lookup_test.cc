// Goal: the C API gives the bytes, ids, facts and counters of the C++ Store.
//
// Method: the same made checkpoint through both, each row also against the generator.

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/capi/c_store.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/disk_profile.h"

namespace tiercel::testing {
namespace {

std::unique_ptr<Store> OpenCxx(const MadeCheckpoint& made) {
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{24} << 20;
  options.log = [](std::string_view /*line*/) {};
  Result<std::unique_ptr<Store>> store = Store::Open(made.path(), options);
  EXPECT_TRUE(store.ok());
  return std::move(store).value();
}

/// Both APIs' answers to one batch of two runs, dead tokens among them.
void ExpectSameLookups(const CStore& c, Store& cxx, std::uint32_t output) {
  const std::vector<std::int32_t> first = c.made().RandomTokens(1, 40);
  std::vector<std::int32_t> second = c.made().RandomTokens(2, 9);
  second[4] = TIERCEL_DEAD_TOKEN;
  const std::vector<tiercel_token_run> runs = {{first.data(), 3, first.data() + 3, 37},
                                               RunOf(second)};
  const std::vector<TokenRun> cxx_runs = {
      {.history = std::span(first).first(3), .tokens = std::span(first).subspan(3)},
      {.history = {}, .tokens = second}};
  const std::size_t rows = (37 + 9) * c.columns();
  std::vector<CLayer> layers;
  std::vector<LayerBuffers> cxx_layers;
  for (const std::uint32_t layer_id : c.layer_ids()) {
    layers.emplace_back(c, layer_id, rows, output);
    cxx_layers.emplace_back(cxx, layer_id, rows, static_cast<RowOutput>(output));
  }
  std::vector<tiercel_layer_output> outputs;
  std::vector<LayerOutput> cxx_outputs;
  for (CLayer& layer : layers) outputs.push_back(layer.Output());
  for (LayerBuffers& layer : cxx_layers) cxx_outputs.push_back(layer.Output());
  ASSERT_CODE(TIERCEL_OK, tiercel_store_lookup(c.get(), runs.data(), runs.size(), outputs.data(),
                                               outputs.size(), output));
  ASSERT_TRUE(cxx.Lookup(cxx_runs, cxx_outputs, static_cast<RowOutput>(output)).ok());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    EXPECT_EQ(layers[i].rows, cxx_layers[i].rows);
    EXPECT_EQ(std::memcmp(layers[i].row_status.data(), cxx_layers[i].row_status.data(), rows), 0);
    EXPECT_EQ(layers[i].row_status[0], TIERCEL_ROW_OK);
    if (c.made().info().layout == "deepseek-v4.1") {  // It drops dead tokens.
      EXPECT_EQ(layers[i].row_status[(37 + 4) * c.columns()], TIERCEL_ROW_DEAD);
    }
  }
}

TEST(CLookup, BytesAreThoseOfCxx) {
  for (const CheckpointModel like :
       {CheckpointModel::kDeepSeekV41Flash, CheckpointModel::kQwen38FlashNext}) {
    const CStore c(SmallCOptions(), {.like = like, .shrink = 20000});
    const std::unique_ptr<Store> cxx = OpenCxx(c.made());
    ExpectSameLookups(c, *cxx, TIERCEL_OUTPUT_STORED);
    ExpectSameLookups(c, *cxx, TIERCEL_OUTPUT_BF16);
  }
}

TEST(CLookup, RowsByIdAreTheGenerators) {
  const CStore store;
  const std::uint32_t layer_id = store.layer_ids()[1];
  const std::vector<std::uint64_t> rows = store.RowIds(layer_id, store.made().RandomTokens(3, 11));
  for (const std::uint32_t output : {TIERCEL_OUTPUT_STORED, TIERCEL_OUTPUT_BF16}) {
    CLayer layer(store, layer_id, rows.size(), output);
    const tiercel_layer_output buffers = layer.Output();
    ASSERT_CODE(TIERCEL_OK,
                tiercel_store_lookup_rows(store.get(), rows.data(), rows.size(), &buffers, output));
    EXPECT_EQ(layer.rows, store.Rows(layer_id, rows, output));
  }
}

TEST(CLookup, ARowBeyondTheTableIsMarked) {
  const CStore store;
  const std::uint32_t layer_id = store.layer_ids()[0];
  const std::vector<std::uint64_t> rows = {5, store.made().info().layers[0].row_count, 6};
  CLayer layer(store, layer_id, rows.size(), TIERCEL_OUTPUT_STORED);
  const tiercel_layer_output buffers = layer.Output();
  EXPECT_CODE(TIERCEL_PARTIAL, tiercel_store_lookup_rows(store.get(), rows.data(), rows.size(),
                                                         &buffers, TIERCEL_OUTPUT_STORED));
  EXPECT_EQ(layer.row_status,
            (std::vector<std::uint8_t>{TIERCEL_ROW_OK, TIERCEL_ROW_OUT_OF_RANGE, TIERCEL_ROW_OK}));
}

TEST(CLookup, MoreRunsThanFitOnTheStack) {
  const CStore store;
  const std::uint32_t layer_id = store.layer_ids()[0];
  const std::vector<std::int32_t> tokens = store.made().RandomTokens(4, 100);
  std::vector<tiercel_token_run> runs;
  for (const std::int32_t& token : tokens) runs.push_back({nullptr, 0, &token, 1});
  CLayer layer(store, layer_id, tokens.size() * store.columns(), TIERCEL_OUTPUT_STORED);
  const tiercel_layer_output buffers = layer.Output();
  ASSERT_CODE(TIERCEL_OK, tiercel_store_lookup(store.get(), runs.data(), runs.size(), &buffers, 1,
                                               TIERCEL_OUTPUT_STORED));
  std::vector<std::uint64_t> rows;
  for (const std::int32_t token : tokens) {
    const std::vector<std::uint64_t> one = store.RowIds(layer_id, {token});
    rows.insert(rows.end(), one.begin(), one.end());
  }
  EXPECT_EQ(layer.rows, store.Rows(layer_id, rows, TIERCEL_OUTPUT_STORED));
}

TEST(CLookup, AShardServesItsHeadsAlone) {
  const CStore whole;
  tiercel_store_options options = SmallCOptions();
  options.shard_rank = 1;
  options.shard_count = 2;
  const CStore shard(options);
  const std::uint32_t layer_id = whole.layer_ids()[0];
  const std::vector<std::int32_t> tokens = whole.made().RandomTokens(6, 1);
  const std::vector<std::uint64_t> all = whole.RowIds(layer_id, tokens);
  std::vector<std::uint64_t> local;
  for (std::size_t column = 1; column < all.size(); column += 2) local.push_back(all[column]);
  CLayer layer(shard, layer_id, local.size(), TIERCEL_OUTPUT_STORED);
  const tiercel_layer_output buffers = layer.Output();
  const tiercel_token_run run = RunOf(tokens);
  ASSERT_CODE(TIERCEL_OK,
              tiercel_store_lookup(shard.get(), &run, 1, &buffers, 1, TIERCEL_OUTPUT_STORED));
  EXPECT_EQ(layer.rows, whole.Rows(layer_id, local, TIERCEL_OUTPUT_STORED));
}

TEST(CLookup, HashesAreThoseOfCxx) {
  const CStore c;
  const Result<Hasher> made = Hasher::Create(c.made().info().recipe);
  ASSERT_TRUE(made.ok());
  std::vector<std::int32_t> tokens = c.made().RandomTokens(5, 30);
  tokens[7] = TIERCEL_DEAD_TOKEN;
  const std::size_t orders = c.made().info().recipe.order_count();
  std::vector<std::uint64_t> mixes(tokens.size() * orders);
  std::vector<std::uint64_t> cxx_mixes(mixes.size());
  std::vector<std::uint8_t> dead(tokens.size(), 7);
  std::vector<std::uint8_t> cxx_dead(tokens.size());
  const tiercel_token_run run = RunOf(tokens);
  const std::uint32_t layer_id = c.layer_ids()[1];
  // A hasher of the checkpoint alone, without a store.
  tiercel_checkpoint* checkpoint = nullptr;
  tiercel_hasher* hasher = nullptr;
  ASSERT_CODE(TIERCEL_OK, tiercel_inspect(c.made().path().c_str(), &checkpoint));
  ASSERT_CODE(TIERCEL_OK, tiercel_hasher_open(checkpoint, nullptr, &hasher));
  tiercel_checkpoint_close(checkpoint);
  EXPECT_CODE(TIERCEL_OK, tiercel_hasher_mixes(hasher, layer_id, &run, mixes.data(), mixes.size(),
                                               dead.data()));
  ASSERT_TRUE(made.value().Mixes(1, {.history = {}, .tokens = tokens}, cxx_mixes, cxx_dead).ok());
  EXPECT_EQ(mixes, cxx_mixes);
  EXPECT_EQ(dead, cxx_dead);
  std::vector<std::uint64_t> rows(tokens.size() * c.columns());
  EXPECT_CODE(TIERCEL_OK,
              tiercel_hasher_row_ids(hasher, layer_id, &run, rows.data(), rows.size(), nullptr));
  EXPECT_EQ(rows, c.RowIds(layer_id, tokens));
  tiercel_recipe_info recipe;
  ASSERT_CODE(TIERCEL_OK, tiercel_recipe_info_init(&recipe, sizeof(recipe)));
  EXPECT_CODE(TIERCEL_OK, tiercel_hasher_get_recipe(hasher, &recipe));
  EXPECT_EQ(recipe.kind, static_cast<std::uint32_t>(TIERCEL_RECIPE_DEEPSEEK_V41));
  EXPECT_EQ(recipe.column_count, c.columns());
  EXPECT_EQ(recipe.order_max, orders + 1);
  tiercel_hasher_close(hasher);
}

TEST(CLookup, FactsAreTheCheckpoints) {
  const CStore store;
  const CheckpointInfo& info = store.made().info();
  const tiercel_checkpoint* checkpoint = tiercel_store_checkpoint(store.get());
  tiercel_layer_info layer;
  ASSERT_CODE(TIERCEL_OK, tiercel_layer_info_init(&layer, sizeof(layer)));
  for (std::uint32_t i = 0; i < info.layers.size(); ++i) {
    ASSERT_CODE(TIERCEL_OK, tiercel_checkpoint_get_layer(checkpoint, i, &layer));
    EXPECT_EQ(layer.layer_id, info.layers[i].layer_id);
    EXPECT_EQ(layer.row_count, info.layers[i].row_count);
    EXPECT_EQ(layer.row_format, static_cast<std::uint32_t>(TIERCEL_FORMAT_E4M3_BLOCK32));
    EXPECT_EQ(layer.row_size_bytes, 264U);
    EXPECT_EQ(layer.value_count, 256U);
    EXPECT_EQ(layer.column_count, store.columns());
    EXPECT_EQ(store.RowSize(layer.layer_id, TIERCEL_OUTPUT_STORED), 264U);
    EXPECT_EQ(store.RowSize(layer.layer_id, TIERCEL_OUTPUT_BF16), 512U);
  }
  char* text = nullptr;
  std::size_t length = 0;
  ASSERT_CODE(TIERCEL_OK, tiercel_checkpoint_get_json(checkpoint, &text, &length));
  EXPECT_EQ(length, std::strlen(text));
  const nlohmann::json json = nlohmann::json::parse(text);
  tiercel_string_free(text);
  EXPECT_EQ(json["layout"], "deepseek-v4.1");
  EXPECT_EQ(json["layers"].size(), info.layers.size());
  EXPECT_EQ(json["layers"][0]["rows"], info.layers[0].row_count);
  EXPECT_EQ(json["files"].size(), info.files.size());
  EXPECT_EQ(json["table_bytes"], info.table_bytes);
}

TEST(CLookup, StatsAndMetricsCount) {
  const CStore store;
  const std::uint32_t layer_id = store.layer_ids()[0];
  const std::vector<std::int32_t> tokens = {3, 4, 5, 6, 7};
  const tiercel_token_run run = RunOf(tokens);
  CLayer layer(store, layer_id, tokens.size() * store.columns(), TIERCEL_OUTPUT_STORED);
  const tiercel_layer_output buffers = layer.Output();
  ASSERT_CODE(TIERCEL_OK, tiercel_store_lookup(store.get(), &run, 1, &buffers, 1, 0));
  tiercel_store_stats stats;
  ASSERT_CODE(TIERCEL_OK, tiercel_store_stats_init(&stats, sizeof(stats)));
  std::vector<tiercel_order_stats> orders(16);
  ASSERT_CODE(TIERCEL_OK, tiercel_order_stats_init(orders.data(), sizeof(orders[0])));
  std::size_t count = 0;
  ASSERT_CODE(TIERCEL_OK,
              tiercel_store_get_stats(store.get(), &stats, orders.data(), orders.size(), &count));
  ASSERT_GE(count, 3U);
  EXPECT_EQ(orders[0].layer_id, layer_id);
  EXPECT_EQ(orders[0].groups, tokens.size());
  EXPECT_GT(orders[0].fetches, 0U);
  EXPECT_GT(stats.device_reads, 0U);
  EXPECT_EQ(stats.queue_depth, 32U);
  EXPECT_TRUE(stats.engine == TIERCEL_ENGINE_URING || stats.engine == TIERCEL_ENGINE_PREAD);
  char* text = nullptr;
  ASSERT_CODE(TIERCEL_OK, tiercel_store_get_metrics(store.get(), &text, nullptr));
  EXPECT_NE(std::strstr(text, "# TYPE tiercel_"), nullptr) << text;
  tiercel_string_free(text);
  ASSERT_CODE(TIERCEL_OK, tiercel_store_get_description(store.get(), &text, nullptr));
  EXPECT_EQ(std::strstr(text, "engine: "), text) << text;
  EXPECT_NE(std::strstr(text, "\ncache: "), nullptr) << text;
  tiercel_string_free(text);
}

// A damaged profile at the default place is ignored, and said so.
TEST(CLookup, TheLogIsTheCallers) {
  const MadeCheckpoint made({});
  const ScratchDir cache;
  ASSERT_EQ(setenv("XDG_CACHE_HOME", cache.path().c_str(), 1), 0);
  const Result<DiskIdentity> disk = IdentifyDisk(made.path());
  ASSERT_TRUE(disk.ok());
  const Result<std::string> profile = DefaultDiskProfilePath(disk.value());
  ASSERT_TRUE(profile.ok());
  std::filesystem::create_directories(std::filesystem::path(profile.value()).parent_path());
  std::ofstream(profile.value()) << "{";
  tiercel_store_options options = SmallCOptions();
  options.queue_depth = 0;  // So that the profile is asked for.
  std::string lines;
  options.log = [](const char* line, std::size_t length, void* user_data) {
    static_cast<std::string*>(user_data)->append(line, length).append("\n");
  };
  options.log_user_data = &lines;
  tiercel_store* store = nullptr;
  EXPECT_CODE(TIERCEL_OK, tiercel_store_open(made.path().c_str(), &options, &store));
  EXPECT_NE(lines.find(profile.value()), std::string::npos) << lines;
  tiercel_store_close(store);
  options.disk_profile_path = "/nowhere/profile.json";
  EXPECT_CODE(TIERCEL_NOT_FOUND, tiercel_store_open(made.path().c_str(), &options, &store));
  EXPECT_NE(std::strstr(tiercel_last_error(), "/nowhere/profile.json"), nullptr);
}

TEST(CLookup, TheEngineIsTheCallersChoice) {
  tiercel_store_options options = SmallCOptions();
  options.engine = TIERCEL_ENGINE_PREAD;
  const CStore store(options);
  tiercel_store_stats stats;
  ASSERT_CODE(TIERCEL_OK, tiercel_store_stats_init(&stats, sizeof(stats)));
  EXPECT_CODE(TIERCEL_OK, tiercel_store_get_stats(store.get(), &stats, nullptr, 0, nullptr));
  EXPECT_EQ(stats.engine, static_cast<std::uint32_t>(TIERCEL_ENGINE_PREAD));
}

TEST(CLookup, TokenMapsAreServedByStores) {
  const MadeCheckpoint made({});
  // Two raw ids for each class.
  std::vector<std::uint32_t> classes;
  for (std::uint32_t i = 0; i < 200; ++i) classes.push_back(i / 2);
  tiercel_token_map* map = nullptr;
  ASSERT_CODE(TIERCEL_OK, tiercel_token_map_from_classes(classes.data(), classes.size(), &map));
  const ScratchDir scratch;
  const std::string path = scratch.File("map.bin");
  EXPECT_CODE(TIERCEL_OK, tiercel_token_map_save(map, path.c_str()));
  tiercel_token_map_close(map);
  ASSERT_CODE(TIERCEL_OK, tiercel_token_map_load(path.c_str(), &map));
  std::uint64_t entries = 0;
  std::uint32_t count = 0;
  EXPECT_CODE(TIERCEL_OK, tiercel_token_map_get_counts(map, &entries, &count));
  EXPECT_EQ(entries, 200U);
  EXPECT_EQ(count, 100U);
  tiercel_store_options options = SmallCOptions();
  options.token_map = map;
  tiercel_store* store = nullptr;
  ASSERT_CODE(TIERCEL_OK, tiercel_store_open(made.path().c_str(), &options, &store));
  tiercel_token_map_close(map);  // The store keeps what it needs.
  const std::vector<std::int32_t> even = {10, 20, 30};
  const std::vector<std::int32_t> odd = {11, 21, 31};
  std::vector<std::uint64_t> rows(3UL * made.info().recipe.column_count());
  std::vector<std::uint64_t> same(rows.size());
  const std::uint32_t layer_id = made.info().layers[0].layer_id;
  const tiercel_token_run even_run = RunOf(even);
  const tiercel_token_run odd_run = RunOf(odd);
  EXPECT_CODE(TIERCEL_OK, tiercel_hasher_row_ids(tiercel_store_hasher(store), layer_id, &even_run,
                                                 rows.data(), rows.size(), nullptr));
  EXPECT_CODE(TIERCEL_OK, tiercel_hasher_row_ids(tiercel_store_hasher(store), layer_id, &odd_run,
                                                 same.data(), same.size(), nullptr));
  EXPECT_EQ(rows, same);
  tiercel_store_close(store);
}

}  // namespace
}  // namespace tiercel::testing
