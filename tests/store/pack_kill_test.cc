// Goal: whenever a pack is killed, there is the whole table or none, the source is as it
// was, and the next run goes on.
//
// Method: a child packs in small pieces and gets SIGKILL at a random moment; then what is
// there is opened. TIERCEL_KILL_ROUNDS says how often. Full disks: a small tmpfs.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/prng.h"
#include "store/pack.h"
#include "tests/support/killed_process.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/packed.h"
#include "tiercel/verify.h"

namespace tiercel {
namespace {

using testing::KilledProcess;
using testing::MadeCheckpoint;
using testing::ScratchDir;

std::vector<std::string> Driver(const std::string& source, const std::string& out) {
  return {TIERCEL_PACK_DRIVER, source, out, "1048576"};
}

/// Contents of all files below a folder, by name.
std::map<std::string, std::string> Contents(const std::string& folder) {
  std::map<std::string, std::string> contents;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    contents[std::filesystem::relative(entry.path(), folder).string()] =
        ReadWholeFile(entry.path().string(), ~std::uint64_t{0}).value();
  }
  return contents;
}

TEST(PackKillTest, ThereIsTheWholeTableOrNone) {
  const MadeCheckpoint made({});
  const ScratchDir scratch;
  const std::map<std::string, std::string> source = Contents(made.path());
  const std::string whole = scratch.File("whole");
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(testing::RunAndKill(Driver(made.path(), whole), std::chrono::minutes(5)).exit_code, 0);
  const auto takes = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - start);
  const std::map<std::string, std::string> wanted = Contents(whole);

  Prng prng(11);
  std::uint32_t kills = 0;
  std::uint32_t tables = 0;
  std::string out = scratch.File("packed-0");
  for (std::uint32_t round = 1; kills < testing::KillCount(30); ++round) {
    const std::chrono::microseconds delay(prng.Below(static_cast<std::uint64_t>(takes.count())));
    const KilledProcess run = testing::RunAndKill(Driver(made.path(), out), delay);
    kills += run.killed ? 1 : 0;
    const Result<CheckpointInfo> info = InspectCheckpoint(out);
    if (!info.ok()) {
      ASSERT_TRUE(run.killed) << info.status().ToString();
      ASSERT_EQ(info.status().code(), StatusCode::kNotFound) << info.status().ToString();
      continue;  // The next run goes on with it.
    }
    const Result<VerifyReport> report = VerifyTable(info.value());
    ASSERT_TRUE(report.ok() && report.value().clean());
    std::map<std::string, std::string> contents = Contents(out);
    contents.erase("pack-state.json");  // Stays where the kill came right after the manifest.
    ASSERT_TRUE(contents == wanted) << "round " << round;
    ++tables;
    std::filesystem::remove_all(out);
    out = scratch.File(fmt::format("packed-{}", round));
  }
  EXPECT_GT(tables, 0U);
  EXPECT_TRUE(Contents(made.path()) == source);
}

TEST(PackKillTest, AFullDiskIsAClearErrorAndTheNextRunWithRoomIsWhole) {
  const MadeCheckpoint made({});
  const ScratchDir scratch;
  const std::string small = scratch.File("small");
  const std::string out = small + "/packed";
  {
    const testing::SmallFileSystem disk(small, std::uint64_t{8} << 20);
    if (!disk.why_not().empty()) GTEST_SKIP() << disk.why_not();
    const Result<PackReport> report = PackTable({.source = made.path(), .out_dir = out});
    ASSERT_FALSE(report.ok());
    EXPECT_EQ(report.status().code(), StatusCode::kResourceExhausted) << report.status().ToString();
    EXPECT_NE(report.status().message().find(out), std::string::npos);
    EXPECT_FALSE(InspectCheckpoint(out).ok());
  }
  const testing::SmallFileSystem disk(small, std::uint64_t{64} << 20);
  ASSERT_TRUE(disk.why_not().empty()) << disk.why_not();
  // Somebody else fills the disk in the middle.
  std::string other;
  PackOptions options{.source = made.path(), .out_dir = out};
  options.progress = [&](std::uint64_t /*done*/, std::uint64_t /*total*/) {
    if (!other.empty()) return true;
    other = small + "/other";
    std::ofstream file(other, std::ios::binary);
    const std::string block(1 << 20, 'x');
    while (file.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
    return true;
  };
  const Result<PackReport> report = PackTable(options);
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.status().code(), StatusCode::kResourceExhausted) << report.status().ToString();
  EXPECT_FALSE(InspectCheckpoint(out).ok());
  std::filesystem::remove(other);
  const Result<PackReport> again = PackTable(options);
  ASSERT_TRUE(again.ok()) << again.status().ToString();
  const Result<VerifyReport> verified = VerifyTable(InspectCheckpoint(out).value());
  ASSERT_TRUE(verified.ok());
  EXPECT_TRUE(verified.value().clean());
}

}  // namespace
}  // namespace tiercel
