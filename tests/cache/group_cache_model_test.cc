// Goal: under any mix of lookups and insertions by many threads, a hit returns exactly
// the bytes that were inserted for that key, and never a byte of another group.
//
// Method: seeded random operations. With one thread, a model (a map of all that was
// ever inserted, and of when) is asked what each hit must return; with eight, each
// group has versions whose bytes are made from (key, version), so that a torn copy or
// a reused slot cannot look right. The cache is kept far too small on purpose: slots
// are reused all the time. TIERCEL_STRESS=1 runs 10^7 operations.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <latch>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "tests/cache/group_cache_test_support.h"

namespace tiercel::testing {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

std::uint64_t Seed() {
  const char* const text = std::getenv("TIERCEL_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 0) : 20260404;
}

std::uint64_t OperationCount() {
  const char* const text = std::getenv("TIERCEL_STRESS");
  return text != nullptr && std::string(text) == "1" ? 10'000'000 : 1'000'000;
}

/// A key that is drawn the more often the smaller it is.
std::uint64_t SkewedKey(Prng& prng, std::uint64_t key_count) {
  const double unit = prng.Unit();
  return static_cast<std::uint64_t>(unit * unit * unit * static_cast<double>(key_count));
}

TEST(GroupCacheModelTest, HitsAreWhatWasInserted) {
  SCOPED_TRACE(::testing::Message() << "TIERCEL_TEST_SEED=" << Seed());
  Prng prng(Seed());
  const std::vector<std::uint32_t> sizes = {72, 40, 72};
  const std::unique_ptr<GroupCache> cache = MakeCache(kMiB / 2, sizes);
  ASSERT_NE(cache, nullptr);
  // Key -> the version that is resident if any is. A version is decided by Insert().
  std::vector<std::unordered_map<std::uint64_t, std::uint64_t>> model(sizes.size());
  std::vector<std::byte> bytes;
  std::uint64_t hit_count = 0;
  const std::uint64_t operation_count = OperationCount() / 4;
  for (std::uint64_t i = 0; i < operation_count; ++i) {
    const auto space = static_cast<std::uint32_t>(prng.Below(sizes.size()));
    const std::uint64_t key = SkewedKey(prng, 20'000);
    bytes.assign(sizes[space], std::byte{0});
    if (prng.Below(2) == 0) {
      const bool was_resident = cache->Contains(space, key);
      FillGroup(space, key * 1'000'003 + i, bytes);
      const bool resident = cache->Insert(space, key, bytes);
      ASSERT_EQ(resident, cache->Contains(space, key));
      if (!was_resident && resident) model[space][key] = key * 1'000'003 + i;
      continue;
    }
    const GroupTarget target{.key = key, .destination = bytes.data()};
    std::uint8_t hit = 9;
    cache->Lookup(space, std::span(&target, 1), std::span(&hit, 1));
    if (hit == 0) continue;
    ++hit_count;
    const auto inserted = model[space].find(key);
    ASSERT_NE(inserted, model[space].end()) << "a hit of a key that was never inserted";
    ASSERT_EQ(WrongByte(space, inserted->second, bytes), -1) << "key " << key << ", step " << i;
  }
  EXPECT_GT(hit_count, operation_count / 10);
  EXPECT_GT(cache->Stats(0).evictions, operation_count / 100);
}

/// Bytes of one version of a group: the version first, the rest made from all three.
void FillVersion(std::uint32_t space, std::uint64_t key, std::uint64_t version,
                 std::span<std::byte> bytes) {
  FillGroup(space, key ^ (version << 40), bytes);
  std::memcpy(bytes.data(), &version, sizeof(version));
}

bool IsAVersion(std::uint32_t space, std::uint64_t key, std::span<const std::byte> bytes) {
  std::uint64_t version = 0;
  std::memcpy(&version, bytes.data(), sizeof(version));
  std::vector<std::byte> wanted(bytes.size());
  FillVersion(space, key, version, wanted);
  return std::equal(bytes.begin(), bytes.end(), wanted.begin());
}

struct Tally {
  std::atomic<std::uint64_t> hits{0};
  std::atomic<std::uint64_t> wrong{0};
  std::atomic<std::uint64_t> insertions{0};
};

void LookUpAtRandom(GroupCache& cache, const std::vector<std::uint32_t>& sizes, std::uint64_t seed,
                    std::uint64_t operation_count, Tally& tally) {
  Prng prng(seed);
  std::vector<std::byte> output(300 * 128);
  std::vector<GroupTarget> targets;
  std::vector<std::uint8_t> hits;
  for (std::uint64_t done = 0; done < operation_count;) {
    const auto space = static_cast<std::uint32_t>(prng.Below(sizes.size()));
    const std::uint64_t count = 1 + prng.Below(prng.Below(4) == 0 ? 300 : 8);
    targets.clear();
    for (std::uint64_t i = 0; i < count; ++i) {
      targets.push_back(
          {.key = SkewedKey(prng, 4000), .destination = output.data() + i * sizes[space]});
    }
    hits.assign(count, 9);
    const std::uint32_t hit_count = cache.Lookup(
        space, targets, hits, prng.Below(2) == 0 ? CopyStores::kCached : CopyStores::kNonTemporal);
    std::uint32_t seen = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      if (hits[i] == 0) continue;
      ++seen;
      if (!IsAVersion(space, targets[i].key, {targets[i].destination, sizes[space]})) ++tally.wrong;
    }
    if (seen != hit_count) ++tally.wrong;
    tally.hits += hit_count;
    done += count;
  }
}

void InsertAtRandom(GroupCache& cache, const std::vector<std::uint32_t>& sizes, std::uint64_t seed,
                    std::uint64_t operation_count, Tally& tally) {
  Prng prng(seed);
  std::vector<std::byte> bytes;
  for (std::uint64_t i = 0; i < operation_count; ++i) {
    const auto space = static_cast<std::uint32_t>(prng.Below(sizes.size()));
    const std::uint64_t key = SkewedKey(prng, 4000);
    bytes.resize(sizes[space]);
    FillVersion(space, key, prng.Below(1 << 20), bytes);
    tally.insertions += cache.Insert(space, key, bytes) ? 1 : 0;
  }
}

TEST(GroupCacheModelTest, EightThreadsNeverSeeAWrongByte) {
  SCOPED_TRACE(::testing::Message() << "TIERCEL_TEST_SEED=" << Seed());
  const std::vector<std::uint32_t> sizes = {128, 72, 128};
  const std::unique_ptr<GroupCache> cache = MakeCache(kMiB / 4, sizes);
  ASSERT_NE(cache, nullptr);
  Tally tally;
  InsertAtRandom(*cache, sizes, ~Seed(), 10'000, tally);
  std::latch start(8);
  const std::uint64_t per_thread = OperationCount() / 8;
  std::vector<std::thread> threads;
  for (std::uint64_t thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      start.arrive_and_wait();
      const auto run = thread < 5 ? LookUpAtRandom : InsertAtRandom;
      run(*cache, sizes, Seed() + thread, per_thread, tally);
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(tally.wrong, 0u);
  EXPECT_GT(tally.hits, per_thread / 10);
  EXPECT_GT(tally.insertions, per_thread / 10);
  std::uint64_t evictions = 0;
  std::uint64_t resident = 0;
  std::uint64_t hits = 0;
  for (std::uint32_t space = 0; space < sizes.size(); ++space) {
    const GroupSpaceStats stats = cache->Stats(space);
    evictions += stats.evictions;
    hits += stats.hits;
    std::uint64_t found = 0;
    for (std::uint64_t key = 0; key < 4000; ++key) found += cache->Contains(space, key) ? 1 : 0;
    EXPECT_EQ(stats.resident_groups, found);
    resident += found;
  }
  EXPECT_EQ(hits, tally.hits);
  EXPECT_GT(evictions, 10 * cache->capacity_groups()) << "slots were not reused";
  EXPECT_LE(resident, cache->capacity_groups());
}

}  // namespace
}  // namespace tiercel::testing
