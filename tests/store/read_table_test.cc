// Goal: pieces that share blocks share reads, each piece gets its own bytes once or
//       its own failure once, and nobody fails for the piece that he rode with.
//
// Method: directed cases, then a model: random pieces over a memory device with 64 B
//       blocks, reads that end in success, short blocks or failure by seed; every
//       piece must be served with the file's bytes or failed, exactly once.
//       TIERCEL_TEST_SEED=<seed> repeats a failure.

#include "store/read_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "base/prng.h"
#include "io/device.h"

namespace tiercel {
namespace {

constexpr std::uint32_t kBlockBytes = 64;
constexpr std::uint32_t kFileBytes = 10'000;  // No multiple of the block.

std::vector<std::byte> MakeFile(std::uint64_t seed) {
  Prng prng(seed);
  std::vector<std::byte> bytes(kFileBytes);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(prng());
  return bytes;
}

class ReadTableTest : public ::testing::Test {
 protected:
  ReadTableTest() : files_{MakeFile(1), MakeFile(2)} {
    device_ = NewMemoryDevice(files_, {.depth = 8, .block_bytes = kBlockBytes});
  }

  static RowPiece PieceAt(std::uint64_t offset_bytes, std::uint32_t size_bytes,
                          std::uint32_t group = 0, std::uint32_t file = 0) {
    return {.place = {.file_index = file, .size_bytes = size_bytes, .offset_bytes = offset_bytes},
            .group = group};
  }

  /// The blocks of a read, less what is cut off their end.
  std::span<const std::byte> BlocksOf(const ReadTable::Read& read, std::uint32_t cut_bytes = 0) {
    const std::vector<std::byte>& file = files_[read.request.file_index];
    const std::uint64_t end =
        std::min<std::uint64_t>(file.size(), read.blocks.offset_bytes + read.blocks.size_bytes);
    return std::span(file).subspan(read.blocks.offset_bytes,
                                   end - read.blocks.offset_bytes - cut_bytes);
  }

  bool IsFile(const RowPiece& piece, std::span<const std::byte> bytes) const {
    const auto want = std::span(files_[piece.place.file_index])
                          .subspan(piece.place.offset_bytes, piece.place.size_bytes);
    return std::ranges::equal(want, bytes);
  }

