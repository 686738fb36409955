// Goal: a batch that starts after Store::Update() returned has the new row, wherever in HBM,
// on its way there or in the mirror the old one was at any moment of the update.
//
// Method: the fake GPU runs when the test says so; an observer of its own starts batches in
// the midst of an update.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "cuda/hbm_cache.h"
#include "tests/cuda/hbm_test_support.h"
#include "tests/store/updated_rows.h"
#include "tests/support/scratch_dir.h"

namespace tiercel {
namespace {

using testing::HbmBatch;
using testing::HbmRig;
using testing::MadeCheckpoint;
using testing::SmallHbm;

constexpr std::uint32_t kTokens = 8;

/// An updatable store with HBM, and a batch of which one row is updated.
class HbmUpdateTest : public ::testing::TestWithParam<HbmUpload> {
 protected:
  void SetUp() override {
    StoreOptions options = testing::SmallStore();
    options.updates = Updates::kReadWrite;
    options.state_path = scratch_.File("state");
    Result<std::unique_ptr<Store>> store = Store::Open(made_.path(), options);
    if (!store.ok() && store.status().code() == StatusCode::kUnavailable) {
      GTEST_SKIP() << store.status().ToString();
    }
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    testing::HbmRigOptions rig_options{.hbm = SmallHbm(made_, 500)};
    rig_options.hbm.upload = GetParam();
    rig_options.hbm.device_directory = true;
    rig_ = testing::OpenRig(made_, rig_options, std::move(store).value());
    batch_ = std::make_unique<HbmBatch>(rig_, HbmFormat::kStored, kTokens);
    batch_->Draw(made_, 1, kTokens);
    row_ = batch_->Ids(0)[5];
  }

  [[nodiscard]] std::uint32_t layer_id() const { return batch_->outputs()[0].layer_id; }

  void Update(std::uint64_t version) {
    testing::UpdateBatch update;
    update.AddVersion(*rig_.store, layer_id(), row_, version);
    const Status status = rig_.store->Update(update.rows());
    ASSERT_TRUE(status.ok()) << status.ToString();
  }

  [[nodiscard]] HbmTicket Start() {
    batch_->Poison();
    Result<HbmTicket> ticket =
        rig_.cache->StartOnStream(batch_->runs(), batch_->outputs(), rig_.stream);
    EXPECT_TRUE(ticket.ok()) << ticket.status().ToString();
    return ticket.ok() ? std::move(ticket).value() : HbmTicket();
  }
  void Drain() const {
    while (rig_.device->pending_count() > 0) {
      if (rig_.device->Run(100) == 0) std::this_thread::yield();
    }
  }
  /// The version of the row that is in the output of a batch that has ended; all others
  /// must be as they were made.
  std::optional<std::uint64_t> VersionIn(const HbmTicket& ticket) {
    std::optional<std::uint64_t> found;
    for (std::size_t layer = 0; layer < batch_->outputs().size(); ++layer) {
      const std::uint32_t id = batch_->outputs()[layer].layer_id;
      const std::vector<RowId> ids = batch_->Ids(layer);
      std::vector<RowStatus> statuses(ids.size());
      const Status status = ticket.RowStatuses(id, statuses);
      EXPECT_TRUE(status.ok()) << status.ToString();
      for (std::size_t i = 0; i < ids.size(); ++i) {
        if (statuses[i] == RowStatus::kDead) continue;
        EXPECT_EQ(statuses[i], RowStatus::kOk);
        const auto version = testing::VersionOf(made_, id, ids[i], batch_->StoredRow(layer, i));
        EXPECT_TRUE(version.has_value()) << "a mixture";
        if (layer == 0 && ids[i] == row_) {
          found = version;
        } else {
          EXPECT_EQ(version, 0U);
        }
      }
    }
    return found;
  }
  std::optional<std::uint64_t> RunBatch() {
    const HbmTicket ticket = Start();
    Drain();
    return VersionIn(ticket);
  }
  /// Has all of the batch's groups in DRAM, so that a batch is staged when it is started.
  void WarmDram() {
    for (const HbmOutput& output : batch_->outputs()) {
      testing::LayerBuffers rows(*rig_.store, output.layer_id,
                                 kTokens * rig_.store->hasher().recipe().column_count(),
                                 RowOutput::kStored);
      const LayerOutput wanted = rows.Output();
      ASSERT_TRUE(rig_.store->Lookup(batch_->runs(), {&wanted, 1}).ok());
    }
  }

