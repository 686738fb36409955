// Goal: nothing that a shared cache's header says is taken on trust: what cannot be is
// refused in words, and what is accepted lies within the memory.
//
// Method: a good header, of which every byte is changed in turn, with its checksum put right
// and without; then each field is set to what it must not be.

#include "cache/shared_header.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_order.h"

namespace tiercel::testing {
namespace {

constexpr std::string_view kName = "descriptor 7";

SharedHeader GoodHeader() {
  SharedHeader header{.table_id = 5,
                      .content_id = 6,
                      .shard = {.rank = 1, .count = 3},
                      .has_updates = true,
                      .pools = {},
                      .spaces = {{.layer_id = 1, .order = 2, .group_size_bytes = 100, .pool = 0},
                                 {.layer_id = 1, .order = 3, .group_size_bytes = 100, .pool = 0},
                                 {.layer_id = 9, .order = 2, .group_size_bytes = 2112, .pool = 1}}};
  std::uint64_t offset_bytes = kSharedHeaderBytes;
  for (const std::uint32_t size_bytes : {100U, 2112U}) {
    header.pools.push_back(
        {.offset_bytes = offset_bytes, .layout = PoolLayout::Of(size_bytes, 1000, true)});
    offset_bytes += (header.pools.back().layout.size_bytes + 4095) / 4096 * 4096;
  }
  header.size_bytes = offset_bytes;
  return header;
}

std::vector<std::byte> Encoded(const SharedHeader& header) {
  std::vector<std::byte> bytes(kSharedHeaderBytes, std::byte{0xEE});
  EncodeSharedHeader(header, bytes);
  return bytes;
}

/// The objection to `bytes`; empty where they are accepted. A failure of the test where it does
/// not name what it is about.
std::string Objection(const std::vector<std::byte>& bytes, std::uint64_t memory_size_bytes) {
  const Result<SharedHeader> decoded = DecodeSharedHeader(bytes, memory_size_bytes, kName);
  if (decoded.ok()) return "";
  EXPECT_TRUE(decoded.status().code() == StatusCode::kInvalidArgument ||
              decoded.status().code() == StatusCode::kCorruption);
  EXPECT_NE(decoded.status().message().find(kName), std::string_view::npos);
  return std::string(decoded.status().message());
}

TEST(SharedHeaderTest, ComesBackAsItWas) {
  const SharedHeader header = GoodHeader();
  const Result<SharedHeader> decoded =
      DecodeSharedHeader(Encoded(header), header.size_bytes, kName);
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  const SharedHeader& found = decoded.value();
  EXPECT_EQ(found.size_bytes, header.size_bytes);
  EXPECT_EQ(found.table_id, 5u);
  EXPECT_EQ(found.content_id, 6u);
  EXPECT_EQ(found.shard, header.shard);
  EXPECT_TRUE(found.has_updates);
  ASSERT_EQ(found.pools.size(), 2u);
  EXPECT_EQ(found.pools[1].offset_bytes, header.pools[1].offset_bytes);
  EXPECT_EQ(found.pools[1].layout, header.pools[1].layout);
  ASSERT_EQ(found.spaces.size(), 3u);
  EXPECT_EQ(found.spaces[2].layer_id, 9u);
  EXPECT_EQ(found.spaces[2].pool, 1u);
}

TEST(SharedHeaderTest, EveryByteIsUnderTheChecksumButTheLastLine) {
  const SharedHeader header = GoodHeader();
  std::vector<std::byte> bytes = Encoded(header);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] ^= std::byte{0x10};
    EXPECT_EQ(Objection(bytes, header.size_bytes).empty(), i >= kSharedHeaderBytes - 64) << i;
    bytes[i] ^= std::byte{0x10};
  }
}

