// Goal: a device that fails never makes the store lie. For any mix of read errors
// that pass and errors that stay, each row is its true bytes and kOk, or zeros and
// a mark.
//
// Method: random batches over a FaultDevice, every row compared with the generator;
// kOk is believed only if the bytes agree. A failure prints its seed;
// TIERCEL_TEST_SEED=<seed> repeats it.

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "base/prng.h"
#include "io/device.h"
#include "store/store_impl.h"
#include "tests/support/fault_device.h"
#include "tests/support/made_checkpoint.h"
#include "tiercel/store.h"

namespace tiercel {
namespace {

using testing::CheckRows;
using testing::FaultDevice;
using testing::FaultOptions;
using testing::LayerBuffers;
using testing::MadeCheckpoint;
using testing::RowIdsOf;
using testing::RowTally;

std::vector<std::uint64_t> Seeds() {
  if (const char* const seed = std::getenv("TIERCEL_TEST_SEED")) {
    return {std::strtoull(seed, nullptr, 10)};
  }
  return {1, 2, 3};
}

struct FaultyStore {
  std::unique_ptr<Store> store;
  FaultDevice* device = nullptr;  ///< The store's.
};

FaultyStore OpenFaulty(const MadeCheckpoint& made, const FaultOptions& faults,
                       const StoreOptions& options) {
  FaultyStore faulty;
  Result<std::unique_ptr<Store>> store =
      OpenStoreOn(made.info(), options,
                  [&](const std::vector<std::string>& paths,
                      const DeviceOptions& device_options) -> Result<OpenedDevice> {
                    Result<std::unique_ptr<Device>> base = OpenPreadDevice(paths, device_options);
                    if (!base.ok()) return std::move(base).TakeStatus();
                    auto device = std::make_unique<FaultDevice>(std::move(base).value(), faults);
                    faulty.device = device.get();
                    return OpenedDevice{.device = std::move(device), .fallback_reason = ""};
                  });
  EXPECT_TRUE(store.ok()) << store.status().ToString();
  faulty.store = std::move(store).value();
  return faulty;
}

StoreOptions FaultTestOptions() {
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{24} << 20;
  options.queue_depth = 16;
  options.scales = ScalePlacement::kDisk;  // Every byte crosses the faulty device.
  options.log = [](std::string_view /*line*/) {};
  return options;
}

TEST(StoreFaultTest, RowsAreTrueOrMarkedUnderReadErrors) {
  const MadeCheckpoint made({});
  RowTally total;
  testing::FaultCounts faults_seen;
  for (const std::uint64_t seed : Seeds()) {
    SCOPED_TRACE(::testing::Message() << "TIERCEL_TEST_SEED=" << seed);
    Prng prng(seed);
    FaultOptions faults{.seed = prng(), .io_error = 0.3, .delay = 0.1, .reorder = true};
    for (int i = 0; i < 16; ++i) {
      const LayerTable& layer = made.info().layers[prng.Below(2)];
      const RowExtent& extent = layer.parts[prng.Below(2)].extents[0];
      faults.bad_ranges.push_back({.file_index = extent.file_index,
                                   .offset_bytes = extent.offset_bytes + prng.Below(1 << 20),
                                   .size_bytes = 4096});
    }
    FaultyStore faulty = OpenFaulty(made, faults, FaultTestOptions());
    for (int round = 0; round < 20; ++round) {
      const std::vector<std::int32_t> tokens = made.RandomTokens(prng(), 1 + prng.Below(40));
      const TokenRun run = {.history = {}, .tokens = tokens};
      const std::uint32_t layer_id = prng.Below(2) == 0 ? 1 : 14;
      const std::vector<RowId> ids = RowIdsOf(*faulty.store, layer_id, run);
      LayerBuffers buffers(*faulty.store, layer_id, ids.size(), RowOutput::kStored);
      const LayerOutput output = buffers.Output();
      const Status status = round % 2 == 0 ? faulty.store->Lookup({&run, 1}, {&output, 1})
                                           : faulty.store->LookupRows(ids, output);
      const RowTally tally = CheckRows(made, buffers, ids, RowOutput::kStored);
      EXPECT_EQ(tally.wrong, 0U);
      EXPECT_EQ(status.code(), tally.marked > 0 ? StatusCode::kPartial : StatusCode::kOk);
      total.right += tally.right;
      total.marked += tally.marked;
    }
    faults_seen.io_errors += faulty.device->counts().io_errors;
    faults_seen.bad_range_errors += faulty.device->counts().bad_range_errors;
    faults_seen.delays += faulty.device->counts().delays;
    if (HasFailure()) return;  // One seed is enough to debug.
  }
  // A test of faults that met none would pass for the wrong reason.
  EXPECT_GT(total.right, 0U);
  EXPECT_GT(total.marked, 0U);
  EXPECT_GT(faults_seen.io_errors, 0U);
  EXPECT_GT(faults_seen.bad_range_errors, 0U);
  EXPECT_GT(faults_seen.delays, 0U);
}

TEST(StoreFaultTest, ARowThatFailedIsReadAgainNextTime) {
  const MadeCheckpoint made({});
  FaultyStore faulty = OpenFaulty(made, {.seed = 1, .io_error = 1.0}, FaultTestOptions());
  const std::vector<std::int32_t> tokens = made.RandomTokens(1, 10);
  const TokenRun run = {.history = {}, .tokens = tokens};
  const std::vector<RowId> ids = RowIdsOf(*faulty.store, 1, run);
  LayerBuffers buffers(*faulty.store, 1, ids.size(), RowOutput::kBf16);
  const LayerOutput output = buffers.Output();
  EXPECT_EQ(faulty.store->Lookup({&run, 1}, {&output, 1}, RowOutput::kBf16).code(),
            StatusCode::kPartial);
  EXPECT_EQ(CheckRows(made, buffers, ids, RowOutput::kBf16).marked, ids.size());
  EXPECT_GT(faulty.store->Stats().device_read_retries, 0U);
  EXPECT_GT(faulty.store->Stats().device_read_failures, 0U);

  faulty.device->set_enabled(false);
  EXPECT_TRUE(faulty.store->Lookup({&run, 1}, {&output, 1}, RowOutput::kBf16).ok());
  EXPECT_EQ(CheckRows(made, buffers, ids, RowOutput::kBf16).right, ids.size());
}

TEST(StoreFaultTest, AFileThatEndsTooEarlyIsCorruptionNotAnIoError) {
  const MadeCheckpoint made({});
  FaultyStore faulty = OpenFaulty(made, {.seed = 3, .no_data = 0.2}, FaultTestOptions());
  const std::vector<std::int32_t> tokens = made.RandomTokens(2, 40);
  const TokenRun run = {.history = {}, .tokens = tokens};
  const std::vector<RowId> ids = RowIdsOf(*faulty.store, 14, run);
  LayerBuffers buffers(*faulty.store, 14, ids.size(), RowOutput::kStored);
  const LayerOutput output = buffers.Output();
  EXPECT_EQ(faulty.store->Lookup({&run, 1}, {&output, 1}).code(), StatusCode::kPartial);
  const RowTally tally = CheckRows(made, buffers, ids, RowOutput::kStored);
  EXPECT_EQ(tally.wrong, 0U);
  EXPECT_GT(tally.right, 0U);
  EXPECT_GT(tally.marked, 0U);
  for (const RowStatus status : buffers.row_status) EXPECT_NE(status, RowStatus::kIoError);
  EXPECT_GT(faulty.device->counts().no_data, 0U);
}

}  // namespace
}  // namespace tiercel
