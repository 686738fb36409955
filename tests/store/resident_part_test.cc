// Goal: of a part that is held in DRAM, the rows that are wanted come from there with
// their own bytes, and no memory is taken for chunks in which none is.
//
// Method: a file of numbered rows of 8 B, in two extents out of step with the chunks of
// 131,072 rows; ranges of them, and a wait until their last row is there.

#include "store/resident_part.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/scratch_dir.h"

namespace tiercel::testing {
namespace {

constexpr std::uint64_t kChunkRows = (1 << 20) / 8;
constexpr std::uint64_t kRows = 4 * kChunkRows + 1000;  // Five chunks, the last one short.

class ResidentPartTest : public ::testing::Test {
 protected:
  ResidentPartTest() {
    std::vector<std::uint64_t> rows(kRows);
    for (std::uint64_t row = 0; row < kRows; ++row) rows[row] = row + 1;
    const std::string bytes(reinterpret_cast<const char*>(rows.data()), kRows * 8);
    files_ = {{.path = scratch_.Write("rows", "head" + bytes), .size_bytes = kRows * 8 + 4}};
    constexpr std::uint64_t kFirst = kChunkRows + 77;
    part_ = {.size_bytes = 8,
             .extents = {{.file_index = 0,
                          .offset_bytes = 4,
                          .first_row = 0,
                          .row_count = kFirst,
                          .tensor = "a"},
                         {.file_index = 0,
                          .offset_bytes = 4 + kFirst * 8,
                          .first_row = kFirst,
                          .row_count = kRows - kFirst,
                          .tensor = "b"}}};
  }

  std::unique_ptr<ResidentPart> Load(const std::vector<RowRange>& wanted) {
    auto part = ResidentPart::Load(files_, part_, wanted, nullptr,
                                   [](std::string_view line) { ADD_FAILURE() << line; });
    EXPECT_TRUE(part.ok()) << part.status().ToString();
    return std::move(part).value();
  }

  /// The row's number, or 0 where it is not held. Waits for a row that will be.
  static std::uint64_t Get(const ResidentPart& part, std::uint64_t row, bool wait = false) {
    std::uint64_t value = 0;
    const auto target = std::as_writable_bytes(std::span(&value, 1));
    while (!part.Copy(RowId{row}, target) && wait) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return value;
  }

  ScratchDir scratch_;
  std::vector<TableFile> files_;
  RowPart part_;
};

TEST_F(ResidentPartTest, HoldsAllRows) {
  const auto part = Load({{.first = 0, .end = kRows}});
  EXPECT_EQ(Get(*part, kRows - 1, true), kRows);
  for (std::uint64_t row = 0; row < kRows; row += 97) ASSERT_EQ(Get(*part, row), row + 1);
  EXPECT_GE(part->memory_bytes(), kRows * 8);
  EXPECT_LE(part->memory_bytes(), kRows * 8 + 200);
}

TEST_F(ResidentPartTest, HoldsTheChunksOfTheRangesAlone) {
  // Two ranges in chunk 1, one from chunk 3 into the short one; chunks 0 and 2 are not held.
  const std::vector<RowRange> wanted = {{.first = kChunkRows, .end = kChunkRows + 9},
                                        {.first = kChunkRows + 9, .end = 2 * kChunkRows},
                                        {.first = 4 * kChunkRows - 1, .end = kRows}};
  const auto part = Load(wanted);
  EXPECT_EQ(Get(*part, kRows - 1, true), kRows);
  std::uint64_t held = 0;
  for (std::uint64_t row = 0; row < kRows; ++row) {
    const std::uint64_t chunk = row / kChunkRows;
    const bool in_reach = chunk == 1 || chunk >= 3;
    ASSERT_EQ(Get(*part, row), in_reach ? row + 1 : 0) << row;
    held += in_reach ? 1 : 0;
  }
  EXPECT_GE(part->memory_bytes(), held * 8);
  EXPECT_LE(part->memory_bytes(), held * 8 + 200);
  EXPECT_EQ(part->memory_bytes(), ResidentPart::MemoryBytes(part_, wanted));
}

}  // namespace
}  // namespace tiercel::testing
