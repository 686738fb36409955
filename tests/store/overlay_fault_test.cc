// Goal: a state that is locked, foreign, damaged or on a full disk is a clear error, or
// marked rows, never wrong bytes and never harm to the table.
//
// Method: other processes (overlay_driver.cc), states of other tables, bits that are flipped
// in each kind of file, a tmpfs too small and a limit on the size of files.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/prng.h"
#include "store/state_db.h"
#include "tests/store/driver_batches.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/store.h"

namespace tiercel::testing {
namespace {

namespace fs = std::filesystem;

class OverlayFaultTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (InspectState("/nonexistent").status().code() == StatusCode::kUnavailable) {
      GTEST_SKIP() << "the library was built without RocksDB";
    }
  }

  [[nodiscard]] Result<std::unique_ptr<Store>> Open(Updates updates, const MadeCheckpoint& made,
                                                    const std::string& state) const {
    StoreOptions options = DriverOptions(state);
    options.updates = updates;
    return Store::Open(made.path(), options);
  }
  /// Writes the batches [first, last] of the driver.
  void Write(std::uint64_t first, std::uint64_t last, const std::string& state) const {
    Result<std::unique_ptr<Store>> store = Open(Updates::kReadWrite, made_, state);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    for (std::uint64_t number = first; number <= last; ++number) {
      const UpdateBatch batch = DriverBatch(*store.value(), number);
      ASSERT_TRUE(store.value()->Update(batch.rows()).ok());
    }
  }
  void ExpectRefusal(const Status& status, StatusCode code, std::string_view part) const {
    EXPECT_EQ(status.code(), code) << status.ToString();
    EXPECT_NE(status.message().find(part), std::string_view::npos) << status.ToString();
    EXPECT_NE(status.message().find(state_), std::string_view::npos) << status.ToString();
  }

  const MadeCheckpoint made_{{.shrink = 40000}};
  const ScratchDir scratch_;
  const std::string state_ = scratch_.File("state");
};

TEST_F(OverlayFaultTest, OneStoreAtATimeUpdatesAndAnyNumberRead) {
  Write(1, 5, state_);
  {
    Result<std::unique_ptr<Store>> first = Open(Updates::kReadWrite, made_, state_);
    ASSERT_TRUE(first.ok());
    ExpectRefusal(Open(Updates::kReadWrite, made_, state_).status(), StatusCode::kUnavailable,
                  "open for updates already");
    DriverProcess reader("read", made_.path(), state_);
    std::uint64_t sequence = 0;
    EXPECT_TRUE(reader.Read(&sequence, sizeof(sequence))) << "beside the one who writes";
    EXPECT_EQ(sequence, 5u);
    EXPECT_EQ(reader.Wait(), 0);
  }
  DriverProcess holder("hold", made_.path(), state_);
  char ready = 0;
  ASSERT_TRUE(holder.Read(&ready, 1));
  ExpectRefusal(Open(Updates::kReadWrite, made_, state_).status(), StatusCode::kUnavailable,
                "open for updates already");
  std::vector<std::unique_ptr<DriverProcess>> readers;
  for (int i = 0; i < 3; ++i) {
    readers.push_back(std::make_unique<DriverProcess>("read", made_.path(), state_));
  }
  Result<std::unique_ptr<Store>> own = Open(Updates::kAuto, made_, state_);
  ASSERT_TRUE(own.ok()) << own.status().ToString();
  EXPECT_TRUE(IsStateAfter(made_, *own.value(), 5));
  for (const auto& reader : readers) {
    std::uint64_t sequence = 0;
    EXPECT_TRUE(reader->Read(&sequence, sizeof(sequence)));
    EXPECT_EQ(sequence, 5u);
  }
  for (const auto& reader : readers) EXPECT_EQ(reader->Wait(), 0);
  EXPECT_EQ(holder.Wait(), 0);
  EXPECT_TRUE(Open(Updates::kReadWrite, made_, state_).ok()) << "the lock is free again";
}

TEST_F(OverlayFaultTest, OneWhoReadsKeepsHisViewWhileAnotherWritesAndCompacts) {
  Write(1, 20, state_);
  Result<std::unique_ptr<Store>> reader = Open(Updates::kReadOnly, made_, state_);
  ASSERT_TRUE(reader.ok());
  Write(21, 400, state_);  // Some 12,000 rows: many times the write buffer.
  EXPECT_TRUE(IsStateAfter(made_, *reader.value(), 20));
}

