// Goal: the index finds what is in it and nothing else: when tags collide, when
// buckets overflow, and after removals in any order.
//
// Method: hashes are given, not computed, so that a test can put as many groups as it
// likes into one bucket or give them one tag; a seeded random run is compared with a
// map.

#include "cache/group_index.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "base/prng.h"

namespace tiercel::testing {
namespace {

/// An index with its memory. Group `slot` lies in slot `slot`.
struct Fixture {
  explicit Fixture(std::uint32_t bucket_count, std::uint32_t slot_count)
      : buckets(bucket_count), records(slot_count), index(buckets, records) {}

  bool Insert(std::uint64_t hash, std::uint32_t slot, std::uint64_t key, std::uint8_t space = 0) {
    records[slot].key = key;
    records[slot].space = space;
    return index.Insert(hash, slot);
  }

  std::vector<IndexBucket> buckets;
  std::vector<SlotRecord> records;
  GroupIndex index;
};

TEST(MatchTagsTest, FindsEveryWayAndNothingBeyond) {
  for (std::uint32_t way = 0; way < 16; ++way) {
    std::uint64_t words[2] = {0x0101010101010101, 0x0101010101010101};
    words[way / 8] ^= std::uint64_t{0x81 ^ 0x01} << (way % 8 * 8);
    EXPECT_EQ(MatchTags(words[0], words[1], 0x81), way < 12 ? 1u << way : 0u);
  }
  EXPECT_EQ(MatchTags(0, 0, 0), 0xFFFu);
  EXPECT_EQ(MatchTags(~std::uint64_t{0}, ~std::uint64_t{0}, 0xFF), 0xFFFu);
  EXPECT_EQ(MatchTags(0x0100010001000100, 0x0100010001000100, 1), 0xAAAu);
}

TEST(GroupIndexTest, EqualHashesAreToldApartByKeyAndSpace) {
  Fixture f(4, 12);
  for (std::uint32_t slot = 0; slot < 12; ++slot) {
    ASSERT_TRUE(f.Insert(42, slot, 100 + slot / 2, static_cast<std::uint8_t>(slot % 2)));
  }
  for (std::uint32_t slot = 0; slot < 12; ++slot) {
    EXPECT_EQ(f.index.Find(42, slot % 2, 100 + slot / 2), slot);
  }
  EXPECT_EQ(f.index.Find(42, 0, 99), GroupIndex::kNoSlot);
  EXPECT_EQ(f.index.Find(42, 2, 100), GroupIndex::kNoSlot);
  f.index.Remove(42, 3);
  EXPECT_EQ(f.index.Find(42, 1, 101), GroupIndex::kNoSlot);
  EXPECT_EQ(f.index.Find(42, 0, 101), 2u);
}

TEST(GroupIndexTest, AFullBucketOverflowsAndIsFoundUntilThePathIsFull) {
  // Equal hashes: one path of eight buckets, 96 ways.
  Fixture f(10'000, 97);
  for (std::uint32_t slot = 0; slot < 96; ++slot) ASSERT_TRUE(f.Insert(7, slot, slot)) << slot;
  EXPECT_FALSE(f.Insert(7, 96, 96));
  EXPECT_EQ(f.index.Find(7, 0, 96), GroupIndex::kNoSlot);
  for (std::uint32_t slot = 0; slot < 96; ++slot) EXPECT_EQ(f.index.Find(7, 0, slot), slot);

  // A hole near the home bucket hides nothing that lies further on.
  for (std::uint32_t slot = 0; slot < 96; slot += 2) f.index.Remove(7, slot);
  for (std::uint32_t slot = 0; slot < 96; ++slot) {
    EXPECT_EQ(f.index.Find(7, 0, slot), slot % 2 == 1 ? slot : GroupIndex::kNoSlot);
  }
  ASSERT_TRUE(f.Insert(7, 96, 96));
  EXPECT_EQ(f.index.Find(7, 0, 96), 96u);
}

TEST(GroupIndexTest, RemovalLeavesNoTombstones) {
  Fixture f(10'000, 96);
  for (int round = 0; round < 3; ++round) {
    for (std::uint32_t slot = 0; slot < 96; ++slot) ASSERT_TRUE(f.Insert(7, slot, slot));
    for (std::uint32_t slot = 0; slot < 96; ++slot) f.index.Remove(7, (slot * 37) % 96);
  }
  for (const IndexBucket& bucket : f.buckets) {
    EXPECT_EQ(bucket.tags[0].load(), 0u);
    EXPECT_EQ(bucket.tags[1].load(), 0u) << "an overflow count is left";
    for (const auto& slot : bucket.slots) EXPECT_EQ(slot.load(), 0u);
  }
}

TEST(GroupIndexTest, AgreesWithAMapAtTheLoadOfACache) {
  constexpr std::uint32_t kSlots = 20'000;
  Fixture f(static_cast<std::uint32_t>(GroupIndex::BucketCount(kSlots)), kSlots);
  Prng prng(1);
  std::map<std::uint64_t, std::uint32_t> model;  // Key -> slot.
  std::vector<std::uint64_t> key_of_slot;
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    key_of_slot.push_back(prng());
    ASSERT_TRUE(f.Insert(HashGroup(0, key_of_slot[slot]), slot, key_of_slot[slot])) << slot;
    model[key_of_slot[slot]] = slot;
  }
  std::uint32_t tries = 0;
  for (int i = 0; i < 200'000; ++i) {
    const auto slot = static_cast<std::uint32_t>(prng.Below(kSlots));
    const std::uint64_t old_key = key_of_slot[slot];
    f.index.Remove(HashGroup(0, old_key), slot);
    model.erase(old_key);
    EXPECT_EQ(f.index.Find(HashGroup(0, old_key), 0, old_key), GroupIndex::kNoSlot);
    do {
      key_of_slot[slot] = prng();
      ++tries;
    } while (!f.Insert(HashGroup(0, key_of_slot[slot]), slot, key_of_slot[slot]));
    model[key_of_slot[slot]] = slot;
  }
  EXPECT_LE(tries, 200'010u) << "paths are full more often than they should be";
  for (const auto& [key, slot] : model) ASSERT_EQ(f.index.Find(HashGroup(0, key), 0, key), slot);
}

}  // namespace
}  // namespace tiercel::testing
