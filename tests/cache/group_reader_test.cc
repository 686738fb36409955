// Goal: who reads a cache's memory from another process gets whole groups of the right key or
// misses, while the writer inserts, evicts, removes and loads, and whatever it leaves behind;
// and a cache in shared memory is for its own process what any other is.
//
// Method: a cache in memory of the test's, far too small, and readers over the same memory (so
// that ThreadSanitizer sees both sides). Each insertion of a key has bytes of its own version,
// so that a torn copy cannot look right. So that a copy is torn for certain, one is made to stop
// at a page that faults. Then the memory itself is broken at random, every kind of link and
// number in it: the reader must come back.

#include "cache/group_reader.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "tests/cache/group_cache_test_support.h"

namespace tiercel::testing {
namespace {

constexpr std::uint32_t kKeys = 3000;

/// A cache in memory that stands for shared memory, and a reader of it.
class SharedMemoryCache {
 public:
  explicit SharedMemoryCache(std::vector<std::uint32_t> sizes, std::size_t size_bytes = 256 << 10)
      : sizes_(std::move(sizes)),
        memory_(static_cast<std::byte*>(aligned_alloc(4096, size_bytes)), std::free) {
    bytes_ = {memory_.get(), size_bytes};
    std::memset(bytes_.data(), 0, size_bytes);
    GroupCacheOptions options{.budget_bytes = 2 * size_bytes, .group_size_bytes = sizes_};
    options.shared_memory = bytes_.subspan(kSharedHeaderBytes);
    Result<std::unique_ptr<GroupCache>> cache = GroupCache::Create(options);
    if (!cache.ok()) {
      ADD_FAILURE() << cache.status().ToString();
      return;
    }
    cache_ = std::move(cache).value();
    header_.size_bytes = size_bytes;
    for (const SharedPoolPlace& pool : cache_->shared_pools()) {
      header_.pools.push_back(
          {.offset_bytes = kSharedHeaderBytes + pool.offset_bytes,
           .layout = PoolLayout::Of(pool.group_size_bytes, pool.slot_count, true)});
    }
    for (std::uint32_t i = 0; i < sizes_.size(); ++i) {
      header_.spaces.push_back({.layer_id = i,
                                .order = 2,
                                .group_size_bytes = sizes_[i],
                                .pool = cache_->shared_pool_of(i)});
    }
    EncodeSharedHeader(header_, bytes_.first(kSharedHeaderBytes));
    reader_ = std::make_unique<GroupReader>(header_, bytes_);
  }

  [[nodiscard]] GroupCache& cache() const { return *cache_; }
  [[nodiscard]] const GroupReader& reader() const { return *reader_; }
  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  [[nodiscard]] const SharedHeader& header() const { return header_; }
  [[nodiscard]] std::uint32_t size_bytes(std::uint32_t space) const { return sizes_[space]; }
  [[nodiscard]] std::uint32_t space_count() const {
    return static_cast<std::uint32_t>(sizes_.size());
  }

