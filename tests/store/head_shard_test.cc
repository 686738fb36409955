// Goal: the store of one rank gives exactly that rank's columns of what the store of the
// whole table gives, all ranks together give all of it once, each has a like share of the
// reads of every order, and nothing of one shard is taken for another's.
//
// Method: made checkpoints of the three models; the strided columns of a whole store's
// output, which store_test.cc checks row by row, are what a rank must give.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/prng.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/store.h"

namespace tiercel::testing {
namespace {

StoreOptions OptionsOf(HeadShard shard) {
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{24} << 20;
  options.queue_depth = 32;
  options.shard = shard;
  options.log = [](std::string_view /*line*/) {};
  return options;
}

std::unique_ptr<Store> OpenShard(const MadeCheckpoint& made, HeadShard shard) {
  Result<std::unique_ptr<Store>> store = Store::Open(made.path(), OptionsOf(shard));
  EXPECT_TRUE(store.ok()) << store.status().ToString();
  return store.ok() ? std::move(store).value() : nullptr;
}

std::string WhyNot(const MadeCheckpoint& made, HeadShard shard) {
  const Result<std::unique_ptr<Store>> store = Store::Open(made.path(), OptionsOf(shard));
  if (store.ok()) return "opened";
  EXPECT_EQ(store.status().code(), StatusCode::kInvalidArgument);
  return std::string(store.status().message());
}

/// What a lookup of all layers gives, one after another.
std::vector<LayerBuffers> LookupAll(Store& store, const TokenRun& run, RowOutput format) {
  const CheckpointInfo& checkpoint = store.checkpoint();
  std::vector<LayerBuffers> buffers;
  for (const LayerTable& layer : checkpoint.layers) {
    buffers.emplace_back(store, layer.layer_id,
                         run.tokens.size() * checkpoint.recipe.column_count(), format);
  }
  std::vector<LayerOutput> outputs;
  for (LayerBuffers& layer : buffers) outputs.push_back(layer.Output());
  const Status status = store.Lookup({&run, 1}, outputs, format);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return buffers;
}

/// Column of the whole table for each column of a shard, written out by hand.
std::vector<std::size_t> ColumnsOf(HeadShard shard, std::uint32_t orders, std::uint32_t heads) {
  std::vector<std::size_t> columns;
  for (std::uint32_t column = 0; column < orders * heads; ++column) {
    if (column % heads % shard.count == shard.rank) columns.push_back(column);
  }
  return columns;
}

class HeadShardTest : public ::testing::TestWithParam<CheckpointModel> {};

TEST_P(HeadShardTest, EachRankGivesItsColumnsAndAllRanksGiveAll) {
  const MadeCheckpoint made({.like = GetParam()});
  const Recipe& whole = made.info().recipe;
  std::vector<std::int32_t> tokens = made.RandomTokens(1, 120);
  if (GetParam() != CheckpointModel::kEngramDemo) tokens[50] = kDeadToken;
  const TokenRun run = {.history = {}, .tokens = tokens};
  for (const RowOutput format : {RowOutput::kStored, RowOutput::kBf16}) {
    const auto reference = OpenShard(made, {});
    const std::vector<LayerBuffers> want = LookupAll(*reference, run, format);
    for (const std::uint32_t count : {1U, 2U, 3U, 4U, 8U}) {
      std::vector<std::uint32_t> given(whole.column_count());
      for (std::uint32_t rank = 0; rank < count; ++rank) {
        SCOPED_TRACE(fmt::format("shard {}/{}", rank, count));
        const HeadShard shard{.rank = rank, .count = count};
        const auto store = OpenShard(made, shard);
        const std::vector<std::size_t> columns =
            ColumnsOf(shard, whole.order_count(), whole.parameters.head_count);
        ASSERT_EQ(store->checkpoint().recipe.column_count(), columns.size());
        for (const std::size_t column : columns) ++given[column];
        for (int round = 0; round < 2; ++round) {  // Cold, then from DRAM.
          const std::vector<LayerBuffers> got = LookupAll(*store, run, format);
          for (std::size_t layer = 0; layer < got.size(); ++layer) {
            const std::vector<RowId> ids = RowIdsOf(*store, got[layer].layer_id, run);
            const std::vector<RowId> whole_ids = RowIdsOf(*reference, got[layer].layer_id, run);
            for (std::size_t i = 0; i < ids.size(); ++i) {
              const std::size_t at = i / columns.size() * whole.column_count() +  // NOLINT
                                     columns[i % columns.size()];
              ASSERT_EQ(ids[i], whole_ids[at]) << i;
              ASSERT_EQ(got[layer].row_status[i], want[layer].row_status[at]) << i;
              ASSERT_EQ(got[layer].Row(i), want[layer].Row(at)) << i;
            }
          }
        }
        for (const OrderStats& order : store->Stats().orders) {
          EXPECT_EQ(order.group_size_bytes, columns.size() / whole.order_count() *
                                                made.info().layers[0].shape.row_size_bytes());
          EXPECT_GE(2 * order.dram_hits, order.groups);  // The second round at the least.
        }
      }
      EXPECT_EQ(given, std::vector<std::uint32_t>(whole.column_count(), 1U)) << count;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, HeadShardTest,
                         ::testing::Values(CheckpointModel::kDeepSeekV41Flash,
                                           CheckpointModel::kQwen38FlashNext,
                                           CheckpointModel::kEngramDemo),
                         [](const ::testing::TestParamInfo<CheckpointModel>& test) {
                           std::string name(Name(test.param));
                           std::erase_if(name, [](char c) { return c == '-' || c == '.'; });
                           return name;
                         });

class OneModelShardTest : public ::testing::Test {
 protected:
  const MadeCheckpoint made_{MadeCheckpoint::Options{}};
  const std::vector<std::int32_t> tokens_ = made_.RandomTokens(2, 1500);
  const TokenRun run_ = {.history = {}, .tokens = tokens_};
};

TEST_F(OneModelShardTest, RanksHaveALikeShareOfTheReadsOfEveryOrder) {
  constexpr std::uint32_t kRanks = 4;
  std::map<std::uint32_t, std::vector<std::uint64_t>> bytes_by_order;
  std::vector<std::uint64_t> reads;
  const auto whole = OpenShard(made_, {});
  (void)LookupAll(*whole, run_, RowOutput::kStored);
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
    const auto store = OpenShard(made_, {.rank = rank, .count = kRanks});
    (void)LookupAll(*store, run_, RowOutput::kStored);
    const StoreStats stats = store->Stats();
    const StoreStats all = whole->Stats();
    for (std::size_t i = 0; i < stats.orders.size(); ++i) {
      const OrderStats& order = stats.orders[i];
      bytes_by_order[order.order].push_back(order.fetched_bytes);
      // The n-grams are the same, so what repeats does so for every rank: two heads tell
      // 600,000 n-grams apart, and a few of them meet. A few are read twice, where the cache
      // had no room for them just then.
      EXPECT_EQ(order.groups, all.orders[i].groups);
      EXPECT_LE(order.fetches * 100, all.orders[i].fetches * 102);
      EXPECT_GE(order.fetches * 100, all.orders[i].fetches * 98);
    }
    reads.push_back(stats.device_reads + stats.device_reads_shared);
  }
  EXPECT_EQ(bytes_by_order.size(), 3U);
  for (const auto& [order, bytes] : bytes_by_order) {
    ASSERT_GE(bytes.size(), kRanks) << order;
    const auto [least, most] = std::minmax_element(bytes.begin(), bytes.end());
    EXPECT_LE(*most * 100, *least * 103) << "order " << order;
  }
  const auto [least, most] = std::minmax_element(reads.begin(), reads.end());
  EXPECT_LE(*most * 100, *least * 115);
}

TEST_F(OneModelShardTest, RowIdsAreThoseOfTheWholeTable) {
  const auto store = OpenShard(made_, {.rank = 1, .count = 4});
  // The rank's own columns: groups, which lookups by tokens then find in DRAM.
  const std::vector<RowId> local = RowIdsOf(*store, 1, run_);
  LayerBuffers buffers(*store, 1, local.size(), RowOutput::kStored);
  ASSERT_TRUE(store->LookupRows(local, buffers.Output()).ok());
  EXPECT_EQ(CheckRows(made_, buffers, local, RowOutput::kStored).right, local.size());
  EXPECT_EQ(store->Stats().single_rows, 0U);
  const std::uint64_t reads = store->Stats().device_reads;
  const LayerOutput output = buffers.Output();
  ASSERT_TRUE(store->Lookup({&run_, 1}, {&output, 1}).ok());
  EXPECT_EQ(store->Stats().device_reads, reads);

  // Everybody's columns, and any rows at all: served one by one where they are no group.
  const auto whole = OpenShard(made_, {});
  std::vector<RowId> any = RowIdsOf(*whole, 1, {.history = {}, .tokens = tokens_});
  Prng prng(3);
  const std::uint64_t row_count = made_.info().layers[0].row_count;
  for (int i = 0; i < 500; ++i) any.push_back(RowId{prng.Below(row_count)});
  any.push_back(RowId{row_count - 1});
  LayerBuffers all(*store, 1, any.size(), RowOutput::kBf16);
  ASSERT_TRUE(store->LookupRows(any, all.Output(), RowOutput::kBf16).ok());
  EXPECT_EQ(CheckRows(made_, all, any, RowOutput::kBf16).right, any.size());
  EXPECT_GT(store->Stats().single_rows, any.size() / 2);

  const std::vector<RowId> beyond = {RowId{row_count}};
  LayerBuffers none(*store, 1, 1, RowOutput::kStored);
  EXPECT_EQ(store->LookupRows(beyond, none.Output()).code(), StatusCode::kPartial);
  EXPECT_EQ(none.row_status[0], RowStatus::kOutOfRange);
}

TEST_F(OneModelShardTest, TicketsGiveTheRanksColumnsToo) {
  const HeadShard shard{.rank = 1, .count = 3};
  const auto reference = OpenShard(made_, shard);
  const std::vector<LayerBuffers> want = LookupAll(*reference, run_, RowOutput::kStored);
  const auto store = OpenShard(made_, shard);
  std::vector<LayerBuffers> got;
  for (const LayerBuffers& layer : want) {
    got.emplace_back(*store, layer.layer_id, layer.row_status.size(), RowOutput::kStored);
  }
  std::vector<PrefetchLayer> layers;
  for (LayerBuffers& layer : got) {
    layers.push_back(
        {.layer_id = layer.layer_id, .rows = layer.rows, .row_status = layer.row_status});
  }
  Result<Ticket> ticket = store->Start({&run_, 1}, layers);
  ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
  ASSERT_TRUE(ticket.value().WaitAll().ok());
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(got[i].rows, want[i].rows);
    EXPECT_EQ(got[i].row_status, want[i].row_status);
  }
  const std::vector<RowId> ids = RowIdsOf(*store, 14, run_);
  LayerBuffers by_id(*store, 14, ids.size(), RowOutput::kStored);
  Result<Ticket> rows =
      store->StartRows(ids, {.layer_id = 14, .rows = by_id.rows, .row_status = by_id.row_status});
  ASSERT_TRUE(rows.ok()) << rows.status().ToString();
  ASSERT_TRUE(rows.value().WaitAll().ok());
  EXPECT_EQ(CheckRows(made_, by_id, ids, RowOutput::kStored).right, ids.size());
  EXPECT_EQ(store->Stats().single_rows, 0U);
}

TEST_F(OneModelShardTest, ViewsTellTheShardAndTheWholeTable) {
  const auto store = OpenShard(made_, {.rank = 2, .count = 3});
  const CheckpointInfo& checkpoint = store->checkpoint();
  EXPECT_EQ(checkpoint.recipe.shard, (HeadShard{.rank = 2, .count = 3}));
  EXPECT_EQ(store->Stats().shard, checkpoint.recipe.shard);
  EXPECT_EQ(checkpoint.recipe.parameters.head_count, 2U);  // Heads 2 and 5 of 8.
  EXPECT_EQ(checkpoint.layers[0].row_count, made_.info().layers[0].row_count);
  EXPECT_EQ(checkpoint.recipe.layers[0].row_count, made_.info().layers[0].row_count);
  EXPECT_EQ(checkpoint.table_bytes, made_.info().table_bytes);
  EXPECT_EQ(store->hasher().recipe().shard, checkpoint.recipe.shard);
}

TEST_F(OneModelShardTest, ShardsThatCannotBeAreNamed) {
  for (const auto& [shard, part] : std::map<std::string, HeadShard>{
           {"shard 0/0", {.rank = 0, .count = 0}},
           {"shard 4/4", {.rank = 4, .count = 4}},
           {"shard 0/9: 8 heads of an order", {.rank = 0, .count = 9}}}) {
    const std::string why = WhyNot(made_, part);
    EXPECT_NE(why.find(shard), std::string::npos) << why;
    EXPECT_NE(why.find("StoreOptions::shard"), std::string::npos) << why;
    EXPECT_NE(why.find(made_.path()), std::string::npos) << why;
  }
}

TEST_F(OneModelShardTest, AHotSetIsItsShardsAlone) {
  const ScratchDir scratch;
  const std::string path = scratch.File("hot");
  const HeadShard shard{.rank = 1, .count = 4};
  for (const bool bytes : {true, false}) {
    {
      const auto store = OpenShard(made_, shard);
      (void)LookupAll(*store, run_, RowOutput::kStored);
      ASSERT_TRUE(store->SaveHotSet(path, {.bytes = bytes}).ok());
    }
    const Result<HotSetInfo> info = InspectHotSet(path);
    ASSERT_TRUE(info.ok()) << info.status().ToString();
    EXPECT_EQ(info.value().shard, shard);
    for (const HeadShard other :
         {HeadShard{.rank = 0, .count = 4}, HeadShard{}, HeadShard{.rank = 1, .count = 3}}) {
      const auto store = OpenShard(made_, other);
      const Status status = store->LoadHotSet(path);
      EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
      const std::string here = fmt::format("serves shard {}/{}", other.rank, other.count);
      EXPECT_NE(status.message().find("head shard 1/4"), std::string::npos) << status.ToString();
      EXPECT_NE(status.message().find(here), std::string::npos) << status.ToString();
    }
    const auto store = OpenShard(made_, shard);
    ASSERT_TRUE(store->LoadHotSet(path).ok());
    ASSERT_TRUE(store->WaitForHotSet().ok());
    const std::vector<LayerBuffers> got = LookupAll(*store, run_, RowOutput::kStored);
    for (const LayerBuffers& layer : got) {
      const std::vector<RowId> ids = RowIdsOf(*store, layer.layer_id, run_);
      EXPECT_EQ(CheckRows(made_, layer, ids, RowOutput::kStored).right, ids.size());
    }
    for (const OrderStats& order : store->Stats().orders) {
      EXPECT_EQ(order.dram_hits, order.groups);
    }
  }
}

}  // namespace
}  // namespace tiercel::testing
