// Goal: whatever a kernel finds in the mirror of the directory is the group that it looks
// for, at every moment of the one stream where probes and updates are.
//
// Method: batches that evict, updates now and then, and after each piece of the fake GPU's
// work every entry of the mirror is compared with the bytes of its slot. An update of the
// mirror fails while its stream stands still.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "cuda/hbm_cache.h"
#include "tests/cuda/hbm_test_support.h"

namespace tiercel {
namespace {

using testing::HbmBatch;
using testing::HbmRig;
using testing::HbmRigOptions;
using testing::MadeCheckpoint;
using testing::OpenRig;
using testing::SmallHbm;

/// Entries whose slot has other bytes than their group.
std::uint64_t WrongEntries(const MadeCheckpoint& made, const HbmRig& rig) {
  const Recipe& recipe = rig.store->hasher().recipe();
  const std::uint32_t heads = recipe.parameters.head_count;
  std::uint64_t wrong = 0;
  for (const auto& [group, slot] : rig.device->mirror()) {
    const std::uint32_t layer = group.first / recipe.order_count();
    std::vector<RowId> rows(heads);
    rig.store->hasher().RowsOfMix(layer, group.first % recipe.order_count(), group.second, rows);
    const std::byte* at = rig.device->SlotBytes(slot);
    for (const RowId row : rows) {
      const std::vector<std::byte> expected = made.Row(recipe.layers[layer].layer_id, row);
      if (!std::equal(expected.begin(), expected.end(), at)) {
        ++wrong;
        break;
      }
      at += expected.size();
    }
  }
  return wrong;
}

TEST(HbmMirrorTest, EveryEntryIsTrueAtEveryMoment) {
  const MadeCheckpoint made({});
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Prng prng(seed);
    HbmRigOptions options{.seed = seed, .hbm = SmallHbm(made, 60)};
    options.hbm.device_directory = true;
    const HbmRig rig = OpenRig(made, options);
    HbmBatch batch(rig, HbmFormat::kStored, 8);
    std::size_t entries_max = 0;
    for (int round = 0; round < 120; ++round) {
      batch.Draw(made, prng.Below(20), 1 + prng.Below(8));
      const Result<HbmTicket> ticket =
          rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream);
      ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
      while (rig.device->pending_count() > 0) {
        if (prng.Below(3) == 0) {
          ASSERT_TRUE(rig.cache->SyncDirectoryOnStream(rig.stream).ok());
        }
        if (rig.device->Run(1) == 0) std::this_thread::yield();
        if (prng.Below(4) == 0) {
          ASSERT_EQ(WrongEntries(made, rig), 0U);
        }
      }
      entries_max = std::max(entries_max, rig.device->mirror().size());
    }
    EXPECT_GT(entries_max, 30U);
    // Told of everything, it has what is resident.
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(rig.cache->SyncDirectoryOnStream(rig.stream).ok());
      while (rig.device->Run(100) > 0) {
      }
    }
    const HbmStats stats = rig.cache->Stats();
    std::uint64_t resident = 0;
    std::uint64_t evictions = 0;
    for (const HbmOrderStats& order : stats.orders) {
      resident += order.resident_groups;
      evictions += order.evictions;
    }
    EXPECT_EQ(rig.device->mirror().size(), resident);
    EXPECT_EQ(stats.slots_in_flight, 0U);
    EXPECT_GT(evictions, 50U);
  }
}

/// Batches of other tokens than before, each to its end.
void RunBatches(const MadeCheckpoint& made, const HbmRig& rig, std::uint64_t first_seed,
                std::uint64_t count) {
  HbmBatch batch(rig, HbmFormat::kStored, 8);
  for (std::uint64_t seed = first_seed; seed < first_seed + count; ++seed) {
    batch.Draw(made, seed, 8);
    const Result<HbmTicket> ticket =
        rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream);
    ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
    const auto ended = [&ticket](const HbmOutput& output) {
      return ticket.value().TryStatus(output.layer_id).has_value();
    };
    while (!std::ranges::all_of(batch.outputs(), ended)) {
      if (rig.device->Run(10) == 0) std::this_thread::yield();
    }
  }
}

TEST(HbmMirrorTest, WhatAFailedUpdateWasToTellStaysInItsSlots) {
  const MadeCheckpoint made({});
  HbmRigOptions options{.hbm = SmallHbm(made, 200)};
  options.hbm.device_directory = true;
  const HbmRig rig = OpenRig(made, options);
  const HbmStream probes = rig.device->CreateStream().value();
  const MappedMemory memory = rig.device->AllocateMapped(64).value();
  const Mapped<std::uint32_t> flag = {reinterpret_cast<std::uint32_t*>(memory.host),
                                      reinterpret_cast<std::uint32_t*>(memory.device)};
  std::uint64_t seed = 1;
  // Until something has left that the mirror has.
  const auto evictions = [&rig] {
    std::uint64_t sum = 0;
    for (const HbmOrderStats& order : rig.cache->Stats().orders) sum += order.evictions;
    return sum;
  };
  while (evictions() == 0) {
    RunBatches(made, rig, seed++, 1);
    if (evictions() == 0) {
      ASSERT_TRUE(rig.cache->SyncDirectoryOnStream(probes).ok());
    }
    (void)rig.device->Run(100);
  }
  const std::size_t entries = rig.device->mirror().size();
  ASSERT_GT(entries, 100U);
  // It is on the stream, behind probes that have not run; nobody can say when it has.
  ASSERT_TRUE(rig.device->WaitFlag(flag, probes).ok());
  rig.device->FailNth(testing::FakeCall::kRecordEvent, 0);
  EXPECT_EQ(rig.cache->SyncDirectoryOnStream(probes).code(), StatusCode::kIoError);
  RunBatches(made, rig, seed, 40);
  EXPECT_EQ(rig.device->mirror().size(), entries);
  EXPECT_EQ(WrongEntries(made, rig), 0U);
  // Nor does a later one say that all is well.
  EXPECT_EQ(rig.cache->SyncDirectoryOnStream(probes).code(), StatusCode::kIoError);
  std::atomic_ref<std::uint32_t>(*flag.host).store(1);
  while (rig.device->Run(100) > 0) {
  }
  RunBatches(made, rig, seed + 40, 10);
  EXPECT_EQ(WrongEntries(made, rig), 0U);
  rig.device->FreeMapped(memory);
}

TEST(HbmMirrorTest, WithoutTheOptionThereIsNone) {
  const MadeCheckpoint made({});
  const HbmRig rig = OpenRig(made, {.hbm = SmallHbm(made, 60)});
  EXPECT_EQ(rig.cache->SyncDirectoryOnStream(rig.stream).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(rig.cache->mirror().buckets, nullptr);
}

}  // namespace
}  // namespace tiercel
