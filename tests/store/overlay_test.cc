// Goal: an updated row is what every later lookup, ticket and reopening delivers, from
// wherever its group came; a snapshot stays as it was; what cannot be updated is refused with
// a reason, and nothing is changed then.
//
// Method: made checkpoints, whose rows are known from nothing, and versions of rows that name
// themselves (updated_rows.h). States of other tables, damaged ones and locked ones are made
// by hand.

#include "tiercel/overlay.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/store/updated_rows.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/scratch_dir.h"
#include "tests/support/seccomp_filter.h"
#include "tiercel/row_format.h"
#include "tiercel/store.h"

namespace tiercel::testing {
namespace {

StoreOptions OptionsFor(Updates updates, const std::string& state_path = "") {
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{32} << 20;
  options.queue_depth = 32;
  options.updates = updates;
  options.state_path = state_path;
  options.log = [](std::string_view /*line*/) {};
  return options;
}

std::unique_ptr<Store> MustOpen(const MadeCheckpoint& made, const StoreOptions& options) {
  Result<std::unique_ptr<Store>> store = Store::Open(made.path(), options);
  if (store.ok()) return std::move(store).value();
  ADD_FAILURE() << store.status().ToString();
  return nullptr;
}

/// Looks `run` up in one layer and tells the version of every row; -1 for no version.
std::vector<std::int64_t> Versions(const MadeCheckpoint& made, const Store& store,
                                   const LayerBuffers& buffers, const std::vector<RowId>& ids) {
  std::vector<std::int64_t> versions;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto version = VersionOf(made, buffers.layer_id, ids[i], buffers.Row(i));
    versions.push_back(version.has_value() ? static_cast<std::int64_t>(*version) : -1);
  }
  (void)store;
  return versions;
}

class OverlayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const Result<StateInfo> info = InspectState("/nonexistent");
    if (info.status().code() == StatusCode::kUnavailable) {
      GTEST_SKIP() << "the library was built without RocksDB";
    }
  }
  const MadeCheckpoint made_{{.shrink = 40000}};
  const std::uint32_t layer_ = made_.info().layers[0].layer_id;
  const std::vector<std::int32_t> tokens_ = made_.RandomTokens(3, 300);
  const TokenRun run_{.history = {}, .tokens = tokens_};
};

TEST_F(OverlayTest, AnUpdatedRowIsSeenByEveryLookupThatFollows) {
  const std::unique_ptr<Store> store = MustOpen(made_, OptionsFor(Updates::kReadWrite));
  ASSERT_NE(store, nullptr);
  const std::vector<RowId> ids = RowIdsOf(*store, layer_, run_);
  LayerBuffers before(*store, layer_, ids.size(), RowOutput::kStored);
  const LayerOutput output = before.Output();
  ASSERT_TRUE(store->Lookup(std::span(&run_, 1), std::span(&output, 1)).ok());
  EXPECT_EQ(CheckRows(made_, before, ids, RowOutput::kStored).right, ids.size());
  EXPECT_GT(store->Stats().orders[0].cache_resident_groups, 0u);

  // Each 7th row that the tokens need, so that most of the cached groups have one.
  std::set<RowId> updated;
  UpdateBatch batch;
  for (std::size_t i = 0; i < ids.size(); i += 7) {
    if (updated.insert(ids[i]).second) batch.AddVersion(*store, layer_, ids[i], 1);
  }
  ASSERT_TRUE(store->Update(batch.rows()).ok());
  EXPECT_GT(store->Stats().overlay.groups_removed, 0u) << "the cache held such groups";
  EXPECT_EQ(store->Stats().overlay.rows, updated.size());
  EXPECT_EQ(store->Stats().overlay.sequence, 1u);

  // Read from disk, then from the cache.
  for (const bool cached : {false, true}) {
    LayerBuffers after(*store, layer_, ids.size(), RowOutput::kStored);
    const LayerOutput again = after.Output();
    ASSERT_TRUE(store->Lookup(std::span(&run_, 1), std::span(&again, 1)).ok());
    const std::vector<std::int64_t> versions = Versions(made_, *store, after, ids);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      ASSERT_EQ(versions[i], updated.contains(ids[i]) ? 1 : 0) << i << " cached " << cached;
    }
  }
  for (const RowId row : updated) {
    EXPECT_EQ(VersionOf(made_, layer_, row, LookUpRow(*store, layer_, row)), 1u);
  }
}

