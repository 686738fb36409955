// Goal: updates beside lookups, tickets and snapshots: every row that is delivered is one of
// its versions, whole; one that was acknowledged, or delivered to anybody, before a lookup
// began is what that lookup delivers, or a later one. A snapshot shows each batch whole, and
// the same each time.
//
// Method: writers own the rows, each its share, and write version after version of them, in
// batches of all of their rows. For each row there is a floor: the greatest version that was
// acknowledged or seen. A reader notes the floors, looks up, and finds no row below its floor,
// nor above what its writer has begun. Rows share groups with others, some are asked for
// singly, and the cache is far too small, so that groups come from disk, from the cache and
// by joining. A hot set is loaded meanwhile. TIERCEL_TEST_SEED repeats the choices, not the
// order of threads; a failure prints the seed.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/prng.h"
#include "tests/store/updated_rows.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/sanitized.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/store.h"

namespace tiercel::testing {
namespace {

constexpr std::uint64_t kLookupsOfReader = kSanitized ? 60 : 300;
constexpr std::size_t kWriters = 3;
constexpr std::size_t kReaders = 4;
constexpr std::size_t kTexts = 24;
constexpr std::size_t kTokensOfText = 12;

std::uint64_t TestSeed() {
  const char* const text = std::getenv("TIERCEL_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 1;
}

/// The store, its texts and the rows that are written to.
class World : public VersionModel {
 public:
  World(const MadeCheckpoint& made_checkpoint, Store& the_store, std::uint64_t seed)
      : VersionModel(made_checkpoint, made_checkpoint.info().layers[0].layer_id), store(the_store) {
    Prng prng(seed);
    for (std::size_t i = 0; i < kTexts; ++i) {
      texts.push_back(made.RandomTokens(prng(), kTokensOfText));
      ids.push_back(RowIdsOf(store, layer_id, {.history = {}, .tokens = texts[i]}));
      Choose(ids[i], prng, kWriters);
    }
  }

  /// Judges the rows that were delivered for a text. `floors`: shape [rows], before.
  void JudgeText(const LayerBuffers& buffers, const std::vector<RowId>& text_ids,
                 const std::vector<std::uint64_t>& floors) {
    for (std::size_t i = 0; i < text_ids.size(); ++i) {
      Judge(text_ids[i], floors[i], buffers.Row(i));
    }
  }

  Store& store;
  std::vector<std::vector<std::int32_t>> texts;
  std::vector<std::vector<RowId>> ids;
  std::atomic<std::uint64_t> torn_batches = 0;
};

/// All rows of a writer's are of one version in a snapshot, and of the same the next time.
void CheckSnapshot(World& world, std::size_t writer) {
  std::vector<RowId> ids;
  for (const auto& [id, row] : world.rows) {
    if (row.writer == writer) ids.push_back(id);
  }
  const std::vector<std::uint64_t> floors = world.Floors(ids);
  Result<StoreSnapshot> snapshot = world.store.Snapshot();
  LayerBuffers first(world.store, world.layer_id, ids.size(), RowOutput::kStored);
  LayerBuffers second(world.store, world.layer_id, ids.size(), RowOutput::kStored);
  if (!snapshot.ok() || !snapshot.value().LookupRows(ids, first.Output()).ok() ||
      !snapshot.value().LookupRows(ids, second.Output()).ok()) {
    ++world.failures;
    return;
  }
  world.JudgeText(first, ids, floors);
  const auto version = VersionOf(world.made, world.layer_id, ids[0], first.Row(0));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const bool same = first.Row(i) == second.Row(i) &&
                      VersionOf(world.made, world.layer_id, ids[i], first.Row(i)) == version;
    if (!same) ++world.torn_batches;
  }
}

void ReadTexts(World& world, std::uint64_t seed) {
  Prng prng(seed);
  for (std::uint64_t i = 0; i < kLookupsOfReader; ++i) {
    const std::size_t text = prng.Below(kTexts);
    const std::vector<RowId>& ids = world.ids[text];
    const TokenRun run = {.history = {}, .tokens = world.texts[text]};
    LayerBuffers buffers(world.store, world.layer_id, ids.size(), RowOutput::kStored);
    const LayerOutput output = buffers.Output();
    const std::vector<std::uint64_t> floors = world.Floors(ids);
    Status status;
    const std::uint64_t kind = prng.Below(8);
    if (kind < 3) {
      status = world.store.Lookup({&run, 1}, {&output, 1});
    } else if (kind == 3) {
      status = world.store.LookupRows(ids, output);
    } else if (kind == 4) {  // One by one: not a group's order.
      std::vector<RowId> turned(ids.rbegin(), ids.rend());
      const std::vector<std::uint64_t> turned_floors = world.Floors(turned);
      status = world.store.LookupRows(turned, output);
      world.JudgeText(buffers, turned, turned_floors);
      if (!status.ok()) ++world.failures;
      continue;
    } else if (kind < 7) {
      const PrefetchLayer layer = {
          .layer_id = world.layer_id, .rows = buffers.rows, .row_status = buffers.row_status};
      Result<Ticket> ticket = world.store.Start({&run, 1}, {&layer, 1});
      status = ticket.ok() ? ticket.value().WaitAll() : std::move(ticket).TakeStatus();
    } else {
      CheckSnapshot(world, prng.Below(kWriters));
      continue;
    }
    if (!status.ok()) {
      ++world.failures;
      continue;
    }
    world.JudgeText(buffers, ids, floors);
  }
}

/// A cache that holds next to nothing, and one that holds all.
class OverlayModelTest : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(OverlayModelTest, ReadersSeeTheOldRowOrTheNewOneAndNeverGoBack) {
  if (InspectState("/nonexistent").status().code() == StatusCode::kUnavailable) {
    GTEST_SKIP() << "the library was built without RocksDB";
  }
  const std::uint64_t seed = TestSeed();
  SCOPED_TRACE(::testing::Message() << "TIERCEL_TEST_SEED=" << seed);
  const MadeCheckpoint made({.shrink = 40000});
  const ScratchDir scratch;
  StoreOptions options;
  options.dram_budget_bytes = GetParam() << 20;
  options.queue_depth = 16;
  options.io_thread_count = 2;
  options.prefetch = {.tickets_max = 8, .tokens_max = 4096, .expected_groups_max = 64};
  options.updates = Updates::kReadWrite;
  options.state_path = scratch.File("state");
  options.log = [](std::string_view /*line*/) {};
  Result<std::unique_ptr<Store>> store = Store::Open(made.path(), options);
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  World world(made, *store.value(), seed);
  ASSERT_GT(world.rows.size(), 50u);