TEST_F(OverlayFaultTest, TheStateOfAnotherTableIsRefusedByWhatDiffers) {
  Write(1, 3, state_);
  const MadeCheckpoint qwen({.like = CheckpointModel::kQwen38FlashNext, .shrink = 40000});
  const MadeCheckpoint larger({.shrink = 30000});
  const MadeCheckpoint other_rows({.shrink = 40000, .seed = 8});
  for (const Updates updates : {Updates::kAuto, Updates::kReadWrite}) {
    for (const MadeCheckpoint* const other : {&qwen, &larger}) {
      ExpectRefusal(Open(updates, *other, state_).status(), StatusCode::kInvalidArgument,
                    "recipes differ");
    }
    ExpectRefusal(Open(updates, other_rows, state_).status(), StatusCode::kInvalidArgument,
                  "has other bytes");
  }
  Result<std::unique_ptr<Store>> own = Open(Updates::kReadOnly, made_, state_);
  ASSERT_TRUE(own.ok()) << own.status().ToString();
  EXPECT_TRUE(IsStateAfter(made_, *own.value(), 3));
}

TEST_F(OverlayFaultTest, WhatIsNoStateIsRefused) {
  ExpectRefusal(Open(Updates::kReadOnly, made_, state_).status(), StatusCode::kNotFound,
                "no state");
  EXPECT_TRUE(Open(Updates::kAuto, made_, state_).ok()) << "there need not be one";
  EXPECT_FALSE(fs::exists(state_)) << "nor is one made";

  fs::create_directory(state_);
  std::ofstream(state_ + "/notes.txt") << "mine";
  ExpectRefusal(Open(Updates::kReadWrite, made_, state_).status(), StatusCode::kInvalidArgument,
                "notes.txt");
  fs::remove(state_ + "/notes.txt");
  EXPECT_TRUE(Open(Updates::kReadWrite, made_, state_).ok()) << "an empty folder will do";
  fs::remove_all(state_);
  {
    Result<std::unique_ptr<StateDb>> db = StateDb::Open({.path = state_, .writable = true});
    ASSERT_TRUE(db.ok());
    ASSERT_TRUE(db.value()->PutEntry("other", "thing").ok());
  }
  for (const Updates updates : {Updates::kAuto, Updates::kReadWrite}) {
    ExpectRefusal(Open(updates, made_, state_).status(), StatusCode::kInvalidArgument, "no state");
  }
  {
    Result<std::unique_ptr<StateDb>> db = StateDb::Open({.path = state_, .writable = true});
    ASSERT_TRUE(
        db.value()->PutEntry(kTableEntry, R"({"format":"tiercel-state","version":2})").ok());
  }
  ExpectRefusal(Open(Updates::kAuto, made_, state_).status(), StatusCode::kInvalidArgument,
                "version 2");
  {
    Result<std::unique_ptr<StateDb>> db = StateDb::Open({.path = state_, .writable = true});
    ASSERT_TRUE(
        db.value()->PutEntry(kTableEntry, R"({"format":"tiercel-state","version":1})").ok());
  }
  ExpectRefusal(Open(Updates::kAuto, made_, state_).status(), StatusCode::kCorruption, "catalogue");
  std::ofstream(scratch_.File("file")) << "mine";
  EXPECT_EQ(Open(Updates::kReadWrite, made_, scratch_.File("file")).status().code(),
            StatusCode::kInvalidArgument);
}

