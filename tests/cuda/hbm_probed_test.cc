// Goal: what a kernel's probe of the mirror found and missed comes to the output by one call,
// whatever is evicted and comes in between; what was missed gets into HBM; failures are
// zeros and marks, or an error, and hold nothing.
//
// Method: the probe is worked out on the host from the fake GPU's mirror, at the moment at which
// its stream would have run it; other batches evict on another stream meanwhile.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
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
using testing::FakeProbe;
using testing::HbmBatch;
using testing::HbmRig;
using testing::HbmRigOptions;
using testing::MadeCheckpoint;
using testing::OpenRig;
using testing::SmallHbm;

HbmRigOptions ProbedOptions(const MadeCheckpoint& made, std::uint64_t slot_count) {
  HbmRigOptions options{.hbm = SmallHbm(made, slot_count)};
  options.hbm.device_directory = true;
  return options;
}

std::vector<std::uint64_t> ProbedSeeds() {
  const char* const text = std::getenv("TIERCEL_TEST_SEED");
  if (text != nullptr) return {std::strtoull(text, nullptr, 10)};
  return {1, 2, 3, 4};
}

void RunAll(const HbmRig& rig) {
  while (rig.device->pending_count() > 0) {
    if (rig.device->Run(100) == 0) std::this_thread::yield();
  }
}

/// Rows of a layer in the output that are not what they must be: the row, or zeros where the
/// token is dead or `failed` names the miss and its row.
std::uint64_t WrongRows(const MadeCheckpoint& made, const HbmRig& rig, const HbmBatch& batch,
                        std::size_t layer, const FakeProbe& probe,
                        std::span<const RowStatus> statuses) {
  const std::uint32_t heads = rig.store->hasher().recipe().parameters.head_count;
  const std::vector<RowId> ids = batch.Ids(layer);
  std::uint64_t wrong = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::uint32_t source = probe.places[i / heads].source;
    bool zero = source == GroupSource::kNone;
    if (!zero && (source & GroupSource::kStaged) != 0) {
      zero = statuses[(source & ~GroupSource::kStaged) * heads + i % heads] != RowStatus::kOk;
    }
    std::vector<std::byte> want = made.Row(batch.outputs()[layer].layer_id, ids[i]);
    if (zero) std::ranges::fill(want, std::byte{0});
    wrong += std::ranges::equal(want, batch.StoredRow(layer, i)) ? 0 : 1;
  }
  return wrong;
}

/// Waits for the batch on the device; its status, with the rows compared.
Status AwaitAndCheck(const MadeCheckpoint& made, const HbmRig& rig, const HbmBatch& batch,
                     std::size_t layer, const FakeProbe& probe, const HbmTicket& ticket) {
  const std::uint32_t layer_id = batch.outputs()[layer].layer_id;
  std::optional<Status> status;
  while (!(status = ticket.TryStatus(layer_id))) {
    if (rig.device->Run(7) == 0) std::this_thread::yield();
  }
  const std::uint32_t heads = rig.store->hasher().recipe().parameters.head_count;
  std::vector<RowStatus> statuses(probe.misses.size() * heads, RowStatus::kCorruption);
  const Status told = ticket.RowStatuses(layer_id, statuses);
  EXPECT_TRUE(told.ok()) << told.ToString();
  EXPECT_EQ(WrongRows(made, rig, batch, layer, probe, statuses), 0U);
  return std::move(*status);
}

struct ProbedTally {
  std::uint64_t found = 0;
  std::uint64_t missed = 0;
};

