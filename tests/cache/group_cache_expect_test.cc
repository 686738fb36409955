// Goal: what a waiting prompt will read stays in the cache, expectations add up, a full
// table says so, and none of it lets a wrong byte through, whatever threads do.
// Method: the public API; then eight threads that read, insert, expect and release at
// random, 10^7 operations (10^6 under sanitizers), with the bytes of every hit checked.
// TIERCEL_TEST_SEED repeats a seed.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <latch>
#include <thread>
#include <vector>

#include "tests/cache/group_cache_test_support.h"

namespace tiercel::testing {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kOperations = kSanitized ? 1'000'000 : 10'000'000;

std::uint64_t Seed() {
  const char* const text = std::getenv("TIERCEL_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 0) : 20261124;
}

std::unique_ptr<GroupCache> MakeExpecting(std::uint64_t budget_bytes,
                                          std::vector<std::uint32_t> sizes,
                                          std::uint64_t expected_groups_max) {
  GroupCacheOptions options;
  options.budget_bytes = budget_bytes;
  options.group_size_bytes = std::move(sizes);
  options.expected_groups_max = expected_groups_max;
  Result<std::unique_ptr<GroupCache>> cache = GroupCache::Create(options);
  if (!cache.ok()) {
    ADD_FAILURE() << cache.status().ToString();
    return nullptr;
  }
  return std::move(cache).value();
}

std::vector<std::uint64_t> Keys(std::uint64_t first, std::uint64_t count) {
  std::vector<std::uint64_t> keys(count);
  for (std::uint64_t i = 0; i < count; ++i) keys[i] = first + i;
  return keys;
}

TEST(GroupCacheExpectTest, ExpectedGroupsOutliveAFlood) {
  const std::unique_ptr<GroupCache> cache = MakeExpecting(4 * kMiB, {2112}, 1000);
  ASSERT_NE(cache, nullptr);
  // Half of them are resident when they are expected, half come later.
  const std::vector<std::uint64_t> keys = Keys(0, cache->capacity_groups() / 2);
  for (std::uint64_t key = 0; key < keys.size() / 2; ++key) InsertGroup(*cache, 0, key, 2112);
  ASSERT_EQ(cache->Expect(0, keys, 17), keys.size());
  EXPECT_EQ(cache->expected_groups(), keys.size());
  for (std::uint64_t key = keys.size() / 2; key < keys.size(); ++key) {
    EXPECT_TRUE(InsertGroup(*cache, 0, key, 2112));
  }
  const std::uint64_t flood = 10 * cache->capacity_groups();
  for (std::uint64_t i = 0; i < flood; ++i) InsertGroup(*cache, 0, 1'000'000 + i, 2112);
  for (const std::uint64_t key : keys) EXPECT_EQ(LookUpGroup(*cache, 0, key, 2112), kGood);

  EXPECT_EQ(cache->Release(0, keys), keys.size());
  EXPECT_EQ(cache->expected_groups(), 0u);
  EXPECT_EQ(cache->Release(0, keys), 0u) << "nobody expects them any more";
}

TEST(GroupCacheExpectTest, AFullTableSaysHowManyWereNoted) {
  const std::unique_ptr<GroupCache> cache = MakeExpecting(4 * kMiB, {2112, 264}, 1000);
  ASSERT_NE(cache, nullptr);
  EXPECT_LE(cache->memory_bytes(), 4 * kMiB);
  const std::vector<std::uint64_t> keys = Keys(0, 800);
  const std::size_t noted = cache->Expect(0, keys, 1);
  EXPECT_LE(noted, 500u);  // Half of 1,000 for each of two spaces.
  EXPECT_GE(noted, 490u);
  EXPECT_EQ(cache->expected_groups(), noted);
  EXPECT_EQ(cache->Expect(1, Keys(0, 100), 1), 100u) << "the other space has room of its own";
  EXPECT_EQ(cache->Release(0, std::span(keys).first(noted)), noted);
  EXPECT_EQ(cache->expected_groups(), 100u);
}

TEST(GroupCacheExpectTest, WithoutTheOptionNothingIsNoted) {
  const std::unique_ptr<GroupCache> cache = MakeCache(kMiB, {264});
  ASSERT_NE(cache, nullptr);
  EXPECT_EQ(cache->Expect(0, Keys(0, 3), 1), 0u);
  EXPECT_EQ(cache->Release(0, Keys(0, 3)), 0u);
}

struct Tally {
  std::atomic<std::uint64_t> hits{0};
  std::atomic<std::uint64_t> wrong{0};
  std::atomic<std::uint64_t> noted{0};
};

constexpr std::uint64_t kKeyCount = 6000;
constexpr std::uint32_t kSize = 64;

void ReadAndInsert(GroupCache& cache, std::uint64_t seed, std::uint64_t operations, Tally& tally) {
  Prng prng(seed);
  for (std::uint64_t i = 0; i < operations; ++i) {
    const auto space = static_cast<std::uint32_t>(prng.Below(2));
    const double unit = prng.Unit();
    const auto key = static_cast<std::uint64_t>(unit * unit * kKeyCount);
    const int found = LookUpGroup(cache, space, key, kSize);
    tally.hits += found == kGood ? 1 : 0;
    tally.wrong += found == kWrong ? 1 : 0;
    if (found == kMiss) InsertGroup(cache, space, key, kSize);
  }
}

/// Expects the groups of a prompt, reads some, and releases what was noted.
void Queue(GroupCache& cache, std::uint64_t seed, std::uint64_t operations, Tally& tally) {
  Prng prng(seed);
  for (std::uint64_t done = 0; done < operations;) {
    const auto space = static_cast<std::uint32_t>(prng.Below(2));
    const std::vector<std::uint64_t> keys = Keys(prng.Below(kKeyCount), 1 + prng.Below(300));
    const std::size_t noted = cache.Expect(space, keys, done);
    tally.noted += noted;
    for (std::size_t i = 0; i < noted; i += 7) {
      const int found = LookUpGroup(cache, space, keys[i], kSize);
      tally.wrong += found == kWrong ? 1 : 0;
    }
    tally.wrong += cache.Release(space, std::span(keys).first(noted)) == noted ? 0 : 1;
    done += keys.size();
  }
}

TEST(GroupCacheExpectTest, EightThreadsSeeNoWrongByteAndExpectationsAddUp) {
  SCOPED_TRACE(::testing::Message() << "TIERCEL_TEST_SEED=" << Seed());
  const std::unique_ptr<GroupCache> cache = MakeExpecting(kMiB / 4, {kSize, kSize}, 800);
  ASSERT_NE(cache, nullptr);
  Tally tally;
  std::latch start(8);
  std::vector<std::thread> threads;
  for (std::uint64_t thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      start.arrive_and_wait();
      const auto run = thread < 6 ? ReadAndInsert : Queue;
      run(*cache, Seed() + thread, kOperations / 8, tally);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(tally.wrong, 0u);
  EXPECT_GT(tally.hits, kOperations / 20);
  EXPECT_GT(tally.noted, kOperations / 100);
  EXPECT_EQ(cache->expected_groups(), 0u);
  EXPECT_GT(cache->Stats(0).evictions, cache->capacity_groups());
}

}  // namespace
}  // namespace tiercel::testing