TEST_F(OverlayTest, TicketsAndDequantisedOutputsHaveIt) {
  const std::unique_ptr<Store> store = MustOpen(made_, OptionsFor(Updates::kReadWrite));
  ASSERT_NE(store, nullptr);
  const std::vector<RowId> ids = RowIdsOf(*store, layer_, run_);
  // Good values, so that they can be dequantised: those of another row.
  const std::vector<std::byte> other = made_.Row(layer_, RowId{1});
  UpdateBatch batch;
  batch.Add(layer_, ids[0], other);
  batch.Add(layer_, ids[25], other);
  ASSERT_TRUE(store->Update(batch.rows()).ok());

  LayerBuffers buffers(*store, layer_, ids.size(), RowOutput::kBf16);
  const PrefetchLayer layer = {
      .layer_id = layer_, .rows = buffers.rows, .row_status = buffers.row_status};
  Result<Ticket> ticket =
      store->Start(std::span(&run_, 1), std::span(&layer, 1), {.format = RowOutput::kBf16});
  ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
  ASSERT_TRUE(ticket.value().WaitAll().ok());
  const std::vector<std::byte> wanted = made_.Output(layer_, RowId{1}, RowOutput::kBf16);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const bool is_updated = ids[i] == ids[0] || ids[i] == ids[25];
    ASSERT_EQ(buffers.Row(i), is_updated ? wanted : made_.Output(layer_, ids[i], RowOutput::kBf16))
        << i;
  }
}

TEST_F(OverlayTest, TheLastUpdateOfARowCountsWithinABatchAndBetween) {
  const std::unique_ptr<Store> store = MustOpen(made_, OptionsFor(Updates::kReadWrite));
  ASSERT_NE(store, nullptr);
  const RowId row{17};
  for (std::uint64_t version = 1; version < 20; version += 2) {
    UpdateBatch batch;
    batch.AddVersion(*store, layer_, row, version);
    batch.AddVersion(*store, layer_, row, version + 1);
    ASSERT_TRUE(store->Update(batch.rows()).ok());
    EXPECT_EQ(VersionOf(made_, layer_, row, LookUpRow(*store, layer_, row)), version + 1);
  }
  EXPECT_EQ(store->Stats().overlay.rows, 1u);
  EXPECT_EQ(store->Stats().overlay.batches, 10u);
  EXPECT_TRUE(store->Update({}).ok());
  EXPECT_EQ(store->Stats().overlay.batches, 10u) << "an empty batch is nothing";
}

TEST_F(OverlayTest, ItIsThereAfterTheStoreWasClosed) {
  const std::string state = DefaultStatePath(made_.path());
  EXPECT_FALSE(StateExists(state));
  {
    const std::unique_ptr<Store> store = MustOpen(made_, OptionsFor(Updates::kReadWrite));
    ASSERT_NE(store, nullptr);
    UpdateBatch batch;
    for (std::uint64_t row = 0; row < 500; ++row) batch.AddVersion(*store, layer_, RowId{row}, 9);
    ASSERT_TRUE(store->Update(batch.rows()).ok());
  }
  EXPECT_TRUE(StateExists(state));
  for (const Updates updates : {Updates::kAuto, Updates::kReadOnly, Updates::kReadWrite}) {
    const std::unique_ptr<Store> store = MustOpen(made_, OptionsFor(updates));
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(VersionOf(made_, layer_, RowId{499}, LookUpRow(*store, layer_, RowId{499})), 9u);
    EXPECT_EQ(VersionOf(made_, layer_, RowId{500}, LookUpRow(*store, layer_, RowId{500})), 0u);
    const OverlayStats stats = store->Stats().overlay;
    EXPECT_EQ(stats.rows, 500u);
    EXPECT_EQ(stats.sequence, 1u);
    EXPECT_EQ(stats.state_path, state);
    EXPECT_EQ(stats.writable, updates == Updates::kReadWrite);
    EXPECT_GT(stats.memory_bytes, 0u);
    UpdateBatch batch;
    batch.AddVersion(*store, layer_, RowId{3}, 9);
    EXPECT_EQ(store->Update(batch.rows()).code(),
              updates == Updates::kReadWrite ? StatusCode::kOk : StatusCode::kUnavailable);
  }
  const std::unique_ptr<Store> off = MustOpen(made_, OptionsFor(Updates::kOff));
  ASSERT_NE(off, nullptr);
  EXPECT_EQ(VersionOf(made_, layer_, RowId{499}, LookUpRow(*off, layer_, RowId{499})), 0u);
  EXPECT_EQ(off->Stats().overlay.state_path, "");

  const Result<StateInfo> info = InspectState(state);
  ASSERT_TRUE(info.ok()) << info.status().ToString();
  EXPECT_EQ(info.value().version, 1u);
  EXPECT_EQ(info.value().sequence, 2u);
  EXPECT_EQ(info.value().updated_rows, 500u);
  EXPECT_EQ(info.value().updated_bytes, 500u * 264u);
  EXPECT_EQ(info.value().layers[0].updated_rows, 500u);
  EXPECT_EQ(info.value().layers.size(), made_.info().layers.size());
}