/// A batch whose tokens the device alone knows, with others evicting at any moment.
void RunProbed(const MadeCheckpoint& made, const HbmRig& rig, HbmStream probes, Prng& prng,
               ProbedTally& tally) {
  const auto disturb = [&] {
    HbmBatch other(rig, HbmFormat::kStored, 16);
    other.Draw(made, 100 + prng.Below(20), 1 + prng.Below(16));
    const Result<HbmTicket> ticket =
        rig.cache->StartOnStream(other.runs(), other.outputs(), rig.stream);
    ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
    while (!ticket.value().TryStatus(1) || !ticket.value().TryStatus(14)) {
      if (rig.device->Run(1 + prng.Below(20)) == 0) std::this_thread::yield();
    }
  };
  if (prng.Below(2) == 0) disturb();
  if (prng.Below(3) != 0) {
    ASSERT_TRUE(rig.cache->SyncDirectoryOnStream(probes).ok());
  }
  // The probe runs when its stream has come so far.
  const HbmEvent reached = rig.device->CreateEvent().value();
  ASSERT_TRUE(rig.device->RecordEvent(reached, probes).ok());
  while (!rig.device->QueryEvent(reached).value()) {
    if (rig.device->Run(1) == 0) std::this_thread::yield();
  }
  rig.device->DestroyEvent(reached);
  HbmBatch batch(rig, HbmFormat::kStored, 16);
  batch.Draw(made, prng.Below(6), 4 + prng.Below(4) * 4);
  const std::size_t layer = prng.Below(2);
  const FakeProbe probe = testing::ProbeNow(rig, batch, layer);
  tally.missed += probe.misses.size();
  for (const GroupSource& place : probe.places) {
    tally.found += (place.source & GroupSource::kStaged) == 0 ? 1 : 0;
  }
  if (prng.Below(2) == 0) disturb();
  const Result<HbmTicket> ticket =
      rig.cache->FetchMissesOnStream(probe.Probed(), batch.outputs()[layer], probes);
  ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
  if (prng.Below(2) == 0) disturb();
  const Status status = AwaitAndCheck(made, rig, batch, layer, probe, ticket.value());
  EXPECT_TRUE(status.ok()) << status.ToString();
}

TEST(HbmProbedTest, FoundAndMissedGroupsAreRightWhateverIsEvictedMeanwhile) {
  const MadeCheckpoint made({});
  for (const std::uint64_t seed : ProbedSeeds()) {
    SCOPED_TRACE(::testing::Message() << "TIERCEL_TEST_SEED=" << seed);
    Prng prng(seed);
    HbmRigOptions options = ProbedOptions(made, 250 + prng.Below(600));
    options.seed = prng();
    if (seed % 2 == 0) options.hbm.upload = HbmUpload::kCopyEngine;
    const HbmRig rig = OpenRig(made, options);
    const HbmStream probes = rig.device->CreateStream().value();
    ProbedTally tally;
    for (int round = 0; round < 100; ++round) {
      RunProbed(made, rig, probes, prng, tally);
      if (HasFailure()) return;
    }
    EXPECT_GT(tally.found, 200U);
    EXPECT_GT(tally.missed, 200U);
    for (int i = 0; i < 3; ++i) {
      RunAll(rig);
      ASSERT_TRUE(rig.cache->SyncDirectoryOnStream(probes).ok());
    }
    RunAll(rig);
    ExpectNothingHeld(rig);
  }
}

TEST(HbmProbedTest, WhatWasMissedIsFoundAfterTheNextSync) {
  const MadeCheckpoint made({});
  for (const HbmUpload upload : {HbmUpload::kWithGather, HbmUpload::kCopyEngine}) {
    HbmRigOptions options = ProbedOptions(made, 500);
    options.hbm.upload = upload;
    const HbmRig rig = OpenRig(made, options);
    HbmBatch batch(rig, HbmFormat::kStored, 16);
    batch.Draw(made, 1, 12);
    std::uint64_t reads = 0;
    for (int round = 0; round < 2; ++round) {
      const FakeProbe probe = testing::ProbeNow(rig, batch, 0);
      EXPECT_EQ(probe.misses.empty(), round == 1);
      // As a kernel may list a group that several tokens have.
      const Result<HbmTicket> ticket =
          rig.cache->FetchMissesOnStream(probe.Probed(), batch.outputs()[0], rig.stream);
      ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
      EXPECT_TRUE(AwaitAndCheck(made, rig, batch, 0, probe, ticket.value()).ok());
      RunAll(rig);
      (void)rig.cache->Stats();  // Takes in what has come.
      ASSERT_TRUE(rig.cache->SyncDirectoryOnStream(rig.stream).ok());
      RunAll(rig);
      const std::uint64_t reads_now = rig.store->Stats().device_reads;
      if (round == 1) {
        EXPECT_EQ(reads_now, reads);
      }
      reads = reads_now;
    }
  }
}

