// Goal: with HbmResidency::kExclusive the DRAM cache takes in nothing that HBM alone has asked
// for, and all that anybody else has; what was in it stays; rows are the same as ever.
//
// Method: seeded batches that evict, over the fake GPU, with the store's counters looked at;
// reads that a HeldDevice keeps in flight, so that a lookup joins them for certain.

#include <gtest/gtest.h>

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
#include "tests/store/held_device.h"

namespace tiercel {
namespace {

using testing::HbmBatch;
using testing::HbmRig;
using testing::HbmRigOptions;
using testing::MadeCheckpoint;
using testing::OpenRig;
using testing::SmallHbm;

/// What the store has done, over all layers and orders.
struct DramCounts {
  std::uint64_t fetches = 0;
  std::uint64_t hits = 0;
  std::uint64_t offered = 0;  ///< Taken in or not.
  std::uint64_t resident = 0;
};

DramCounts CountDram(const Store& store) {
  DramCounts counts;
  for (const OrderStats& order : store.Stats().orders) {
    counts.fetches += order.fetches;
    counts.hits += order.dram_hits;
    counts.offered += order.cache_insertions + order.cache_rejections;
    counts.resident += order.cache_resident_groups;
  }
  return counts;
}

HbmRigOptions Exclusive(const MadeCheckpoint& made, std::uint64_t slot_count) {
  HbmRigOptions options{.hbm = SmallHbm(made, slot_count)};
  options.hbm.residency = HbmResidency::kExclusive;
  return options;
}

/// Runs a batch from start to end, and finds it right.
void RunBatch(const MadeCheckpoint& made, const HbmRig& rig, HbmBatch& batch) {
  batch.Poison();
  const Result<HbmTicket> ticket =
      rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream);
  ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
  while (rig.device->pending_count() > 0) {
    if (rig.device->Run(100) == 0) std::this_thread::yield();
  }
  const HbmBatch::Tally tally = batch.Check(made, ticket.value());
  EXPECT_EQ(tally.wrong, 0U);
  EXPECT_EQ(tally.failed, 0U);
}

/// Looks the batch's rows up, through DRAM, in all layers.
void LookUp(Store& store, const HbmBatch& batch) {
  for (const HbmOutput& output : batch.outputs()) {
    testing::LayerBuffers rows(store, output.layer_id,
                               batch.token_count() * store.hasher().recipe().column_count(),
                               RowOutput::kStored);
    const LayerOutput wanted = rows.Output();
    const Status status = store.Lookup(batch.runs(), {&wanted, 1});
    EXPECT_TRUE(status.ok()) << status.ToString();
  }
}

std::vector<std::uint64_t> ResidencySeeds() {
  const char* const text = std::getenv("TIERCEL_TEST_SEED");
  if (text != nullptr) return {std::strtoull(text, nullptr, 10)};
  return {1, 2, 3, 4};
}

TEST(HbmResidencyTest, RowsAreTheSameAndDramTakesInNothing) {
  const MadeCheckpoint made({});
  for (const std::uint64_t seed : ResidencySeeds()) {
    SCOPED_TRACE(::testing::Message() << "TIERCEL_TEST_SEED=" << seed);
    for (const HbmResidency residency : {HbmResidency::kExclusive, HbmResidency::kInclusive}) {
      Prng prng(seed);
      HbmRigOptions options = Exclusive(made, 60 + prng.Below(200));
      options.seed = prng();
      options.hbm.residency = residency;
      if (seed % 2 == 0) options.hbm.upload = HbmUpload::kCopyEngine;
      const HbmRig rig = OpenRig(made, options);
      HbmBatch batch(rig, HbmFormat::kStored, 32);
      for (int round = 0; round < 60; ++round) {
        batch.Draw(made, prng.Below(12), 1 + prng.Below(32));
        RunBatch(made, rig, batch);
        if (HasFailure()) return;
      }
      const DramCounts dram = CountDram(*rig.store);
      EXPECT_GT(dram.fetches, 500U);
      EXPECT_EQ(dram.offered == 0, residency == HbmResidency::kExclusive);
      EXPECT_EQ(dram.resident == 0, residency == HbmResidency::kExclusive);
      EXPECT_EQ(dram.hits == 0, residency == HbmResidency::kExclusive);
      std::uint64_t hits = 0;
      std::uint64_t evictions = 0;
      for (const HbmOrderStats& order : rig.cache->Stats().orders) {
        hits += order.hits;
        evictions += order.evictions;
      }
      EXPECT_GT(hits, 100U);
      EXPECT_GT(evictions, 100U);
    }
  }
}

TEST(HbmResidencyTest, WhatIsInDramStaysThereAndServesHbm) {
  const MadeCheckpoint made({});
  const HbmRig rig = OpenRig(made, Exclusive(made, 500));
  HbmBatch batch(rig, HbmFormat::kStored, 16);
  batch.Draw(made, 1, 16);
  LookUp(*rig.store, batch);
  const DramCounts before = CountDram(*rig.store);
  EXPECT_GT(before.resident, 0U);
  RunBatch(made, rig, batch);
  const DramCounts after = CountDram(*rig.store);
  EXPECT_EQ(after.fetches, before.fetches);
  EXPECT_GT(after.hits, before.hits);
  EXPECT_EQ(after.resident, before.resident);
}

/// A store whose reads stay in flight until `hold` lets go.
std::unique_ptr<Store> OpenHeldStore(const MadeCheckpoint& made, testing::Hold& hold) {
  StoreOptions options = testing::SmallStore();
  options.io_thread_count = 1;
  options.queue_depth = 8;
  Result<std::unique_ptr<Store>> store = OpenStoreOn(
      made.info(), options,
      [&](const std::vector<std::string>& paths,
          const DeviceOptions& device) -> Result<OpenedDevice> {
        Result<std::unique_ptr<Device>> base = OpenPreadDevice(paths, device);
        if (!base.ok()) return std::move(base).TakeStatus();
        return OpenedDevice{
            .device = std::make_unique<testing::HeldDevice>(std::move(base).value(), hold),
            .fallback_reason = ""};
      });
  EXPECT_TRUE(store.ok()) << store.status().ToString();
  return std::move(store).value();
}

TEST(HbmResidencyTest, AReadThatSomebodyJoinsIsCached) {
  const MadeCheckpoint made({});
  testing::Hold hold;
  const HbmRig rig = OpenRig(made, Exclusive(made, 500), OpenHeldStore(made, hold));
  HbmBatch alone(rig, HbmFormat::kStored, 4);
  HbmBatch joined(rig, HbmFormat::kStored, 4);
  alone.Draw(made, 1, 4);
  joined.Draw(made, 2, 4);
  std::vector<HbmTicket> tickets;
  std::vector<std::uint64_t> staged;  // Groups of layer 1, after each batch.
  for (HbmBatch* const batch : {&joined, &alone}) {
    Result<HbmTicket> ticket =
        rig.cache->StartOnStream(batch->runs(), batch->outputs(), rig.stream);
    ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
    tickets.push_back(std::move(ticket).value());
    staged.push_back(0);
    for (const HbmOrderStats& order : rig.cache->Stats().orders) {
      if (order.layer_id == 1) staged.back() += order.staged;
    }
  }
  while (hold.in_flight.load() == 0) std::this_thread::yield();
  const std::uint64_t fetches = CountDram(*rig.store).fetches;
  // The same rows for somebody without HBM, one layer of them.
  testing::LayerBuffers rows(*rig.store, 1, 4 * rig.store->hasher().recipe().column_count(),
                             RowOutput::kStored);
  const PrefetchLayer layer = {.layer_id = 1, .rows = rows.rows, .row_status = rows.row_status};
  Result<Ticket> joins = rig.store->Start(joined.runs(), {&layer, 1});
  ASSERT_TRUE(joins.ok()) << joins.status().ToString();
  const TicketStats stats = joins.value().Stats(1).value();
  EXPECT_EQ(stats.joined, stats.groups);
  hold.closing.store(true);
  HbmBatch other(rig, HbmFormat::kStored, 1);  // Wakes the thread that reads.
  other.Draw(made, 3, 1);
  LookUp(*rig.store, other);
  ASSERT_TRUE(joins.value().WaitAll().ok());
  while (rig.device->pending_count() > 0) {
    if (rig.device->Run(100) == 0) std::this_thread::yield();
  }
  EXPECT_EQ(joined.Check(made, tickets[0]).wrong, 0U);
  EXPECT_EQ(alone.Check(made, tickets[1]).wrong, 0U);
  const DramCounts dram = CountDram(*rig.store);
  EXPECT_GT(staged[1], staged[0]);
  EXPECT_GT(staged[0], 0U);
  // What was joined, and what the lookup of another batch has read.
  EXPECT_EQ(dram.resident, staged[0] + dram.fetches - fetches);
}

}  // namespace
}  // namespace tiercel
