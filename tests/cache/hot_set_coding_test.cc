// Goal: what a hot set file holds comes back as it was, and not one damaged byte of it
// goes unnoticed.
//
// Method: small files in memory; each byte of one is changed in turn, and blocks are put
// in each other's place.

#include "cache/hot_set_coding.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <vector>

#include "base/byte_order.h"
#include "base/prng.h"

namespace tiercel::testing {
namespace {

constexpr std::string_view kName = "a.hot";

/// A file in memory, and what it must give.
struct Made {
  HotSetHeader header;
  std::vector<std::byte> head;
  std::vector<std::vector<std::byte>> blocks;
  std::vector<HotGroup> groups;  ///< Bytes in `bytes`.
  std::vector<std::vector<std::byte>> bytes;
};

Made Make(bool has_bytes, std::size_t group_count, std::uint64_t save_id = 77) {
  Made made;
  made.header = {.block_bytes = 4096,
                 .has_bytes = has_bytes,
                 .save_id = save_id,
                 .table_id = 5,
                 .content_id = 6,
                 .saved_at_s = 7,
                 .shard = {.rank = 2, .count = 3},
                 .spaces = {{.layer_id = 1, .order = 2, .group_size_bytes = 300},
                            {.layer_id = 14, .order = 4, .group_size_bytes = 1000}}};
  Prng prng(3);
  std::vector<std::byte> block(made.header.block_bytes, std::byte{0xEE});
  HotSetBlockWriter writer(made.header, block);
  const auto finish = [&] {
    writer.Finish(made.blocks.size());
    made.blocks.push_back(block);
  };
  for (std::size_t i = 0; i < group_count; ++i) {
    HotGroup group;
    group.id = {.key = prng(),
                .space = static_cast<std::uint32_t>(prng.Below(2)),
                .uses = static_cast<std::uint8_t>(prng.Below(4))};
    std::vector<std::byte> bytes(made.header.spaces[group.id.space].group_size_bytes);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(prng());
    made.bytes.push_back(bytes);
    group.bytes = made.bytes.back();
    if (!writer.Add(group)) {
      finish();
      EXPECT_TRUE(writer.Add(group)) << "an empty block has room for any group";
    }
    ++made.header.spaces[group.id.space].group_count;
    made.groups.push_back(group);
  }
  if (writer.group_count() > 0) finish();
  made.header.group_count = group_count;
  made.header.block_count = made.blocks.size();
  made.head.resize(kHotSetHeaderBytes);
  EncodeHotSetHeader(made.header, made.head);
  return made;
}

TEST(HotSetCodingTest, WhatWasWrittenComesBack) {
  for (const bool has_bytes : {true, false}) {
    const Made made = Make(has_bytes, 1000);
    ASSERT_GT(made.blocks.size(), 2U);
    const Result<HotSetHeader> header = DecodeHotSetHeader(made.head, kName);
    ASSERT_TRUE(header.ok()) << header.status().ToString();
    EXPECT_EQ(header.value().block_bytes, 4096U);
    EXPECT_EQ(header.value().has_bytes, has_bytes);
    EXPECT_EQ(header.value().block_count, made.blocks.size());
    EXPECT_EQ(header.value().group_count, 1000U);
    EXPECT_EQ(header.value().save_id, 77U);
    EXPECT_EQ(header.value().table_id, 5U);
    EXPECT_EQ(header.value().content_id, 6U);
    EXPECT_EQ(header.value().saved_at_s, 7U);
    EXPECT_EQ(header.value().shard, (HeadShard{.rank = 2, .count = 3}));
    ASSERT_EQ(header.value().spaces.size(), 2U);
    EXPECT_EQ(header.value().spaces[1].layer_id, 14U);
    EXPECT_EQ(header.value().spaces[1].order, 4U);
    EXPECT_EQ(header.value().spaces[1].group_size_bytes, 1000U);
    std::size_t next = 0;
    for (std::size_t i = 0; i < made.blocks.size(); ++i) {
      std::vector<HotGroup> groups;
      const Status status = DecodeHotSetBlock(header.value(), i, made.blocks[i], kName, groups);
      ASSERT_TRUE(status.ok()) << status.ToString();
      for (const HotGroup& group : groups) {
        const HotGroup& want = made.groups.at(next++);
        EXPECT_EQ(group.id.key, want.id.key);
        EXPECT_EQ(group.id.space, want.id.space);
        EXPECT_EQ(group.id.uses, want.id.uses);
        ASSERT_EQ(group.bytes.size(), has_bytes ? want.bytes.size() : 0);
        EXPECT_TRUE(std::equal(group.bytes.begin(), group.bytes.end(), want.bytes.begin()));
      }
    }
    EXPECT_EQ(next, 1000U);
  }
}

TEST(HotSetCodingTest, AHeaderOfAllHeadsHasZerosForItsShardAndARankBeyondIsDamage) {
  Made made = Make(true, 10);
  made.header.shard = {};
  EncodeHotSetHeader(made.header, made.head);
  EXPECT_TRUE(std::all_of(made.head.begin() + 76, made.head.begin() + 84,
                          [](std::byte b) { return b == std::byte{0}; }));
  EXPECT_EQ(DecodeHotSetHeader(made.head, kName).value().shard, HeadShard{});
  made.head[76] = std::byte{1};  // Rank 1 of one.
  SealHotSetHeader(made.head);
  EXPECT_EQ(DecodeHotSetHeader(made.head, kName).status().code(), StatusCode::kCorruption);
}

TEST(HotSetCodingTest, EveryDamagedByteOfAHeaderIsNoticed) {
  const Made made = Make(true, 10);
  for (std::size_t at = 0; at < made.head.size(); ++at) {
    std::vector<std::byte> head = made.head;
    head[at] ^= std::byte{1};
    const Result<HotSetHeader> header = DecodeHotSetHeader(head, kName);
    ASSERT_FALSE(header.ok()) << "byte " << at;
    // Magic and version are looked at first, so that another file is not called damaged.
    EXPECT_EQ(header.status().code(),
              at < 12 ? StatusCode::kInvalidArgument : StatusCode::kCorruption)
        << at;
    EXPECT_NE(header.status().message().find(kName), std::string_view::npos);
  }
}

TEST(HotSetCodingTest, EveryDamagedByteOfABlockIsNoticedAndNothingIsGivenOut) {
  for (const bool has_bytes : {true, false}) {
    const Made made = Make(has_bytes, 20);
    for (std::size_t at = 0; at < made.blocks[0].size(); ++at) {
      for (const std::byte bit : {std::byte{1}, std::byte{128}}) {
        std::vector<std::byte> block = made.blocks[0];
        block[at] ^= bit;
        std::vector<HotGroup> groups(3);
        const Status status = DecodeHotSetBlock(made.header, 0, block, kName, groups);
        ASSERT_EQ(status.code(), StatusCode::kCorruption) << "byte " << at;
        EXPECT_TRUE(groups.empty());
        EXPECT_NE(status.message().find("block 0 of"), std::string_view::npos);
      }
    }
  }
}

TEST(HotSetCodingTest, ABlockOfAnotherPlaceOrFileIsRefused) {
  const Made made = Make(true, 20);
  const Made other = Make(true, 20, 78);
  std::vector<HotGroup> groups;
  EXPECT_EQ(DecodeHotSetBlock(made.header, 1, made.blocks[0], kName, groups).code(),
            StatusCode::kCorruption);
  EXPECT_EQ(DecodeHotSetBlock(made.header, 0, other.blocks[0], kName, groups).code(),
            StatusCode::kCorruption);
  EXPECT_EQ(
      DecodeHotSetBlock(made.header, 0, std::span(made.blocks[0]).first(100), kName, groups).code(),
      StatusCode::kCorruption);
}

TEST(HotSetCodingTest, FiguresThatCannotBeAreRefusedBehindAGoodChecksum) {
  struct Lie {
    std::size_t at;
    std::uint32_t value;
  };
  const Made made = Make(true, 20);
  // Of the header: its size, block size, flags, blocks, groups, spaces, a group's size.
  for (const Lie& lie :
       {Lie{12, 4096}, Lie{16, 0}, Lie{16, 5000}, Lie{16, 2048}, Lie{16, 1U << 21}, Lie{20, 2},
        Lie{24, 0}, Lie{24, 1U << 30}, Lie{30, 0xFFFF}, Lie{32, 0}, Lie{32, 1}, Lie{36, 1},
        Lie{72, 0}, Lie{72, 257}, Lie{72, 1}, Lie{1032, 0}, Lie{1032, 4090}, Lie{1040, 0}}) {
    std::vector<std::byte> head = made.head;
    StoreLittleEndian(head.data() + lie.at, lie.value);
    SealHotSetHeader(head);
    const Result<HotSetHeader> header = DecodeHotSetHeader(head, kName);
    ASSERT_FALSE(header.ok()) << lie.at << " " << lie.value;
    EXPECT_EQ(header.status().code(), StatusCode::kCorruption);
  }
  // Of a block: magic, groups, index, and of its first entry the space and what is 0.
  for (const Lie& lie : {Lie{8, 0}, Lie{12, 0}, Lie{12, 3}, Lie{12, ~0U}, Lie{16, 1}, Lie{40, 2},
                         Lie{40, 0xFFFF}, Lie{44, 1}}) {
    std::vector<std::byte> block = made.blocks[0];
    StoreLittleEndian(block.data() + lie.at, lie.value);
    SealHotSetBlock(made.header, 0, block);
    std::vector<HotGroup> groups;
    const Status status = DecodeHotSetBlock(made.header, 0, block, kName, groups);
    EXPECT_EQ(status.code(), StatusCode::kCorruption) << lie.at << " " << lie.value;
    EXPECT_TRUE(groups.empty());
  }
}

}  // namespace
}  // namespace tiercel::testing