  struct Counts {
    std::uint64_t groups = 0;
    std::uint64_t hits = 0;
    std::uint64_t removals = 0;
    std::uint64_t refusals = 0;
  };
  [[nodiscard]] Counts Count() const {
    Counts counts;
    for (const HbmOrderStats& order : rig_.cache->Stats().orders) {
      counts.groups += order.groups;
      counts.hits += order.hits;
      counts.removals += order.removals;
      counts.refusals += order.refusals;
    }
    return counts;
  }

  const MadeCheckpoint made_{MadeCheckpoint::Options{}};
  const testing::ScratchDir scratch_;
  HbmRig rig_;
  std::unique_ptr<HbmBatch> batch_;
  RowId row_{};
};

INSTANTIATE_TEST_SUITE_P(Uploads, HbmUpdateTest,
                         ::testing::Values(HbmUpload::kWithGather, HbmUpload::kCopyEngine));

TEST_P(HbmUpdateTest, AResidentGroupWithTheRowLeavesAndComesBackNew) {
  EXPECT_EQ(RunBatch(), 0U);
  const Counts before = Count();
  Update(1);
  EXPECT_GT(Count().removals, 0U);
  EXPECT_LT(Count().removals, 4U);  // The groups with that row, no others.
  EXPECT_EQ(RunBatch(), 1U);
  const Counts missed = Count();
  EXPECT_LT(missed.hits, before.groups);
  EXPECT_EQ(RunBatch(), 1U);  // All hits now.
  EXPECT_EQ(Count().hits - missed.hits, before.groups);
  EXPECT_EQ(rig_.cache->Stats().slots_in_flight, rig_.cache->Stats().mirror_lag == 0 ? 0U : 1U);
}

TEST_P(HbmUpdateTest, ABatchThatFoundTheOldGroupKeepsItAndTheNextHasTheNewOne) {
  EXPECT_EQ(RunBatch(), 0U);
  const HbmTicket ticket = Start();
  Update(1);
  HbmBatch other(rig_, HbmFormat::kStored, kTokens);  // Wants slots meanwhile.
  other.Draw(made_, 2, kTokens);
  const Result<HbmTicket> beside =
      rig_.cache->StartOnStream(other.runs(), other.outputs(), rig_.stream);
  ASSERT_TRUE(beside.ok());
  Drain();
  EXPECT_EQ(VersionIn(ticket), 0U);
  EXPECT_EQ(other.Check(made_, beside.value()).wrong, 0U);
  EXPECT_EQ(RunBatch(), 1U);
}

TEST_P(HbmUpdateTest, AGroupStagedBeforeTheUpdateAndWrittenAfterItIsNotFound) {
  WarmDram();
  const HbmTicket ticket = Start();  // All of it is staged, nothing has run.
  Update(1);
  EXPECT_GT(Count().refusals, 0U);
  Drain();
  EXPECT_EQ(VersionIn(ticket), 0U);
  EXPECT_EQ(RunBatch(), 1U);
  EXPECT_LT(Count().hits, Count().groups / 2);
  EXPECT_EQ(RunBatch(), 1U);
}

TEST_P(HbmUpdateTest, AGroupThatIsInItsSlotButWasNotReapedIsNotFound) {
  WarmDram();
  const HbmTicket ticket = Start();
  Drain();  // Nobody has asked the tier since.
  Update(1);
  EXPECT_EQ(VersionIn(ticket), 0U);
  EXPECT_EQ(RunBatch(), 1U);
}

/// Runs what the test says in the midst of an update.
struct InUpdate final : UpdateObserver {
  std::function<void(const ChangingRows&)> begins;
  std::function<void()> ends;
  void OnUpdateBegins(const ChangingRows& rows) noexcept override { begins(rows); }
  void OnUpdateEnds() noexcept override { ends(); }
};

TEST_P(HbmUpdateTest, BatchesInTheMidstOfAnUpdateDoNotKeepTheRow) {
  WarmDram();
  InUpdate observer;
  HbmTicket staged;
  observer.begins = [&](const ChangingRows&) {
    EXPECT_EQ(RunBatch(), 0U);  // Nobody sees the new row yet.
    staged = Start();           // Runs on the device when the update is long over.
  };
  observer.ends = [&] {
    EXPECT_EQ(testing::LookUpRow(*rig_.store, layer_id(), row_),
              testing::VersionBytes(layer_id(), row_, 1, batch_->StoredRow(0, 0).size()));
  };
  ASSERT_TRUE(rig_.store->AddUpdateObserver(observer).ok());
  Update(1);
  rig_.store->RemoveUpdateObserver(observer);
  EXPECT_GT(Count().refusals, 0U);
  Drain();
  EXPECT_EQ(VersionIn(staged), 0U);
  EXPECT_EQ(RunBatch(), 1U);
  EXPECT_EQ(RunBatch(), 1U);
  EXPECT_EQ(Count().removals, 0U);  // It never was in HBM.
}

/// Entries of the mirror that have the row.
std::vector<std::uint32_t> MirrorSlots(const HbmRig& rig, std::uint32_t layer, RowId row) {
  const Recipe& recipe = rig.store->hasher().recipe();
  std::vector<std::uint32_t> slots;
  for (const auto& [group, slot] : rig.device->mirror()) {
    if (group.first / recipe.order_count() != layer) continue;
    std::vector<RowId> rows(recipe.parameters.head_count);
    rig.store->hasher().RowsOfMix(layer, group.first % recipe.order_count(), group.second, rows);
    if (std::ranges::find(rows, row) != rows.end()) slots.push_back(slot);
  }
  return slots;
}

TEST_P(HbmUpdateTest, TheMirrorForgetsTheRowWithTheNextSync) {
  EXPECT_EQ(RunBatch(), 0U);
  (void)rig_.cache->Stats();  // Takes in what came.
  ASSERT_TRUE(rig_.cache->SyncDirectoryOnStream(rig_.stream).ok());
  Drain();
  const std::vector<std::uint32_t> old_slots = MirrorSlots(rig_, 0, row_);
  ASSERT_FALSE(old_slots.empty());
  const std::vector<std::byte> old_bytes(rig_.device->SlotBytes(old_slots[0]),
                                         rig_.device->SlotBytes(old_slots[0]) + 2112);
  Update(1);
  EXPECT_GT(rig_.cache->Stats().mirror_lag, 0U);
  EXPECT_EQ(RunBatch(), 1U);
  // A probe before the sync finds the old group, whole: its slot is not written yet.
  EXPECT_EQ(MirrorSlots(rig_, 0, row_), old_slots);
  EXPECT_TRUE(std::equal(old_bytes.begin(), old_bytes.end(), rig_.device->SlotBytes(old_slots[0])));
  ASSERT_TRUE(rig_.cache->SyncDirectoryOnStream(rig_.stream).ok());
  EXPECT_EQ(rig_.cache->Stats().mirror_lag, 0U);
  Drain();
  for (const std::uint32_t slot : MirrorSlots(rig_, 0, row_)) {
    EXPECT_EQ(std::ranges::find(old_slots, slot), old_slots.end());
  }
  EXPECT_EQ(rig_.cache->Stats().slots_in_flight, 0U);
}

TEST_P(HbmUpdateTest, ASyncThatCannotTellOfTheUpdateSaysSo) {
  const HbmStream probes = rig_.device->CreateStream().value();
  const MappedMemory memory = rig_.device->AllocateMapped(64).value();
  const Mapped<std::uint32_t> flag = {reinterpret_cast<std::uint32_t*>(memory.host),
                                      reinterpret_cast<std::uint32_t*>(memory.device)};
  const auto run_batches = [this] {
    while (rig_.device->Run(100) > 0) {
    }
  };
  EXPECT_EQ(RunBatch(), 0U);
  ASSERT_TRUE(rig_.cache->SyncDirectoryOnStream(probes).ok());
  Drain();
  ASSERT_FALSE(MirrorSlots(rig_, 0, row_).empty());
  // The stream of the probes stands still, with all updates of the mirror that there are.
  ASSERT_TRUE(rig_.device->WaitFlag(flag, probes).ok());
  HbmBatch other(rig_, HbmFormat::kStored, kTokens);
  for (std::uint64_t seed = 2; seed < 4; ++seed) {
    other.Draw(made_, seed, kTokens);
    const Result<HbmTicket> ticket =
        rig_.cache->StartOnStream(other.runs(), other.outputs(), rig_.stream);
    ASSERT_TRUE(ticket.ok());
    while (!ticket.value().TryStatus(1) || !ticket.value().TryStatus(14)) run_batches();
    run_batches();
    ASSERT_TRUE(rig_.cache->SyncDirectoryOnStream(probes).ok());
    EXPECT_EQ(rig_.cache->Stats().mirror_lag, 0U);
  }
  Update(1);
  EXPECT_EQ(rig_.cache->SyncDirectoryOnStream(probes).code(), StatusCode::kUnavailable);
  EXPECT_GT(rig_.cache->Stats().mirror_lag, 0U);
  std::atomic_ref<std::uint32_t>(*flag.host).store(1);
  Drain();
  EXPECT_FALSE(MirrorSlots(rig_, 0, row_).empty());
  ASSERT_TRUE(rig_.cache->SyncDirectoryOnStream(probes).ok());
  Drain();
  EXPECT_TRUE(MirrorSlots(rig_, 0, row_).empty());
  rig_.device->FreeMapped(memory);
}

TEST_P(HbmUpdateTest, AProbeAfterTheSyncHasTheNewRow) {
  for (std::uint64_t version = 0; version < 4; ++version) {
    if (version > 0) Update(version);
    ASSERT_TRUE(rig_.cache->SyncDirectoryOnStream(rig_.stream).ok());
    Drain();
    for (int round = 0; round < 2; ++round) {  // Missed, then found.
      batch_->Poison();
      const testing::FakeProbe probe = testing::ProbeNow(rig_, *batch_, 0);
      EXPECT_EQ(probe.misses.empty(), round == 1);
      const Result<HbmTicket> ticket =
          rig_.cache->FetchMissesOnStream(probe.Probed(), batch_->outputs()[0], rig_.stream);
      ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
      Drain();
      const std::vector<RowId> ids = batch_->Ids(0);
      const std::uint32_t heads = rig_.store->hasher().recipe().parameters.head_count;
      for (std::size_t i = 0; i < ids.size(); ++i) {
        if (probe.places[i / heads].source == GroupSource::kNone) continue;
        EXPECT_EQ(testing::VersionOf(made_, layer_id(), ids[i], batch_->StoredRow(0, i)),
                  ids[i] == row_ ? version : 0U);
      }
      ASSERT_TRUE(rig_.cache->SyncDirectoryOnStream(rig_.stream).ok());
      Drain();
    }
  }
}

TEST_P(HbmUpdateTest, ATierThatIsClosedHearsOfNothing) {
  EXPECT_EQ(RunBatch(), 0U);
  rig_.cache->Close();
  Update(1);
  rig_.cache.reset();
  Update(2);
}

}  // namespace
}  // namespace tiercel