/// Opens a state one bit of whose files is wrong and looks at every row. Returns whether the
/// damage was noticed.
bool NoticesDamage(const MadeCheckpoint& made, const std::string& state,
                   const std::set<std::uint64_t>& good_sequences) {
  StoreOptions options = DriverOptions(state);
  options.updates = Updates::kReadOnly;
  Result<std::unique_ptr<Store>> store = Store::Open(made.path(), options);
  if (!store.ok()) {
    EXPECT_NE(store.status().message().find(state), std::string_view::npos);
    return true;
  }
  const std::uint64_t sequence = store.value()->Stats().overlay.sequence;
  EXPECT_TRUE(good_sequences.contains(sequence)) << sequence;
  std::vector<RowId> ids;
  for (std::uint64_t row = 0; row < kDriverRows; ++row) ids.push_back(RowId{row});
  bool noticed = false;
  for (const LayerTable& table : made.info().layers) {
    LayerBuffers buffers(*store.value(), table.layer_id, ids.size(), RowOutput::kStored);
    noticed = !store.value()->LookupRows(ids, buffers.Output()).ok() || noticed;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (buffers.row_status[i] != RowStatus::kOk) {
        EXPECT_EQ(buffers.row_status[i], RowStatus::kCorruption);
        continue;
      }
      EXPECT_TRUE(VersionOf(made, table.layer_id, ids[i], buffers.Row(i)).has_value())
          << "wrong bytes were delivered";
    }
  }
  return noticed || sequence != *good_sequences.rbegin();
}

TEST_F(OverlayFaultTest, AFlippedBitIsNoticedOrHarmless) {
  Write(1, 30, state_);
  Write(31, 40, state_);  // Opened twice: the first thirty are in a table file, ten in the log.
  const std::string whole = scratch_.File("whole");
  fs::rename(state_, whole);
  std::set<std::uint64_t> prefixes;
  for (std::uint64_t number = 0; number <= 40; ++number) prefixes.insert(number);
  Prng prng(5);
  std::map<std::string, std::pair<int, int>> tally;  // By kind of file: noticed, flipped.
  for (const fs::directory_entry& file : fs::directory_iterator(whole)) {
    const std::string name = file.path().filename().string();
    const std::string kind = name.starts_with("MANIFEST") ? "MANIFEST" : file.path().extension();
    if (kind != ".sst" && kind != ".log" && kind != "MANIFEST") continue;
    const auto size_bytes = static_cast<std::uint64_t>(file.file_size());
    for (int i = 0; size_bytes > 0 && i < 12; ++i) {
      fs::copy(whole, state_);
      std::fstream stream(state_ + "/" + name, std::ios::in | std::ios::out | std::ios::binary);
      const auto offset = static_cast<std::streamoff>(prng.Below(size_bytes));
      char byte = 0;
      stream.seekg(offset).read(&byte, 1);
      byte = static_cast<char>(byte ^ (1 << prng.Below(8)));
      stream.seekp(offset).write(&byte, 1);
      stream.close();
      SCOPED_TRACE(fmt::format("{} at {}", name, offset));
      const bool noticed = NoticesDamage(made_, state_, prefixes);
      tally[kind].first += noticed ? 1 : 0;
      tally[kind].second += 1;
      fs::remove_all(state_);
    }
  }
  for (const auto& [kind, counts] : tally) {
    RecordProperty(kind, fmt::format("{} of {} noticed", counts.first, counts.second));
    std::printf("%s: %d of %d flips noticed\n", kind.c_str(), counts.first, counts.second);
  }
  ASSERT_TRUE(tally.contains(".sst") && tally.contains(".log"));
  EXPECT_GT(tally[".sst"].first, 0);
  EXPECT_GT(tally[".log"].first, 0);
}

/// Updates until an error, which must be of a full disk. Returns the last batch that was
/// acknowledged.
std::uint64_t UpdateUntilFull(Store& store, std::uint64_t number_max) {
  std::uint64_t number = store.Stats().overlay.sequence + 1;
  for (; number <= number_max; ++number) {
    const UpdateBatch batch = DriverBatch(store, number);
    const Status status = store.Update(batch.rows());
    if (status.ok()) continue;
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.ToString();
    return number - 1;
  }
  ADD_FAILURE() << "the disk never was full";
  return number_max;
}

