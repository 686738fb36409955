// Goal: whatever fails, of the device's calls or of the disk, a batch is right, or zero and
// marked, or refused; nothing that failed is found in HBM later; nothing stays held.
//
// Method: each kind of call of the fake GPU fails at each place where it is made, with
// batches before and after; random read errors below the store.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/prng.h"
#include "cuda/hbm_cache.h"
#include "io/device.h"
#include "store/store_impl.h"
#include "tests/cuda/hbm_test_support.h"
#include "tests/support/fault_device.h"

namespace tiercel {
namespace {

using testing::ExpectNothingHeld;
using testing::FakeCall;
using testing::FakeHbmDevice;
using testing::HbmBatch;
using testing::HbmRig;
using testing::HbmRigOptions;
using testing::MadeCheckpoint;
using testing::OpenRig;
using testing::SmallHbm;

/// Runs all that can run until nothing is left: flags come from the store's threads.
void Drain(const HbmRig& rig) {
  while (rig.device->pending_count() > 0) {
    if (rig.device->Run(1000) == 0) std::this_thread::yield();
  }
}

TEST(HbmFaultTest, CreateGivesBackWhatItHadWhenACallFails) {
  const MadeCheckpoint made({});
  Result<std::unique_ptr<Store>> store = Store::Open(made.path(), testing::SmallStore());
  ASSERT_TRUE(store.ok());
  HbmOptions options = SmallHbm(made, 60);
  options.upload = HbmUpload::kCopyEngine;
  for (const FakeCall call : {FakeCall::kAllocateDevice, FakeCall::kAllocateMapped,
                              FakeCall::kCreateStream, FakeCall::kCreateEvent}) {
    std::uint64_t nth = 0;
    for (;; ++nth) {
      auto device = std::make_unique<FakeHbmDevice>(1, 0);
      device->FailNth(call, nth);
      // ~FakeHbmDevice checks that all allocations were freed.
      const Result<std::shared_ptr<HbmCache>> cache =
          HbmCache::Create(*store.value(), std::move(device), options);
      if (cache.ok()) break;
      EXPECT_EQ(cache.status().code(), StatusCode::kIoError);
    }
    EXPECT_GT(nth, 0U);
  }
}

/// One batch that is good from start to end.
void ExpectGoodBatch(const MadeCheckpoint& made, const HbmRig& rig, std::uint64_t seed) {
  HbmBatch batch(rig, HbmFormat::kStored, 16);
  batch.Draw(made, seed, 16);
  const Result<HbmTicket> ticket =
      rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream);
  ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
  Drain(rig);
  const HbmBatch::Tally tally = batch.Check(made, ticket.value());
  EXPECT_EQ(tally.wrong, 0U);
  EXPECT_EQ(tally.failed, 0U);
}

TEST(HbmFaultTest, ACallThatFailsOnTheWayLosesNothing) {
  const MadeCheckpoint made({});
  for (const HbmUpload upload : {HbmUpload::kWithGather, HbmUpload::kCopyEngine}) {
    for (const FakeCall call :
         {FakeCall::kWaitFlag, FakeCall::kGather, FakeCall::kCopy, FakeCall::kRecordEvent}) {
      if (call == FakeCall::kCopy && upload == HbmUpload::kWithGather) continue;
      // RecordEvent after copies: nobody can say when they end, so that their slots are lost.
      if (call == FakeCall::kRecordEvent && upload == HbmUpload::kCopyEngine) continue;
      SCOPED_TRACE(::testing::Message()
                   << "call " << static_cast<int>(call) << ", upload " << static_cast<int>(upload));
      HbmRigOptions options{.hbm = SmallHbm(made, 100)};
      options.hbm.upload = upload;
      const HbmRig rig = OpenRig(made, options);
      std::uint64_t failures = 0;
      for (std::uint64_t nth = 0; nth < 4; ++nth) {
        ExpectGoodBatch(made, rig, 10 + nth);
        HbmBatch batch(rig, HbmFormat::kStored, 16);
        batch.Draw(made, 20 + nth, 16);
        rig.device->FailNth(call, nth);
        const Result<HbmTicket> ticket =
            rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream);
        failures += ticket.ok() ? 0 : 1;
        rig.device->FailNth(call, ~std::uint64_t{0} - 1);  // It need not have come so far.
        Drain(rig);
        if (ticket.ok()) {
          EXPECT_EQ(batch.Check(made, ticket.value()).wrong, 0U);
        }
      }
      EXPECT_GT(failures, 0U);
      ExpectGoodBatch(made, rig, 20);
      Drain(rig);
      ExpectNothingHeld(rig);
    }
  }
}

