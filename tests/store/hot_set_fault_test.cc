// Goal: a disk that fails while a hot set is loaded costs warmth and nothing else: what is
// in the cache afterwards is the tables' true bytes, whatever errors, flipped bits and
// delays there were.
//
// Method: the store itself reads a good disk; the hot set and the tables, as the loader
// opens them, lie on a FaultDevice. Bits are flipped in the hot set alone: it has
// checksums, the tables have none. Every row that is served is compared with the
// generator. A failure prints its seed; TIERCEL_TEST_SEED=<seed> repeats it.

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/device.h"
#include "store/store_impl.h"
#include "tests/support/fault_device.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/store.h"

namespace tiercel::testing {
namespace {

std::vector<std::uint64_t> Seeds() {
  if (const char* const seed = std::getenv("TIERCEL_TEST_SEED")) {
    return {std::strtoull(seed, nullptr, 10)};
  }
  return {1, 2, 3};
}

class HotSetFaultTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::unique_ptr<Store> store = Open(nullptr);
    (void)Serve(*store);
    ASSERT_TRUE(store->SaveHotSet(image_, {.block_bytes = 65536}).ok());
    ASSERT_TRUE(store->SaveHotSet(keys_, {.bytes = false, .block_bytes = 4096}).ok());
  }

  /// `faults`: of every device after the store's own. Null: none.
  std::unique_ptr<Store> Open(const FaultOptions* faults) {
    counters_.clear();
    StoreOptions options;
    options.dram_budget_bytes = std::uint64_t{32} << 20;
    options.queue_depth = 16;
    options.scales = ScalePlacement::kDisk;
    options.log = [](std::string_view /*line*/) {};
    auto first = std::make_shared<bool>(true);
    Result<std::unique_ptr<Store>> store = OpenStoreOn(
        made_.info(), options,
        [this, faults, first](const std::vector<std::string>& paths,
                              const DeviceOptions& device) -> Result<OpenedDevice> {
          Result<std::unique_ptr<Device>> base = OpenPreadDevice(paths, device);
          if (!base.ok()) return std::move(base).TakeStatus();
          if (std::exchange(*first, false) || faults == nullptr) {
            return OpenedDevice{.device = std::move(base).value(), .fallback_reason = ""};
          }
          FaultOptions mine = *faults;
          if (paths.size() != 1 || (paths[0] != image_ && paths[0] != keys_)) mine.bit_flip = 0;
          auto faulty = std::make_unique<FaultDevice>(std::move(base).value(), mine);
          counters_.push_back(faulty->counter());
          return OpenedDevice{.device = std::move(faulty), .fallback_reason = ""};
        });
    EXPECT_TRUE(store.ok()) << store.status().ToString();
    return std::move(store).value();
  }

  /// Looks all tokens up and checks every row. Returns how many groups came from DRAM.
  std::uint64_t Serve(Store& store) {
    const TokenRun run = {.history = {}, .tokens = tokens_};
    for (const LayerTable& layer : made_.info().layers) {
      LayerBuffers buffers(store, layer.layer_id,
                           tokens_.size() * made_.info().recipe.column_count(), RowOutput::kStored);
      const LayerOutput output = buffers.Output();
      EXPECT_TRUE(store.Lookup({&run, 1}, {&output, 1}).ok());
      const RowTally tally =
          CheckRows(made_, buffers, RowIdsOf(store, layer.layer_id, run), RowOutput::kStored);
      EXPECT_EQ(tally.right, tokens_.size() * made_.info().recipe.column_count());
    }
    std::uint64_t hits = 0;
    for (const OrderStats& order : store.Stats().orders) hits += order.dram_hits;
    return hits;
  }

  FaultCounts Faults() const {
    FaultCounts sum;
    for (const auto& counter : counters_) {
      const FaultCounts counts = counter();
      sum.io_errors += counts.io_errors;
      sum.no_data += counts.no_data;
      sum.bit_flips += counts.bit_flips;
      sum.delays += counts.delays;
    }
    return sum;
  }

