// Goal: RemoveIf() drops what it is told to and nothing else, under readers, writers and
// pins, and no slot is lost or reused too soon by it.
//
// Method: the public API; each group's bytes are made from its key, so a slot that is
// written while a reader copies it shows.

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/cache/group_cache_test_support.h"

namespace tiercel::testing {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

TEST(GroupCacheRemoveTest, DropsWhatMeetsTheConditionAndNothingElse) {
  const std::unique_ptr<GroupCache> cache = MakeCache(8 * kMiB, {264, 320, 264});
  const std::vector<std::uint32_t> sizes = {264, 320, 264};
  for (std::uint64_t key = 0; key < 1000; ++key) {
    for (std::uint32_t space = 0; space < 3; ++space) {
      ASSERT_TRUE(InsertGroup(*cache, space, key, sizes[space]));
    }
  }
  const auto condition = [](std::uint32_t space, std::uint64_t key) {
    return space != 2 && key % 7 == 0;
  };
  EXPECT_EQ(cache->RemoveIf(condition), 2u * 143u);
  for (std::uint64_t key = 0; key < 1000; ++key) {
    for (std::uint32_t space = 0; space < 3; ++space) {
      ASSERT_EQ(LookUpGroup(*cache, space, key, sizes[space]),
                condition(space, key) ? kMiss : kGood)
          << "space " << space << " key " << key;
    }
  }
  EXPECT_EQ(cache->Stats(0).removals, 143u);
  EXPECT_EQ(cache->Stats(0).resident_groups, 857u);
  EXPECT_EQ(cache->Stats(2).removals, 0u);
  EXPECT_EQ(cache->RemoveIf(condition), 0u) << "they are gone";
}

TEST(GroupCacheRemoveTest, TheSlotsAreFreeAgain) {
  const std::unique_ptr<GroupCache> cache = MakeCache(2 * kMiB, {512});
  const std::uint64_t capacity = cache->capacity_groups();
  for (int round = 0; round < 20; ++round) {
    const std::uint64_t base = static_cast<std::uint64_t>(round) * 1'000'000;
    for (std::uint64_t key = 0; key < capacity; ++key) {
      ASSERT_TRUE(InsertGroup(*cache, 0, base + key, 512)) << round << " " << key;
    }
    EXPECT_EQ(cache->RemoveIf([](std::uint32_t, std::uint64_t) { return true; }), capacity);
    EXPECT_EQ(cache->Stats(0).resident_groups, 0u);
  }
  EXPECT_EQ(cache->Stats(0).evictions, 0u) << "every slot came back, so none had to be made";
}

TEST(GroupCacheRemoveTest, LimboAndFreeSlotsAreNoGroups) {
  const std::unique_ptr<GroupCache> cache = MakeCache(kMiB, {512});
  for (std::uint64_t key = 0; key < 10 * cache->capacity_groups(); ++key) {
    InsertGroup(*cache, 0, key, 512);  // Most go through limbo.
  }
  const std::uint64_t resident = cache->Stats(0).resident_groups;
  EXPECT_EQ(cache->RemoveIf([](std::uint32_t, std::uint64_t) { return true; }), resident);
  EXPECT_EQ(cache->RemoveIf([](std::uint32_t, std::uint64_t) { return true; }), 0u);
}

TEST(GroupCacheRemoveTest, APinnedGroupGoesWithItsPin) {
  const std::unique_ptr<GroupCache> cache = MakeCache(kMiB, {64});
  const std::vector<std::uint64_t> counts = {10};
  cache->ReserveHot(counts);
  for (std::uint64_t key = 0; key < 10; ++key) {
    const HotSlot slot = cache->StartHot(0);
    ASSERT_FALSE(slot.bytes.empty());
    FillGroup(0, key, slot.bytes);
    ASSERT_EQ(cache->FinishHot(slot, {.key = key, .space = 0, .uses = 1}, /*pin=*/true),
              HotOutcome::kLoaded);
  }
  EXPECT_EQ(cache->Stats(0).pinned_groups, 10u);
  EXPECT_EQ(cache->RemoveIf([](std::uint32_t, std::uint64_t key) { return key < 4; }), 4u);
  EXPECT_EQ(cache->Stats(0).pinned_groups, 6u);
  EXPECT_EQ(LookUpGroup(*cache, 0, 3, 64), kMiss);
  EXPECT_EQ(LookUpGroup(*cache, 0, 4, 64), kGood);
  // It comes back as any other group does, and may be dropped.
  EXPECT_TRUE(InsertGroup(*cache, 0, 3, 64));
  for (std::uint64_t key = 100; key < 100 + 4 * cache->capacity_groups(); ++key) {
    InsertGroup(*cache, 0, key, 64);
  }
  EXPECT_EQ(LookUpGroup(*cache, 0, 4, 64), kGood);
}

TEST(GroupCacheRemoveTest, AnExpectedGroupIsStillExpectedWhenItComesBack) {
  const std::unique_ptr<GroupCache> cache = [] {
    Result<std::unique_ptr<GroupCache>> made = GroupCache::Create(
        {.budget_bytes = kMiB, .group_size_bytes = {64}, .expected_groups_max = 100});
    EXPECT_TRUE(made.ok());
    return std::move(made).value();
  }();
  const std::vector<std::uint64_t> keys = {1, 2, 3};
  ASSERT_EQ(cache->Expect(0, keys, 10), 3u);
  for (const std::uint64_t key : keys) ASSERT_TRUE(InsertGroup(*cache, 0, key, 64));
  EXPECT_EQ(cache->RemoveIf([](std::uint32_t, std::uint64_t) { return true; }), 3u);
  EXPECT_EQ(cache->expected_groups(), 3u);
  for (const std::uint64_t key : keys) ASSERT_TRUE(InsertGroup(*cache, 0, key, 64));
  for (std::uint64_t key = 100; key < 100 + 4 * cache->capacity_groups(); ++key) {
    InsertGroup(*cache, 0, key, 64);
  }
  for (const std::uint64_t key : keys) EXPECT_EQ(LookUpGroup(*cache, 0, key, 64), kGood) << key;
  EXPECT_EQ(cache->Release(0, keys), 3u);
}

TEST(GroupCacheRemoveTest, ReadersAndWritersBesideItSeeWholeGroups) {
  const std::unique_ptr<GroupCache> cache = MakeCache(kMiB, {256});
  const std::uint64_t key_count = 2 * cache->capacity_groups();
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> good{0};
  std::atomic<std::uint64_t> wrong{0};
  const auto work = [&](std::uint64_t seed, bool writes) {
    Prng prng(seed);
    while (!stop) {
      const std::uint64_t key = prng.Below(key_count);
      if (writes) InsertGroup(*cache, 0, key, 256);
      const int found = LookUpGroup(*cache, 0, key, 256);
      good += found == kGood ? 1 : 0;
      wrong += found == kWrong ? 1 : 0;
    }
  };
  std::vector<std::thread> threads;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) threads.emplace_back(work, seed, seed % 2 == 0);
  std::uint64_t removed = 0;
  for (std::uint64_t round = 0; removed < 20'000 || good < 20'000; ++round) {
    removed += cache->RemoveIf(
        [round](std::uint32_t, std::uint64_t key) { return (key ^ round) % 3 == 0; });
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0u);
  const GroupSpaceStats stats = cache->Stats(0);
  EXPECT_EQ(stats.removals, removed);
  EXPECT_LE(stats.resident_groups, cache->capacity_groups());
}

}  // namespace
}  // namespace tiercel::testing
