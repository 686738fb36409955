// Goal: a synthetic row is a pure function of seed, layer and row, its values are
// finite, and rows differ from each other. Verifying finds what was changed on disk
// and names the place.
//
// Method: rows of every format, looked at value by value; checkpoints of the real
// formats, damaged in known places.

#include "tiercel/synthetic.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "store/synthetic.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/checkpoint.h"
#include "tiercel/row_format.h"

namespace tiercel {
namespace {

using testing::ScratchDir;

std::vector<std::byte> Row(std::uint64_t seed, std::uint32_t layer_id, std::uint64_t row,
                           const RowShape& shape) {
  std::vector<std::byte> bytes(shape.row_size_bytes());
  SyntheticRow(seed, layer_id, RowId{row}, shape, bytes);
  return bytes;
}

TEST(SyntheticRowTest, ValuesAreFiniteAndVaried) {
  for (const RowFormat format : kRowFormats) {
    SCOPED_TRACE(Name(format));
    const RowShape shape{.format = format, .value_count = 256};
    std::vector<float> values(shape.value_count);
    std::set<float> seen;
    for (std::uint64_t row = 0; row < 1000; ++row) {
      DequantizeToFloat(shape, Row(1, 1, row, shape), values);
      for (const float value : values) {
        ASSERT_TRUE(std::isfinite(value)) << "row " << row;
        ASSERT_LE(std::fabs(value), 448.0F) << "row " << row;
        seen.insert(value);
      }
    }
    EXPECT_GT(seen.size(), 200U);
  }
}

TEST(SyntheticRowTest, E4M3TakesEveryByteButNan) {
  const RowShape shape{.format = RowFormat::kE4M3Tensor, .value_count = 256};
  std::set<unsigned> seen;
  for (std::uint64_t row = 0; row < 1000; ++row) {
    for (const std::byte byte : Row(1, 1, row, shape)) seen.insert(std::to_integer<unsigned>(byte));
  }
  EXPECT_EQ(seen.size(), 254U);
  EXPECT_FALSE(seen.contains(0x7f));
  EXPECT_FALSE(seen.contains(0xff));
}

TEST(SyntheticRowTest, ScalesAreModerate) {
  const RowShape shape{.format = RowFormat::kE4M3Block32, .value_count = 256};
  for (std::uint64_t row = 0; row < 1000; ++row) {
    const std::vector<std::byte> bytes = Row(7, 14, row, shape);
    for (std::size_t i = 256; i < 264; ++i) {
      EXPECT_GE(std::to_integer<unsigned>(bytes[i]), 110U);
      EXPECT_LE(std::to_integer<unsigned>(bytes[i]), 126U);
    }
  }
}

TEST(SyntheticRowTest, DependsOnSeedLayerAndRowAlone) {
  for (const RowFormat format : kRowFormats) {
    SCOPED_TRACE(Name(format));
    const RowShape shape{.format = format, .value_count = 256};
    EXPECT_EQ(Row(1, 2, 3, shape), Row(1, 2, 3, shape));
    std::set<std::vector<std::byte>> rows;
    std::uint64_t count = 0;
    for (const std::uint64_t seed : {0ULL, 1ULL, ~0ULL}) {
      for (const std::uint32_t layer : {0U, 1U, 14U}) {
        for (const std::uint64_t row : {0ULL, 1ULL, 2ULL, 255ULL, 256ULL, 384'006'167ULL}) {
          rows.insert(Row(seed, layer, row, shape));
          ++count;
        }
      }
    }
    EXPECT_EQ(rows.size(), count);
  }
}

// Made checkpoints stay on disk: other bytes need a new kSyntheticGenerator.
TEST(SyntheticRowTest, BytesNeverChange) {
  const RowShape shape{.format = RowFormat::kE4M3Block32, .value_count = 32};
  std::string hex;
  for (const std::byte byte : Row(1, 1, 0, shape)) {
    hex += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  }
  EXPECT_EQ(hex, "0016640aee436e4600369d518a533ae1309849871de35afb9e70a6570919c54372");
}

TEST(SyntheticRowTest, PartsAndRangesAgreeWithSingleRows) {
  for (const RowFormat format : kRowFormats) {
    for (const std::uint32_t value_count : {32U, 160U, 256U, 768U}) {
      if (value_count % BlockValueCount(format) != 0) continue;
      SCOPED_TRACE(fmt::format("{} {}", Name(format), value_count));
      const RowShape shape{.format = format, .value_count = value_count};
      const SyntheticTable table{.seed = 5, .layer_id = 9, .shape = shape};
      std::size_t at = 0;
      for (std::uint32_t part = 0; part < SyntheticPartCount(shape); ++part) {
        const std::size_t size_bytes = SyntheticPartSizeBytes(shape, part);
        std::vector<std::byte> bytes(17 * size_bytes);
        FillSyntheticPart(table, part, 1000, 17, bytes);
        for (std::uint64_t i = 0; i < 17; ++i) {
          const std::vector<std::byte> row = Row(5, 9, 1000 + i, shape);
          EXPECT_TRUE(std::equal(row.begin() + static_cast<std::ptrdiff_t>(at),
                                 row.begin() + static_cast<std::ptrdiff_t>(at + size_bytes),
                                 bytes.begin() + static_cast<std::ptrdiff_t>(i * size_bytes)))
              << "part " << part << " row " << i;
        }
        at += size_bytes;
      }
      EXPECT_EQ(at, shape.row_size_bytes());
    }
  }
}

// Row widths that are no whole number of 64-bit words.
TEST(SyntheticRowTest, OddWidthsStayWithinTheirRow) {
  for (const std::uint32_t value_count : {1U, 3U, 7U, 9U, 33U}) {
    const RowShape shape{.format = RowFormat::kE4M3Tensor, .value_count = value_count};
    std::vector<std::byte> bytes(value_count + 8, std::byte{0xEE});
    SyntheticRow(1, 1, RowId{1}, shape, std::span(bytes).first(value_count));
    for (std::size_t i = value_count; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], std::byte{0xEE});
  }
}

CheckpointInfo Make(const std::string& out_dir, CheckpointModel model, std::uint64_t shrink) {
  MakeCheckpointOptions options;
  options.like = model;
  options.shrink = shrink;
  options.seed = 42;
  options.out_dir = out_dir;
  options.tables_only = true;
  const Result<MakeCheckpointReport> made = MakeCheckpoint(options);
  EXPECT_TRUE(made.ok()) << made.status().ToString();
  Result<CheckpointInfo> info = InspectCheckpoint(out_dir);
  EXPECT_TRUE(info.ok()) << info.status().ToString();
  return info.ok() ? std::move(info).value() : CheckpointInfo();
}

// Where a part of a row lies.
struct Place {
  std::string path;
  std::uint64_t offset_bytes;
};

Place PlaceOf(const CheckpointInfo& info, std::size_t layer, std::size_t part, std::uint64_t row) {
  for (const RowExtent& extent : info.layers[layer].parts[part].extents) {
    if (row - extent.first_row < extent.row_count) {
      return {info.files[extent.file_index].path,
              extent.offset_bytes +
                  (row - extent.first_row) * info.layers[layer].parts[part].size_bytes};
    }
  }
  ADD_FAILURE() << "no extent has row " << row;
  return {};
}

TEST(VerifySyntheticTest, FindsFlippedBitsAndNamesTheirPlace) {
  const ScratchDir scratch;
  const CheckpointInfo info =
      Make(scratch.File("made"), CheckpointModel::kDeepSeekV41Flash, 20'000);
  ASSERT_EQ(info.layers.size(), 2U);
  const std::uint64_t last = info.layers[1].row_count - 1;
  struct Damage {
    std::size_t layer;
    std::size_t part;
    std::uint64_t row;
    std::uint64_t byte;
  };
  const std::vector<Damage> damages = {
      {0, 0, 0, 0}, {0, 0, 7777, 255}, {0, 1, 3, 7}, {1, 0, last, 100}, {1, 1, last, 0}};
  std::vector<std::string> expected;
  for (const Damage& damage : damages) {
    Place place = PlaceOf(info, damage.layer, damage.part, damage.row);
    const std::uint64_t row_offset_bytes = place.offset_bytes;
    place.offset_bytes += damage.byte;
    testing::FlipBit(place.path, place.offset_bytes);
    expected.push_back(fmt::format("{}: layer {} row {}, at byte {} in tensor {}, ", place.path,
                                   info.layers[damage.layer].layer_id, damage.row, row_offset_bytes,
                                   info.layers[damage.layer].parts[damage.part].extents[0].tensor));
  }
  const Result<VerifyReport> report = VerifySynthetic(info, {});
  ASSERT_TRUE(report.ok()) << report.status().ToString();
  EXPECT_EQ(report.value().rows_checked, info.layers[0].row_count + info.layers[1].row_count);
  // Both parts of the last row are damaged: one row, named by the first part.
  expected.pop_back();
  EXPECT_EQ(report.value().rows_different, expected.size());
  EXPECT_EQ(report.value().rows_unreadable, 0U);
  ASSERT_EQ(report.value().findings.size(), expected.size());
  for (const std::string& want : expected) {
    EXPECT_EQ(std::count_if(report.value().findings.begin(), report.value().findings.end(),
                            [&](const std::string& finding) { return finding.starts_with(want); }),
              1)
        << want;
  }
}

TEST(VerifySyntheticTest, PassesAnUndamagedCheckpointAndTellsItsProgress) {
  const ScratchDir scratch;
  const CheckpointInfo info = Make(scratch.File("made"), CheckpointModel::kQwen38FlashNext, 10'000);
  std::uint64_t last_done = 0;
  const Result<VerifyReport> report =
      VerifySynthetic(info, [&](std::uint64_t done_bytes, std::uint64_t total_bytes) {
        EXPECT_GT(done_bytes, last_done);
        EXPECT_EQ(total_bytes, info.table_bytes);
        last_done = done_bytes;
        return true;
      });
  ASSERT_TRUE(report.ok()) << report.status().ToString();
  EXPECT_EQ(last_done, info.table_bytes);
  EXPECT_EQ(report.value().rows_checked, info.layers[0].row_count);
  EXPECT_EQ(report.value().rows_different, 0U);
  EXPECT_EQ(report.value().rows_unreadable, 0U);
  EXPECT_TRUE(report.value().findings.empty());
}

TEST(VerifySyntheticTest, CountsRowsBehindTheEndOfACutFile) {
  const ScratchDir scratch;
  const CheckpointInfo info = Make(scratch.File("made"), CheckpointModel::kEngramDemo, 100);
  const std::uint64_t cut_row = info.layers[1].row_count - 1000;
  const Place cut = PlaceOf(info, 1, 0, cut_row);
  // One byte of the row is left, which does not make it readable.
  ASSERT_EQ(truncate(cut.path.c_str(), static_cast<off_t>(cut.offset_bytes + 1)), 0);
  const Result<VerifyReport> report = VerifySynthetic(info, {});
  ASSERT_TRUE(report.ok()) << report.status().ToString();
  EXPECT_EQ(report.value().rows_unreadable, 1000U);
  EXPECT_EQ(report.value().rows_different, 0U);
  EXPECT_EQ(report.value().rows_checked, info.layers[0].row_count + info.layers[1].row_count);
  ASSERT_EQ(report.value().findings.size(), 10U);
  EXPECT_NE(report.value().findings[0].find(fmt::format("layer 15 row {},", cut_row)),
            std::string::npos)
      << report.value().findings[0];
}

TEST(VerifySyntheticTest, AFileThatIsGoneIsAFindingAndAllGoneIsAnError) {
  const ScratchDir scratch;
  const CheckpointInfo info =
      Make(scratch.File("made"), CheckpointModel::kDeepSeekV41Flash, 20'000);
  ASSERT_EQ(info.files.size(), 2U);
  std::filesystem::remove(info.files[0].path);
  const Result<VerifyReport> report = VerifySynthetic(info, {});
  ASSERT_TRUE(report.ok()) << report.status().ToString();
  EXPECT_EQ(report.value().rows_unreadable, info.layers[0].row_count);
  EXPECT_EQ(report.value().rows_different, 0U);

  std::filesystem::remove(info.files[1].path);
  EXPECT_EQ(VerifySynthetic(info, {}).status().code(), StatusCode::kIoError);
}

TEST(VerifySyntheticTest, StopsWhenAskedTo) {
  const ScratchDir scratch;
  const CheckpointInfo info = Make(scratch.File("made"), CheckpointModel::kEngramDemo, 50);
  int calls = 0;
  const Result<VerifyReport> report =
      VerifySynthetic(info, [&calls](std::uint64_t, std::uint64_t) { return ++calls < 3; });
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.status().code(), StatusCode::kCancelled);
  EXPECT_EQ(calls, 3);
}

TEST(VerifySyntheticTest, RefusesWhatWasNotMade) {
  const ScratchDir scratch;
  CheckpointInfo info = Make(scratch.File("made"), CheckpointModel::kEngramDemo, 10'000);
  info.synthetic_seed.reset();
  const Result<VerifyReport> report = VerifySynthetic(info, {});
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tiercel