TEST_F(OverlayTest, WhatCannotBeUpdatedIsRefusedAndNothingOfTheBatchIsDone) {
  const std::unique_ptr<Store> store = MustOpen(made_, OptionsFor(Updates::kReadWrite));
  ASSERT_NE(store, nullptr);
  const std::uint64_t row_count = made_.info().layers[0].row_count;
  struct Case {
    std::uint32_t layer_id;
    std::uint64_t row;
    std::size_t size_bytes;
    StatusCode code;
    const char* part;
  };
  for (const Case& wrong : {Case{layer_, row_count, 264, StatusCode::kInvalidArgument, "beyond"},
                            Case{layer_, 5, 263, StatusCode::kInvalidArgument, "263 B"},
                            Case{layer_, 5, 0, StatusCode::kInvalidArgument, "0 B"},
                            Case{99, 5, 264, StatusCode::kNotFound, "layer 99"}}) {
    UpdateBatch batch;
    batch.AddVersion(*store, layer_, RowId{4}, 1);
    batch.Add(wrong.layer_id, RowId{wrong.row}, std::vector<std::byte>(wrong.size_bytes));
    const Status status = store->Update(batch.rows());
    EXPECT_EQ(status.code(), wrong.code) << status.ToString();
    EXPECT_NE(status.message().find(wrong.part), std::string_view::npos) << status.ToString();
    EXPECT_NE(status.message().find("update 1"), std::string_view::npos) << status.ToString();
  }
  EXPECT_EQ(VersionOf(made_, layer_, RowId{4}, LookUpRow(*store, layer_, RowId{4})), 0u);
  EXPECT_EQ(store->Stats().overlay.sequence, 0u);

  const std::unique_ptr<Store> off = MustOpen(made_, OptionsFor(Updates::kOff));
  UpdateBatch batch;
  batch.AddVersion(*off, layer_, RowId{4}, 1);
  EXPECT_EQ(off->Update(batch.rows()).code(), StatusCode::kUnavailable);
}

TEST_F(OverlayTest, MoreRowsThanThereIsRoomForAreRefusedByNameWhenUpdatedAndWhenOpened) {
  StoreOptions options = OptionsFor(Updates::kReadWrite);
  options.overlay_rows_max = 100;
  {
    const std::unique_ptr<Store> store = MustOpen(made_, options);
    ASSERT_NE(store, nullptr);
    UpdateBatch fits;
    for (std::uint64_t row = 0; row < 100; ++row) fits.AddVersion(*store, layer_, RowId{row}, 1);
    ASSERT_TRUE(store->Update(fits.rows()).ok());
    ASSERT_TRUE(store->Update(fits.rows()).ok()) << "they are there already";
    UpdateBatch more;
    more.AddVersion(*store, layer_, RowId{99}, 2);
    more.AddVersion(*store, layer_, RowId{100}, 2);
    const Status status = store->Update(more.rows());
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
    EXPECT_NE(status.message().find("overlay_rows_max"), std::string_view::npos);
    EXPECT_EQ(VersionOf(made_, layer_, RowId{99}, LookUpRow(*store, layer_, RowId{99})), 1u);
  }
  options.overlay_rows_max = 99;
  const Result<std::unique_ptr<Store>> small = Store::Open(made_.path(), options);
  ASSERT_FALSE(small.ok());
  EXPECT_EQ(small.status().code(), StatusCode::kResourceExhausted);
  EXPECT_NE(small.status().message().find("overlay_rows_max"), std::string_view::npos);
}