TEST(HbmFaultTest, CopiesThatNobodyCanWaitForCostTheirSlotsAlone) {
  const MadeCheckpoint made({});
  HbmRigOptions options{.hbm = SmallHbm(made, 200)};
  options.hbm.upload = HbmUpload::kCopyEngine;
  const HbmRig rig = OpenRig(made, options);
  HbmBatch batch(rig, HbmFormat::kStored, 4);
  batch.Draw(made, 1, 4);
  rig.device->FailNth(FakeCall::kRecordEvent, 0);
  EXPECT_EQ(rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream).status().code(),
            StatusCode::kIoError);
  Drain(rig);
  EXPECT_GT(rig.cache->Stats().slots_in_flight, 0U);
  EXPECT_LE(rig.cache->Stats().slots_in_flight, 12U);
  ExpectGoodBatch(made, rig, 2);
}

std::unique_ptr<Store> OpenFaultyStore(const MadeCheckpoint& made,
                                       const testing::FaultOptions& faults,
                                       testing::FaultDevice** device) {
  StoreOptions options = testing::SmallStore();
  options.scales = ScalePlacement::kDisk;
  options.read_attempts_max = 1;
  Result<std::unique_ptr<Store>> store = OpenStoreOn(
      made.info(), options,
      [&](const std::vector<std::string>& paths,
          const DeviceOptions& device_options) -> Result<OpenedDevice> {
        Result<std::unique_ptr<Device>> base = OpenPreadDevice(paths, device_options);
        if (!base.ok()) return std::move(base).TakeStatus();
        auto faulty = std::make_unique<testing::FaultDevice>(std::move(base).value(), faults);
        *device = faulty.get();
        return OpenedDevice{.device = std::move(faulty), .fallback_reason = ""};
      });
  EXPECT_TRUE(store.ok()) << store.status().ToString();
  return std::move(store).value();
}

TEST(HbmFaultTest, RowsThatFailAreZeroAndMarkedAndNotKept) {
  const MadeCheckpoint made({});
  for (const HbmUpload upload : {HbmUpload::kWithGather, HbmUpload::kCopyEngine}) {
    testing::FaultDevice* disk = nullptr;
    std::unique_ptr<Store> store =
        OpenFaultyStore(made, {.seed = 9, .io_error = 0.02, .delay = 0.1}, &disk);
    HbmRigOptions options{.hbm = SmallHbm(made, 300)};
    options.hbm.upload = upload;
    const HbmRig rig = OpenRig(made, options, std::move(store));
    HbmBatch batch(rig, HbmFormat::kStored, 32);
    std::uint64_t failed = 0;
    for (std::uint64_t round = 0; round < 40; ++round) {
      batch.Poison();
      batch.Draw(made, round % 10, 1 + round % 32);
      const Result<HbmTicket> ticket =
          rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream);
      ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
      Drain(rig);
      for (const HbmOutput& output : batch.outputs()) {
        const StatusCode code = ticket.value().TryStatus(output.layer_id)->code();
        ASSERT_TRUE(code == StatusCode::kOk || code == StatusCode::kPartial);
      }
      const HbmBatch::Tally tally = batch.Check(made, ticket.value());
      ASSERT_EQ(tally.wrong, 0U) << round;
      failed += tally.failed;
    }
    EXPECT_GT(failed, 0U);
    EXPECT_GT(disk->counts().io_errors, 0U);
    // What failed is read again, and then right.
    disk->set_enabled(false);
    for (std::uint64_t seed = 0; seed < 10; ++seed) ExpectGoodBatch(made, rig, seed);
    ExpectNothingHeld(rig);
  }
}

TEST(HbmFaultTest, ACancelledBatchLetsItsStreamGoOn) {
  const MadeCheckpoint made({});
  testing::FaultDevice* disk = nullptr;
  std::unique_ptr<Store> store =
      OpenFaultyStore(made, {.seed = 9, .delay = 1.0, .delay_runs_max = 100}, &disk);
  const HbmRig rig = OpenRig(made, {.hbm = SmallHbm(made, 300)}, std::move(store));
  std::uint64_t cancelled = 0;
  HbmBatch batch(rig, HbmFormat::kStored, 64);
  for (std::uint64_t round = 0; round < 20; ++round) {
    batch.Draw(made, round, 64);
    Result<HbmTicket> ticket = rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream);
    ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
    (void)rig.device->Run(round);
    ASSERT_TRUE(rig.cache->Cancel(ticket.value()).ok());
    Drain(rig);
    for (const HbmOutput& output : batch.outputs()) {
      const std::optional<Status> status = ticket.value().TryStatus(output.layer_id);
      ASSERT_TRUE(status.has_value());
      if (status->code() == StatusCode::kCancelled) ++cancelled;
    }
  }
  EXPECT_GT(cancelled, 0U);
  disk->set_enabled(false);
  for (std::uint64_t seed = 0; seed < 5; ++seed) ExpectGoodBatch(made, rig, seed);
  ExpectNothingHeld(rig);
}

}  // namespace
}  // namespace tiercel
