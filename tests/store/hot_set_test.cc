// Goal: a store that loads a hot set is warm at once, with the bytes of the tables and no
// others, while it serves; a file that is stale, cut or damaged is refused with a reason
// and costs nothing but the warmth.
//
// Method: made checkpoints, whose rows are known from nothing. A store serves tokens and
// saves; another one loads and is asked for the same tokens: every row is compared, and
// the counters tell what came from DRAM.

#include "tiercel/hot_set.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/fault_device.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/store.h"

namespace tiercel::testing {
namespace {

constexpr std::size_t kTokens = 1000;

StoreOptions SmallOptions() {
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{32} << 20;
  options.queue_depth = 32;
  options.log = [](std::string_view /*line*/) {};
  return options;
}

struct Counts {
  std::uint64_t groups = 0;
  std::uint64_t hits = 0;
  std::uint64_t evictions = 0;
  std::uint64_t resident = 0;
};

Counts CountsOf(const Store& store) {
  Counts counts;
  for (const OrderStats& order : store.Stats().orders) {
    counts.groups += order.groups;
    counts.hits += order.dram_hits;
    counts.evictions += order.cache_evictions;
    counts.resident += order.cache_resident_groups;
  }
  return counts;
}

class HotSetTest : public ::testing::Test {
 protected:
  std::unique_ptr<Store> Open(const StoreOptions& options = SmallOptions()) const {
    Result<std::unique_ptr<Store>> store = Store::Open(made_.path(), options);
    EXPECT_TRUE(store.ok()) << store.status().ToString();
    return store.ok() ? std::move(store).value() : nullptr;
  }

  /// Looks `tokens` up in all layers and checks every row. Returns the share of hits.
  double Serve(Store& store, const std::vector<std::int32_t>& tokens) const {
    const Counts before = CountsOf(store);
    const TokenRun run = {.history = {}, .tokens = tokens};
    std::vector<LayerBuffers> buffers;
    for (const LayerTable& layer : made_.info().layers) {
      buffers.emplace_back(store, layer.layer_id,
                           tokens.size() * made_.info().recipe.column_count(), RowOutput::kStored);
    }
    std::vector<LayerOutput> outputs;
    for (LayerBuffers& layer : buffers) outputs.push_back(layer.Output());
    const Status status = store.Lookup({&run, 1}, outputs);
    EXPECT_TRUE(status.ok()) << status.ToString();
    for (const LayerBuffers& layer : buffers) {
      const RowTally tally =
          CheckRows(made_, layer, RowIdsOf(store, layer.layer_id, run), RowOutput::kStored);
      EXPECT_EQ(tally.wrong, 0U);
      EXPECT_EQ(tally.marked, 0U);
    }
    const Counts after = CountsOf(store);
    return static_cast<double>(after.hits - before.hits) /
           static_cast<double>(after.groups - before.groups);
  }

  /// Has a store serve tokens_ and save its hot set. Returns the file's path.
  std::string Save(const HotSetSaveOptions& options, const std::string& name = "hot") const {
    const std::unique_ptr<Store> store = Open();
    (void)Serve(*store, tokens_);
    const Result<HotSetSaved> saved = store->SaveHotSet(scratch_.File(name), options);
    EXPECT_TRUE(saved.ok()) << saved.status().ToString();
    if (saved.ok()) {
      EXPECT_EQ(saved.value().group_count, CountsOf(*store).resident);
      EXPECT_EQ(saved.value().file_bytes, std::filesystem::file_size(scratch_.File(name)));
    }
    return scratch_.File(name);
  }

