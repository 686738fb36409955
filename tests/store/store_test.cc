// Goal: a lookup gives exactly the rows that the model would read, whatever the
// model, the engine, the budget and the output format, and says so of every row.
//
// Method: made checkpoints, whose rows are known from nothing; every row of every
// answer is compared with the generator.

#include "tiercel/store.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "base/prng.h"
#include "tests/support/made_checkpoint.h"

namespace tiercel {
namespace {

using testing::CheckRows;
using testing::LayerBuffers;
using testing::MadeCheckpoint;
using testing::RowIdsOf;
using testing::RowTally;

StoreOptions SmallOptions() {
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{24} << 20;
  options.queue_depth = 32;
  options.log = [](std::string_view /*line*/) {};
  return options;
}

std::unique_ptr<Store> OpenOrDie(const std::string& path, const StoreOptions& options) {
  Result<std::unique_ptr<Store>> store = Store::Open(path, options);
  if (!store.ok()) {
    ADD_FAILURE() << store.status().ToString();
    std::abort();
  }
  return std::move(store).value();
}

/// Looks `run` up in all layers and returns the tally of all rows.
RowTally LookupAndCheck(const MadeCheckpoint& made, Store& store, const TokenRun& run,
                        RowOutput format) {
  const std::uint32_t columns = made.info().recipe.column_count();
  std::vector<LayerBuffers> buffers;
  for (const LayerTable& layer : made.info().layers) {
    buffers.emplace_back(store, layer.layer_id, run.tokens.size() * columns, format);
  }
  std::vector<LayerOutput> outputs;
  for (LayerBuffers& layer : buffers) outputs.push_back(layer.Output());
  const Status status = store.Lookup({&run, 1}, outputs, format);
  RowTally all;
  for (const LayerBuffers& layer : buffers) {
    const RowTally tally = CheckRows(made, layer, RowIdsOf(store, layer.layer_id, run), format);
    all.right += tally.right;
    all.marked += tally.marked;
    all.wrong += tally.wrong;
  }
  EXPECT_EQ(status.ok(), all.marked == 0) << status.ToString();
  return all;
}

struct ModelCase {
  CheckpointModel like;
  bool fp8;
  Engine engine;
};

class StoreModelTest : public ::testing::TestWithParam<ModelCase> {};

TEST_P(StoreModelTest, EveryRowOfATokenRunIsRightColdAndWarmInBothFormats) {
  const MadeCheckpoint made({.like = GetParam().like, .fp8 = GetParam().fp8});
  StoreOptions options = SmallOptions();
  options.engine = GetParam().engine;
  Result<std::unique_ptr<Store>> opened = Store::Open(made.path(), options);
  if (!opened.ok() && opened.status().code() == StatusCode::kUnavailable) {
    GTEST_SKIP() << opened.status().ToString();
  }
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  Store& store = *opened.value();
  const std::vector<std::int32_t> tokens = made.RandomTokens(1, 200);
  const TokenRun run = {.history = {}, .tokens = tokens};
  const std::uint64_t rows =
      tokens.size() * made.info().recipe.column_count() * made.info().layers.size();
  for (const RowOutput format : {RowOutput::kStored, RowOutput::kBf16, RowOutput::kStored}) {
    const RowTally tally = LookupAndCheck(made, store, run, format);
    EXPECT_EQ(tally.right, rows);
    EXPECT_EQ(tally.wrong, 0U);
  }
  const StoreStats stats = store.Stats();
  std::uint64_t hits = 0;
  std::uint64_t fetches = 0;
  for (const OrderStats& order : stats.orders) {
    EXPECT_EQ(order.groups, order.dram_hits + order.joined + order.fetches);
    hits += order.dram_hits;
    fetches += order.fetches;
  }
  EXPECT_GT(hits, 0U);
  EXPECT_GT(fetches, 0U);
  EXPECT_GE(stats.device_reads, fetches);
  EXPECT_LE(stats.cache_bytes + stats.resident_scale_bytes + stats.read_buffer_bytes,
            stats.dram_budget_bytes);
}

INSTANTIATE_TEST_SUITE_P(
    Models, StoreModelTest,
    ::testing::Values(ModelCase{CheckpointModel::kDeepSeekV41Flash, false, Engine::kUring},
                      ModelCase{CheckpointModel::kDeepSeekV41Flash, false, Engine::kPread},
                      ModelCase{CheckpointModel::kQwen38FlashNext, false, Engine::kUring},
                      ModelCase{CheckpointModel::kQwen38FlashNext, true, Engine::kPread},
                      ModelCase{CheckpointModel::kEngramDemo, false, Engine::kUring},
                      ModelCase{CheckpointModel::kEngramDemo, false, Engine::kPread}),
    [](const ::testing::TestParamInfo<ModelCase>& test) {
      std::string name = fmt::format("{}{}{}", Name(test.param.like), test.param.fp8 ? "Fp8" : "",
                                     test.param.engine == Engine::kUring ? "Uring" : "Pread");
      std::erase_if(name, [](char c) { return c == '-' || c == '.'; });
      return name;
    });

TEST(StoreSharingTest, RowsOfOneBlockAreReadTogether) {
  const MadeCheckpoint made({});
  StoreOptions options = SmallOptions();
  Result<std::unique_ptr<Store>> opened = Store::Open(made.path(), options);
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  Store& store = *opened.value();
  if (store.Stats().engine_description.find("blocks") == std::string::npos) {
    GTEST_SKIP() << "no blocks without O_DIRECT: " << store.Stats().engine_description;
  }
  // Neighbours on disk, none of them a group: backwards.
  std::vector<RowId> ids;
  for (std::uint64_t row = 2000; row > 0; --row) ids.push_back(RowId{row});
  LayerBuffers buffers(store, 1, ids.size(), RowOutput::kStored);
  const LayerOutput output = buffers.Output();
  ASSERT_TRUE(store.LookupRows(ids, output).ok());
  EXPECT_EQ(CheckRows(made, buffers, ids, RowOutput::kStored).right, ids.size());
  const StoreStats stats = store.Stats();
  EXPECT_GT(stats.device_reads_shared, 0U);
  EXPECT_LT(stats.device_reads, ids.size());
  EXPECT_GT(stats.device_read_p50_ns, 0U);
  EXPECT_LE(stats.device_read_p50_ns, stats.device_read_max_ns);
}

class StoreTest : public ::testing::Test {
 protected:
  MadeCheckpoint made_{MadeCheckpoint::Options{}};
};

TEST_F(StoreTest, ALongRunGoesThroughSeveralWindows) {
  const auto store = OpenOrDie(made_.path(), SmallOptions());
  const std::vector<std::int32_t> tokens = made_.RandomTokens(2, 7001);
  const RowTally tally =
      LookupAndCheck(made_, *store, {.history = {}, .tokens = tokens}, RowOutput::kStored);
  EXPECT_EQ(tally.right, tokens.size() * 48);
  EXPECT_EQ(tally.wrong, 0U);
}

TEST_F(StoreTest, ManyRunsOfOneBatchAreEachTheirOwnSequence) {
  const auto store = OpenOrDie(made_.path(), SmallOptions());
  const std::vector<std::int32_t> tokens = made_.RandomTokens(3, 4000);
  Prng prng(3);
  std::vector<TokenRun> runs;
  std::vector<RowId> ids;
  for (std::size_t begin = 0; begin < tokens.size();) {
    const std::size_t count = std::min<std::size_t>(tokens.size() - begin, prng.Below(60));
    const std::size_t history = std::min<std::size_t>(begin, prng.Below(5));
    const std::span<const std::int32_t> all = tokens;
    runs.push_back({all.subspan(begin - history, history), all.subspan(begin, count)});
    for (const RowId id : RowIdsOf(*store, 1, runs.back())) ids.push_back(id);
    begin += count;
  }
  LayerBuffers buffers(*store, 1, ids.size(), RowOutput::kStored);
  const LayerOutput output = buffers.Output();
  ASSERT_TRUE(store->Lookup(runs, {&output, 1}).ok());
  EXPECT_EQ(CheckRows(made_, buffers, ids, RowOutput::kStored).right, ids.size());
}

TEST_F(StoreTest, DeadTokensGetZerosAndTheirMark) {
  const auto store = OpenOrDie(made_.path(), SmallOptions());
  std::vector<std::int32_t> tokens = made_.RandomTokens(4, 30);
  for (const std::size_t dead : {0U, 7U, 8U, 29U}) tokens[dead] = kDeadToken;
  const TokenRun run = {.history = {}, .tokens = tokens};
  LayerBuffers buffers(*store, 14, tokens.size() * 24, RowOutput::kStored);
  const LayerOutput output = buffers.Output();
  ASSERT_TRUE(store->Lookup({&run, 1}, {&output, 1}).ok());
  const RowTally tally = CheckRows(made_, buffers, RowIdsOf(*store, 14, run), RowOutput::kStored);
  EXPECT_EQ(tally.right, 26U * 24);
  EXPECT_EQ(tally.marked, 4U * 24);
  for (std::size_t row = 7 * 24; row < 9 * 24; ++row) {
    EXPECT_EQ(buffers.row_status[row], RowStatus::kDead);
  }
}

TEST_F(StoreTest, RowIdsAreServedAsGroupsWhereTheyAreOnes) {
  const auto store = OpenOrDie(made_.path(), SmallOptions());
  const std::vector<std::int32_t> tokens = made_.RandomTokens(5, 100);
  const TokenRun run = {.history = {}, .tokens = tokens};
  std::vector<RowId> ids = RowIdsOf(*store, 1, run);
  LayerBuffers buffers(*store, 1, ids.size(), RowOutput::kStored);
  ASSERT_TRUE(store->LookupRows(ids, buffers.Output()).ok());
  EXPECT_EQ(CheckRows(made_, buffers, ids, RowOutput::kStored).right, ids.size());
  EXPECT_EQ(store->Stats().single_rows, 0U);
  // The same groups by tokens: all there by now.
  const std::uint64_t reads = store->Stats().device_reads;
  const LayerOutput output = buffers.Output();
  ASSERT_TRUE(store->Lookup({&run, 1}, {&output, 1}).ok());
  EXPECT_EQ(store->Stats().device_reads, reads);
}

TEST_F(StoreTest, AnyRowIdsAreServedAndTheImpossibleOnesMarked) {
  const auto store = OpenOrDie(made_.path(), SmallOptions());
  const std::uint64_t row_count = made_.info().layers[0].row_count;
  Prng prng(6);
  std::vector<RowId> ids = RowIdsOf(*store, 1, {.history = {}, .tokens = made_.RandomTokens(6, 3)});
  ids[12] = RowId{Index(ids[12]) ^ 1};  // That order's ids agree no more.
  for (int i = 0; i < 500; ++i) ids.push_back(RowId{prng.Below(row_count)});
  ids.push_back(RowId{0});
  ids.push_back(RowId{row_count - 1});
  ids.push_back(RowId{row_count});
  ids.push_back(RowId{~std::uint64_t{0}});
  for (const RowOutput format : {RowOutput::kStored, RowOutput::kBf16}) {
    LayerBuffers buffers(*store, 1, ids.size(), format);
    const Status status = store->LookupRows(ids, buffers.Output(), format);
    EXPECT_EQ(status.code(), StatusCode::kPartial) << status.ToString();
    const RowTally tally = CheckRows(made_, buffers, ids, format);
    EXPECT_EQ(tally.marked, 2U);
    EXPECT_EQ(tally.wrong, 0U);
    EXPECT_EQ(buffers.row_status.back(), RowStatus::kOutOfRange);
  }
  EXPECT_GT(store->Stats().single_rows, 500U);
}

TEST_F(StoreTest, ScalesOnDiskOrInDramGiveTheSameRows) {
  const std::vector<std::int32_t> tokens = made_.RandomTokens(7, 300);
  std::uint64_t disk_reads = 0;
  for (const ScalePlacement scales : {ScalePlacement::kDisk, ScalePlacement::kResident}) {
    StoreOptions options = SmallOptions();
    options.scales = scales;
    const auto store = OpenOrDie(made_.path(), options);
    const RowTally tally =
        LookupAndCheck(made_, *store, {.history = {}, .tokens = tokens}, RowOutput::kBf16);
    EXPECT_EQ(tally.wrong + tally.marked, 0U);
    const StoreStats stats = store->Stats();
    if (scales == ScalePlacement::kDisk) {
      disk_reads = stats.device_reads;
      EXPECT_EQ(stats.resident_scale_bytes, 0U);
    } else {
      EXPECT_GT(stats.resident_scale_bytes, 0U);
      EXPECT_LE(stats.device_reads, disk_reads);  // Fewer, but for what came before the load.
    }
  }
}

TEST_F(StoreTest, ManyThreadsGetTheirOwnRows) {
  StoreOptions options = SmallOptions();
  options.io_thread_count = 2;
  const auto store = OpenOrDie(made_.path(), options);
  std::vector<std::thread> threads;
  std::atomic<std::uint64_t> right = 0;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t round = 0; round < 5; ++round) {
        // The same tokens in all threads: fetches are joined.
        const std::vector<std::int32_t> tokens = made_.RandomTokens(round, 60 + t);
        right += LookupAndCheck(made_, *store, {.history = {}, .tokens = tokens},
                                t % 2 == 0 ? RowOutput::kStored : RowOutput::kBf16)
                     .right;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right.load(), 5U * (60 + 61 + 62 + 63) * 48);
}

TEST_F(StoreTest, ABadTokenStopsTheLookupAndNothingIsWrittenAfterIt) {
  const auto store = OpenOrDie(made_.path(), SmallOptions());
  std::vector<std::int32_t> tokens = made_.RandomTokens(8, 6000);
  tokens.back() = 1 << 30;  // In the last window: the first ones are under way.
  const TokenRun run = {.history = {}, .tokens = tokens};
  for (int round = 0; round < 3; ++round) {
    LayerBuffers buffers(*store, 1, tokens.size() * 24, RowOutput::kStored);
    const LayerOutput output = buffers.Output();
    const Status status = store->Lookup({&run, 1}, {&output, 1});
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    const std::vector<std::byte> then = buffers.rows;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_EQ(buffers.rows, then);
  }
}

TEST_F(StoreTest, WrongArgumentsAreNamed) {
  const auto store = OpenOrDie(made_.path(), SmallOptions());
  const std::vector<std::int32_t> tokens = {1, 2, 3};
  const TokenRun run = {.history = {}, .tokens = tokens};
  LayerBuffers buffers(*store, 1, 3 * 24, RowOutput::kStored);
  LayerOutput output = buffers.Output();
  output.rows = output.rows.first(output.rows.size() - 1);
  EXPECT_EQ(store->Lookup({&run, 1}, {&output, 1}).code(), StatusCode::kInvalidArgument);
  output = buffers.Output();
  output.row_status = output.row_status.first(5);
  EXPECT_EQ(store->Lookup({&run, 1}, {&output, 1}).code(), StatusCode::kInvalidArgument);
  output = buffers.Output();
  output.layer_id = 2;
  EXPECT_EQ(store->Lookup({&run, 1}, {&output, 1}).code(), StatusCode::kNotFound);
  EXPECT_EQ(store->OutputRowSizeBytes(2, RowOutput::kBf16).status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(store->Lookup({}, {}).ok());
}

TEST_F(StoreTest, OptionsOutOfTheirRangeAreNamed) {
  const auto refused = [&](auto change) {
    StoreOptions options = SmallOptions();
    change(options);
    Result<std::unique_ptr<Store>> store = Store::Open(made_.path(), options);
    return store.ok() ? std::string("opened") : store.status().ToString();
  };
  EXPECT_NE(refused([](StoreOptions& o) { o.dram_budget_bytes = 1; }).find("dram_budget_bytes"),
            std::string::npos);
  EXPECT_NE(refused([](StoreOptions& o) { o.queue_depth = 4097; }).find("queue_depth"),
            std::string::npos);
  EXPECT_NE(refused([](StoreOptions& o) { o.io_thread_count = 65; }).find("io_thread_count"),
            std::string::npos);
  EXPECT_NE(refused([](StoreOptions& o) { o.read_attempts_max = 0; }).find("read_attempts_max"),
            std::string::npos);
  EXPECT_NE(refused([](StoreOptions& o) { o.layer_ids = {3}; }).find("layer 3"), std::string::npos);
  EXPECT_NE(refused([](StoreOptions& o) {
              o.dram_budget_bytes = std::uint64_t{1} << 50;
            }).find("RESOURCE_EXHAUSTED"),
            std::string::npos);
}

TEST_F(StoreTest, AShardThatIsCutShortAfterOpeningMarksItsRows) {
  StoreOptions options = SmallOptions();
  options.scales = ScalePlacement::kDisk;
  const auto store = OpenOrDie(made_.path(), options);
  const LayerTable& layer = made_.info().layers[0];
  const RowExtent& weights = layer.parts[0].extents[0];
  std::filesystem::resize_file(made_.info().files[weights.file_index].path,
                               weights.offset_bytes + layer.row_count / 2 * 256);
  const std::vector<std::int32_t> tokens = made_.RandomTokens(9, 200);
  const RowTally tally =
      LookupAndCheck(made_, *store, {.history = {}, .tokens = tokens}, RowOutput::kStored);
  EXPECT_GT(tally.right, 0U);
  EXPECT_GT(tally.marked, 0U);
  EXPECT_EQ(tally.wrong, 0U);
  // A new store does not even open it.
  EXPECT_EQ(Store::Open(made_.path(), options).status().code(), StatusCode::kCorruption);
}

}  // namespace
}  // namespace tiercel