 private:
  std::vector<std::uint32_t> sizes_;
  std::unique_ptr<std::byte, decltype(&std::free)> memory_;
  std::span<std::byte> bytes_;
  SharedHeader header_;
  std::unique_ptr<GroupCache> cache_;
  std::unique_ptr<GroupReader> reader_;
};

/// Bytes of one version of a group: the version first, the rest made from all three.
void FillAsVersion(std::uint32_t space, std::uint64_t key, std::uint64_t version,
                   std::span<std::byte> bytes) {
  FillGroup(space, key ^ (version << 40), bytes);
  std::memcpy(bytes.data(), &version, sizeof(version));
}

bool IsSomeVersion(std::uint32_t space, std::uint64_t key, std::span<const std::byte> bytes) {
  std::uint64_t version = 0;
  std::memcpy(&version, bytes.data(), sizeof(version));
  std::vector<std::byte> wanted(bytes.size());
  FillAsVersion(space, key, version, wanted);
  return std::memcmp(bytes.data(), wanted.data(), bytes.size()) == 0;
}

/// What readers saw.
struct Seen {
  std::atomic<std::uint64_t> hits{0};
  std::atomic<std::uint64_t> wrong{0};
  std::atomic<std::uint64_t> rechecked{0};
  std::atomic<std::uint64_t> changed{0};
};

/// Looks up random groups, most of them of few keys, and checks every byte.
void ReadAtRandom(const SharedMemoryCache& shared, std::uint64_t seed,
                  const std::atomic<bool>& stop, Seen& seen) {
  Prng prng(seed);
  constexpr std::size_t kBatch = 40;
  std::vector<std::byte> output(kBatch * 600);
  std::vector<std::uint32_t> spaces(kBatch);
  std::vector<GroupTarget> targets(kBatch);
  std::vector<std::uint8_t> hits(kBatch);
  while (!stop.load(std::memory_order_relaxed)) {
    for (std::size_t i = 0; i < kBatch; ++i) {
      spaces[i] = static_cast<std::uint32_t>(prng.Below(shared.space_count()));
      targets[i] = {.key = prng.Below(1 + prng.Below(kKeys)),
                    .destination = output.data() + i * 600};
    }
    const std::uint32_t count = shared.reader().Lookup(
        spaces, targets, hits, prng.Below(2) == 0 ? CopyStores::kCached : CopyStores::kNonTemporal);
    std::uint32_t hit_count = 0;
    for (std::size_t i = 0; i < kBatch; ++i) {
      if (hits[i] == 0) continue;
      ++hit_count;
      const std::span<const std::byte> bytes(targets[i].destination, shared.size_bytes(spaces[i]));
      if (!IsSomeVersion(spaces[i], targets[i].key, bytes)) ++seen.wrong;
    }
    if (hit_count != count) ++seen.wrong;
    seen.hits += count;
  }
}

/// Finds a slot, reads it in place as a GPU would, and asks afterwards whether that was good.
void ReadInPlace(const SharedMemoryCache& shared, std::uint64_t seed, const std::atomic<bool>& stop,
                 Seen& seen) {
  Prng prng(seed);
  std::vector<std::byte> output(600);
  while (!stop.load(std::memory_order_relaxed)) {
    const auto space = static_cast<std::uint32_t>(prng.Below(shared.space_count()));
    const std::uint64_t key = prng.Below(1 + prng.Below(kKeys));
    const FoundSlot found = shared.reader().Find(space, key);
    if (found.slot == GroupIndex::kNoSlot) continue;
    const SharedPool& pool = shared.header().pools[shared.header().spaces[space].pool];
    const std::uint32_t size_bytes = shared.size_bytes(space);
    LoadSharedGroup(output.data(),
                    shared.bytes().data() + pool.offset_bytes +
                        std::size_t{found.slot} * pool.layout.stride_bytes,
                    size_bytes, CopyStores::kCached);
    if (!shared.reader().IsUnchanged(space, found)) {
      ++seen.changed;
      continue;
    }
    ++seen.rechecked;
    if (!IsSomeVersion(space, key, std::span(output).first(size_bytes))) ++seen.wrong;
  }
}

/// The process's own lookups, which nothing of this may disturb.
void ReadAsOwner(const SharedMemoryCache& shared, std::uint64_t seed, const std::atomic<bool>& stop,
                 Seen& seen) {
  Prng prng(seed);
  std::vector<std::byte> output(600);
  while (!stop.load(std::memory_order_relaxed)) {
    const auto space = static_cast<std::uint32_t>(prng.Below(shared.space_count()));
    const GroupTarget target{.key = prng.Below(1 + prng.Below(kKeys)),
                             .destination = output.data()};
    std::uint8_t hit = 0;
    shared.cache().Lookup(space, std::span(&target, 1), std::span(&hit, 1));
    if (hit == 0) continue;
    ++seen.hits;
    const std::span<const std::byte> bytes(output.data(), shared.size_bytes(space));
    if (!IsSomeVersion(space, target.key, bytes)) ++seen.wrong;
  }
}

/// Inserts, removes and loads until `count` groups went in.
void WriteAtRandom(const SharedMemoryCache& shared, std::uint64_t seed, std::uint64_t count) {
  Prng prng(seed);
  GroupCache& cache = shared.cache();
  std::vector<std::byte> bytes;
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto space = static_cast<std::uint32_t>(prng.Below(shared.space_count()));
    const std::uint64_t key = prng.Below(1 + prng.Below(kKeys));
    bytes.resize(shared.size_bytes(space));
    FillAsVersion(space, key, seed << 32 | i, bytes);
    (void)cache.Insert(space, key, bytes);
    if (prng.Below(2000) == 0) {
      const std::uint64_t some = prng.Below(16);
      (void)cache.RemoveIf([some](std::uint32_t, std::uint64_t k) { return k % 16 == some; });
    }
  }
}

/// Loads a hot set's worth of groups beside the writers, and gives some slots back.
void LoadAtRandom(const SharedMemoryCache& shared, std::uint64_t seed) {
  Prng prng(seed);
  GroupCache& cache = shared.cache();
  cache.ReserveHot(std::vector<std::uint64_t>(shared.space_count(), 50));
  for (std::uint32_t i = 0; i < 100; ++i) {
    const auto space = static_cast<std::uint32_t>(prng.Below(shared.space_count()));
    const HotSlot slot = cache.StartHot(space);
    if (slot.bytes.empty()) continue;
    const std::uint64_t key = prng.Below(kKeys);
    FillAsVersion(space, key, i, slot.bytes);
    if (prng.Below(4) == 0) {
      cache.AbandonHot(slot, space);
    } else {
      (void)cache.FinishHot(slot, {.key = key, .space = space, .uses = 2}, prng.Below(8) == 0);
    }
  }
  cache.ReserveHot({});
}

TEST(GroupReaderTest, HitsAreWholeWhileOthersWrite) {
  // Sizes that are no whole words, and pools of their own.
  const SharedMemoryCache shared({600, 93, 600, 72}, 1 << 20);
  Seen seen;
  Seen owner;
  std::atomic<bool> stop{false};
  std::vector<std::thread> readers;
  readers.emplace_back(ReadAtRandom, std::cref(shared), 1, std::cref(stop), std::ref(seen));
  readers.emplace_back(ReadAtRandom, std::cref(shared), 2, std::cref(stop), std::ref(seen));
  readers.emplace_back(ReadInPlace, std::cref(shared), 3, std::cref(stop), std::ref(seen));
  readers.emplace_back(ReadAsOwner, std::cref(shared), 4, std::cref(stop), std::ref(owner));
  std::thread loader(LoadAtRandom, std::cref(shared), 5);
  const std::uint64_t count = kSanitized ? 60'000 : 600'000;
  std::thread other(WriteAtRandom, std::cref(shared), 6, count);
  WriteAtRandom(shared, 7, count);
  other.join();
  loader.join();
  // On few cores the readers may not have come to it yet.
  while (seen.hits < 1000 || seen.rechecked < 100 || owner.hits < 100) std::this_thread::yield();
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(seen.wrong, 0u);
  EXPECT_EQ(owner.wrong, 0u);
  EXPECT_GT(shared.cache().Stats(0).evictions, 1000u) << "no slot was used twice";
  EXPECT_GT(shared.cache().Stats(0).removals, 0u);
  RecordProperty("hits", std::to_string(seen.hits));
  RecordProperty("changed", std::to_string(seen.changed));
}

TEST(GroupReaderTest, FindsWhatTheOwnerFinds) {
  const SharedMemoryCache shared({600, 93});
  WriteAtRandom(shared, 9, 20'000);
  std::uint64_t hits = 0;
  std::vector<std::byte> bytes(600);
  for (std::uint32_t space = 0; space < 2; ++space) {
    for (std::uint64_t key = 0; key < kKeys; ++key) {
      const GroupTarget target{.key = key, .destination = bytes.data()};
      std::uint8_t hit = 9;
      EXPECT_EQ(
          shared.reader().Lookup(std::span(&space, 1), std::span(&target, 1), std::span(&hit, 1)),
          hit);
      EXPECT_EQ(hit == 1, shared.cache().Contains(space, key)) << space << " " << key;
      hits += hit;
    }
  }
  EXPECT_GT(hits, 100u);
}

TEST(GroupReaderTest, WhatWasRemovedIsGoneAtOnce) {
  const SharedMemoryCache shared({600});
  ASSERT_TRUE(InsertGroup(shared.cache(), 0, 5, 600));
  const FoundSlot found = shared.reader().Find(0, 5);
  ASSERT_NE(found.slot, GroupIndex::kNoSlot);
  EXPECT_TRUE(shared.reader().IsUnchanged(0, found));
  EXPECT_EQ(shared.cache().RemoveIf([](std::uint32_t, std::uint64_t) { return true; }), 1u);
  EXPECT_EQ(shared.reader().Find(0, 5).slot, GroupIndex::kNoSlot);
  EXPECT_FALSE(shared.reader().IsUnchanged(0, found));
  // The same group in the same slot is another stay.
  ASSERT_TRUE(InsertGroup(shared.cache(), 0, 5, 600));
  const FoundSlot again = shared.reader().Find(0, 5);
  EXPECT_EQ(again.slot, found.slot);
  EXPECT_FALSE(shared.reader().IsUnchanged(0, found));
  EXPECT_TRUE(shared.reader().IsUnchanged(0, again));
  EXPECT_FALSE(shared.reader().IsUnchanged(0, {}));
  EXPECT_FALSE(shared.reader().IsUnchanged(0, {.slot = 0xFFFFFF, .version = 1}));
}

TEST(GroupReaderTest, ASlotThatIsBeingWrittenIsAMiss) {
  // A writer that died in the midst of it: the version is even, the link still there.
  const SharedMemoryCache shared({600});
  ASSERT_TRUE(InsertGroup(shared.cache(), 0, 5, 600));
  const FoundSlot found = shared.reader().Find(0, 5);
  ASSERT_NE(found.slot, GroupIndex::kNoSlot);
  const SharedPool& pool = shared.header().pools[0];
  auto* const versions = reinterpret_cast<SlotVersion*>(shared.bytes().data() + pool.offset_bytes +
                                                        pool.layout.versions_offset_bytes);
  versions[found.slot] += 1;
  EXPECT_EQ(shared.reader().Find(0, 5).slot, GroupIndex::kNoSlot);
  EXPECT_FALSE(shared.reader().IsUnchanged(0, found));
  versions[found.slot] += 1;
  EXPECT_EQ(shared.reader().Find(0, 5).slot, found.slot);
}

/// What is to happen in the midst of a copy, and the page that the copy stops at.
std::function<void()> g_meanwhile;
void* g_shut_page = nullptr;
constexpr std::size_t kPageBytes = 4096;

void OpenPageAndGoOn(int /*signal*/) {
  if (mprotect(g_shut_page, kPageBytes, PROT_READ | PROT_WRITE) != 0) _exit(9);
  if (g_meanwhile) std::exchange(g_meanwhile, nullptr)();
}

TEST(GroupReaderTest, AGroupThatGoesInTheMidstOfACopyIsAMiss) {
  if (kSanitized) GTEST_SKIP() << "sanitizers keep SIGSEGV for themselves";
  const SharedMemoryCache shared({600});
  ASSERT_TRUE(InsertGroup(shared.cache(), 0, 5, 600));
  auto* const pages = static_cast<std::byte*>(
      mmap(nullptr, 2 * kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(pages, MAP_FAILED);
  g_shut_page = pages + kPageBytes;
  // Half of the group goes before the page that is shut, half into it.
  const GroupTarget target{.key = 5, .destination = pages + kPageBytes - 304};
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = OpenPageAndGoOn;
  ASSERT_EQ(sigaction(SIGSEGV, &action, &before), 0);
  const std::uint32_t space = 0;
  const auto look_up = [&](std::function<void()> meanwhile) {
    EXPECT_EQ(mprotect(g_shut_page, kPageBytes, PROT_NONE), 0);
    g_meanwhile = std::move(meanwhile);
    std::uint8_t hit = 9;
    (void)shared.reader().Lookup({&space, 1}, {&target, 1}, {&hit, 1});
    EXPECT_FALSE(g_meanwhile) << "the copy never came to the page";
    return hit;
  };
  const std::span<const std::byte> bytes(target.destination, 600);
  const auto remove = [&] {
    EXPECT_EQ(shared.cache().RemoveIf([](std::uint32_t, std::uint64_t) { return true; }), 1u);
  };
  EXPECT_EQ(look_up([] {}), 1);
  EXPECT_EQ(WrongByte(0, 5, bytes), -1);
  // Another group comes into its slot.
  EXPECT_EQ(look_up([&] {
              remove();
              EXPECT_TRUE(InsertGroup(shared.cache(), 0, 6, 600));
            }),
            0);
  EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{}; }))
      << "half a group was left behind";
  // The same group, with other bytes: still not the one that was found.
  remove();
  ASSERT_TRUE(InsertGroup(shared.cache(), 0, 5, 600));
  EXPECT_EQ(look_up([&] {
              remove();
              EXPECT_TRUE(InsertGroup(shared.cache(), 0, 5, 600));
            }),
            0);
  EXPECT_EQ(look_up([] {}), 1);
  EXPECT_EQ(sigaction(SIGSEGV, &before, nullptr), 0);
  EXPECT_EQ(munmap(pages, 2 * kPageBytes), 0);
}

TEST(GroupReaderTest, ABrokenIndexIsSurvived) {
  std::vector<std::byte> bytes(600);
  Prng prng(11);
  std::uint64_t hits = 0;
  for (std::uint32_t round = 0; round < (kSanitized ? 20 : 200); ++round) {
    const SharedMemoryCache shared({600}, 64 << 10);
    WriteAtRandom(shared, round, 300);
    const SharedPool& pool = shared.header().pools[0];
    const std::size_t first = pool.offset_bytes + pool.layout.records_offset_bytes;
    const std::size_t end = pool.offset_bytes + pool.layout.size_bytes;
    for (std::uint32_t i = 0; i < 1U << round % 12; ++i) {
      shared.bytes()[first + prng.Below(end - first)] = static_cast<std::byte>(prng());
    }
    for (std::uint64_t key = 0; key < kKeys; ++key) {
      const GroupTarget target{.key = key, .destination = bytes.data()};
      const std::uint32_t space = 0;
      std::uint8_t hit = 0;
      hits +=
          shared.reader().Lookup(std::span(&space, 1), std::span(&target, 1), std::span(&hit, 1));
      const FoundSlot found = shared.reader().Find(0, key);
      EXPECT_TRUE(found.slot == GroupIndex::kNoSlot || found.slot < pool.layout.slot_count);
    }
  }
  EXPECT_GT(hits, 0u);
}

TEST(GroupReaderTest, TouchCountsAsAHitWould) {
  const SharedMemoryCache shared({600});
  ASSERT_TRUE(InsertGroup(shared.cache(), 0, 5, 600));
  const std::uint64_t keys[] = {5, 6, 5};
  EXPECT_EQ(shared.cache().Touch(0, keys), 2u);
  EXPECT_EQ(shared.cache().Stats(0).lookups, 0u);
  // What is touched again and again outlives thousands that come once.
  for (std::uint64_t key = 100; key < 6000; ++key) {
    (void)InsertGroup(shared.cache(), 0, key, 600);
    (void)shared.cache().Touch(0, keys);
  }
  EXPECT_TRUE(shared.cache().Contains(0, 5));
}

}  // namespace
}  // namespace tiercel::testing
