// Goal: folding updated rows into a new generation changes no row that anybody reads, at
// whatever moment it is stopped, and leaves what others have open alone.
//
// Method: a model of batches (driver_batches.h) and a child that compacts and is killed at
// random moments, TIERCEL_KILL_ROUNDS of them; then the table is opened and every row that
// a batch may touch is compared.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "base/prng.h"
#include "tests/store/driver_batches.h"
#include "tests/store/updated_rows.h"
#include "tests/support/killed_process.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/packed.h"
#include "tiercel/store.h"
#include "tiercel/verify.h"

namespace tiercel::testing {
namespace {

class CompactTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (InspectState("/nonexistent").status().code() == StatusCode::kUnavailable) {
      GTEST_SKIP() << "the library was built without RocksDB";
    }
    const Result<PackReport> report = PackTable({.source = made_.path(), .out_dir = table_});
    ASSERT_TRUE(report.ok()) << report.status().ToString();
  }

  [[nodiscard]] std::unique_ptr<Store> Open(Updates updates) const {
    StoreOptions options = DriverOptions(state_);
    options.updates = updates;
    Result<std::unique_ptr<Store>> store = Store::Open(table_, options);
    EXPECT_TRUE(store.ok()) << store.status().ToString();
    return store.ok() ? std::move(store).value() : nullptr;
  }
  /// Batches up to `last` from where the state stands.
  void UpdateUpTo(std::uint64_t last) const {
    const std::unique_ptr<Store> store = Open(Updates::kReadWrite);
    ASSERT_NE(store, nullptr);
    for (std::uint64_t i = store->Stats().overlay.sequence + 1; i <= last; ++i) {
      ASSERT_TRUE(store->Update(DriverBatch(*store, i).rows()).ok());
    }
  }
  void ExpectState(std::uint64_t last) const {
    const std::unique_ptr<Store> store = Open(Updates::kReadOnly);
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(store->Stats().overlay.sequence, last);
    ASSERT_TRUE(IsStateAfter(made_, *store, last));
  }
  [[nodiscard]] CompactOptions Options() const {
    return {.table = table_, .state_path = state_, .out_dir = {}, .progress = {}};
  }

  const MadeCheckpoint made_{{.shrink = 40'000}};
  const ScratchDir scratch_;
  const std::string table_ = scratch_.File("packed");
  const std::string state_ = scratch_.File("state");
};

TEST_F(CompactTest, UpdatedRowsMoveIntoTheNextGeneration) {
  UpdateUpTo(50);
  const std::uint64_t updated = InspectState(state_).value().updated_rows;
  ASSERT_GT(updated, 0U);
  Result<CompactReport> report = CompactTable(Options());
  ASSERT_TRUE(report.ok()) << report.status().ToString();
  EXPECT_EQ(report.value().folded_rows, updated);
  EXPECT_EQ(report.value().generation, 2U);
  EXPECT_EQ(report.value().generations_removed, 1U);
  EXPECT_FALSE(std::filesystem::exists(table_ + "/gen-000001"));
  EXPECT_EQ(InspectState(state_).value().updated_rows, 0U);
  EXPECT_EQ(InspectState(state_).value().generation, 2U);
  ExpectState(50);
  // The rows are in the files now: they are there without the state, too.
  StoreOptions options = DriverOptions(state_);
  options.updates = Updates::kOff;
  Result<std::unique_ptr<Store>> store = Store::Open(table_, options);
  ASSERT_TRUE(store.ok());
  EXPECT_TRUE(IsStateAfter(made_, *store.value(), 50));

  UpdateUpTo(70);
  report = CompactTable(Options());
  ASSERT_TRUE(report.ok()) << report.status().ToString();
  EXPECT_EQ(report.value().generation, 3U);
  ExpectState(70);
  report = CompactTable(Options());
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report.value().folded_rows, 0U) << "there is nothing to fold";
  EXPECT_EQ(report.value().generation, 3U);
}

TEST_F(CompactTest, AStoreThatIsOpenKeepsItsGeneration) {
  UpdateUpTo(10);
  const std::unique_ptr<Store> reader = Open(Updates::kReadOnly);
  ASSERT_NE(reader, nullptr);
  Result<CompactReport> report = CompactTable(Options());
  ASSERT_TRUE(report.ok()) << report.status().ToString();
  EXPECT_EQ(report.value().generations_removed, 0U);
  EXPECT_EQ(report.value().generations_in_use, 1U);
  EXPECT_TRUE(IsStateAfter(made_, *reader, 10)) << "it reads what it had open";
  ExpectState(10);
}

TEST_F(CompactTest, ALaterCallDeletesWhatWasInUse) {
  UpdateUpTo(10);
  {
    const std::unique_ptr<Store> reader = Open(Updates::kReadOnly);
    ASSERT_TRUE(CompactTable(Options()).ok());
    EXPECT_TRUE(std::filesystem::exists(table_ + "/gen-000001"));
  }
  const Result<CompactReport> report = CompactTable(Options());
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report.value().generations_removed, 1U);
  EXPECT_FALSE(std::filesystem::exists(table_ + "/gen-000001"));
}