  std::vector<std::thread> writers;
  std::vector<std::thread> readers;
  for (std::size_t i = 0; i < kWriters; ++i) {
    writers.emplace_back([&world, i] { world.Write(world.store, i); });
  }
  for (std::size_t i = 0; i < kReaders; ++i) {
    readers.emplace_back([&world, seed, i] { ReadTexts(world, seed * 100 + i); });
  }
  const std::string hot = scratch.File("hot");
  for (int round = 0; round < 3; ++round) {
    if (!store.value()->SaveHotSet(hot, {.bytes = round != 1}).ok()) ++world.failures;
    if (!store.value()->LoadHotSet(hot).ok()) ++world.failures;
    if (!store.value()->WaitForHotSet().ok()) ++world.failures;
  }
  for (std::thread& thread : readers) thread.join();
  world.stop = true;
  for (std::thread& thread : writers) thread.join();

  EXPECT_EQ(world.mixtures, 0u);
  EXPECT_EQ(world.went_back, 0u);
  EXPECT_EQ(world.never_written, 0u);
  EXPECT_EQ(world.torn_batches, 0u);
  EXPECT_EQ(world.failures, 0u);
  EXPECT_GT(world.updated_seen, 1000u) << "hardly anything was updated";
  const StoreStats stats = store.value()->Stats();
  EXPECT_GT(stats.overlay.groups_removed, 0u);
  EXPECT_GT(stats.overlay.rows_merged, 0u);
  EXPECT_LE(stats.overlay.commits, stats.overlay.batches);

  // And it is all there when it is opened again.
  store.value().reset();
  options.updates = Updates::kReadOnly;
  Result<std::unique_ptr<Store>> again = Store::Open(made.path(), options);
  ASSERT_TRUE(again.ok()) << again.status().ToString();
  for (const auto& [id, row] : world.rows) {
    EXPECT_EQ(VersionOf(made, world.layer_id, id, LookUpRow(*again.value(), world.layer_id, id)),
              row.begun.load());
  }
}

INSTANTIATE_TEST_SUITE_P(Budgets, OverlayModelTest, ::testing::Values(24, 64),
                         [](const auto& budget) { return std::to_string(budget.param) + "MiB"; });

}  // namespace
}  // namespace tiercel::testing