  const MadeCheckpoint made_{MadeCheckpoint::Options{}};
  const ScratchDir scratch_;
  const std::string image_ = scratch_.File("image");
  const std::string keys_ = scratch_.File("keys");
  const std::vector<std::int32_t> tokens_ = made_.RandomTokens(1, 800);
  /// Of the open store's devices: the loader's are gone when it has ended.
  std::vector<std::function<FaultCounts()>> counters_;
};

TEST_F(HotSetFaultTest, WhateverFailsWhatIsServedIsTrue) {
  FaultCounts seen;
  std::uint64_t failed = 0;
  for (const std::uint64_t seed : Seeds()) {
    for (const std::string& path : {image_, keys_}) {
      SCOPED_TRACE(::testing::Message() << "TIERCEL_TEST_SEED=" << seed << " " << path);
      const FaultOptions faults = {.seed = seed,
                                   .io_error = 0.15,
                                   .no_data = 0.02,
                                   .bit_flip = 0.2,
                                   .delay = 0.2,
                                   .reorder = true};
      const std::unique_ptr<Store> store = Open(&faults);
      ASSERT_TRUE(store->LoadHotSet(path).ok());
      const Status status = store->WaitForHotSet();
      const HotSetProgress progress = store->HotSet();
      EXPECT_EQ(status.ok(), progress.state == HotSetState::kLoaded);
      if (!status.ok()) {
        ++failed;
        EXPECT_TRUE(status.code() == StatusCode::kCorruption ||
                    status.code() == StatusCode::kIoError)
            << status.ToString();
      }
      EXPECT_EQ(progress.groups_loaded + progress.groups_present + progress.groups_left_out +
                    progress.groups_damaged,
                progress.group_count);
      seen.io_errors += Faults().io_errors;
      seen.no_data += Faults().no_data;
      seen.bit_flips += Faults().bit_flips;
      seen.delays += Faults().delays;
      (void)Serve(*store);
      // Slots of groups that were left out serve others.
      EXPECT_GT(Serve(*store), 0U);
    }
  }
  EXPECT_GT(failed, 0U);
  EXPECT_GT(seen.io_errors, 0U);
  EXPECT_GT(seen.no_data, 0U);
  EXPECT_GT(seen.bit_flips, 0U);
  EXPECT_GT(seen.delays, 0U);
}

TEST_F(HotSetFaultTest, ErrorsThatPassCostNothing) {
  // One read in fifty fails once, and is tried three times: as good as none is lost.
  const FaultOptions faults = {.seed = 4, .io_error = 0.02};
  const std::unique_ptr<Store> store = Open(&faults);
  ASSERT_TRUE(store->LoadHotSet(keys_).ok());
  (void)store->WaitForHotSet();
  EXPECT_GT(Faults().io_errors, 0U);
  const HotSetProgress progress = store->HotSet();
  EXPECT_GT(progress.groups_loaded, progress.group_count * 9 / 10);
  (void)Serve(*store);
}

TEST_F(HotSetFaultTest, ADiskThatCannotBeReadAtAllLoadsNothing) {
  FaultOptions faults;
  for (std::uint32_t file = 0; file < made_.info().files.size(); ++file) {
    faults.bad_ranges.push_back(
        {.file_index = file, .offset_bytes = 0, .size_bytes = ~std::uint64_t{0} / 2});
  }
  const std::unique_ptr<Store> store = Open(&faults);
  ASSERT_TRUE(store->LoadHotSet(keys_).ok());
  const Status status = store->WaitForHotSet();
  EXPECT_EQ(status.code(), StatusCode::kIoError) << status.ToString();
  EXPECT_EQ(store->HotSet().groups_loaded, 0U);
  (void)Serve(*store);
}

}  // namespace
}  // namespace tiercel::testing
