// Goal: an observer of updates hears of each before anybody sees a new row and before
// Update() returns, knows which groups have such a row, and hears of the end of one that was
// held up by a failure.
//
// Method: observers that look into the store when they are called; a limit on the size of
// files for a write that fails.

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <array>
#include <csignal>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/store/updated_rows.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/overlay.h"
#include "tiercel/store.h"

namespace tiercel::testing {
namespace {

/// Notes its calls, and does what the test says.
struct NotingObserver final : UpdateObserver {
  std::string calls;  ///< b and e.
  const ChangingRows* rows = nullptr;
  std::function<void()> at_begin = [] {};
  std::function<void()> at_end = [] {};
  void OnUpdateBegins(const ChangingRows& changing) noexcept override {
    calls += 'b';
    rows = &changing;
    at_begin();
  }
  void OnUpdateEnds() noexcept override {
    calls += 'e';
    at_end();
    rows = nullptr;
  }
};

class UpdateObserverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (InspectState("/nonexistent").status().code() == StatusCode::kUnavailable) {
      GTEST_SKIP() << "the library was built without RocksDB";
    }
    store_ = Open(Updates::kReadWrite);
    ASSERT_NE(store_, nullptr);
  }
  std::unique_ptr<Store> Open(Updates updates) {
    StoreOptions options;
    options.dram_budget_bytes = std::uint64_t{32} << 20;
    options.updates = updates;
    options.state_path = scratch_.File("state");
    options.log = [](std::string_view /*line*/) {};
    Result<std::unique_ptr<Store>> store = Store::Open(made_.path(), options);
    EXPECT_TRUE(store.ok()) << store.status().ToString();
    return store.ok() ? std::move(store).value() : nullptr;
  }
  [[nodiscard]] Status Update(const std::vector<RowId>& rows, std::uint64_t version) {
    UpdateBatch batch;
    for (const RowId row : rows) batch.AddVersion(*store_, layer_id_, row, version);
    return store_->Update(batch.rows());
  }
  [[nodiscard]] std::optional<std::uint64_t> VersionNow(RowId row) {
    return VersionOf(made_, layer_id_, row, LookUpRow(*store_, layer_id_, row));
  }

  const MadeCheckpoint made_{{.shrink = 40000}};
  const std::uint32_t layer_id_ = made_.info().layers[0].layer_id;
  const ScratchDir scratch_;
  std::unique_ptr<Store> store_;
};

TEST_F(UpdateObserverTest, ItHearsOfAnUpdateBeforeAnybodySeesItAndBeforeItReturns) {
  NotingObserver observer;
  std::vector<std::optional<std::uint64_t>> seen;
  observer.at_begin = [&] { seen.push_back(VersionNow(RowId{17})); };
  observer.at_end = [&] { seen.push_back(VersionNow(RowId{17})); };
  ASSERT_TRUE(store_->AddUpdateObserver(observer).ok());
  ASSERT_TRUE(Update({RowId{17}}, 1).ok());
  EXPECT_EQ(observer.calls, "be");
  EXPECT_EQ(seen, (std::vector<std::optional<std::uint64_t>>{0, 1}));
  ASSERT_TRUE(store_->Update({}).ok());  // Changes nothing.
  EXPECT_EQ(observer.calls, "be");
  store_->RemoveUpdateObserver(observer);
  store_->RemoveUpdateObserver(observer);
  ASSERT_TRUE(Update({RowId{17}}, 2).ok());
  EXPECT_EQ(observer.calls, "be");
}