TEST(SharedHeaderTest, NoLieOfAGoodChecksumLeadsOutOfTheMemory) {
  const SharedHeader header = GoodHeader();
  const std::vector<std::byte> good = Encoded(header);
  std::size_t accepted = 0;
  for (std::size_t i = 0; i < kSharedHeaderBytes - 72; ++i) {
    for (const std::byte change : {std::byte{0x01}, std::byte{0x80}, std::byte{0xFF}}) {
      std::vector<std::byte> bytes = good;
      bytes[i] ^= change;
      SealSharedHeader(bytes);
      const Result<SharedHeader> decoded = DecodeSharedHeader(bytes, header.size_bytes, kName);
      if (!decoded.ok()) continue;
      ++accepted;
      // Identity, shard, updates; a space's layer and order: what they mean the store checks.
      EXPECT_TRUE((i >= 24 && i < 49) || i >= 7168) << "byte " << i << " is of no account";
      std::uint64_t end_bytes = kSharedHeaderBytes;
      for (const SharedPool& pool : decoded.value().pools) {
        EXPECT_GE(pool.offset_bytes, end_bytes);
        end_bytes = pool.offset_bytes + pool.layout.size_bytes;
        EXPECT_LE(end_bytes, header.size_bytes);
      }
    }
  }
  EXPECT_GT(accepted, 0u) << "nothing was compared";
}

/// Where a field lies, and what it must not be.
struct Lie {
  const char* field;
  std::size_t at;
  std::uint64_t value;
  std::size_t size_bytes;
};

TEST(SharedHeaderTest, EveryFieldIsLookedAt) {
  const SharedHeader header = GoodHeader();
  const std::uint64_t pool_bytes = header.pools[0].layout.size_bytes;
  const Lie lies[] = {
      {"magic", 0, 0x4D48534C43525400, 8},
      {"version", 8, kSharedVersion + 1, 4},
      {"header size", 12, kSharedHeaderBytes + 1, 4},
      {"size", 16, header.size_bytes + 4096, 8},
      {"shard rank", 40, 3, 4},
      {"shard count", 44, 0, 4},
      {"flags", 48, 2, 4},
      {"no pools", 52, 0, 4},
      {"a pool less", 52, 1, 4},
      {"a pool more", 52, 3, 4},
      {"many pools", 52, ~0U, 4},
      {"no spaces", 56, 0, 4},
      {"a space less", 56, 2, 4},
      {"a space more", 56, 4, 4},
      {"many spaces", 56, ~0U, 4},
      {"unused", 100, 1, 1},
      {"pool in the header", 1024, 4096, 8},
      {"pool askew", 1024, kSharedHeaderBytes + 64, 8},
      {"pool over the next", 1024, kSharedHeaderBytes + 4096, 8},
      {"pool outside", 1048, header.size_bytes, 8},
      {"pool far outside", 1048, ~0ULL << 12, 8},
      {"pool size", 1032, pool_bytes + 64, 8},
      {"pool's groups", 1040, 101, 4},
      {"pool's empty groups", 1040, 0, 4},
      {"pool's huge groups", 1040, ~0U, 4},
      {"pool's slots", 1044, 1001, 4},
      {"pool without slots", 1044, 0, 4},
      {"pool of all slots", 1044, ~0U, 4},
      {"space's groups", 7176, 2112, 4},
      {"space's pool", 7180, 1, 4},
      {"space's missing pool", 7180, 2, 4},
  };
  for (const Lie& lie : lies) {
    std::vector<std::byte> bytes = Encoded(header);
    for (std::size_t i = 0; i < lie.size_bytes; ++i) {
      bytes[lie.at + i] = static_cast<std::byte>(lie.value >> (8 * i));
    }
    SealSharedHeader(bytes);
    EXPECT_NE(Objection(bytes, header.size_bytes), "") << lie.field;
  }
  EXPECT_EQ(Objection(Encoded(header), header.size_bytes), "");
  EXPECT_NE(Objection(Encoded(header), header.size_bytes - 4096), "");
}

TEST(SharedHeaderTest, OneWordTellsThatTheWriterIsClosed) {
  alignas(64) std::byte memory[kSharedHeaderBytes] = {};
  const SharedHeader header = GoodHeader();
  EncodeSharedHeader(header, memory);
  EXPECT_FALSE(IsWriterClosed(memory));
  TellWriterClosed(memory);
  EXPECT_TRUE(IsWriterClosed(memory));
  EXPECT_EQ(Objection({std::begin(memory), std::end(memory)}, header.size_bytes), "");
}

}  // namespace
}  // namespace tiercel::testing
