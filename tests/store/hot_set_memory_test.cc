// Goal: a hot set's loader that runs out of memory, or cannot start a thread, costs warmth and
// nothing else: all slots of the cache serve lookups afterwards.
//
// Method: an operator new that fails once, at the n-th allocation of some size that is made
// while rows are loaded, for n = 0, 1, ... until the load succeeds; a default stack for threads
// that no address space has. After loads that failed the cache is filled and its groups are
// counted. The tables lie in memory, so that reading them starts no thread.

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/device.h"
#include "store/store_impl.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/own_new.h"
#include "tests/support/scratch_dir.h"
#include "tests/support/witness_device.h"
#include "tiercel/store.h"

namespace tiercel::testing {
namespace {

/// Lists of rows and groups, and not what reports and messages take.
constexpr std::size_t kFailingSizeBytes = 1024;
/// Such allocations, of all threads, until one fails; negative: none does.
std::atomic<std::int64_t> g_lists_left{-1};

}  // namespace

bool MayAllocate(std::size_t size_bytes) noexcept {
  return size_bytes < kFailingSizeBytes || g_lists_left.load() < 0 ||
         g_lists_left.fetch_sub(1) != 0;
}

namespace {

class HotSetMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::vector<std::string> paths;
    for (const TableFile& file : made_.info().files) paths.push_back(file.path);
    files_ = ReadFiles(paths);
    const std::unique_ptr<Store> store = Open({});
    LookUp(*store, made_.RandomTokens(1, 500));
    ASSERT_TRUE(store->SaveHotSet(keys_, {.bytes = false}).ok());
  }

  /// `loading` is called when the loader opens the tables, after the hot set was read.
  std::unique_ptr<Store> Open(std::function<void()> loading) {
    StoreOptions options;
    options.dram_budget_bytes = std::uint64_t{16} << 20;
    options.queue_depth = 16;
    options.io_thread_count = 1;
    options.scales = ScalePlacement::kDisk;
    options.log = [](std::string_view /*line*/) {};
    auto opened = std::make_shared<int>(0);
    Result<std::unique_ptr<Store>> store = OpenStoreOn(
        made_.info(), options,
        [this, loading = std::move(loading), opened](
            const std::vector<std::string>& paths,
            const DeviceOptions& device) -> Result<OpenedDevice> {
          const bool is_hot_set = paths.size() == 1 && paths[0] == keys_;
          OpenedDevice memory{.device = is_hot_set ? NewMemoryDevice(ReadFiles(paths), device)
                                                   : NewMemoryDevice(files_, device),
                              .fallback_reason = ""};
          if (!is_hot_set && ++*opened >= 2 && loading) loading();
          return memory;
        });
    EXPECT_TRUE(store.ok()) << store.status().ToString();
    return std::move(store).value();
  }

  void LookUp(Store& store, const std::vector<std::int32_t>& tokens) {
    const TokenRun run = {.history = {}, .tokens = tokens};
    for (const LayerTable& layer : made_.info().layers) {
      LayerBuffers buffers(store, layer.layer_id,
                           tokens.size() * made_.info().recipe.column_count(), RowOutput::kStored);
      const LayerOutput output = buffers.Output();
      ASSERT_TRUE(store.Lookup({&run, 1}, {&output, 1}).ok());
      const RowTally tally =
          CheckRows(made_, buffers, RowIdsOf(store, layer.layer_id, run), RowOutput::kStored);
      EXPECT_EQ(tally.right, buffers.row_status.size());
    }
  }

  /// Brings more groups than there is room for. Returns how many are there in the end.
  std::uint64_t Fill(Store& store) {
    for (std::uint64_t seed = 10; seed < 16; ++seed) LookUp(store, made_.RandomTokens(seed, 500));
    std::uint64_t evictions = 0;
    std::uint64_t groups = 0;
    for (const OrderStats& order : store.Stats().orders) {
      evictions += order.cache_evictions;
      groups += order.cache_resident_groups;
    }
    EXPECT_GT(evictions, 0U);
    return groups;
  }

  const MadeCheckpoint made_{MadeCheckpoint::Options{}};
  const ScratchDir scratch_;
  const std::string keys_ = scratch_.File("keys");
  FileBytes files_;
};

TEST_F(HotSetMemoryTest, WhereverMemoryRunsOutTheLoadSaysSo) {
  int failures = 0;
  for (std::int64_t nth = 0;; ++nth) {
    ASSERT_LT(nth, 10'000);
    const std::unique_ptr<Store> store = Open([nth] { g_lists_left = nth; });
    ASSERT_TRUE(store->LoadHotSet(keys_).ok());
    const Status status = store->WaitForHotSet();
    g_lists_left = -1;
    const HotSetProgress progress = store->HotSet();
    if (status.ok()) {
      EXPECT_GT(progress.groups_loaded, 500U);
      break;
    }
    ++failures;
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.ToString();
    EXPECT_LT(progress.groups_loaded, progress.group_count);
  }
  EXPECT_GT(failures, 3);
}

TEST_F(HotSetMemoryTest, LoadsThatFailGiveTheirSlotsBack) {
  const std::uint64_t full_groups = Fill(*Open({}));
  for (const std::int64_t nth : {2, 5}) {
    SCOPED_TRACE(nth);
    const std::unique_ptr<Store> store = Open([nth] { g_lists_left = nth; });
    // Between them they take all slots that a hot set may have, and a sixth of those would
    // stay away if each lost the groups that it was at.
    for (int i = 0; i < 4; ++i) {
      ASSERT_TRUE(store->LoadHotSet(keys_).ok());
      const Status status = store->WaitForHotSet();
      g_lists_left = -1;
      if (i == 0) {
        ASSERT_EQ(status.code(), StatusCode::kResourceExhausted) << status.ToString();
      }
    }
    // Slots that were dropped and wait for readers are not counted: some percent at worst.
    EXPECT_GE(Fill(*store) + full_groups / 10, full_groups);
  }
}

TEST_F(HotSetMemoryTest, WithoutAThreadToSortItLoadsAllTheSame) {
  pthread_attr_t usual;
  ASSERT_EQ(pthread_getattr_default_np(&usual), 0);
  pthread_attr_t huge;
  ASSERT_EQ(pthread_attr_init(&huge), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&huge, std::size_t{1} << 50), 0);
  bool no_thread = false;
  const std::unique_ptr<Store> store = Open([&] {
    (void)pthread_setattr_default_np(&huge);
    pthread_t thread;
    no_thread = pthread_create(
                    &thread, nullptr, [](void* nothing) { return nothing; }, nullptr) != 0;
    if (!no_thread) (void)pthread_join(thread, nullptr);
  });
  ASSERT_TRUE(store->LoadHotSet(keys_).ok());
  const Status status = store->WaitForHotSet();
  ASSERT_EQ(pthread_setattr_default_np(&usual), 0);
  (void)pthread_attr_destroy(&huge);
  (void)pthread_attr_destroy(&usual);
  EXPECT_TRUE(no_thread);
  EXPECT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(store->HotSet().groups_loaded, store->HotSet().group_count);
  LookUp(*store, made_.RandomTokens(1, 500));
}

}  // namespace
}  // namespace tiercel::testing
