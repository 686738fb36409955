// Goal: processes share one DRAM cache that one of them writes. What a reader gets out of it
// is right to the byte, while the writer inserts and evicts, and after it was killed in the
// midst of that; what is no such cache, or one of other tables, is refused in words.
//
// Method: a made checkpoint, whose rows are functions of their ids. A writer of its own process
// (shared_cache_driver.cc) hands its descriptor over; readers here check every byte; it is
// killed at random moments. TIERCEL_KILL_ROUNDS=100 for more. Refusals and the rest in one
// process, which maps the memory twice. TIERCEL_TEST_SEED.

#include "tiercel/shared_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "cache/shared_header.h"
#include "tests/store/shared_cache_parts.h"
#include "tests/support/killed_process.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/shared_slab.h"

namespace tiercel::testing {
namespace {

std::uint64_t Seed() {
  const char* const text = std::getenv("TIERCEL_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 1;
}

/// A reader's side: hashes as an engine does, asks, and knows what must come.
class CheckedReader {
 public:
  CheckedReader(const MadeCheckpoint& made, const SharedCache& cache, const Recipe& recipe)
      : made_(made), cache_(cache), hasher_(Hasher::Create(recipe).value()) {}

  struct Tally {
    std::uint64_t groups = 0;
    std::uint64_t hits = 0;
    std::uint64_t changed = 0;  ///< Found, and gone when it had been read.
    std::uint64_t wrong = 0;
    std::uint64_t reused = 0;       ///< Found in slots that had another group before.
    std::vector<std::uint8_t> hit;  ///< Shape [layers, t, orders].
  };

  /// Looks a run up in every layer, by copies or, `in_place`, by slots.
  Tally ReadRun(std::uint64_t number, bool in_place) const {
    Tally tally;
    const std::vector<std::int32_t> tokens = SharedRunTokens(made_.info(), number);
    const TokenRun run = {.history = {}, .tokens = tokens};
    std::vector<std::uint64_t> mixes(tokens.size() * hasher_.recipe().order_count());
    for (const SharedCacheLayer& layer : cache_.info().layers) {
      const std::uint32_t index = *hasher_.recipe().FindLayer(layer.layer_id);
      EXPECT_TRUE(hasher_.Mixes(index, run, mixes, {}).ok());
      std::vector<std::byte> rows(mixes.size() * layer.group_size_bytes, std::byte{0xAA});
      std::vector<std::uint8_t> hits(mixes.size(), 9);
      if (in_place) {
        ReadInPlace(layer, mixes, rows, hits, tally);
      } else {
        const Result<std::uint64_t> count = cache_.Lookup(layer.layer_id, mixes, rows, hits);
        EXPECT_TRUE(count.ok());
        EXPECT_EQ(static_cast<std::int64_t>(count.value()),
                  std::count(hits.begin(), hits.end(), 1));
      }
      Check(layer, index, mixes, rows, hits, tally);
      tally.hit.insert(tally.hit.end(), hits.begin(), hits.end());
    }
    return tally;
  }

 private:
  /// As a gather by a GPU does it: slots, bytes, and only then whether they were good.
  void ReadInPlace(const SharedCacheLayer& layer, const std::vector<std::uint64_t>& mixes,
                   std::vector<std::byte>& rows, std::vector<std::uint8_t>& hits,
                   Tally& tally) const {
    std::vector<std::uint32_t> slots(mixes.size());
    std::vector<std::uint64_t> versions(mixes.size());
    const Result<std::uint64_t> found = cache_.Find(layer.layer_id, mixes, slots, versions);
    ASSERT_TRUE(found.ok());
    for (std::size_t i = 0; i < mixes.size(); ++i) {
      if (slots[i] == SharedCache::kNoSlot) continue;
      ASSERT_LT(slots[i], layer.slot_count);
      tally.reused += versions[i] > 1 ? 1 : 0;
      const volatile std::byte* const slot =
          cache_.bytes().data() + layer.slots_offset_bytes + slots[i] * layer.slot_stride_bytes;
      for (std::uint32_t byte = 0; byte < layer.group_size_bytes; ++byte) {
        rows[i * layer.group_size_bytes + byte] = slot[byte];
      }
    }
    const Result<std::uint64_t> good = cache_.Recheck(layer.layer_id, slots, versions, hits);
    ASSERT_TRUE(good.ok());
    tally.changed += found.value() - good.value();
  }

  void Check(const SharedCacheLayer& layer, std::uint32_t index,
             const std::vector<std::uint64_t>& mixes, const std::vector<std::byte>& rows,
             const std::vector<std::uint8_t>& hits, Tally& tally) const {
    std::vector<RowId> ids(hasher_.recipe().parameters.head_count);
    const std::size_t row_size_bytes = layer.group_size_bytes / ids.size();
    for (std::size_t i = 0; i < mixes.size(); ++i) {
      ++tally.groups;
      if (hits[i] == 0) continue;
      ++tally.hits;
      hasher_.RowsOfMix(index, static_cast<std::uint32_t>(i % layer.order_count), mixes[i], ids);
      for (std::size_t head = 0; head < ids.size(); ++head) {
        const std::vector<std::byte> wanted = made_.Row(layer.layer_id, ids[head]);
        const std::byte* const row =
            rows.data() + i * layer.group_size_bytes + head * row_size_bytes;
        if (std::memcmp(row, wanted.data(), row_size_bytes) != 0) ++tally.wrong;
      }
    }
  }

  const MadeCheckpoint& made_;
  const SharedCache& cache_;
  Hasher hasher_;
};

/// Whether this process has shared memory of ours mapped.
bool MapsASlab() {
  std::ifstream maps("/proc/self/maps");
  const std::string text((std::istreambuf_iterator<char>(maps)), std::istreambuf_iterator<char>());
  return text.find("memfd:tiercel-slab") != std::string::npos;
}

class SharedCacheTest : public ::testing::Test {
 protected:
  std::unique_ptr<Store> OpenStore(const StoreOptions& options = SharedStoreOptions()) {
    Result<std::unique_ptr<Store>> store = Store::Open(made_.path(), options);
    if (store.ok()) return std::move(store).value();
    ADD_FAILURE() << store.status().ToString();
    return nullptr;
  }
  [[nodiscard]] StatusCode CodeOfOpen(int descriptor, const CheckpointInfo& checkpoint) {
    const Result<SharedCache> cache = SharedCache::Open(descriptor, checkpoint);
    why_ = cache.ok() ? "it was opened" : cache.status().ToString();
    return cache.ok() ? StatusCode::kOk : cache.status().code();
  }

  const MadeCheckpoint made_{MadeCheckpoint::Options{}};
  std::string why_;
};

TEST_F(SharedCacheTest, AReaderFindsWhatTheStoreHas) {
  const std::unique_ptr<Store> store = OpenStore();
  ASSERT_NE(store, nullptr);
  ASSERT_TRUE(LookUpRun(*store, 1));
  Result<SharedCache> cache = SharedCache::Open(store->ShareCache().value(), made_.info());
  ASSERT_TRUE(cache.ok()) << cache.status().ToString();
  EXPECT_EQ(cache.value().info().layers.size(), made_.info().layers.size());
  const CheckedReader reader(made_, cache.value(), made_.info().recipe);
  for (const bool in_place : {false, true}) {
    const CheckedReader::Tally tally = reader.ReadRun(1, in_place);
    EXPECT_EQ(tally.hits, tally.groups);
    EXPECT_EQ(tally.wrong, 0u);
    EXPECT_EQ(tally.changed, 0u);
    EXPECT_LT(reader.ReadRun(2, in_place).hits, tally.groups);
  }
  const StoreStats stats = store->Stats();
  EXPECT_LE(stats.cache_bytes, stats.dram_budget_bytes);
  EXPECT_GE(stats.cache_bytes, cache.value().info().size_bytes);
  EXPECT_NE(stats.cache_description.find("shared"), std::string::npos) << stats.cache_description;
  // What goes in later is found as well, and the store's own lookups are what they were.
  ASSERT_TRUE(LookUpRun(*store, 3));
  EXPECT_EQ(reader.ReadRun(3, false).hits, reader.ReadRun(3, false).groups);
}

TEST_F(SharedCacheTest, ManyReadersWhileItsWriterWritesAndIsKilled) {
  Prng prng(Seed());
  std::uint64_t hits = 0;
  std::uint64_t changed = 0;
  std::uint64_t reused = 0;
  for (std::uint32_t round = 0; round < KillCount(4); ++round) {
    SCOPED_TRACE(::testing::Message() << "round " << round << " seed " << Seed());
    SharedCacheWriter writer(made_.path());
    const int descriptor = writer.TakeDescriptor();
    ASSERT_GE(descriptor, 0);
    Result<SharedCache> cache = SharedCache::Open(descriptor, made_.info());
    ASSERT_TRUE(cache.ok()) << cache.status().ToString();
    close(descriptor);
    const CheckedReader reader(made_, cache.value(), made_.info().recipe);
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> wrong{0};
    std::atomic<std::uint64_t> seen{0};
    std::atomic<std::uint64_t> gone{0};
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < 3; ++i) {
      threads.emplace_back([&, i] {
        Prng own(Seed() * 100 + round * 10 + i);
        while (!stop) {
          const auto tally = reader.ReadRun(own.Below(1 + own.Below(kSharedRuns)), i == 2);
          wrong += tally.wrong;
          seen += tally.hits;
          gone += tally.changed;
        }
      });
    }
    while (seen < 500) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(prng.Below(300'000)));
    EXPECT_TRUE(writer.Kill()) << "it had died before";
    // What is there now stays, and nothing that was half written passes for a group.
    for (std::uint64_t run = 0; run < 40; ++run) {
      const auto first = reader.ReadRun(run, false);
      const auto again = reader.ReadRun(run, true);
      EXPECT_EQ(first.hit, again.hit);
      EXPECT_EQ(first.wrong + again.wrong + again.changed, 0u);
      reused += again.reused;
    }
    stop = true;
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0u);
    EXPECT_FALSE(cache.value().WriterClosed());
    hits += seen;
    changed += gone;
  }
  EXPECT_GT(hits, 0u);
  EXPECT_GT(reused, 0u) << "no group ever made room for another";
  RecordProperty("reused", std::to_string(reused));
  RecordProperty("hits", std::to_string(hits));
  RecordProperty("changed", std::to_string(changed));
}

TEST_F(SharedCacheTest, AForkedChildReadsAndCanDoNoMore) {
  const std::unique_ptr<Store> store = OpenStore();
  ASSERT_NE(store, nullptr);
  ASSERT_TRUE(LookUpRun(*store, 1));
  const int descriptor = store->ShareCache().value();
  const pid_t pid = fork();
  if (pid == 0) {
    if (MapsASlab()) _exit(7);
    const Result<SharedCache> cache = SharedCache::Open(descriptor, made_.info());
    if (!cache.ok() || !MapsASlab()) _exit(1);
    const CheckedReader reader(made_, cache.value(), made_.info().recipe);
    const CheckedReader::Tally tally = reader.ReadRun(1, false);
    if (tally.hits != tally.groups || tally.wrong != 0) _exit(2);
    const int writable = PROT_READ | PROT_WRITE;
    if (mmap(nullptr, 4096, writable, MAP_SHARED, descriptor, 0) != MAP_FAILED) _exit(3);
    auto* const mapped = const_cast<std::byte*>(cache.value().bytes().data());
    if (mprotect(mapped, 4096, writable) == 0) _exit(4);
    if (pwrite(descriptor, "x", 1, 0) == 1 || ftruncate(descriptor, 0) == 0) _exit(5);
    if (fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0) _exit(6);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

TEST_F(SharedCacheTest, AClosedStoreLeavesWhatItHad) {
  std::unique_ptr<Store> store = OpenStore();
  ASSERT_NE(store, nullptr);
  ASSERT_TRUE(LookUpRun(*store, 1));
  const std::string path = "/proc/self/fd/" + std::to_string(store->ShareCache().value());
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  Result<SharedCache> opened = SharedCache::Open(descriptor, store->checkpoint());
  close(descriptor);
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  EXPECT_FALSE(opened.value().WriterClosed());
  store.reset();
  const SharedCache cache = std::move(opened).value();
  EXPECT_TRUE(cache.WriterClosed());
  const CheckedReader::Tally tally =
      CheckedReader(made_, cache, made_.info().recipe).ReadRun(1, false);
  EXPECT_EQ(tally.hits, tally.groups);
  EXPECT_EQ(tally.wrong, 0u);
}

TEST_F(SharedCacheTest, CallsAreChecked) {
  const std::unique_ptr<Store> store = OpenStore();
  ASSERT_NE(store, nullptr);
  Result<SharedCache> cache = SharedCache::Open(store->ShareCache().value(), made_.info());
  ASSERT_TRUE(cache.ok());
  const SharedCacheLayer& layer = cache.value().info().layers[0];
  std::vector<std::uint64_t> mixes(2 * layer.order_count);
  std::vector<std::byte> rows(mixes.size() * layer.group_size_bytes);
  std::vector<std::uint8_t> hits(mixes.size());
  std::vector<std::uint32_t> slots(mixes.size());
  std::vector<std::uint64_t> versions(mixes.size());
  const auto one_less = [](auto& vector) { return std::span(vector).first(vector.size() - 1); };
  const SharedCache& of = cache.value();
  const std::uint32_t id = layer.layer_id;
  EXPECT_TRUE(of.Lookup(id, mixes, rows, hits).ok());
  EXPECT_TRUE(of.Lookup(id, {}, {}, {}).ok());
  const StatusCode invalid = StatusCode::kInvalidArgument;
  EXPECT_EQ(of.Lookup(id + 1, mixes, rows, hits).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(of.Lookup(id, one_less(mixes), rows, hits).status().code(), invalid);
  EXPECT_EQ(of.Lookup(id, one_less(mixes), rows, one_less(hits)).status().code(), invalid);
  EXPECT_EQ(of.Lookup(id, mixes, one_less(rows), hits).status().code(), invalid);
  EXPECT_EQ(of.Find(id, mixes, one_less(slots), versions).status().code(), invalid);
  EXPECT_EQ(of.Find(id, mixes, slots, one_less(versions)).status().code(), invalid);
  EXPECT_EQ(of.Recheck(id, slots, versions, one_less(hits)).status().code(), invalid);
  EXPECT_EQ(of.Recheck(id + 1, slots, versions, hits).status().code(), StatusCode::kNotFound);
  // Numbers that never were a slot are not followed.
  slots.assign(slots.size(), 0xFFFFFF00);
  versions.assign(versions.size(), 1);
  const Result<std::uint64_t> none = of.Recheck(id, slots, versions, hits);
  EXPECT_EQ(none.ok() ? none.value() : 9, 0u);
}

TEST_F(SharedCacheTest, TouchedGroupsStay) {
  const std::unique_ptr<Store> store = OpenStore();
  ASSERT_NE(store, nullptr);
  ASSERT_TRUE(LookUpRun(*store, 1));
  const std::vector<std::int32_t> tokens = SharedRunTokens(made_.info(), 1);
  const TokenRun run = {.history = {}, .tokens = tokens};
  const std::uint32_t layer_id = made_.info().layers[0].layer_id;
  std::vector<std::uint64_t> mixes(tokens.size() * made_.info().recipe.order_count());
  ASSERT_TRUE(store->hasher().Mixes(0, run, mixes, {}).ok());
  const std::uint64_t lookups = store->Stats().orders[0].groups;
  const Result<std::uint64_t> touched = store->Touch(layer_id, mixes);
  ASSERT_TRUE(touched.ok());
  EXPECT_EQ(touched.value(), mixes.size());
  EXPECT_EQ(store->Stats().orders[0].groups, lookups);
  for (std::uint64_t& mix : mixes) mix ^= std::uint64_t{1} << 40;
  EXPECT_EQ(store->Touch(layer_id, mixes).value(), 0u);
  mixes.pop_back();
  EXPECT_EQ(store->Touch(layer_id, mixes).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(store->Touch(layer_id + 1, {}).status().code(), StatusCode::kNotFound);
}

TEST_F(SharedCacheTest, RowsThatWereUpdatedAreNotFoundAsTheyWere) {
  const ScratchDir scratch;
  StoreOptions options = SharedStoreOptions();
  options.updates = Updates::kReadWrite;
  options.state_path = scratch.File("state");
  Result<std::unique_ptr<Store>> store = Store::Open(made_.path(), options);
  if (!store.ok() && store.status().code() == StatusCode::kUnavailable) {
    GTEST_SKIP() << "the library was built without RocksDB";
  }
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  ASSERT_TRUE(LookUpRun(*store.value(), 1));
  Result<SharedCache> cache = SharedCache::Open(store.value()->ShareCache().value(), made_.info());
  ASSERT_TRUE(cache.ok());
  EXPECT_TRUE(cache.value().info().has_updates);
  const CheckedReader reader(made_, cache.value(), made_.info().recipe);
  EXPECT_EQ(reader.ReadRun(1, false).hits, reader.ReadRun(1, false).groups);

  const std::vector<std::int32_t> tokens = SharedRunTokens(made_.info(), 1);
  const TokenRun run = {.history = {}, .tokens = tokens};
  const LayerTable& table = made_.info().layers[0];
  const RowId row = RowIdsOf(*store.value(), table.layer_id, run)[0];
  const std::vector<std::byte> bytes(table.shape.row_size_bytes(), std::byte{0x21});
  const RowUpdate update = {.layer_id = table.layer_id, .row = row, .bytes = bytes};
  ASSERT_TRUE(store.value()->Update({&update, 1}).ok());
  const CheckedReader::Tally after = reader.ReadRun(1, false);
  EXPECT_LT(after.hits, after.groups);
  EXPECT_EQ(after.hit[0], 0) << "the group of the row is there still";
  EXPECT_EQ(after.wrong, 0u);
  ASSERT_TRUE(LookUpRun(*store.value(), 1));
  const CheckedReader::Tally merged = reader.ReadRun(1, false);
  EXPECT_EQ(merged.hit[0], 1);
  EXPECT_GT(merged.wrong, 0u) << "the new row is not in it";
}

TEST_F(SharedCacheTest, OnlyTheShardsOwnReadersMayRead) {
  StoreOptions options = SharedStoreOptions();
  options.shard = {.rank = 1, .count = 2};
  const std::unique_ptr<Store> store = OpenStore(options);
  ASSERT_NE(store, nullptr);
  const int descriptor = store->ShareCache().value();
  EXPECT_EQ(CodeOfOpen(descriptor, made_.info()), StatusCode::kInvalidArgument);
  EXPECT_NE(why_.find("shard 1/2"), std::string::npos) << why_;
  CheckpointInfo half = made_.info();
  half.recipe = ShardRecipe(half.recipe, options.shard).value();
  ASSERT_TRUE(LookUpRun(*store, 1));
  Result<SharedCache> cache = SharedCache::Open(descriptor, half);
  ASSERT_TRUE(cache.ok()) << cache.status().ToString();
  const CheckedReader::Tally tally =
      CheckedReader(made_, cache.value(), half.recipe).ReadRun(1, true);
  EXPECT_EQ(tally.hits, tally.groups);
  EXPECT_EQ(tally.wrong, 0u);
}

TEST_F(SharedCacheTest, OtherTablesAreRefused) {
  const std::unique_ptr<Store> store = OpenStore();
  ASSERT_NE(store, nullptr);
  const int descriptor = store->ShareCache().value();
  const MadeCheckpoint other({.shrink = 30000});
  EXPECT_EQ(CodeOfOpen(descriptor, other.info()), StatusCode::kInvalidArgument);
  EXPECT_NE(why_.find("other tables"), std::string::npos) << why_;
  const std::filesystem::path file = made_.info().files[0].path;
  std::filesystem::last_write_time(
      file, std::filesystem::last_write_time(file) + std::chrono::seconds(1));
  EXPECT_EQ(CodeOfOpen(descriptor, made_.info()), StatusCode::kInvalidArgument);
  EXPECT_NE(why_.find("written since"), std::string::npos) << why_;
}

TEST_F(SharedCacheTest, WhatIsNoSharedCacheIsRefused) {
  EXPECT_EQ(CodeOfOpen(-1, made_.info()), StatusCode::kInvalidArgument);
  const int unsealed = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(ftruncate(unsealed, 1 << 20), 0);
  EXPECT_EQ(CodeOfOpen(unsealed, made_.info()), StatusCode::kInvalidArgument);
  close(unsealed);
  for (const std::uint64_t size_bytes : {4096, 1 << 20}) {
    const Result<SharedSlab> slab = SharedSlab::Create(size_bytes, CachePages::kPlain);
    ASSERT_TRUE(slab.ok());
    EXPECT_EQ(CodeOfOpen(slab.value().fd(), made_.info()), StatusCode::kInvalidArgument);
    EXPECT_NE(why_.find("not a shared cache"), std::string::npos) << why_;
  }
  StoreOptions options = SharedStoreOptions();
  options.memory.shared = false;
  const std::unique_ptr<Store> store = OpenStore(options);
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->ShareCache().status().code(), StatusCode::kUnavailable);
}

TEST_F(SharedCacheTest, LiesOfAGoodChecksumAreRefused) {
  // What the memory says of itself is in shared_header_test; here, what the recipe knows.
  const std::unique_ptr<Store> store = OpenStore();
  ASSERT_NE(store, nullptr);
  const Result<SharedSlab> real = SharedSlab::Open(store->ShareCache().value());
  ASSERT_TRUE(real.ok());
  const std::span<const std::byte> bytes = real.value().bytes();
  const auto refused = [&](const auto& lie) {
    const Result<SharedSlab> slab = SharedSlab::Create(bytes.size(), CachePages::kPlain);
    EXPECT_TRUE(slab.ok());
    const std::span<std::byte> head = slab.value().writable_bytes().first(kSharedHeaderBytes);
    SharedHeader header =
        DecodeSharedHeader(bytes.first(kSharedHeaderBytes), bytes.size(), "real").value();
    lie(header);
    EncodeSharedHeader(header, head);
    return CodeOfOpen(slab.value().fd(), made_.info());
  };
  EXPECT_EQ(refused([](SharedHeader&) {}), StatusCode::kOk) << why_;
  const auto corruption = StatusCode::kCorruption;
  EXPECT_EQ(refused([](SharedHeader& header) { header.spaces[0].layer_id += 100; }), corruption);
  EXPECT_EQ(refused([](SharedHeader& header) { header.spaces[0].order = 1; }), corruption);
  EXPECT_EQ(refused([](SharedHeader& header) { header.spaces[0].order = 200; }), corruption);
  EXPECT_EQ(refused([](SharedHeader& header) { header.spaces[0].order = 3; }), corruption);
  EXPECT_EQ(refused([](SharedHeader& header) { header.spaces.pop_back(); }), corruption);
  EXPECT_EQ(refused([](SharedHeader& header) { header.spaces.push_back(header.spaces[0]); }),
            corruption);
  EXPECT_EQ(refused([](SharedHeader& header) {
              const std::uint32_t size_bytes = header.spaces[0].group_size_bytes - 1;
              header.pools[0].layout =
                  PoolLayout::Of(size_bytes, header.pools[0].layout.slot_count, true);
              for (SharedSpace& space : header.spaces) space.group_size_bytes = size_bytes;
            }),
            corruption);
  EXPECT_EQ(refused([](SharedHeader& header) { header.table_id ^= 1; }),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(refused([](SharedHeader& header) { header.content_id ^= 1; }),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(refused([](SharedHeader& header) { header.shard.count = 2; }),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tiercel::testing