TEST_F(UpdateObserverTest, TheGroupsWithARowAreTold) {
  const std::vector<std::int32_t> tokens = made_.RandomTokens(3, 400);
  const Hasher& hasher = store_->hasher();
  const std::uint32_t orders = hasher.recipe().order_count();
  std::vector<std::uint64_t> mixes(tokens.size() * orders);
  ASSERT_TRUE(hasher.Mixes(0, {.history = {}, .tokens = tokens}, mixes, {}).ok());
  // Rows of some groups, of all orders; others may share them.
  std::vector<RowId> rows(hasher.recipe().parameters.head_count);
  std::set<RowId> updated;
  for (std::size_t i = 0; i < mixes.size(); i += 13) {
    hasher.RowsOfMix(0, static_cast<std::uint32_t>(i % orders), mixes[i], rows);
    updated.insert(rows[i % rows.size()]);
  }
  NotingObserver observer;
  std::array<std::uint64_t, 2> told{};
  std::uint64_t wrong = 0;
  observer.at_begin = [&] {
    for (std::size_t i = 0; i < mixes.size(); ++i) {
      const auto order = static_cast<std::uint32_t>(i % orders);
      hasher.RowsOfMix(0, order, mixes[i], rows);
      bool has = false;
      for (const RowId row : rows) has = has || updated.contains(row);
      const std::uint64_t key = hasher.GroupKey(0, order, mixes[i]);
      const bool says = observer.rows->HasRowOf(layer_id_, order, key);
      ++told[says ? 1 : 0];
      wrong += says == has ? 0 : 1;
      // The other layer has such rows too, and none of them was updated.
      wrong += observer.rows->HasRowOf(14, order, key) ? 1 : 0;
    }
  };
  ASSERT_TRUE(store_->AddUpdateObserver(observer).ok());
  ASSERT_TRUE(Update({updated.begin(), updated.end()}, 1).ok());
  store_->RemoveUpdateObserver(observer);
  EXPECT_EQ(wrong, 0U);
  EXPECT_GT(told[0], 100U);
  EXPECT_GE(told[1], mixes.size() / 13);
}

TEST_F(UpdateObserverTest, AnUpdateThatFailedHalfWayEndsWithTheNext) {
  NotingObserver observer;
  ASSERT_TRUE(store_->AddUpdateObserver(observer).ok());
  // A state that has to be opened anew, and cannot be while a snapshot is about.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small = {.rlim_cur = 60'000, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  std::uint64_t version = 1;
  while (version < 5000 && Update({RowId{17}}, version).ok()) ++version;
  setrlimit(RLIMIT_FSIZE, &before);
  ASSERT_LT(version, 5000U) << "no write failed";
  EXPECT_EQ(observer.calls.back(), 'e');
  NotingObserver late;
  {
    const Result<StoreSnapshot> snapshot = store_->Snapshot();
    ASSERT_TRUE(snapshot.ok());
    EXPECT_EQ(Update({RowId{18}}, 1).code(), StatusCode::kUnavailable);
    EXPECT_EQ(observer.calls.back(), 'b');
    ASSERT_NE(observer.rows, nullptr);
    ASSERT_TRUE(store_->AddUpdateObserver(late).ok());
    EXPECT_EQ(late.calls, "b");  // It is under way still.
  }
  observer.calls.clear();
  ASSERT_TRUE(Update({RowId{18}}, 2).ok());
  // The earlier one first, then this one.
  EXPECT_EQ(observer.calls, "bebe");
  EXPECT_EQ(late.calls, "bbebe");
  EXPECT_EQ(VersionNow(RowId{18}), 2U);
  store_->RemoveUpdateObserver(observer);
  store_->RemoveUpdateObserver(late);
}

TEST_F(UpdateObserverTest, ThereIsRoomForSixtyFour) {
  std::vector<NotingObserver> observers(65);
  for (std::size_t i = 0; i < 64; ++i) {
    ASSERT_TRUE(store_->AddUpdateObserver(observers[i]).ok());
  }
  EXPECT_EQ(store_->AddUpdateObserver(observers[64]).code(), StatusCode::kResourceExhausted);
  store_->RemoveUpdateObserver(observers[3]);
  EXPECT_TRUE(store_->AddUpdateObserver(observers[64]).ok());
  ASSERT_TRUE(Update({RowId{17}}, 1).ok());
  for (std::size_t i = 0; i < 65; ++i) {
    EXPECT_EQ(observers[i].calls, i == 3 ? "" : "be") << i;
    store_->RemoveUpdateObserver(observers[i]);
  }
}

TEST_F(UpdateObserverTest, AStoreThatCannotBeUpdatedHasNoneToTell) {
  store_ = Open(Updates::kOff);
  NotingObserver observer;
  EXPECT_TRUE(store_->AddUpdateObserver(observer).ok());
  store_->RemoveUpdateObserver(observer);
}

}  // namespace
}  // namespace tiercel::testing
