// Goal: a hot set saved through the C API makes another store warm.
//
// Method: a store serves tokens and saves; another one loads and is asked for the same: the
// counters tell what came from DRAM.

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/capi/c_store.h"
#include "tests/support/scratch_dir.h"

namespace tiercel::testing {
namespace {

/// Looks `tokens` up in the first layer and returns its groups' DRAM hits so far.
std::uint64_t HitsAfterLookup(const CStore& store, const std::vector<std::int32_t>& tokens) {
  const std::uint32_t layer_id = store.layer_ids()[0];
  const tiercel_token_run run = RunOf(tokens);
  CLayer layer(store, layer_id, tokens.size() * store.columns(), TIERCEL_OUTPUT_STORED);
  const tiercel_layer_output buffers = layer.Output();
  EXPECT_CODE(TIERCEL_OK, tiercel_store_lookup(store.get(), &run, 1, &buffers, 1, 0));
  EXPECT_EQ(layer.rows, store.Rows(layer_id, store.RowIds(layer_id, tokens), 0));
  tiercel_store_stats stats;
  EXPECT_CODE(TIERCEL_OK, tiercel_store_stats_init(&stats, sizeof(stats)));
  tiercel_order_stats order;
  EXPECT_CODE(TIERCEL_OK, tiercel_order_stats_init(&order, sizeof(order)));
  EXPECT_CODE(TIERCEL_OK, tiercel_store_get_stats(store.get(), &stats, &order, 1, nullptr));
  return order.dram_hits;
}

TEST(CHotSet, ALoadMakesAStoreWarm) {
  const ScratchDir scratch;
  const std::string path = scratch.File("hot");
  const CStore cold;
  const std::vector<std::int32_t> tokens = cold.made().RandomTokens(1, 60);
  const std::uint64_t cold_hits = HitsAfterLookup(cold, tokens);
  tiercel_hot_set_saved saved;
  ASSERT_CODE(TIERCEL_OK, tiercel_hot_set_saved_init(&saved, sizeof(saved)));
  tiercel_hot_set_save_options save;
  ASSERT_CODE(TIERCEL_OK, tiercel_hot_set_save_options_init(&save, sizeof(save)));
  // The keys alone: the other store's checkpoint has other times of change.
  save.bytes = 0;
  ASSERT_CODE(TIERCEL_OK, tiercel_store_save_hot_set(cold.get(), path.c_str(), &save, &saved));
  EXPECT_GT(saved.group_count, 60U);

  const CStore warm;
  ASSERT_CODE(TIERCEL_OK, tiercel_store_load_hot_set(warm.get(), path.c_str(), nullptr));
  ASSERT_CODE(TIERCEL_OK, tiercel_store_wait_hot_set(warm.get()));
  tiercel_hot_set_progress progress;
  ASSERT_CODE(TIERCEL_OK, tiercel_hot_set_progress_init(&progress, sizeof(progress)));
  ASSERT_CODE(TIERCEL_OK, tiercel_store_get_hot_set(warm.get(), &progress));
  EXPECT_EQ(progress.state, static_cast<std::uint32_t>(TIERCEL_HOT_SET_LOADED));
  EXPECT_EQ(progress.group_count, saved.group_count);
  EXPECT_EQ(progress.groups_loaded, saved.group_count);
  EXPECT_GT(HitsAfterLookup(warm, tokens), cold_hits);
  EXPECT_CODE(TIERCEL_OK, tiercel_store_cancel_hot_set(warm.get()));
}

TEST(CHotSet, WrongUsesAreRefused) {
  const ScratchDir scratch;
  const CStore store;
  const std::string path = scratch.Write("not_hot", "nothing of the kind");
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT,
              tiercel_store_load_hot_set(store.get(), path.c_str(), nullptr));
  EXPECT_NE(std::strstr(tiercel_last_error(), path.c_str()), nullptr) << tiercel_last_error();
  EXPECT_CODE(TIERCEL_NOT_FOUND,
              tiercel_store_load_hot_set(store.get(), scratch.File("none").c_str(), nullptr));
  tiercel_hot_set_load_options load;
  ASSERT_CODE(TIERCEL_OK, tiercel_hot_set_load_options_init(&load, sizeof(load)));
  load.bytes = 2;
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT,
              tiercel_store_load_hot_set(store.get(), path.c_str(), &load));
  EXPECT_NE(std::strstr(tiercel_last_error(), "`bytes` is 2"), nullptr);
  tiercel_hot_set_save_options save;
  ASSERT_CODE(TIERCEL_OK, tiercel_hot_set_save_options_init(&save, sizeof(save)));
  save.block_bytes = 5;
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT,
              tiercel_store_save_hot_set(store.get(), path.c_str(), &save, nullptr));
  tiercel_hot_set_saved saved = {};
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT,
              tiercel_store_save_hot_set(store.get(), path.c_str(), nullptr, &saved));
  EXPECT_NE(std::strstr(tiercel_last_error(), "struct_size of `saved`"), nullptr);
}

}  // namespace
}  // namespace tiercel::testing