TEST_F(OverlayTest, ASnapshotStaysAsItWas) {
  const std::unique_ptr<Store> store = MustOpen(made_, OptionsFor(Updates::kReadWrite));
  ASSERT_NE(store, nullptr);
  const std::vector<RowId> ids = RowIdsOf(*store, layer_, run_);
  std::vector<StoreSnapshot> snapshots;
  const auto update = [&](std::uint64_t version, std::size_t step) {
    UpdateBatch batch;
    for (std::size_t i = 0; i < ids.size(); i += step) {
      batch.AddVersion(*store, layer_, ids[i], version);
    }
    ASSERT_TRUE(store->Update(batch.rows()).ok());
  };
  for (std::uint64_t version = 0; version < 4; ++version) {
    if (version > 0) update(version, 3 + version);
    Result<StoreSnapshot> snapshot = store->Snapshot();
    ASSERT_TRUE(snapshot.ok());
    EXPECT_EQ(snapshot.value().sequence(), version);
    snapshots.push_back(std::move(snapshot).value());
  }
  update(9, 1);
  for (std::uint64_t at = 0; at < snapshots.size(); ++at) {
    LayerBuffers runs(*store, layer_, ids.size(), RowOutput::kStored);
    LayerBuffers rows(*store, layer_, ids.size(), RowOutput::kStored);
    const LayerOutput output = runs.Output();
    ASSERT_TRUE(snapshots[at].Lookup(std::span(&run_, 1), std::span(&output, 1)).ok());
    ASSERT_TRUE(snapshots[at].LookupRows(ids, rows.Output()).ok());
    // A row may stand at several places, so the model is by id.
    std::map<RowId, std::int64_t> model;
    for (const RowId id : ids) model[id] = 0;
    for (std::uint64_t version = 1; version <= at; ++version) {
      for (std::size_t i = 0; i < ids.size(); i += 3 + version) {
        model[ids[i]] = static_cast<std::int64_t>(version);
      }
    }
    std::vector<std::int64_t> wanted;
    for (const RowId id : ids) wanted.push_back(model[id]);
    EXPECT_EQ(Versions(made_, *store, runs, ids), wanted) << "snapshot " << at;
    EXPECT_EQ(Versions(made_, *store, rows, ids), wanted) << "snapshot " << at;
    EXPECT_EQ(std::ranges::count(runs.row_status, RowStatus::kOk), std::ssize(ids));
  }
}

TEST_F(OverlayTest, ASnapshotMarksWhatIsDeadOrBeyondTheTable) {
  const std::unique_ptr<Store> store = MustOpen(made_, OptionsFor(Updates::kReadWrite));
  ASSERT_NE(store, nullptr);
  UpdateBatch batch;
  for (std::uint64_t row = 0; row < 50; ++row) batch.AddVersion(*store, layer_, RowId{row}, 1);
  Result<StoreSnapshot> before = store->Snapshot();
  ASSERT_TRUE(store->Update(batch.rows()).ok());
  const std::vector<RowId> ids = {RowId{3}, RowId{made_.info().layers[0].row_count}, RowId{100}};
  LayerBuffers buffers(*store, layer_, 3, RowOutput::kStored);
  EXPECT_EQ(before.value().LookupRows(ids, buffers.Output()).code(), StatusCode::kPartial);
  EXPECT_EQ(VersionOf(made_, layer_, ids[0], buffers.Row(0)), 0u);
  EXPECT_EQ(buffers.row_status[1], RowStatus::kOutOfRange);
  EXPECT_EQ(buffers.Row(1), std::vector<std::byte>(264));
  EXPECT_EQ(VersionOf(made_, layer_, ids[2], buffers.Row(2)), 0u);
}