  std::vector<std::vector<std::byte>> files_;
  std::unique_ptr<Device> device_;
};

TEST_F(ReadTableTest, PiecesOfOneBlockRideOnOneRead) {
  ReadTable table(*device_, 8, 16);
  const std::uint32_t read = table.Add(PieceAt(128, 16, 1));
  ASSERT_NE(read, ReadTable::kNone);
  EXPECT_EQ(table.Add(PieceAt(176, 16, 2)), ReadTable::kNone);              // The same block.
  EXPECT_EQ(table.Add(PieceAt(128, 16, 3)), ReadTable::kNone);              // The same row.
  EXPECT_NE(table.Add(PieceAt(192, 16, 4)), ReadTable::kNone);              // The next block.
  EXPECT_NE(table.Add(PieceAt(248, 16, 5)), ReadTable::kNone);              // Ends in the next one.
  EXPECT_NE(table.Add(PieceAt(128, 16, 6, /*file=*/1)), ReadTable::kNone);  // Another file.
  std::vector<std::uint32_t> served;
  EXPECT_TRUE(table.Serve(read, BlocksOf(table[read]), [&](const RowPiece& piece, auto bytes) {
    EXPECT_TRUE(IsFile(piece, bytes));
    served.push_back(piece.group);
  }));
  std::ranges::sort(served);
  EXPECT_EQ(served, (std::vector<std::uint32_t>{1, 2, 3}));
  EXPECT_NE(table.Add(PieceAt(128, 16)), ReadTable::kNone) << "joined a read that was over";
}

TEST_F(ReadTableTest, APieceOfTwoBlocksIsOneReadAndCarriesThoseInItsFirst) {
  ReadTable table(*device_, 8, 16);
  const std::uint32_t read = table.Add(PieceAt(120, 16, 1));
  EXPECT_EQ(table[read].blocks.size_bytes, 2 * kBlockBytes);
  EXPECT_EQ(table.Add(PieceAt(64, 8, 2)), ReadTable::kNone);
  int served = 0;
  EXPECT_TRUE(table.Serve(read, BlocksOf(table[read]), [&](const RowPiece& piece, auto bytes) {
    EXPECT_TRUE(IsFile(piece, bytes));
    ++served;
  }));
  EXPECT_EQ(served, 2);
}

TEST_F(ReadTableTest, WhoeverRodeWithAFailureGetsAReadOfHisOwn) {
  ReadTable table(*device_, 8, 16);
  const std::uint32_t read = table.Add(PieceAt(0, 16, 1));
  EXPECT_EQ(table.Add(PieceAt(16, 16, 2)), ReadTable::kNone);
  table[read].attempts = 3;
  bool over = true;
  EXPECT_EQ(table.Fail(read, over).group, 1U);
  EXPECT_FALSE(over);
  EXPECT_EQ(table[read].attempts, 0U);
  EXPECT_EQ(table[read].request.offset_bytes, 16U);
  EXPECT_EQ(table.Fail(read, over).group, 2U);
  EXPECT_TRUE(over);
}

TEST_F(ReadTableTest, WhatTheBytesDoNotHoldIsReadAgain) {
  ReadTable table(*device_, 8, 16);
  const std::uint32_t read = table.Add(PieceAt(0, 16, 1));
  EXPECT_EQ(table.Add(PieceAt(48, 16, 2)), ReadTable::kNone);
  std::vector<std::uint32_t> served;
  const auto serve = [&](const RowPiece& piece, std::span<const std::byte> bytes) {
    EXPECT_TRUE(IsFile(piece, bytes));
    served.push_back(piece.group);
  };
  EXPECT_FALSE(table.Serve(read, BlocksOf(table[read], /*cut_bytes=*/8), serve));
  EXPECT_EQ(table[read].request.offset_bytes, 48U);
  EXPECT_TRUE(table.Serve(read, BlocksOf(table[read]), serve));
  EXPECT_EQ(served, (std::vector<std::uint32_t>{1, 2}));
}

TEST_F(ReadTableTest, RoomEndsWithTheReadsOrWithThePieces) {
  ReadTable reads(*device_, 2, 16);
  static_cast<void>(reads.Add(PieceAt(0, 8)));
  static_cast<void>(reads.Add(PieceAt(64, 8)));
  EXPECT_FALSE(reads.has_room());
  ReadTable pieces(*device_, 8, 2);
  static_cast<void>(pieces.Add(PieceAt(0, 8)));
  static_cast<void>(pieces.Add(PieceAt(0, 8)));
  EXPECT_FALSE(pieces.has_room());
}

TEST_F(ReadTableTest, EveryPieceIsServedOrFailedOnce) {
  const char* const text = std::getenv("TIERCEL_TEST_SEED");
  const std::uint64_t seed =
      text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device()();
  SCOPED_TRACE(::testing::Message() << "TIERCEL_TEST_SEED=" << seed);
  Prng prng(seed);
  ReadTable table(*device_, 16, 64);
  std::vector<std::uint32_t> under_way;
  std::set<std::uint32_t> waiting;  // Groups: one a piece here.
  std::uint32_t next_group = 0;
  std::uint64_t joined = 0;
  std::uint64_t failed = 0;
  std::uint64_t renewed = 0;
  const auto end = [&](std::uint32_t group) { ASSERT_EQ(waiting.erase(group), 1U) << group; };
  for (int step = 0; step < 50'000; ++step) {
    if (table.has_room() && prng.Below(2) == 0) {
      const auto size = static_cast<std::uint32_t>(1 + prng.Below(100));
      const std::uint64_t place = prng.Below(2) == 0 ? prng.Below(512) : kFileBytes - 200;
      waiting.insert(next_group);
      const std::uint32_t read = table.Add(PieceAt(place + prng.Below(100), size, next_group++,
                                                   static_cast<std::uint32_t>(prng.Below(2))));
      if (read == ReadTable::kNone) ++joined;
      if (read != ReadTable::kNone) under_way.push_back(read);
      continue;
    }
    if (under_way.empty()) continue;
    const std::size_t which = prng.Below(under_way.size());
    const std::uint32_t read = under_way[which];
    bool over = true;
    if (prng.Below(4) == 0) {
      ++failed;
      end(table.Fail(read, over).group);
    } else {
      // The request itself is always in what came.
      const ReadTable::Read& info = table[read];
      const std::size_t least = info.blocks.skip_bytes + info.request.size_bytes;
      std::span<const std::byte> blocks = BlocksOf(info);
      ASSERT_GE(blocks.size(), least);
      blocks = blocks.first(least + prng.Below(blocks.size() - least + 1));
      over = table.Serve(read, blocks, [&](const RowPiece& piece, auto bytes) {
        EXPECT_TRUE(IsFile(piece, bytes));
        end(piece.group);
      });
    }
    renewed += over ? 0 : 1;
    if (over) under_way.erase(under_way.begin() + static_cast<std::ptrdiff_t>(which));
  }
  for (const std::uint32_t read : under_way) {
    for (bool over = false; !over;) end(table.Fail(read, over).group);
  }
  EXPECT_TRUE(waiting.empty());
  EXPECT_GT(joined, 100U);
  EXPECT_GT(failed, 100U);
  EXPECT_GT(renewed, 100U);
}

}  // namespace
}  // namespace tiercel
