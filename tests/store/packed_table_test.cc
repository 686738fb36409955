// Packed tables through the public API: round trips, reads, shards, damage.

#include "tiercel/packed.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/prng.h"
#include "store/pack.h"
#include "store/packed_page.h"
#include "store/store_impl.h"
#include "tests/support/fault_device.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/sanitized.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/store.h"
#include "tiercel/verify.h"

namespace tiercel {
namespace {

using testing::CheckRows;
using testing::FlipBit;
using testing::LayerBuffers;
using testing::MadeCheckpoint;
using testing::RowIdsOf;
using testing::RowTally;
using testing::ScratchDir;

StoreOptions SmallStore() {
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{24} << 20;
  options.log = [](std::string_view /*line*/) {};
  return options;
}

std::string Pack(const MadeCheckpoint& made, const ScratchDir& scratch) {
  const std::string path = scratch.File("packed");
  const Result<PackReport> report = PackTable({.source = made.path(), .out_dir = path});
  EXPECT_TRUE(report.ok()) << report.status().ToString();
  return path;
}

/// Bytes of a tensor's rows, read straight from the file.
std::string ReadExtent(const CheckpointInfo& info, const RowPart& part, const RowExtent& extent) {
  std::ifstream file(info.files[extent.file_index].path, std::ios::binary);
  std::string bytes(extent.row_count * part.size_bytes, '\0');
  file.seekg(static_cast<std::streamoff>(extent.offset_bytes));
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  EXPECT_TRUE(file.good());
  return bytes;
}

class RoundTripTest : public ::testing::TestWithParam<MadeCheckpoint::Options> {};

TEST_P(RoundTripTest, UnpackGivesTheTensorsBackBitForBit) {
  const MadeCheckpoint made(GetParam());
  const ScratchDir scratch;
  const std::string packed = Pack(made, scratch);
  const std::string unpacked = scratch.File("unpacked");
  const Result<UnpackReport> report = UnpackTable(packed, unpacked);
  ASSERT_TRUE(report.ok()) << report.status().ToString();
  const Result<CheckpointInfo> again = InspectCheckpoint(unpacked);
  ASSERT_TRUE(again.ok()) << again.status().ToString();
  EXPECT_EQ(again.value().layout, made.info().layout);
  ASSERT_EQ(again.value().layers.size(), made.info().layers.size());
  for (std::size_t i = 0; i < made.info().layers.size(); ++i) {
    const LayerTable& want = made.info().layers[i];
    const LayerTable& got = again.value().layers[i];
    EXPECT_EQ(got.shape.tensor_scale, want.shape.tensor_scale);
    ASSERT_EQ(got.parts.size(), want.parts.size());
    for (std::size_t part = 0; part < want.parts.size(); ++part) {
      ASSERT_EQ(got.parts[part].extents.size(), want.parts[part].extents.size());
      for (std::size_t e = 0; e < want.parts[part].extents.size(); ++e) {
        EXPECT_EQ(got.parts[part].extents[e].tensor, want.parts[part].extents[e].tensor);
        EXPECT_EQ(ReadExtent(again.value(), got.parts[part], got.parts[part].extents[e]),
                  ReadExtent(made.info(), want.parts[part], want.parts[part].extents[e]));
      }
    }
  }
}

TEST_P(RoundTripTest, LookupsOfThePackedTableAreTrue) {
  const MadeCheckpoint made(GetParam());
  const ScratchDir scratch;
  const std::string packed = Pack(made, scratch);
  Result<std::unique_ptr<Store>> store = Store::Open(packed, SmallStore());
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  const std::vector<std::int32_t> tokens = made.RandomTokens(3, 200);
  const TokenRun run = {.history = {}, .tokens = tokens};
  for (const LayerTable& layer : made.info().layers) {
    for (const RowOutput format : {RowOutput::kStored, RowOutput::kBf16}) {
      const std::vector<RowId> ids = RowIdsOf(*store.value(), layer.layer_id, run);
      LayerBuffers buffers(*store.value(), layer.layer_id, ids.size(), format);
      const LayerOutput output = buffers.Output();
      ASSERT_TRUE(store.value()->Lookup({&run, 1}, {&output, 1}, format).ok());
      EXPECT_EQ(CheckRows(made, buffers, ids, format).right, ids.size());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, RoundTripTest,
    ::testing::Values(MadeCheckpoint::Options{CheckpointModel::kDeepSeekV41Flash, 20'000, false},
                      MadeCheckpoint::Options{CheckpointModel::kQwen38FlashNext, 40'000, false},
                      MadeCheckpoint::Options{CheckpointModel::kQwen38FlashNext, 40'000, true},
                      MadeCheckpoint::Options{CheckpointModel::kEngramDemo, 200, false}),
    [](const auto& param_info) {
      std::string name(Name(param_info.param.like));
      std::erase_if(name, [](char c) { return c == '-' || c == '.'; });
      return name + (param_info.param.fp8 ? "Fp8" : "");
    });

/// Device reads for a token whose n-grams nobody has asked for.
std::uint64_t ReadsOfOneToken(const std::string& path, const MadeCheckpoint& made,
                              ScalePlacement scales) {
  StoreOptions options = SmallStore();
  options.scales = scales;
  options.read_block_bytes = 512;  // Rows of a block would share a read.
  Result<std::unique_ptr<Store>> store = Store::Open(path, options);
  EXPECT_TRUE(store.ok()) << store.status().ToString();
  if (scales == ScalePlacement::kResident) {
    // Scales load in the background: until they are there, a row takes two reads.
    for (std::uint64_t row = 0, reads = 0; reads != 1; ++row) {
      const std::uint64_t before = store.value()->Stats().device_reads;
      LayerBuffers one(*store.value(), 1, 1, RowOutput::kStored);
      const RowId id{row};
      EXPECT_TRUE(store.value()->LookupRows({&id, 1}, one.Output()).ok());
      reads = store.value()->Stats().device_reads - before;
    }
  }
  const std::vector<std::int32_t> tokens = made.RandomTokens(9, 4);
  const TokenRun run = {.history = std::span(tokens).first(3),
                        .tokens = std::span(tokens).subspan(3)};
  const std::uint64_t before = store.value()->Stats().device_reads;
  const std::vector<RowId> ids = RowIdsOf(*store.value(), 1, run);
  LayerBuffers buffers(*store.value(), 1, ids.size(), RowOutput::kStored);
  const LayerOutput output = buffers.Output();
  EXPECT_TRUE(store.value()->Lookup({&run, 1}, {&output, 1}).ok());
  const StoreStats stats = store.value()->Stats();
  EXPECT_EQ(ids.size(), 24U);
  return stats.device_reads - before + stats.device_reads_shared;
}

TEST(PackedTableTest, ARowTakesOneReadAndInPlaceTwoUnlessScalesAreResident) {
  const MadeCheckpoint made({});
  const ScratchDir scratch;
  const std::string packed = Pack(made, scratch);
  EXPECT_EQ(ReadsOfOneToken(packed, made, ScalePlacement::kAuto), 24U);
  EXPECT_EQ(ReadsOfOneToken(made.path(), made, ScalePlacement::kResident), 24U);
  EXPECT_EQ(ReadsOfOneToken(made.path(), made, ScalePlacement::kDisk), 48U);
}

TEST(PackedTableTest, AShardHoldsItsRowsAndNoOthers) {
  const MadeCheckpoint made({});
  const ScratchDir scratch;
  std::vector<std::uint64_t> digests(made.info().layers.size(), 0);
  for (std::uint32_t rank = 0; rank < 4; ++rank) {
    const std::string path = scratch.File(fmt::format("shard-{}", rank));
    const Result<PackReport> report =
        PackTable({.source = made.path(), .out_dir = path, .shard = {.rank = rank, .count = 4}});
    ASSERT_TRUE(report.ok()) << report.status().ToString();
    EXPECT_EQ(Store::Open(path, SmallStore()).status().code(), StatusCode::kInvalidArgument);
    StoreOptions options = SmallStore();
    options.shard = {.rank = rank, .count = 4};
    Result<std::unique_ptr<Store>> store = Store::Open(path, options);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    const std::vector<std::int32_t> tokens = made.RandomTokens(rank, 50);
    const TokenRun run = {.history = {}, .tokens = tokens};
    const std::vector<RowId> ids = RowIdsOf(*store.value(), 14, run);
    LayerBuffers buffers(*store.value(), 14, ids.size(), RowOutput::kStored);
    const LayerOutput output = buffers.Output();
    ASSERT_TRUE(store.value()->Lookup({&run, 1}, {&output, 1}).ok());
    EXPECT_EQ(CheckRows(made, buffers, ids, RowOutput::kStored).right, ids.size());
    // A row of the next rank's columns is not here, and that is said.
    const RowId foreign{made.info().recipe.layers[1].offsets[(rank + 1) % 4]};
    LayerBuffers one(*store.value(), 14, 1, RowOutput::kStored);
    EXPECT_EQ(store.value()->LookupRows({&foreign, 1}, one.Output()).code(), StatusCode::kPartial);
    EXPECT_EQ(one.row_status[0], RowStatus::kOutOfRange);
    const std::vector<std::uint64_t>& part = store.value()->checkpoint().packed->content_digests;
    for (std::size_t i = 0; i < digests.size(); ++i) digests[i] += part[i];
    EXPECT_EQ(UnpackTable(path, scratch.File("no")).status().code(), StatusCode::kInvalidArgument);
  }
  const std::string whole = Pack(made, scratch);
  EXPECT_EQ(InspectCheckpoint(whole).value().packed->content_digests, digests);
  // Out of a packed table a shard comes just as well.
  const std::string again = scratch.File("again");
  ASSERT_TRUE(
      PackTable({.source = whole, .out_dir = again, .shard = {.rank = 1, .count = 4}}).ok());
  EXPECT_EQ(InspectCheckpoint(again).value().packed->content_digests,
            InspectCheckpoint(scratch.File("shard-1")).value().packed->content_digests);
}

TEST(PackedTableTest, ChosenLayersAreATableOfTheirOwn) {
  const MadeCheckpoint made({});
  const ScratchDir scratch;
  const std::string path = scratch.File("one");
  ASSERT_TRUE(PackTable({.source = made.path(), .out_dir = path, .layer_ids = {14}}).ok());
  Result<std::unique_ptr<Store>> store = Store::Open(path, SmallStore());
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  EXPECT_EQ(store.value()->checkpoint().layers.size(), 1U);
  const std::vector<std::int32_t> tokens = made.RandomTokens(1, 20);
  const TokenRun run = {.history = {}, .tokens = tokens};
  const std::vector<RowId> ids = RowIdsOf(*store.value(), 14, run);
  LayerBuffers buffers(*store.value(), 14, ids.size(), RowOutput::kStored);
  const LayerOutput output = buffers.Output();
  ASSERT_TRUE(store.value()->Lookup({&run, 1}, {&output, 1}).ok());
  EXPECT_EQ(CheckRows(made, buffers, ids, RowOutput::kStored).right, ids.size());
  EXPECT_EQ(PackTable({.source = made.path(), .out_dir = scratch.File("x"), .layer_ids = {3}})
                .status()
                .code(),
            StatusCode::kNotFound);
}

TEST(PackedTableTest, AGgufModelKeepsItsRowsAndItsTokenMap) {
  const MadeCheckpoint made({.gguf = RowFormat::kQ4_K, .split_count = 2});
  ASSERT_NE(made.info().token_map, nullptr);
  const ScratchDir scratch;
  const std::string packed = Pack(made, scratch);
  const CheckpointInfo info = InspectCheckpoint(packed).value();
  ASSERT_NE(info.token_map, nullptr);
  EXPECT_TRUE(std::ranges::equal(info.token_map->classes(), made.info().token_map->classes()));
  EXPECT_EQ(info.packed->source_layout, made.info().layout);
  const Result<VerifyReport> report = VerifyTable(info);
  ASSERT_TRUE(report.ok()) << report.status().ToString();
  EXPECT_TRUE(report.value().clean());
  EXPECT_EQ(report.value().checks.size(), 2U);
  const Result<std::vector<LayerDiff>> diffs = DiffTables(made.info(), info);
  ASSERT_TRUE(diffs.ok()) << diffs.status().ToString();
  for (const LayerDiff& diff : diffs.value()) {
    EXPECT_EQ(diff.rows_different, 0U);
    EXPECT_GT(diff.rows_compared, 1000U);
  }
  // The bytes come back, if not as tables of a type that safetensors knows.
  EXPECT_TRUE(UnpackTable(packed, scratch.File("unpacked")).ok());
  FlipBit(packed + "/token_map.u32", 400);
  EXPECT_EQ(InspectCheckpoint(packed).status().code(), StatusCode::kCorruption);
}

TEST(PackedTableTest, ADamagedRowIsMarkedAndItsNeighboursAreGood) {
  const MadeCheckpoint made({});
  const ScratchDir scratch;
  const std::string packed = Pack(made, scratch);
  const CheckpointInfo info = InspectCheckpoint(packed).value();
  const RowPages& pages = info.layers[0].parts[0].pages;
  // Row 100 is row 10 of page 6, after the header's page.
  FlipBit(info.files[0].path, 7 * 4096 + RowOffsetInPage(pages, 264, 10) + 5);
  Result<std::unique_ptr<Store>> store = Store::Open(packed, SmallStore());
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  std::vector<RowId> ids;
  for (std::uint64_t row = 90; row < 110; ++row) ids.push_back(RowId{row});
  LayerBuffers buffers(*store.value(), 1, ids.size(), RowOutput::kStored);
  EXPECT_EQ(store.value()->LookupRows(ids, buffers.Output()).code(), StatusCode::kPartial);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(buffers.row_status[i], i == 10 ? RowStatus::kCorruption : RowStatus::kOk) << i;
  }
  const RowTally tally = CheckRows(made, buffers, ids, RowOutput::kStored);
  EXPECT_EQ(tally.right, ids.size() - 1);
  EXPECT_EQ(tally.marked, 1U);

  const Result<VerifyReport> report = VerifyTable(info);
  ASSERT_TRUE(report.ok()) << report.status().ToString();
  EXPECT_EQ(report.value().rows_corrupt, 1U);
  EXPECT_EQ(report.value().rows_different, 0U);
  ASSERT_EQ(report.value().findings.size(), 1U);
  EXPECT_NE(report.value().findings[0].find("layer 1 row 100, at byte 28672"), std::string::npos)
      << report.value().findings[0];
  // Nothing is made out of damaged rows.
  EXPECT_EQ(UnpackTable(packed, scratch.File("u")).status().code(), StatusCode::kCorruption);
  EXPECT_FALSE(std::filesystem::exists(scratch.File("u")));
}

TEST(PackedTableTest, NoFlippedBitOfARunningDiskGetsThrough) {
  const MadeCheckpoint made({});
  const ScratchDir scratch;
  const std::string packed = Pack(made, scratch);
  testing::FaultDevice* device = nullptr;
  Result<std::unique_ptr<Store>> store = OpenStoreOn(
      InspectCheckpoint(packed).value(), SmallStore(),
      [&device](const std::vector<std::string>& paths,
                const DeviceOptions& options) -> Result<OpenedDevice> {
        Result<OpenedDevice> opened = OpenDevice(EngineChoice::kPread, paths, options);
        if (!opened.ok()) return opened;
        auto faulty = std::make_unique<testing::FaultDevice>(
            std::move(opened.value().device), testing::FaultOptions{.seed = 4, .bit_flip = 0.4});
        device = faulty.get();
        return OpenedDevice{.device = std::move(faulty), .fallback_reason = {}};
      });
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  RowTally total;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const std::vector<std::int32_t> tokens = made.RandomTokens(seed, 30);
    const TokenRun run = {.history = {}, .tokens = tokens};
    const std::vector<RowId> ids = RowIdsOf(*store.value(), 1, run);
    LayerBuffers buffers(*store.value(), 1, ids.size(), RowOutput::kStored);
    const LayerOutput output = buffers.Output();
    (void)store.value()->Lookup({&run, 1}, {&output, 1});
    const RowTally tally = CheckRows(made, buffers, ids, RowOutput::kStored);
    total.right += tally.right;
    total.marked += tally.marked;
    total.wrong += tally.wrong;
  }
  EXPECT_EQ(total.wrong, 0U);
  EXPECT_GT(total.right, 1000U);
  EXPECT_GT(total.marked, 50U);
  EXPECT_GT(device->counts().bit_flips, 1000U);
}

TEST(PackedTableTest, AnotherKindOfManifestDoesNotHideACheckpoint) {
  const MadeCheckpoint made({});
  std::ofstream(made.path() + "/manifest.json") << "{\"files\": []}";
  const Result<CheckpointInfo> info = InspectCheckpoint(made.path());
  ASSERT_TRUE(info.ok()) << info.status().ToString();
  EXPECT_FALSE(info.value().packed.has_value());
}

TEST(PackedTableTest, FilesThatAreNotTheManifestsAreRefused) {
  const MadeCheckpoint made({});
  const ScratchDir scratch;
  const std::string packed = Pack(made, scratch);
  const CheckpointInfo info = InspectCheckpoint(packed).value();
  const std::string file = info.files[0].path;
  // Every bit of the header page; some of them where a sanitizer slows it down.
  constexpr std::size_t kBitStep = testing::kSanitized ? 37 : 1;
  std::fstream header(file, std::ios::binary | std::ios::in | std::ios::out);
  std::string page(4096, '\0');
  header.read(page.data(), 4096);
  for (std::size_t bit = 0; bit < page.size() * 8; bit += kBitStep) {
    const auto put = [&](char byte) {
      header.seekp(static_cast<std::streamoff>(bit / 8));
      header.put(byte).flush();
    };
    put(static_cast<char>(page[bit / 8] ^ (1 << bit % 8)));
    const StatusCode code = InspectCheckpoint(packed).status().code();
    ASSERT_TRUE(code == StatusCode::kCorruption || code == StatusCode::kInvalidArgument) << bit;
    put(page[bit / 8]);
  }
  header.close();
  ASSERT_TRUE(InspectCheckpoint(packed).ok());
  std::filesystem::resize_file(file, info.files[0].size_bytes - 4096);
  EXPECT_EQ(InspectCheckpoint(packed).status().code(), StatusCode::kCorruption);
  std::filesystem::resize_file(file, info.files[0].size_bytes);
  std::filesystem::rename(file, file + ".away");
  EXPECT_EQ(InspectCheckpoint(packed).status().code(), StatusCode::kNotFound);
}

TEST(PackedTableTest, AStoppedPackGoesOnAndGivesTheSameTable) {
  const MadeCheckpoint made({});
  const ScratchDir scratch;
  const std::string whole = Pack(made, scratch);
  const std::string path = scratch.File("stopped");
  PackOptions options{.source = made.path(), .out_dir = path};
  std::uint64_t resumed_bytes = 0;
  int stops = 0;
  while (true) {
    std::uint64_t first_done = 0;
    options.progress = [&](std::uint64_t done_bytes, std::uint64_t /*total_bytes*/) {
      if (first_done == 0) first_done = done_bytes;
      return done_bytes < first_done + (std::uint64_t{5} << 20);
    };
    const Result<PackReport> report =
        PackTableWith(options, {.sync_bytes = std::uint64_t{1} << 20, .patch = {}});
    if (report.ok()) {
      EXPECT_GT(report.value().resumed_bytes, resumed_bytes);
      break;
    }
    ASSERT_EQ(report.status().code(), StatusCode::kCancelled) << report.status().ToString();
    ASSERT_LT(++stops, 50);
    // No table yet, and what to do is said.
    EXPECT_EQ(InspectCheckpoint(path).status().code(), StatusCode::kNotFound);
    PackOptions other = options;
    other.layer_ids = {14};
    EXPECT_EQ(PackTable(other).status().code(), StatusCode::kInvalidArgument);
  }
  EXPECT_GE(stops, 1);
  const CheckpointInfo whole_info = InspectCheckpoint(whole).value();
  for (const TableFile& file : whole_info.files) {
    const std::string name = std::filesystem::relative(file.path, whole).string();
    EXPECT_EQ(ReadWholeFile(whole + "/" + name, ~0U).value(),
              ReadWholeFile(path + "/" + name, ~0U).value())
        << name;
  }
  EXPECT_EQ(PackTable(options).status().code(), StatusCode::kAlreadyExists);
}

TEST(PackedTableTest, ADirectoryInUseOrFullOfOtherThingsIsLeftAlone) {
  const MadeCheckpoint made({});
  const ScratchDir scratch;
  const std::string other = scratch.File("other");
  std::filesystem::create_directory(other);
  scratch.Write("other/file", "x");
  EXPECT_EQ(PackTable({.source = made.path(), .out_dir = other}).status().code(),
            StatusCode::kAlreadyExists);
  const std::string busy = scratch.File("busy");
  std::filesystem::create_directory(busy);
  const Result<FileDescriptor> lock = LockDirectory(busy);
  ASSERT_TRUE(lock.ok());
  EXPECT_EQ(PackTable({.source = made.path(), .out_dir = busy}).status().code(),
            StatusCode::kUnavailable);
  EXPECT_EQ(UnpackTable(made.path(), scratch.File("u")).status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tiercel