TEST_F(OverlayTest, HotSetsHoldTheTablesOwnRowsAndAreLoadedWithTheUpdatedOnes) {
  const ScratchDir scratch;
  const std::string image = scratch.File("image.hot");
  const std::string keys = scratch.File("keys.hot");
  std::set<RowId> updated;
  std::vector<RowId> ids;
  {
    const std::unique_ptr<Store> store = MustOpen(made_, OptionsFor(Updates::kReadWrite));
    ASSERT_NE(store, nullptr);
    ids = RowIdsOf(*store, layer_, run_);
    LayerBuffers buffers(*store, layer_, ids.size(), RowOutput::kStored);
    const LayerOutput output = buffers.Output();
    UpdateBatch batch;
    for (std::size_t i = 0; i < ids.size(); i += 97) {
      if (updated.insert(ids[i]).second) batch.AddVersion(*store, layer_, ids[i], 1);
    }
    ASSERT_TRUE(store->Update(batch.rows()).ok());
    ASSERT_TRUE(store->Lookup(std::span(&run_, 1), std::span(&output, 1)).ok());
    const Result<HotSetSaved> with_bytes = store->SaveHotSet(image);
    const Result<HotSetSaved> with_keys = store->SaveHotSet(keys, {.bytes = false});
    ASSERT_TRUE(with_bytes.ok() && with_keys.ok());
    EXPECT_GT(with_bytes.value().group_count, 0u);
    EXPECT_LT(with_bytes.value().group_count, with_keys.value().group_count)
        << "groups with an updated row have no place in an image";
    UpdateBatch later;  // An image holds the old bytes of these.
    for (std::size_t i = 50; i < ids.size(); i += 97) {
      if (updated.insert(ids[i]).second) later.AddVersion(*store, layer_, ids[i], 1);
    }
    ASSERT_TRUE(store->Update(later.rows()).ok());
  }
  for (const std::string& path : {image, keys}) {
    for (const Updates updates : {Updates::kAuto, Updates::kOff}) {
      const std::unique_ptr<Store> store = MustOpen(made_, OptionsFor(updates));
      ASSERT_NE(store, nullptr);
      const Status loading = store->LoadHotSet(path);
      ASSERT_TRUE(loading.ok()) << loading.ToString();
      ASSERT_TRUE(store->WaitForHotSet().ok());
      EXPECT_GT(store->HotSet().groups_loaded, 0u);
      LayerBuffers buffers(*store, layer_, ids.size(), RowOutput::kStored);
      const LayerOutput output = buffers.Output();
      ASSERT_TRUE(store->Lookup(std::span(&run_, 1), std::span(&output, 1)).ok());
      EXPECT_GT(store->Stats().orders[0].dram_hits, 0u);
      const std::vector<std::int64_t> versions = Versions(made_, *store, buffers, ids);
      for (std::size_t i = 0; i < ids.size(); ++i) {
        ASSERT_EQ(versions[i], updates == Updates::kAuto && updated.contains(ids[i]) ? 1 : 0)
            << path << " row " << i;
      }
    }
  }
}

TEST_F(OverlayTest, ShardsShareTheStateOfTheWholeTable) {
  std::vector<RowId> whole_ids;
  {
    const std::unique_ptr<Store> store = MustOpen(made_, OptionsFor(Updates::kReadWrite));
    ASSERT_NE(store, nullptr);
    whole_ids = RowIdsOf(*store, layer_, run_);
    UpdateBatch batch;
    for (std::size_t i = 0; i < whole_ids.size(); i += 5) {
      batch.AddVersion(*store, layer_, whole_ids[i], 1);
    }
    ASSERT_TRUE(store->Update(batch.rows()).ok());
  }
  std::set<RowId> updated;
  for (std::size_t i = 0; i < whole_ids.size(); i += 5) updated.insert(whole_ids[i]);
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    StoreOptions options = OptionsFor(rank == 0 ? Updates::kReadWrite : Updates::kAuto);
    options.shard = {.rank = rank, .count = 2};
    const std::unique_ptr<Store> store = MustOpen(made_, options);
    ASSERT_NE(store, nullptr);
    const std::vector<RowId> ids = RowIdsOf(*store, layer_, run_);
    LayerBuffers buffers(*store, layer_, ids.size(), RowOutput::kStored);
    const LayerOutput output = buffers.Output();
    ASSERT_TRUE(store->Lookup(std::span(&run_, 1), std::span(&output, 1)).ok());
    const std::vector<std::int64_t> versions = Versions(made_, *store, buffers, ids);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      ASSERT_EQ(versions[i], updated.contains(ids[i]) ? 1 : 0) << rank << " " << i;
    }
    if (rank != 0) continue;
    UpdateBatch batch;  // Of any rank's columns.
    for (std::size_t i = 0; i < whole_ids.size(); i += 5) {
      batch.AddVersion(*store, layer_, whole_ids[i], 1);
    }
    EXPECT_TRUE(store->Update(batch.rows()).ok());
    EXPECT_GT(store->Stats().overlay.groups_removed, 0u);
  }
}

}  // namespace
}  // namespace tiercel::testing