TEST_F(CompactTest, ATableInPlaceIsPackedWithItsUpdatedRows) {
  StoreOptions options = DriverOptions(state_);
  options.updates = Updates::kReadWrite;
  {
    Result<std::unique_ptr<Store>> store = Store::Open(made_.path(), options);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    for (std::uint64_t i = 1; i <= 20; ++i) {
      ASSERT_TRUE(store.value()->Update(DriverBatch(*store.value(), i).rows()).ok());
    }
  }
  CompactOptions compact = Options();
  compact.table = made_.path();
  EXPECT_EQ(CompactTable(compact).status().code(), StatusCode::kInvalidArgument);
  compact.out_dir = scratch_.File("folded");
  const Result<CompactReport> report = CompactTable(compact);
  ASSERT_TRUE(report.ok()) << report.status().ToString();
  options.updates = Updates::kOff;
  Result<std::unique_ptr<Store>> folded = Store::Open(compact.out_dir, options);
  ASSERT_TRUE(folded.ok()) << folded.status().ToString();
  EXPECT_TRUE(IsStateAfter(made_, *folded.value(), 20));
  EXPECT_GT(InspectState(state_).value().updated_rows, 0U) << "the source keeps its state";
}

TEST_F(CompactTest, AStateInUseIsSaid) {
  UpdateUpTo(3);
  const std::unique_ptr<Store> writer = Open(Updates::kReadWrite);
  ASSERT_NE(writer, nullptr);
  EXPECT_EQ(CompactTable(Options()).status().code(), StatusCode::kUnavailable);
  CompactOptions nothing = Options();
  nothing.state_path = scratch_.File("nowhere");
  EXPECT_EQ(CompactTable(nothing).status().code(), StatusCode::kNotFound);
}

TEST_F(CompactTest, WheneverItIsKilledNoRowChanges) {
  UpdateUpTo(5);
  const std::vector<std::string> driver = {TIERCEL_COMPACT_DRIVER, table_, state_, "524288"};
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(RunAndKill(driver, std::chrono::minutes(5)).exit_code, 0);
  const auto takes = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - start);
  Prng prng(3);
  std::uint64_t last = 5;
  std::uint32_t kills = 0;
  std::uint32_t folds = 0;
  while (kills < KillCount(20)) {
    // Now and then there is more to fold, so that one that was begun is given up.
    if (prng.Below(3) != 0) UpdateUpTo(last += 1 + prng.Below(3));
    const std::chrono::microseconds delay(prng.Below(static_cast<std::uint64_t>(takes.count())));
    const KilledProcess run = RunAndKill(driver, delay);
    kills += run.killed ? 1 : 0;
    folds += run.exit_code == 0 ? 1 : 0;
    ASSERT_TRUE(run.killed || run.exit_code == 0);
    ExpectState(last);
    if (HasFatalFailure()) return;
  }
  const Result<CompactReport> report = CompactTable(Options());
  ASSERT_TRUE(report.ok()) << report.status().ToString();
  ExpectState(last);
  EXPECT_EQ(report.value().generations_in_use, 0U);
  EXPECT_EQ(InspectState(state_).value().updated_rows, 0U);
  // What was left behind by kills is gone: one generation, manifest, nothing else.
  std::size_t entries = 0;
  for (const auto& entry : std::filesystem::directory_iterator(table_)) {
    (void)entry;
    ++entries;
  }
  EXPECT_EQ(entries, 2U);
  RecordProperty("folds", std::to_string(folds));
}

TEST_F(CompactTest, AFullDiskLeavesTheTableAsItWas) {
  const std::string small = scratch_.File("small");
  const SmallFileSystem disk(small, std::uint64_t{9} << 20);
  if (!disk.why_not().empty()) GTEST_SKIP() << disk.why_not();
  std::filesystem::copy(table_, small + "/packed", std::filesystem::copy_options::recursive);
  StoreOptions options = DriverOptions(state_);
  options.updates = Updates::kReadWrite;
  {
    Result<std::unique_ptr<Store>> store = Store::Open(small + "/packed", options);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    ASSERT_TRUE(store.value()->Update(DriverBatch(*store.value(), 1).rows()).ok());
  }
  CompactOptions compact = Options();
  compact.table = small + "/packed";
  const Result<CompactReport> report = CompactTable(compact);
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.status().code(), StatusCode::kResourceExhausted) << report.status().ToString();
  options.updates = Updates::kReadOnly;
  Result<std::unique_ptr<Store>> store = Store::Open(small + "/packed", options);
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  EXPECT_EQ(store.value()->checkpoint().packed->generation, 1U);
  EXPECT_TRUE(IsStateAfter(made_, *store.value(), 1));
}

}  // namespace
}  // namespace tiercel::testing