TEST(HbmProbedTest, AGroupThatManyTokensMissIsReadOnceAndFillsOneSlot) {
  const MadeCheckpoint made({});
  const HbmRig rig = OpenRig(made, ProbedOptions(made, 500));
  HbmBatch batch(rig, HbmFormat::kStored, 16);
  batch.Draw(made, 1, 3);
  FakeProbe probe = testing::ProbeNow(rig, batch, 0);
  ASSERT_FALSE(probe.misses.empty());
  // The batch's groups three times: nine tokens.
  const FakeProbe once = probe;
  HbmBatch triple(rig, HbmFormat::kStored, 16);
  for (std::uint32_t copy = 1; copy < 3; ++copy) {
    for (GroupSource place : once.places) {
      if (place.source != GroupSource::kNone) {
        place.source += copy * static_cast<std::uint32_t>(once.misses.size());
      }
      probe.places.push_back(place);
    }
    probe.misses.insert(probe.misses.end(), once.misses.begin(), once.misses.end());
  }
  probe.token_count = 9;
  const Result<HbmTicket> ticket =
      rig.cache->FetchMissesOnStream(probe.Probed(), triple.outputs()[0], rig.stream);
  ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
  RunAll(rig);
  EXPECT_TRUE(ticket.value().TryStatus(1)->ok());
  const std::size_t row_count = batch.Ids(0).size();
  (void)testing::ProbeNow(rig, batch, 0);
  const std::vector<RowId> ids = batch.Ids(0);
  const std::uint32_t heads = rig.store->hasher().recipe().parameters.head_count;
  std::uint64_t wrong = 0;
  for (std::size_t i = 0; i < 3 * row_count; ++i) {
    std::vector<std::byte> want = made.Row(1, ids[i % row_count]);
    if (probe.places[i / heads].source == GroupSource::kNone) {
      std::ranges::fill(want, std::byte{0});
    }
    wrong += std::ranges::equal(want, triple.StoredRow(0, i)) ? 0 : 1;
  }
  EXPECT_EQ(wrong, 0U);
  std::uint64_t insertions = 0;
  std::uint64_t staged = 0;
  std::uint64_t groups = 0;
  for (const HbmOrderStats& order : rig.cache->Stats().orders) {
    insertions += order.insertions;
    staged += order.staged;
    groups += order.groups;
  }
  EXPECT_EQ(groups, probe.misses.size());
  EXPECT_EQ(insertions, staged);
  EXPECT_LE(insertions, once.misses.size());
}

TEST(HbmProbedTest, RowsThatFailAreZeroAndMarkedByMiss) {
  const MadeCheckpoint made({});
  StoreOptions store_options = testing::SmallStore();
  store_options.read_attempts_max = 1;
  testing::FaultDevice* disk = nullptr;
  Result<std::unique_ptr<Store>> store = OpenStoreOn(
      made.info(), store_options,
      [&](const std::vector<std::string>& paths,
          const DeviceOptions& device_options) -> Result<OpenedDevice> {
        Result<std::unique_ptr<Device>> base = OpenPreadDevice(paths, device_options);
        if (!base.ok()) return std::move(base).TakeStatus();
        auto faulty = std::make_unique<testing::FaultDevice>(
            std::move(base).value(), testing::FaultOptions{.seed = 3, .io_error = 0.05});
        disk = faulty.get();
        return OpenedDevice{.device = std::move(faulty), .fallback_reason = ""};
      });
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  const HbmRig rig = OpenRig(made, ProbedOptions(made, 300), std::move(store).value());
  HbmBatch batch(rig, HbmFormat::kStored, 16);
  std::uint64_t partial = 0;
  for (std::uint64_t round = 0; round < 20; ++round) {
    batch.Draw(made, round % 6, 16);
    const FakeProbe probe = testing::ProbeNow(rig, batch, 1);
    const Result<HbmTicket> ticket =
        rig.cache->FetchMissesOnStream(probe.Probed(), batch.outputs()[1], rig.stream);
    ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
    const Status status = AwaitAndCheck(made, rig, batch, 1, probe, ticket.value());
    EXPECT_TRUE(status.ok() || status.code() == StatusCode::kPartial) << status.ToString();
    partial += status.ok() ? 0 : 1;
    RunAll(rig);
    ASSERT_TRUE(rig.cache->SyncDirectoryOnStream(rig.stream).ok());
    RunAll(rig);
  }
  EXPECT_GT(partial, 0U);
  EXPECT_GT(disk->counts().io_errors, 0U);
}

