// The checksum sidecar of tables in place.

#include "store/checksum_sidecar.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "store/hot_set_file.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/packed.h"
#include "tiercel/store.h"
#include "tiercel/verify.h"

namespace tiercel {
namespace {

using testing::CheckRows;
using testing::FlipBit;
using testing::LayerBuffers;
using testing::MadeCheckpoint;
using testing::RowIdsOf;
using testing::ScratchDir;

StoreOptions StoreWith(ChecksumUse use, ScalePlacement scales = ScalePlacement::kDisk) {
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{24} << 20;
  options.checksums = use;
  options.scales = scales;
  options.log = [](std::string_view /*line*/) {};
  return options;
}

std::uint64_t OffsetOf(const CheckpointInfo& info, std::size_t part, std::uint64_t row) {
  const RowPart& found = info.layers[0].parts[part];
  return found.extents[0].offset_bytes + row * found.size_bytes;
}

TEST(ChecksumSidecarTest, ReadsAreCheckedInPlace) {
  for (const ScalePlacement scales : {ScalePlacement::kDisk, ScalePlacement::kResident}) {
    const MadeCheckpoint made({});
    const Result<ChecksumsWritten> written = WriteChecksums(made.info());
    ASSERT_TRUE(written.ok()) << written.status().ToString();
    EXPECT_EQ(written.value().path, made.path() + "/tiercel.checksums");
    EXPECT_EQ(WriteChecksums(made.info()).status().code(), StatusCode::kAlreadyExists);

    const std::string& file = made.info().files[0].path;
    FlipBit(file, OffsetOf(made.info(), 0, 1000) + 3);
    Result<std::unique_ptr<Store>> store =
        Store::Open(made.path(), StoreWith(ChecksumUse::kRequired, scales));
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    EXPECT_GT(store.value()->Stats().checksum_bytes, 0U);
    std::vector<RowId> ids;
    for (std::uint64_t row = 960; row < 1040; ++row) ids.push_back(RowId{row});
    LayerBuffers buffers(*store.value(), 1, ids.size(), RowOutput::kStored);
    EXPECT_EQ(store.value()->LookupRows(ids, buffers.Output()).code(), StatusCode::kPartial);
    const testing::RowTally tally = CheckRows(made, buffers, ids, RowOutput::kStored);
    EXPECT_EQ(tally.wrong, 0U);
    // The rows of one page, or of the two that a row straddles.
    EXPECT_GE(tally.marked, 15U);
    EXPECT_LE(tally.marked, 34U);
    EXPECT_EQ(buffers.row_status[40], RowStatus::kCorruption);

    const Result<VerifyReport> report = VerifyTable(made.info());
    ASSERT_TRUE(report.ok()) << report.status().ToString();
    EXPECT_EQ(report.value().rows_corrupt, tally.marked);
    EXPECT_EQ(report.value().checks.size(), 2U);

    // Without the sidecar the damage would have gone through.
    Result<std::unique_ptr<Store>> blind =
        Store::Open(made.path(), StoreWith(ChecksumUse::kOff, scales));
    ASSERT_TRUE(blind.ok());
    EXPECT_TRUE(blind.value()->LookupRows(ids, buffers.Output()).ok());
    EXPECT_EQ(CheckRows(made, buffers, ids, RowOutput::kStored).wrong, 1U);
  }
}

TEST(ChecksumSidecarTest, DamagedScalesAreNotTakenIntoMemory) {
  const MadeCheckpoint made({});
  ASSERT_TRUE(WriteChecksums(made.info()).ok());
  FlipBit(made.info().files[0].path, OffsetOf(made.info(), 1, 5));
  Result<std::unique_ptr<Store>> store =
      Store::Open(made.path(), StoreWith(ChecksumUse::kAuto, ScalePlacement::kResident));
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  const RowId id{5};
  LayerBuffers buffers(*store.value(), 1, 1, RowOutput::kStored);
  for (int i = 0; i < 50; ++i) {  // Before and after the loader comes by.
    EXPECT_EQ(store.value()->LookupRows({&id, 1}, buffers.Output()).code(), StatusCode::kPartial);
    EXPECT_EQ(buffers.row_status[0], RowStatus::kCorruption);
  }
}

TEST(ChecksumSidecarTest, LookupsThroughItAreTrueForEveryModel) {
  for (const CheckpointModel like :
       {CheckpointModel::kDeepSeekV41Flash, CheckpointModel::kQwen38FlashNext,
        CheckpointModel::kEngramDemo}) {
    const MadeCheckpoint made(
        {.like = like, .shrink = like == CheckpointModel::kEngramDemo ? 200U : 40'000U});
    ASSERT_TRUE(WriteChecksums(made.info()).ok());
    Result<std::unique_ptr<Store>> store =
        Store::Open(made.path(), StoreWith(ChecksumUse::kRequired, ScalePlacement::kAuto));
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    const std::vector<std::int32_t> tokens = made.RandomTokens(1, 100);
    const TokenRun run = {.history = {}, .tokens = tokens};
    const std::uint32_t layer_id = made.info().layers[0].layer_id;
    const std::vector<RowId> ids = RowIdsOf(*store.value(), layer_id, run);
    LayerBuffers buffers(*store.value(), layer_id, ids.size(), RowOutput::kStored);
    const LayerOutput output = buffers.Output();
    ASSERT_TRUE(store.value()->Lookup({&run, 1}, {&output, 1}).ok());
    EXPECT_EQ(CheckRows(made, buffers, ids, RowOutput::kStored).right, ids.size());
    // The last row of the last layer lies in the file's last, short page.
    const LayerTable& last = made.info().layers.back();
    const RowId id{last.row_count - 1};
    LayerBuffers one(*store.value(), last.layer_id, 1, RowOutput::kStored);
    EXPECT_TRUE(store.value()->LookupRows({&id, 1}, one.Output()).ok());
  }
}

TEST(ChecksumSidecarTest, EveryFlippedBitIsNoticed) {
  const MadeCheckpoint made({.shrink = 200'000});
  ASSERT_TRUE(WriteChecksums(made.info()).ok());
  const std::string path = ChecksumSidecar::DefaultPath(made.info());
  const std::string text = ReadWholeFile(path, 1 << 20).value();
  const std::uint64_t table_id = IdentityOf(made.info()).value().table_id;
  const auto decode = [&](const std::string& bytes) {
    return ChecksumSidecar::Decode(std::as_bytes(std::span(bytes)), "s", made.info(), table_id);
  };
  ASSERT_TRUE(decode(text).ok()) << decode(text).status().ToString();
  std::string damaged = text;
  for (std::size_t bit = 0; bit < text.size() * 8; ++bit) {
    damaged[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
    ASSERT_FALSE(decode(damaged).ok()) << "bit " << bit;
    damaged[bit / 8] = text[bit / 8];
  }
  for (const std::size_t size : {std::size_t{0}, std::size_t{55}, text.size() - 1}) {
    EXPECT_EQ(decode(text.substr(0, size)).status().code(), StatusCode::kCorruption) << size;
  }
}

TEST(ChecksumSidecarTest, ASidecarOfOtherTablesIsRefused) {
  const MadeCheckpoint made({});
  const MadeCheckpoint other({.shrink = 30'000});
  ASSERT_TRUE(WriteChecksums(other.info()).ok());
  EXPECT_EQ(Store::Open(made.path(), StoreWith(ChecksumUse::kRequired)).status().code(),
            StatusCode::kNotFound);
  EXPECT_TRUE(Store::Open(made.path(), StoreWith(ChecksumUse::kAuto)).ok());
  std::filesystem::copy(ChecksumSidecar::DefaultPath(other.info()),
                        ChecksumSidecar::DefaultPath(made.info()));
  EXPECT_EQ(Store::Open(made.path(), StoreWith(ChecksumUse::kAuto)).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_TRUE(Store::Open(made.path(), StoreWith(ChecksumUse::kOff)).ok());
}

TEST(ChecksumSidecarTest, PackingChecksWhatItReads) {
  const MadeCheckpoint made({});
  const ScratchDir scratch;
  ASSERT_TRUE(WriteChecksums(made.info()).ok());
  FlipBit(made.info().files[0].path, OffsetOf(made.info(), 0, 77));
  const Result<PackReport> report =
      PackTable({.source = made.path(), .out_dir = scratch.File("p")});
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.status().code(), StatusCode::kCorruption);
  EXPECT_NE(report.status().message().find("layer 1"), std::string::npos)
      << report.status().message();
}

}  // namespace
}  // namespace tiercel