/// After a full disk: what was acknowledged is there, here and when it is opened anew.
void CheckAfterFullDisk(const MadeCheckpoint& made, std::unique_ptr<Store> store,
                        std::uint64_t acknowledged, const std::string& state) {
  EXPECT_EQ(store->Stats().overlay.sequence, acknowledged);
  EXPECT_TRUE(IsStateAfter(made, *store, acknowledged));
  const UpdateBatch batch = DriverBatch(*store, acknowledged + 1);
  {
    const Result<StoreSnapshot> snapshot = store->Snapshot();
    const Status held = store->Update(batch.rows());
    EXPECT_EQ(held.code(), StatusCode::kUnavailable) << "the state has to be opened anew";
    EXPECT_NE(held.message().find("snapshots"), std::string_view::npos) << held.ToString();
  }
  const Status again = store->Update(batch.rows());
  EXPECT_TRUE(again.ok()) << "there is room again: " << again.ToString();
  EXPECT_TRUE(IsStateAfter(made, *store, acknowledged + 1));
  store.reset();
  StoreOptions options = DriverOptions(state);
  options.updates = Updates::kReadOnly;
  Result<std::unique_ptr<Store>> reopened = Store::Open(made.path(), options);
  ASSERT_TRUE(reopened.ok()) << reopened.status().ToString();
  // The batch that failed has the same rows as the one that followed, and may be there too.
  const std::uint64_t sequence = reopened.value()->Stats().overlay.sequence;
  EXPECT_GE(sequence, acknowledged + 1);
  EXPECT_LE(sequence, acknowledged + 2);
  EXPECT_TRUE(IsStateAfter(made, *reopened.value(), acknowledged + 1));
  EXPECT_TRUE(VerifySynthetic(made.info(), nullptr).value().findings.empty());
}

TEST_F(OverlayFaultTest, AFullDiskIsAClearErrorAndUpdatesGoOnWhenThereIsRoom) {
  const std::string disk = scratch_.File("disk");
  fs::create_directory(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=6m") != 0) {
    GTEST_SKIP() << "no file system can be mounted here: " << std::strerror(errno);
  }
  const std::string state = disk + "/state";
  {
    std::ofstream(disk + "/ballast") << std::string(3 << 20, 'x');
    Result<std::unique_ptr<Store>> store = Open(Updates::kReadWrite, made_, state);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    const std::uint64_t acknowledged = UpdateUntilFull(*store.value(), 5000);
    EXPECT_GT(acknowledged, 10u);
    EXPECT_TRUE(IsStateAfter(made_, *store.value(), acknowledged)) << "while the disk is full";
    fs::remove(disk + "/ballast");
    CheckAfterFullDisk(made_, std::move(store).value(), acknowledged, state);
  }
  EXPECT_EQ(umount2(disk.c_str(), MNT_DETACH), 0);
}

TEST_F(OverlayFaultTest, AFileThatMayGrowNoMoreIsAClearErrorToo) {
  std::signal(SIGXFSZ, SIG_IGN);
  Result<std::unique_ptr<Store>> store = Open(Updates::kReadWrite, made_, state_);
  ASSERT_TRUE(store.ok());
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small = {.rlim_cur = 60'000, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::uint64_t acknowledged = UpdateUntilFull(*store.value(), 5000);
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_GT(acknowledged, 0u);
  CheckAfterFullDisk(made_, std::move(store).value(), acknowledged, state_);
}

TEST_F(OverlayFaultTest, ARowWhoseBaseCannotBeReadIsGoodOnceItWasUpdated) {
  // The table's files are cut to nothing after the store was opened.
  const MadeCheckpoint own({.shrink = 40000});
  Result<std::unique_ptr<Store>> store = Open(Updates::kReadWrite, own, state_);
  ASSERT_TRUE(store.ok());
  const std::uint32_t layer_id = own.info().layers[0].layer_id;
  UpdateBatch batch;
  batch.AddVersion(*store.value(), layer_id, RowId{2000}, 1);
  ASSERT_TRUE(store.value()->Update(batch.rows()).ok());
  for (const TableFile& file : own.info().files) fs::resize_file(file.path, 0);
  const std::vector<RowId> ids = {RowId{2000}, RowId{2001}};
  LayerBuffers buffers(*store.value(), layer_id, 2, RowOutput::kStored);
  EXPECT_EQ(store.value()->LookupRows(ids, buffers.Output()).code(), StatusCode::kPartial);
  EXPECT_EQ(buffers.row_status[0], RowStatus::kOk);
  EXPECT_EQ(VersionOf(own, layer_id, ids[0], buffers.Row(0)), 1u);
  EXPECT_EQ(buffers.row_status[1], RowStatus::kCorruption);
}

}  // namespace
}  // namespace tiercel::testing