TEST(HbmProbedTest, ACallThatFailsOnTheWayLosesNothing) {
  const MadeCheckpoint made({});
  for (const HbmUpload upload : {HbmUpload::kWithGather, HbmUpload::kCopyEngine}) {
    for (const FakeCall call : {FakeCall::kWaitFlag, FakeCall::kCopy, FakeCall::kGather}) {
      HbmRigOptions options = ProbedOptions(made, 200);
      options.hbm.upload = upload;
      const HbmRig rig = OpenRig(made, options);
      HbmBatch batch(rig, HbmFormat::kStored, 16);
      for (std::uint64_t nth = 0; nth < 2; ++nth) {
        batch.Draw(made, nth, 16);
        const FakeProbe probe = testing::ProbeNow(rig, batch, 0);
        rig.device->FailNth(call, nth == 0 ? 0 : ~std::uint64_t{0} - 1);
        const Result<HbmTicket> ticket =
            rig.cache->FetchMissesOnStream(probe.Probed(), batch.outputs()[0], rig.stream);
        EXPECT_EQ(ticket.ok(), nth == 1);
        if (ticket.ok()) {
          EXPECT_TRUE(AwaitAndCheck(made, rig, batch, 0, probe, ticket.value()).ok());
        }
        RunAll(rig);
      }
      ExpectNothingHeld(rig);
    }
  }
}

TEST(HbmProbedTest, WrongArgumentsAreRefused) {
  const MadeCheckpoint made({});
  const HbmRig rig = OpenRig(made, ProbedOptions(made, 200));
  HbmBatch batch(rig, HbmFormat::kStored, 64);
  batch.Draw(made, 1, 16);
  FakeProbe probe = testing::ProbeNow(rig, batch, 0);
  const auto code = [&](const ProbedTokens& probed) {
    return rig.cache->FetchMissesOnStream(probed, batch.outputs()[0], rig.stream).status().code();
  };
  ProbedTokens probed = probe.Probed();
  probed.places = nullptr;
  EXPECT_EQ(code(probed), StatusCode::kInvalidArgument);
  probed = probe.Probed();
  ++probed.places;
  EXPECT_EQ(code(probed), StatusCode::kInvalidArgument);
  probed = probe.Probed();
  probed.token_count = 65;
  EXPECT_EQ(code(probed), StatusCode::kResourceExhausted);
  probed.token_count = 1;
  EXPECT_EQ(code(probed), StatusCode::kInvalidArgument);
  probe.misses[3].key ^= 1;
  EXPECT_EQ(code(probe.Probed()), StatusCode::kInvalidArgument);
  probe.misses[3].key ^= 1;
  probe.misses[3].order_index = 3;
  EXPECT_EQ(code(probe.Probed()), StatusCode::kInvalidArgument);
  const HbmRig other = OpenRig(made, {.hbm = SmallHbm(made, 200)});
  EXPECT_EQ(other.cache->FetchMissesOnStream({}, batch.outputs()[0], other.stream).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(rig.cache->Stats().tickets, 0U);
  EXPECT_EQ(rig.device->pending_count(), 0U);
}

}  // namespace
}  // namespace tiercel
