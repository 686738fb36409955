// Goal: what GroupCache promises to one caller: bytes come back as they went in, the
// budget holds, bad options are refused by name, counters add up, and a scan does not
// wipe out what is used again and again.
//
// Method: the public API with one thread. Each group's bytes are made from its key,
// so any mix-up shows.

#include "cache/group_cache.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "tests/cache/group_cache_test_support.h"

namespace tiercel::testing {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

TEST(GroupCacheTest, AHitReturnsTheBytesThatWentInAndAMissTouchesNothing) {
  const std::unique_ptr<GroupCache> cache = MakeCache(4 * kMiB, {2112});
  EXPECT_TRUE(InsertGroup(*cache, 0, 7, 2112));
  std::vector<std::byte> output(2 * 2112, std::byte{0xAA});
  const std::vector<GroupTarget> targets = {{.key = 8, .destination = output.data()},
                                            {.key = 7, .destination = output.data() + 2112}};
  std::vector<std::uint8_t> hits(2, 9);
  EXPECT_EQ(cache->Lookup(0, targets, hits), 1u);
  EXPECT_EQ(hits, (std::vector<std::uint8_t>{0, 1}));
  EXPECT_TRUE(std::all_of(output.begin(), output.begin() + 2112,
                          [](std::byte b) { return b == std::byte{0xAA}; }));
  EXPECT_EQ(WrongByte(0, 7, std::span(output).subspan(2112)), -1);
  EXPECT_TRUE(cache->Contains(0, 7));
  EXPECT_FALSE(cache->Contains(0, 8));
}

TEST(GroupCacheTest, KeysOfDifferentSpacesNeverMeet) {
  const std::unique_ptr<GroupCache> cache = MakeCache(8 * kMiB, {264, 264, 320});
  for (std::uint64_t key = 0; key < 500; ++key) {
    for (std::uint32_t space = 0; space < 3; ++space) {
      if (key % 3 == space) continue;
      EXPECT_TRUE(InsertGroup(*cache, space, key, space == 2 ? 320 : 264));
    }
  }
  for (std::uint64_t key = 0; key < 500; ++key) {
    for (std::uint32_t space = 0; space < 3; ++space) {
      const int found = LookUpGroup(*cache, space, key, space == 2 ? 320 : 264);
      EXPECT_EQ(found, key % 3 != space ? kGood : kMiss) << "key " << key << " space " << space;
    }
  }
}

TEST(GroupCacheTest, AnyKeyIsAKey) {
  const std::unique_ptr<GroupCache> cache = MakeCache(kMiB, {64});
  for (const std::uint64_t key : {std::uint64_t{0}, std::uint64_t{1}, ~std::uint64_t{0},
                                  std::uint64_t{1} << 63, ~std::uint64_t{0} >> 1}) {
    EXPECT_EQ(LookUpGroup(*cache, 0, key, 64), kMiss);
    EXPECT_TRUE(InsertGroup(*cache, 0, key, 64));
    EXPECT_EQ(LookUpGroup(*cache, 0, key, 64), kGood);
  }
}

TEST(GroupCacheTest, AnyGroupSizeFits) {
  for (const std::uint32_t size_bytes :
       {1u, 2u, 8u, 63u, 64u, 65u, 264u, 2112u, 100'000u, 1u << 20}) {
    const std::unique_ptr<GroupCache> cache = MakeCache(32 * kMiB, {size_bytes});
    ASSERT_NE(cache, nullptr) << size_bytes;
    for (std::uint64_t key = 0; key < 16; ++key)
      EXPECT_TRUE(InsertGroup(*cache, 0, key, size_bytes));
    for (std::uint64_t key = 0; key < 16; ++key) {
      EXPECT_EQ(LookUpGroup(*cache, 0, key, size_bytes), kGood) << size_bytes << " B, key " << key;
    }
  }
}

TEST(GroupCacheTest, OneLookupSpansSpacesAndSizes) {
  const std::unique_ptr<GroupCache> cache = MakeCache(8 * kMiB, {264, 320, 264});
  const std::vector<std::uint32_t> sizes = {264, 320, 264};
  std::vector<std::uint32_t> spaces;
  std::vector<GroupTarget> targets;
  std::vector<std::byte> output(1000 * 320);
  for (std::uint64_t i = 0; i < 1000; ++i) {  // More than one chunk of the pipeline.
    spaces.push_back(static_cast<std::uint32_t>(i * i % 3));
    targets.push_back({.key = i, .destination = output.data() + i * 320});
    if (i % 2 == 0) InsertGroup(*cache, spaces[i], i, sizes[spaces[i]]);
  }
  std::vector<std::uint8_t> hits(1000);
  for (const CopyStores stores : {CopyStores::kCached, CopyStores::kNonTemporal}) {
    std::ranges::fill(output, std::byte{0});
    EXPECT_EQ(cache->Lookup(spaces, targets, hits, stores), 500u);
    for (std::uint64_t i = 0; i < 1000; ++i) {
      ASSERT_EQ(hits[i], i % 2 == 0 ? 1 : 0);
      if (hits[i] == 0) continue;
      EXPECT_EQ(WrongByte(spaces[i], i, {targets[i].destination, sizes[spaces[i]]}), -1);
    }
  }
  std::uint64_t lookups = 0;
  for (std::uint32_t space = 0; space < 3; ++space) lookups += cache->Stats(space).lookups;
  EXPECT_EQ(lookups, 2000u);
}

TEST(GroupCacheTest, AnEmptyLookupIsFine) {
  const std::unique_ptr<GroupCache> cache = MakeCache(kMiB, {64});
  EXPECT_EQ(cache->Lookup(0, {}, {}), 0u);
  EXPECT_EQ(cache->Stats(0).lookups, 0u);
}

TEST(GroupCacheTest, AResidentKeyIsLeftAsItIs) {
  const std::unique_ptr<GroupCache> cache = MakeCache(kMiB, {64});
  EXPECT_TRUE(InsertGroup(*cache, 0, 5, 64));
  const std::vector<std::byte> other(64, std::byte{0x55});
  EXPECT_TRUE(cache->Insert(0, 5, other));
  EXPECT_EQ(LookUpGroup(*cache, 0, 5, 64), kGood);
  EXPECT_EQ(cache->Stats(0).insertions, 1u);
}

TEST(GroupCacheTest, CountersAddUpWhenTheCacheOverflows) {
  const std::unique_ptr<GroupCache> cache = MakeCache(2 * kMiB, {2112, 264});
  const std::vector<std::uint32_t> sizes = {2112, 264};
  std::uint64_t hit_count = 0;
  for (std::uint64_t i = 0; i < 30'000; ++i) {
    const auto space = static_cast<std::uint32_t>(i % 2);
    const std::uint64_t key = SplitMix64(i / 2) % 3000;
    const int found = LookUpGroup(*cache, space, key, sizes[space]);
    ASSERT_NE(found, kWrong);
    hit_count += found == kGood ? 1 : 0;
    if (found == kMiss) InsertGroup(*cache, space, key, sizes[space]);
  }
  std::uint64_t resident = 0;
  for (std::uint32_t space = 0; space < 2; ++space) {
    const GroupSpaceStats stats = cache->Stats(space);
    EXPECT_EQ(stats.lookups, 15'000u);
    EXPECT_EQ(stats.lookups - stats.hits, stats.insertions + stats.rejections);
    EXPECT_GT(stats.evictions, 0u);
    EXPECT_GT(stats.ghost_hits, 0u);
    std::uint64_t found = 0;
    for (std::uint64_t key = 0; key < 3000; ++key) found += cache->Contains(space, key) ? 1 : 0;
    EXPECT_EQ(stats.resident_groups, found);
    resident += found;
    hit_count -= stats.hits;
  }
  EXPECT_EQ(hit_count, 0u);
  EXPECT_LE(resident, cache->capacity_groups());
  EXPECT_GT(resident, cache->capacity_groups() * 9 / 10);
}

TEST(GroupCacheTest, MetadataTakesLittleAndTheBudgetHolds) {
  for (const std::uint64_t budget_bytes : {64 * kMiB, 1024 * kMiB}) {
    const std::unique_ptr<GroupCache> cache = MakeCache(budget_bytes, std::vector(6, 2112u));
    ASSERT_NE(cache, nullptr);
    EXPECT_LE(cache->memory_bytes(), budget_bytes);
    EXPECT_GE(static_cast<double>(cache->capacity_groups() * 2112),
              0.985 * static_cast<double>(budget_bytes));
  }
  for (const std::uint64_t budget_bytes : {kMiB, 5 * kMiB + 1, 16 * kMiB}) {
    const std::unique_ptr<GroupCache> cache = MakeCache(budget_bytes, {160, 320, 2112, 320});
    ASSERT_NE(cache, nullptr);
    EXPECT_LE(cache->memory_bytes(), budget_bytes);
  }
}

std::uint64_t ResidentBytes() {
  std::FILE* const file = std::fopen("/proc/self/statm", "re");
  unsigned long long size_pages = 0;
  unsigned long long resident_pages = 0;
  if (std::fscanf(file, "%llu %llu", &size_pages, &resident_pages) != 2) resident_pages = 0;
  std::fclose(file);
  return resident_pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

TEST(GroupCacheTest, ResidentMemoryGrowsWithUseUpToTheBudget) {
  constexpr std::uint64_t kBudgetBytes = 256 * kMiB;
  const std::uint64_t before_bytes = ResidentBytes();
  ASSERT_GT(before_bytes, 0u);
  const std::unique_ptr<GroupCache> cache = MakeCache(kBudgetBytes, {2112});
  EXPECT_LT(ResidentBytes() - before_bytes, 16 * kMiB) << "Create() touched the slab";
  for (std::uint64_t key = 0; key < 2 * cache->capacity_groups(); ++key) {
    InsertGroup(*cache, 0, key, 2112);
  }
  const std::uint64_t taken_bytes = ResidentBytes() - before_bytes;
  EXPECT_GT(taken_bytes, kBudgetBytes * 9 / 10);
  // Sanitizers shadow what is touched.
  if (!kSanitized) {
    EXPECT_LT(taken_bytes, kBudgetBytes + 8 * kMiB);
  }
}

TEST(GroupCacheTest, BadOptionsAreRefusedByName) {
  const auto refuse = [](std::uint64_t budget_bytes, std::vector<std::uint32_t> sizes,
                         StatusCode code, const std::string& word) {
    const Result<std::unique_ptr<GroupCache>> cache =
        GroupCache::Create({.budget_bytes = budget_bytes, .group_size_bytes = std::move(sizes)});
    ASSERT_FALSE(cache.ok());
    EXPECT_EQ(cache.status().code(), code) << cache.status().ToString();
    EXPECT_NE(cache.status().message().find(word), std::string_view::npos)
        << cache.status().ToString();
  };
  refuse(kMiB, {}, StatusCode::kInvalidArgument, "0 spaces");
  refuse(kMiB, std::vector(257, 64u), StatusCode::kInvalidArgument, "257 spaces");
  refuse(kMiB, {64, 0}, StatusCode::kInvalidArgument, "group_size_bytes[1] is 0");
  refuse(kMiB, {(1 << 20) + 1}, StatusCode::kInvalidArgument, "1048577");
  refuse(0, {64}, StatusCode::kResourceExhausted, "0 of them");
  refuse(kMiB, {1 << 20}, StatusCode::kResourceExhausted, "raise the DRAM budget");
  // More than any machine has, and more than addresses go to.
  refuse(std::uint64_t{1} << 50, {2112}, StatusCode::kResourceExhausted, "1125899906842624 B");
  refuse(~std::uint64_t{0}, {2112}, StatusCode::kResourceExhausted, "18446744073709551615 B");
}

TEST(GroupCacheTest, AScanDoesNotWipeOutTheHotSet) {
  const std::unique_ptr<GroupCache> cache = MakeCache(16 * kMiB, {2112});
  const std::uint64_t hot_count = cache->capacity_groups() / 2;
  for (int round = 0; round < 4; ++round) {
    for (std::uint64_t key = 0; key < hot_count; ++key) {
      if (LookUpGroup(*cache, 0, key, 2112) == kMiss) InsertGroup(*cache, 0, key, 2112);
    }
  }
  const std::uint64_t scan_count = 4 * cache->capacity_groups();
  for (std::uint64_t key = 0; key < scan_count; ++key) {
    InsertGroup(*cache, 0, 1'000'000 + key, 2112);
  }
  EXPECT_GE(cache->Stats(0).evictions, scan_count / 2);
  std::uint64_t kept = 0;
  for (std::uint64_t key = 0; key < hot_count; ++key) kept += cache->Contains(0, key) ? 1 : 0;
  EXPECT_GT(kept, hot_count * 9 / 10);
}

TEST(GroupCacheTest, WhatIsNoLongerUsedMakesRoom) {
  const std::unique_ptr<GroupCache> cache = MakeCache(8 * kMiB, {2112});
  const std::uint64_t set_count = cache->capacity_groups() * 3 / 4;
  for (std::uint64_t phase = 0; phase < 3; ++phase) {
    std::uint64_t late_hits = 0;
    for (int round = 0; round < 12; ++round) {
      for (std::uint64_t i = 0; i < set_count; ++i) {
        const std::uint64_t key = phase * 1'000'000 + i;
        const int found = LookUpGroup(*cache, 0, key, 2112);
        if (found == kMiss) InsertGroup(*cache, 0, key, 2112);
        if (round == 11 && found == kGood) ++late_hits;
      }
    }
    EXPECT_GT(late_hits, set_count * 9 / 10) << "phase " << phase;
  }
}

TEST(GroupCacheTest, DescribesItself) {
  const std::unique_ptr<GroupCache> cache = MakeCache(64 * kMiB, {2112, 320});
  const std::string text = cache->description();
  EXPECT_NE(text.find("slots of 2112 B"), std::string::npos) << text;
  EXPECT_NE(text.find("slots of 320 B"), std::string::npos) << text;
  EXPECT_NE(text.find("pages"), std::string::npos) << text;
}

}  // namespace
}  // namespace tiercel::testing