  const MadeCheckpoint made_{MadeCheckpoint::Options{}};
  const ScratchDir scratch_;
  const std::vector<std::int32_t> tokens_ = made_.RandomTokens(1, kTokens);
};

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteAll(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// ---- what a hot set is for ----------------------------------------------------------

TEST_F(HotSetTest, AStoreThatLoadedOneServesFromDramAtOnce) {
  for (const bool bytes : {true, false}) {
    const std::string path = Save({.bytes = bytes});
    for (const bool use_bytes : {true, false}) {
      const std::unique_ptr<Store> store = Open();
      ASSERT_TRUE(store->LoadHotSet(path, {.bytes = use_bytes}).ok());
      const Status status = store->WaitForHotSet();
      EXPECT_TRUE(status.ok()) << status.ToString();
      const HotSetProgress progress = store->HotSet();
      EXPECT_EQ(progress.state, HotSetState::kLoaded);
      EXPECT_EQ(progress.groups_loaded, progress.group_count) << bytes << use_bytes;
      EXPECT_EQ(progress.groups_damaged + progress.groups_left_out + progress.groups_present, 0U);
      EXPECT_GT(progress.read_bytes, 0U);
      EXPECT_EQ(CountsOf(*store).resident, progress.group_count);
      EXPECT_EQ(Serve(*store, tokens_), 1.0) << "every group was in the file";
    }
  }
}

TEST_F(HotSetTest, EveryModelsRowsComeBackAndEveryPlaceOfScales) {
  for (const CheckpointModel like :
       {CheckpointModel::kDeepSeekV41Flash, CheckpointModel::kQwen38FlashNext,
        CheckpointModel::kEngramDemo}) {
    for (const ScalePlacement scales : {ScalePlacement::kDisk, ScalePlacement::kAuto}) {
      const MadeCheckpoint made({.like = like});
      StoreOptions options = SmallOptions();
      options.scales = scales;
      const std::vector<std::int32_t> tokens = made.RandomTokens(3, 300);
      const TokenRun run = {.history = {}, .tokens = tokens};
      const std::uint32_t layer_id = made.info().layers.back().layer_id;
      const std::size_t row_count = tokens.size() * made.info().recipe.column_count();
      const std::string path = scratch_.File("keys");
      for (int round = 0; round < 2; ++round) {
        Result<std::unique_ptr<Store>> store = Store::Open(made.path(), options);
        ASSERT_TRUE(store.ok());
        if (round == 1) {
          ASSERT_TRUE(store.value()->LoadHotSet(path).ok());
          const Status loaded = store.value()->WaitForHotSet();
          ASSERT_TRUE(loaded.ok()) << loaded.ToString();
        }
        LayerBuffers buffers(*store.value(), layer_id, row_count, RowOutput::kStored);
        const LayerOutput output = buffers.Output();
        ASSERT_TRUE(store.value()->Lookup({&run, 1}, {&output, 1}).ok());
        const RowTally tally =
            CheckRows(made, buffers, RowIdsOf(*store.value(), layer_id, run), RowOutput::kStored);
        EXPECT_EQ(tally.right, row_count) << Name(like);
        if (round == 1) {
          EXPECT_EQ(CountsOf(*store.value()).hits, CountsOf(*store.value()).groups);
        } else {
          ASSERT_TRUE(store.value()->SaveHotSet(path, {.bytes = false}).ok());
        }
      }
    }
  }
}

TEST_F(HotSetTest, TheMostUsedGroupsComeFirst) {
  const std::unique_ptr<Store> store = Open();
  const std::vector<std::int32_t> hot(tokens_.begin(), tokens_.begin() + 100);
  (void)Serve(*store, tokens_);
  for (int i = 0; i < 4; ++i) (void)Serve(*store, hot);
  const std::string path = scratch_.File("hot");
  // As many as the hot tokens have at most.
  ASSERT_TRUE(store->SaveHotSet(path, {.bytes = false, .group_count_max = 600}).ok());
  const std::unique_ptr<Store> next = Open();
  ASSERT_TRUE(next->LoadHotSet(path).ok());
  ASSERT_TRUE(next->WaitForHotSet().ok());
  EXPECT_LE(CountsOf(*next).resident, 600U);
  EXPECT_GT(Serve(*next, hot), 0.9);
}

TEST_F(HotSetTest, InfoTellsWhatTheFileIs) {
  const std::string path = Save({.bytes = true, .block_bytes = 65536});
  const Result<HotSetInfo> info = InspectHotSet(path);
  ASSERT_TRUE(info.ok()) << info.status().ToString();
  EXPECT_TRUE(info.value().has_bytes);
  EXPECT_EQ(info.value().block_bytes, 65536U);
  EXPECT_EQ(info.value().file_bytes, std::filesystem::file_size(path));
  EXPECT_EQ(info.value().spaces.size(), 6U) << "3 orders, 2 tables";
  std::uint64_t groups = 0;
  for (const HotSetInfo::Space& space : info.value().spaces) {
    EXPECT_EQ(space.group_size_bytes, 8U * 264U);
    groups += space.group_count;
  }
  EXPECT_EQ(groups, info.value().group_count);
}

TEST_F(HotSetTest, ALayerThatIsNotServedIsLeftOut) {
  const std::string path = Save({});
  StoreOptions options = SmallOptions();
  options.layer_ids = {14};
  const std::unique_ptr<Store> store = Open(options);
  ASSERT_TRUE(store->LoadHotSet(path).ok());
  ASSERT_TRUE(store->WaitForHotSet().ok());
  const HotSetProgress progress = store->HotSet();
  EXPECT_GT(progress.groups_loaded, 0U);
  EXPECT_GT(progress.groups_left_out, 0U);
  EXPECT_EQ(progress.groups_loaded + progress.groups_left_out, progress.group_count);
}

TEST_F(HotSetTest, ASmallerCacheTakesWhatFitsAndGoesOnServing) {
  const std::string path = Save({});
  for (const bool use_bytes : {true, false}) {
    StoreOptions options = SmallOptions();
    options.dram_budget_bytes = std::uint64_t{16} << 20;
    const std::unique_ptr<Store> store = Open(options);
    ASSERT_TRUE(store->LoadHotSet(path, {.bytes = use_bytes}).ok());
    ASSERT_TRUE(store->WaitForHotSet().ok());
    const HotSetProgress progress = store->HotSet();
    EXPECT_GT(progress.groups_left_out, 0U) << "the test means a cache that is too small";
    EXPECT_EQ(progress.groups_loaded + progress.groups_left_out, progress.group_count);
    EXPECT_EQ(CountsOf(*store).evictions, 0U) << "nothing is evicted for a hot set";
    EXPECT_GT(Serve(*store, tokens_), 0.3);
    (void)Serve(*store, made_.RandomTokens(2, kTokens));
    EXPECT_GT(CountsOf(*store).evictions, 0U);
  }
}

TEST_F(HotSetTest, PinnedGroupsOutliveAnyOthers) {
  const std::string path = Save({});
  StoreOptions options = SmallOptions();
  options.dram_budget_bytes = std::uint64_t{16} << 20;
  const std::unique_ptr<Store> store = Open(options);
  ASSERT_TRUE(store->LoadHotSet(path, {.pin_share = 0.2}).ok());
  ASSERT_TRUE(store->WaitForHotSet().ok());
  const std::uint64_t pinned = store->HotSet().groups_pinned;
  EXPECT_NEAR(static_cast<double>(pinned), 0.2 * static_cast<double>(store->HotSet().group_count),
              1.0);
  // Many times the cache's size goes through.
  for (std::uint64_t seed = 10; seed < 15; ++seed) {
    (void)Serve(*store, made_.RandomTokens(seed, kTokens));
  }
  const Counts counts = CountsOf(*store);
  EXPECT_GT(counts.evictions, 2 * counts.resident);
  const Counts before = CountsOf(*store);
  (void)Serve(*store, tokens_);
  EXPECT_GE(CountsOf(*store).hits - before.hits, pinned);
}

TEST_F(HotSetTest, HalfOfTheCacheAtMostIsPinned) {
  const std::string path = Save({});
  StoreOptions options = SmallOptions();
  options.dram_budget_bytes = std::uint64_t{16} << 20;
  const std::unique_ptr<Store> store = Open(options);
  ASSERT_TRUE(store->LoadHotSet(path, {.pin_share = 1.0}).ok());
  ASSERT_TRUE(store->WaitForHotSet().ok());
  EXPECT_GT(store->HotSet().groups_pinned, 0U);
  // All slots but a twentieth were loaded.
  EXPECT_LE(2 * store->HotSet().groups_pinned, store->HotSet().groups_loaded * 20 / 19 + 20);
  (void)Serve(*store, made_.RandomTokens(5, kTokens));
  EXPECT_GT(CountsOf(*store).evictions, 0U) << "the other half works as ever";
}

// ---- while it serves ----------------------------------------------------------------

TEST_F(HotSetTest, LookupsGoOnWhileItIsSavedAndLoaded) {
  const std::string path = Save({.bytes = true, .block_bytes = 65536});
  const std::string keys = Save({.bytes = false, .block_bytes = 4096}, "keys");
  for (const std::string& file : {path, keys}) {
    const std::unique_ptr<Store> store = Open();
    std::atomic<bool> done = false;
    std::vector<std::thread> threads;
    for (std::uint64_t seed = 1; seed <= 2; ++seed) {
      threads.emplace_back([&, seed] {
        for (std::uint64_t round = 0; !done.load() || round == 0; ++round) {
          (void)Serve(*store, made_.RandomTokens(seed + 7 * (round % 3), 100));
        }
      });
    }
    for (int round = 0; round < 3; ++round) {
      ASSERT_TRUE(store->LoadHotSet(file).ok());
      const Status status = store->WaitForHotSet();
      EXPECT_TRUE(status.ok()) << status.ToString();
      const Result<HotSetSaved> saved =
          store->SaveHotSet(scratch_.File("again"), {.block_bytes = 65536});
      ASSERT_TRUE(saved.ok()) << saved.status().ToString();
    }
    done.store(true);
    for (std::thread& thread : threads) thread.join();
    const HotSetProgress progress = store->HotSet();
    EXPECT_EQ(progress.groups_loaded + progress.groups_present + progress.groups_left_out,
              progress.group_count);
    // What was saved in the midst of it is as good as any.
    const std::unique_ptr<Store> next = Open();
    ASSERT_TRUE(next->LoadHotSet(scratch_.File("again")).ok());
    ASSERT_TRUE(next->WaitForHotSet().ok());
    const std::unique_ptr<Store> cold = Open();
    EXPECT_GT(Serve(*next, made_.RandomTokens(1, 100)),
              Serve(*cold, made_.RandomTokens(1, 100)) + 0.1);
  }
}

TEST_F(HotSetTest, AStoreCanBeDestroyedWhileItLoads) {
  const std::string path = Save({.bytes = true, .block_bytes = 4096});
  const std::string keys = Save({.bytes = false, .block_bytes = 4096}, "keys");
  int cut_short = 0;
  for (int round = 0; round < 40; ++round) {
    const std::unique_ptr<Store> store = Open();
    ASSERT_TRUE(store->LoadHotSet(round % 2 == 0 ? path : keys).ok());
    if (round % 4 >= 2) std::this_thread::yield();
    cut_short += store->HotSet().state == HotSetState::kLoading ? 1 : 0;
  }
  EXPECT_GT(cut_short, 0) << "no store was destroyed in the midst of it";
}

TEST_F(HotSetTest, ALoadThatIsCancelledGivesItsSlotsBack) {
  const std::string path = Save({.bytes = false, .block_bytes = 4096});
  const std::unique_ptr<Store> store = Open();
  for (int round = 0; round < 50; ++round) {
    ASSERT_TRUE(store->LoadHotSet(path).ok());
    store->CancelHotSet();
    const HotSetState state = store->HotSet().state;
    EXPECT_TRUE(state == HotSetState::kCancelled || state == HotSetState::kLoaded);
  }
  // Were slots lost, the cache could not take all of these any more.
  (void)Serve(*store, tokens_);
  EXPECT_EQ(Serve(*store, tokens_), 1.0);
}

TEST_F(HotSetTest, TwoAtATimeAreRefused) {
  const std::string path = Save({.bytes = false, .block_bytes = 4096});
  const std::unique_ptr<Store> store = Open();
  int refused = 0;
  for (int round = 0; round < 50 && refused == 0; ++round) {
    ASSERT_TRUE(store->LoadHotSet(path).ok());
    const Status second = store->LoadHotSet(path);
    if (!second.ok()) {
      EXPECT_EQ(second.code(), StatusCode::kUnavailable) << second.ToString();
      ++refused;
    }
    store->CancelHotSet();
  }
  EXPECT_EQ(refused, 1);
}

// ---- files that are not good --------------------------------------------------------

TEST_F(HotSetTest, AnotherTablesFileIsRefused) {
  const std::string path = Save({});
  const MadeCheckpoint other({.shrink = 30000});
  Result<std::unique_ptr<Store>> store = Store::Open(other.path(), SmallOptions());
  ASSERT_TRUE(store.ok());
  for (const bool use_bytes : {true, false}) {
    const Status status = store.value()->LoadHotSet(path, {.bytes = use_bytes});
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("other tables"), std::string::npos) << status.ToString();
  }
  EXPECT_EQ(CountsOf(*store.value()).resident, 0U);
}

TEST_F(HotSetTest, AnImageOfTablesThatWereWrittenSinceIsRefusedButItsKeysAreNot) {
  const std::string path = Save({});
  const std::string& table = made_.info().files.front().path;
  std::filesystem::last_write_time(
      table, std::filesystem::last_write_time(table) + std::chrono::seconds(1));
  const std::unique_ptr<Store> store = Open();
  const Status status = store->LoadHotSet(path);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("stale"), std::string::npos) << status.ToString();
  ASSERT_TRUE(store->LoadHotSet(path, {.bytes = false}).ok());
  ASSERT_TRUE(store->WaitForHotSet().ok());
  EXPECT_EQ(Serve(*store, tokens_), 1.0);
}

TEST_F(HotSetTest, WhatIsNoHotSetIsRefused) {
  const std::unique_ptr<Store> store = Open();
  EXPECT_EQ(store->LoadHotSet(scratch_.File("none")).code(), StatusCode::kNotFound);
  EXPECT_EQ(store->LoadHotSet(scratch_.path()).code(), StatusCode::kInvalidArgument);
  for (const std::string& text : {std::string(), std::string("hot"), std::string(20000, 'x')}) {
    EXPECT_EQ(store->LoadHotSet(scratch_.Write("text", text)).code(), StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(store->LoadHotSet(scratch_.File("none"), {.pin_share = 1.5}).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(store->HotSet().state, HotSetState::kNone);
  EXPECT_TRUE(store->WaitForHotSet().ok());
}

TEST_F(HotSetTest, AFileThatIsCutAnywhereIsRefusedAndNamesTheBlock) {
  const std::string path = Save({.bytes = true, .block_bytes = 65536});
  const std::string whole = ReadAll(path);
  const std::unique_ptr<Store> store = Open();
  const std::size_t blocks = (whole.size() - 8192) / 65536;
  ASSERT_GT(blocks, 3U);
  WriteAll(scratch_.File("cut"), whole);
  for (std::size_t block = blocks; block-- > 0;) {
    for (const std::size_t more : {std::size_t{65535}, std::size_t{1}, std::size_t{0}}) {
      std::filesystem::resize_file(scratch_.File("cut"), 8192 + block * 65536 + more);
      const Status status = store->LoadHotSet(scratch_.File("cut"));
      EXPECT_EQ(status.code(), StatusCode::kCorruption);
      EXPECT_NE(status.message().find(fmt::format("block {} of {}", block, blocks)),
                std::string::npos)
          << status.ToString();
    }
  }
  WriteAll(scratch_.File("long"), whole + "x");
  EXPECT_EQ(store->LoadHotSet(scratch_.File("long")).code(), StatusCode::kCorruption);
  EXPECT_EQ(CountsOf(*store).resident, 0U);
}

TEST_F(HotSetTest, NothingOfADamagedBlockReachesTheCacheAndTheOthersDo) {
  const std::string path = Save({.bytes = true, .block_bytes = 65536});
  const std::string whole = ReadAll(path);
  const std::uint64_t blocks = (whole.size() - 8192) / 65536;
  // Some byte of some blocks, each in another part of it; hot_set_coding_test has them all.
  for (std::uint64_t block = 0; block < blocks; block += 1 + blocks / 5) {
    std::string bytes = whole;
    const std::size_t at = 8192 + block * 65536 + (block * 7919) % 65536;
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    WriteAll(scratch_.File("bad"), bytes);
    const std::unique_ptr<Store> store = Open();
    ASSERT_TRUE(store->LoadHotSet(scratch_.File("bad")).ok());
    const Status status = store->WaitForHotSet();
    EXPECT_EQ(status.code(), StatusCode::kCorruption);
    EXPECT_NE(status.message().find(fmt::format("block {} of {}", block, blocks)),
              std::string::npos)
        << status.ToString();
    const HotSetProgress progress = store->HotSet();
    EXPECT_EQ(progress.state, HotSetState::kFailed);
    EXPECT_EQ(progress.blocks_damaged, 1U);
    EXPECT_GT(progress.groups_damaged, 0U);
    EXPECT_EQ(progress.groups_loaded + progress.groups_damaged, progress.group_count);
    EXPECT_LT(Serve(*store, tokens_), 1.0);  // And every row is right all the same.
  }
}

TEST_F(HotSetTest, BlocksInEachOthersPlaceAreRefused) {
  const std::string path = Save({.bytes = true, .block_bytes = 65536});
  std::string bytes = ReadAll(path);
  std::swap_ranges(bytes.begin() + 8192, bytes.begin() + 8192 + 65536,
                   bytes.begin() + 8192 + 65536);
  WriteAll(path, bytes);
  const std::unique_ptr<Store> store = Open();
  ASSERT_TRUE(store->LoadHotSet(path).ok());
  EXPECT_EQ(store->WaitForHotSet().code(), StatusCode::kCorruption);
  EXPECT_EQ(store->HotSet().blocks_damaged, 2U);
}

TEST_F(HotSetTest, AFullDiskLeavesTheEarlierFileAndNothingElse) {
  const std::string path = Save({});
  const std::string before = ReadAll(path);
  const std::unique_ptr<Store> store = Open();
  (void)Serve(*store, tokens_);
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {.rlim_cur = std::uint64_t{2} << 20, .rlim_max = old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const Result<HotSetSaved> saved = store->SaveHotSet(path);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(saved.ok()) << "the disk was not full";
  EXPECT_NE(saved.status().message().find("hot.tmp"), std::string::npos)
      << saved.status().ToString();
  EXPECT_EQ(ReadAll(path), before);
  for (const auto& entry : std::filesystem::directory_iterator(scratch_.path())) {
    EXPECT_EQ(entry.path().string(), path) << "left behind";
  }
}

TEST_F(HotSetTest, AFolderThatIsNotThereAndABlockSizeThatIsNone) {
  const std::unique_ptr<Store> store = Open();
  EXPECT_EQ(store->SaveHotSet(scratch_.File("no/hot")).status().code(), StatusCode::kNotFound);
  for (const std::uint32_t block_bytes : {0U, 2048U, 5000U, 1U << 21}) {
    EXPECT_EQ(store->SaveHotSet(scratch_.File("hot"), {.block_bytes = block_bytes}).status().code(),
              StatusCode::kInvalidArgument);
  }
  // An empty cache has an empty hot set.
  ASSERT_TRUE(store->SaveHotSet(scratch_.File("hot")).ok());
  ASSERT_TRUE(store->LoadHotSet(scratch_.File("hot")).ok());
  EXPECT_TRUE(store->WaitForHotSet().ok());
}

}  // namespace
}  // namespace tiercel::testing
