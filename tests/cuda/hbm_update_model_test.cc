// Goal: updates beside batches in HBM: every row that the device has gathered is one of its
// versions, whole; one that was acknowledged, or delivered to anybody, before a batch began is
// what that batch has, or a later one.
//
// Method: writers own the rows, each its share, and write version after version. For each row
// there is a floor: the greatest version that was acknowledged or seen. Engine threads note the
// floors, start a batch on a stream of their own, and find no row below its floor, nor above
// what its writer has begun; a thread without HBM does so by lookups. The fake GPU's threads
// run the streams in any order; HBM is too small for all groups, or large enough.
// TIERCEL_TEST_SEED repeats the choices, not the order of threads.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "cuda/hbm_cache.h"
#include "tests/cuda/hbm_test_support.h"
#include "tests/store/updated_rows.h"
#include "tests/support/sanitized.h"
#include "tests/support/scratch_dir.h"

namespace tiercel::testing {
namespace {

constexpr int kBatchesOfEngine = kSanitized ? 60 : 250;
constexpr std::size_t kHbmWriters = 2;
constexpr std::size_t kEngines = 3;
constexpr std::uint64_t kHbmTexts = 10;
constexpr std::size_t kTokensOfBatch = 10;
constexpr std::size_t kPendingMax = 50;  ///< Work on all streams.
constexpr std::uint64_t kSeenMin = 500;
constexpr std::uint64_t kHitsMin = 500;

std::uint64_t HbmModelSeed() {
  const char* const text = std::getenv("TIERCEL_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 1;
}

/// The tier, and the rows of the first layer that are written to.
class HbmWorld : public VersionModel {
 public:
  HbmWorld(const MadeCheckpoint& made_checkpoint, HbmRig the_rig, std::uint64_t seed)
      : VersionModel(made_checkpoint, made_checkpoint.info().layers[0].layer_id),
        rig(std::move(the_rig)) {
    Prng prng(seed);
    HbmBatch batch(rig, HbmFormat::kStored, kTokensOfBatch);
    EXPECT_EQ(batch.outputs()[0].layer_id, layer_id);
    for (std::uint64_t text = 0; text < kHbmTexts; ++text) {
      batch.Draw(made, text, kTokensOfBatch);
      Choose(batch.Ids(0), prng, kHbmWriters);
    }
  }

  /// What has happened in HBM, over all orders.
  struct Tally {
    std::uint64_t hits = 0;
    std::uint64_t removals = 0;
  };
  [[nodiscard]] Tally Count() const {
    Tally tally;
    for (const HbmOrderStats& order : rig.cache->Stats().orders) {
      tally.hits += order.hits;
      tally.removals += order.removals;
    }
    return tally;
  }
  /// Whether an engine that has run `batches` runs one more: until enough has happened, which
  /// is a matter of how fast updates and the fake GPU's threads are. Lets copies into slots,
  /// all on one stream, catch up first: or every group would be old before it is in its slot.
  [[nodiscard]] bool GoesOn(int batches) const {
    while (rig.device->pending_count() > kPendingMax) std::this_thread::yield();
    if (batches < kBatchesOfEngine) return true;
    const Tally tally = Count();
    const bool enough = updated_seen > kSeenMin && tally.hits > kHitsMin && tally.removals > 0;
    return !enough && batches < 20 * kBatchesOfEngine;
  }

  HbmRig rig;
};

/// Judges the first layer of a batch that the device has ended.
void JudgeBatch(HbmWorld& world, const HbmBatch& batch, const HbmTicket& ticket,
                const std::vector<RowId>& ids, const std::vector<std::uint64_t>& floors) {
  std::vector<RowStatus> statuses(ids.size());
  if (!ticket.RowStatuses(world.layer_id, statuses).ok()) {
    ++world.failures;
    return;
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (statuses[i] == RowStatus::kDead) continue;
    if (statuses[i] != RowStatus::kOk) ++world.failures;
    world.Judge(ids[i], floors[i], batch.StoredRow(0, i));
  }
}

void AwaitDevice(const HbmBatch& batch, const HbmTicket& ticket) {
  for (const HbmOutput& output : batch.outputs()) {
    while (!ticket.TryStatus(output.layer_id)) std::this_thread::yield();
  }
}

/// An engine that has up to two batches in flight on one stream.
void RunEngine(HbmWorld& world, HbmStream stream, std::uint64_t seed) {
  Prng prng(seed);
  struct Flight {
    std::unique_ptr<HbmBatch> batch;
    std::vector<RowId> ids;
    std::vector<std::uint64_t> floors;
    HbmTicket ticket;
  };
  std::vector<Flight> flights;
  const auto end_first = [&] {
    Flight& first = flights.front();
    AwaitDevice(*first.batch, first.ticket);
    JudgeBatch(world, *first.batch, first.ticket, first.ids, first.floors);
    flights.erase(flights.begin());
  };
  for (int i = 0; world.GoesOn(i); ++i) {
    Flight flight{std::make_unique<HbmBatch>(world.rig, HbmFormat::kStored, kTokensOfBatch)};
    flight.batch->Draw(world.made, prng.Below(kHbmTexts), kTokensOfBatch);
    flight.ids = flight.batch->Ids(0);
    flight.floors = world.Floors(flight.ids);
    const auto start = [&] {
      return world.rig.cache->StartOnStream(flight.batch->runs(), flight.batch->outputs(), stream);
    };
    Result<HbmTicket> ticket = start();
    while (!ticket.ok() && ticket.status().code() == StatusCode::kResourceExhausted) {
      std::this_thread::yield();  // Copy engines are slow to give staging back.
      ticket = start();
    }
    if (!ticket.ok()) {
      ++world.failures;
      break;
    }
    flight.ticket = std::move(ticket).value();
    flights.push_back(std::move(flight));
    if (flights.size() == 2 || prng.Below(2) == 0) end_first();
  }
  while (!flights.empty()) end_first();
}

/// A decode loop: a captured graph, replayed with new tokens.
void RunGraph(HbmWorld& world, HbmStream stream, std::uint64_t seed) {
  Prng prng(seed);
  HbmBatch batch(world.rig, HbmFormat::kStored, kTokensOfBatch);
  Result<HbmTicket> lane = world.rig.cache->OpenLane(kTokensOfBatch, batch.outputs());
  ASSERT_TRUE(lane.ok()) << lane.status().ToString();
  world.rig.device->BeginCapture(stream);
  ASSERT_TRUE(world.rig.cache->EnqueueOnStream(lane.value(), stream).ok());
  const auto graph = world.rig.device->EndCapture(stream);
  for (int i = 0; world.GoesOn(i); ++i) {
    batch.Draw(world.made, prng.Below(kHbmTexts), kTokensOfBatch);
    const std::vector<RowId> ids = batch.Ids(0);
    const std::vector<std::uint64_t> floors = world.Floors(ids);
    Status status = world.rig.cache->Restart(lane.value(), batch.runs());
    while (status.code() == StatusCode::kResourceExhausted) {
      std::this_thread::yield();
      status = world.rig.cache->Restart(lane.value(), batch.runs());
    }
    if (!status.ok()) {
      ++world.failures;
      break;
    }
    world.rig.device->Launch(graph, stream);
    AwaitDevice(batch, lane.value());
    JudgeBatch(world, batch, lane.value(), ids, floors);
  }
}

/// Somebody without HBM, who may see a new row first.
void RunLookups(HbmWorld& world, std::uint64_t seed) {
  Prng prng(seed);
  HbmBatch batch(world.rig, HbmFormat::kStored, kTokensOfBatch);
  while (!world.stop) {
    batch.Draw(world.made, prng.Below(kHbmTexts), kTokensOfBatch);
    const std::vector<RowId> ids = batch.Ids(0);
    LayerBuffers rows(*world.rig.store, world.layer_id, ids.size(), RowOutput::kStored);
    const LayerOutput output = rows.Output();
    const std::vector<std::uint64_t> floors = world.Floors(ids);
    if (!world.rig.store->Lookup(batch.runs(), {&output, 1}).ok()) ++world.failures;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (rows.row_status[i] == RowStatus::kOk) world.Judge(ids[i], floors[i], rows.Row(i));
    }
  }
}

struct ModelCase {
  std::uint64_t slot_count = 0;
  HbmUpload upload = HbmUpload::kWithGather;
  HbmResidency residency = HbmResidency::kInclusive;
};

class HbmUpdateModelTest : public ::testing::TestWithParam<ModelCase> {};

TEST_P(HbmUpdateModelTest, BatchesHaveTheOldRowOrTheNewOneAndNeverGoBack) {
  if (InspectState("/nonexistent").status().code() == StatusCode::kUnavailable) {
    GTEST_SKIP() << "the library was built without RocksDB";
  }
  const std::uint64_t seed = HbmModelSeed();
  SCOPED_TRACE(::testing::Message() << "TIERCEL_TEST_SEED=" << seed);
  const MadeCheckpoint made({.shrink = 40000});
  const ScratchDir scratch;
  StoreOptions options = SmallStore();
  options.updates = Updates::kReadWrite;
  options.state_path = scratch.File("state");
  Result<std::unique_ptr<Store>> store = Store::Open(made.path(), options);
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  HbmRigOptions rig_options{
      .seed = seed, .thread_count = 2, .hbm = SmallHbm(made, GetParam().slot_count)};
  rig_options.hbm.upload = GetParam().upload;
  rig_options.hbm.residency = GetParam().residency;
  rig_options.hbm.tickets_max = 8;
  HbmWorld world(made, OpenRig(made, rig_options, std::move(store).value()), seed);
  ASSERT_GT(world.rows.size(), 50U);

  std::vector<std::thread> engines;
  std::vector<std::thread> others;
  for (std::size_t i = 0; i < kEngines; ++i) {
    const HbmStream stream = world.rig.device->CreateStream().value();
    engines.emplace_back([&world, stream, seed, i] { RunEngine(world, stream, seed * 100 + i); });
  }
  const HbmStream stream = world.rig.device->CreateStream().value();
  engines.emplace_back([&world, stream, seed] { RunGraph(world, stream, seed * 100 + 50); });
  for (std::size_t i = 0; i < kHbmWriters; ++i) {
    others.emplace_back([&world, i] { world.Write(*world.rig.store, i); });
  }
  others.emplace_back([&world, seed] { RunLookups(world, seed * 100 + 60); });
  for (std::thread& thread : engines) thread.join();
  world.stop = true;
  for (std::thread& thread : others) thread.join();

  EXPECT_EQ(world.mixtures, 0U);
  EXPECT_EQ(world.went_back, 0U);
  EXPECT_EQ(world.never_written, 0U);
  EXPECT_EQ(world.failures, 0U);
  EXPECT_GT(world.updated_seen, kSeenMin) << "hardly anything was updated";
  EXPECT_GT(world.Count().hits, kHitsMin);
  EXPECT_GT(world.Count().removals, 0U);
  EXPECT_TRUE(world.rig.device->Synchronize().ok());
  EXPECT_EQ(world.rig.cache->Stats().slots_in_flight, 0U);
}

INSTANTIATE_TEST_SUITE_P(
    Sizes, HbmUpdateModelTest,
    ::testing::Values(ModelCase{300, HbmUpload::kWithGather, HbmResidency::kInclusive},
                      ModelCase{4000, HbmUpload::kWithGather, HbmResidency::kExclusive},
                      ModelCase{4000, HbmUpload::kCopyEngine, HbmResidency::kInclusive}));

}  // namespace
}  // namespace tiercel::testing
