// Goal: a batch reaches device memory with the store's bytes, whichever tier they come from,
// by work on streams alone; what is asked wrongly is refused in words.
//
// Method: a fake GPU whose work runs when the test says so, in any order that streams allow.

#include "cuda/hbm_cache.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/cuda/hbm_test_support.h"

namespace tiercel {
namespace {

using testing::HbmBatch;
using testing::HbmRig;
using testing::HbmRigOptions;
using testing::MadeCheckpoint;
using testing::OpenRig;
using testing::SmallHbm;

/// Runs the fake GPU until the layer is there.
Status RunUntilDone(const HbmRig& rig, const HbmTicket& ticket, std::uint32_t layer_id) {
  while (true) {
    if (std::optional<Status> status = ticket.TryStatus(layer_id)) return std::move(*status);
    if (rig.device->Run(100) == 0) std::this_thread::yield();
  }
}

void ExpectGood(const MadeCheckpoint& made, const HbmRig& rig, const HbmBatch& batch,
                const HbmTicket& ticket) {
  for (const HbmOutput& output : batch.outputs()) {
    const Status status = RunUntilDone(rig, ticket, output.layer_id);
    EXPECT_TRUE(status.ok()) << status.ToString();
  }
  const HbmBatch::Tally tally = batch.Check(made, ticket);
  EXPECT_EQ(tally.wrong, 0U);
  EXPECT_EQ(tally.failed, 0U);
  EXPECT_GT(tally.right, 0U);
}

std::uint64_t Hits(const HbmStats& stats) {
  std::uint64_t hits = 0;
  for (const HbmOrderStats& order : stats.orders) hits += order.hits;
  return hits;
}

struct Case {
  testing::MadeCheckpoint::Options made;
  HbmFormat format;
  HbmUpload upload;
};

class HbmFormats : public ::testing::TestWithParam<Case> {};

TEST_P(HbmFormats, ABatchIsTheStoresBytesMissedThenHit) {
  const MadeCheckpoint made(GetParam().made);
  HbmRigOptions options;
  options.hbm = SmallHbm(made, 2000);
  options.hbm.format = GetParam().format;
  options.hbm.upload = GetParam().upload;
  const HbmRig rig = OpenRig(made, options);
  HbmBatch batch(rig, GetParam().format, 20);
  batch.Draw(made, 5, 17);
  for (int round = 0; round < 2; ++round) {
    batch.Poison();
    Result<HbmTicket> ticket = rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream);
    ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
    ExpectGood(made, rig, batch, ticket.value());
    while (rig.device->Run(100) > 0) {
    }
    const HbmStats stats = rig.cache->Stats();
    EXPECT_EQ(stats.slots_in_flight, 0U);
    EXPECT_EQ(stats.staging_used_bytes, 0U);
    if (round == 0) {
      EXPECT_EQ(Hits(stats), 0U);
    } else {
      std::uint64_t groups = 0;
      for (const HbmOrderStats& order : stats.orders) groups += order.groups;
      EXPECT_EQ(Hits(stats), groups / 2);  // All of the second round.
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, HbmFormats,
    ::testing::Values(Case{{}, HbmFormat::kStored, HbmUpload::kWithGather},
                      Case{{}, HbmFormat::kStored, HbmUpload::kCopyEngine},
                      Case{{}, HbmFormat::kRowsAndScales, HbmUpload::kWithGather},
                      Case{{}, HbmFormat::kBf16, HbmUpload::kCopyEngine},
                      Case{{.like = CheckpointModel::kQwen38FlashNext, .fp8 = true},
                           HbmFormat::kBf16,
                           HbmUpload::kWithGather},
                      Case{{.like = CheckpointModel::kQwen38FlashNext},
                           HbmFormat::kStored,
                           HbmUpload::kWithGather},
                      Case{{.like = CheckpointModel::kEngramDemo, .shrink = 100},
                           HbmFormat::kBf16,
                           HbmUpload::kWithGather}));

TEST(HbmCacheTest, NothingIsToldBeforeTheDeviceHasGathered) {
  const MadeCheckpoint made({});
  const HbmRig rig = OpenRig(made, {.hbm = SmallHbm(made, 500)});
  HbmBatch batch(rig, HbmFormat::kStored, 8);
  batch.Draw(made, 1, 8);
  Result<HbmTicket> ticket = rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream);
  ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
  EXPECT_FALSE(ticket.value().TryStatus(1).has_value());
  std::vector<RowStatus> statuses(8 * 24, RowStatus::kCorruption);
  EXPECT_EQ(ticket.value().RowStatuses(1, statuses).code(), StatusCode::kUnavailable);
  EXPECT_EQ(statuses[0], RowStatus::kCorruption);
  EXPECT_EQ(ticket.value().TryStatus(2)->code(), StatusCode::kNotFound);
  ExpectGood(made, rig, batch, ticket.value());
  EXPECT_EQ(ticket.value().RowStatuses(1, std::span(statuses).first(5)).code(),
            StatusCode::kInvalidArgument);
}

TEST(HbmCacheTest, AnotherStreamWaitsForTheGather) {
  const MadeCheckpoint made({});
  const HbmRig rig = OpenRig(made, {.hbm = SmallHbm(made, 500)});
  HbmBatch batch(rig, HbmFormat::kStored, 8);
  batch.Draw(made, 1, 8);
  const HbmStream model = rig.device->CreateStream().value();
  const HbmEvent after = rig.device->CreateEvent().value();
  Result<HbmTicket> ticket = rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream);
  ASSERT_TRUE(ticket.ok());
  ASSERT_TRUE(rig.cache->WaitOnStream(ticket.value(), 14, model).ok());
  EXPECT_EQ(rig.cache->WaitOnStream(ticket.value(), 3, model).code(), StatusCode::kNotFound);
  ASSERT_TRUE(rig.device->RecordEvent(after, model).ok());
  bool seen = false;
  while (!seen) {
    const bool gathered = ticket.value().TryStatus(14).has_value();
    seen = rig.device->QueryEvent(after).value();
    EXPECT_TRUE(gathered || !seen);
    if (rig.device->Run(1) == 0) std::this_thread::yield();
  }
}

TEST(HbmCacheTest, ABatchOfNoTokensEnds) {
  const MadeCheckpoint made({});
  const HbmRig rig = OpenRig(made, {.hbm = SmallHbm(made, 500)});
  HbmBatch batch(rig, HbmFormat::kStored, 8);
  Result<HbmTicket> ticket = rig.cache->StartOnStream({}, batch.outputs(), rig.stream);
  ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
  EXPECT_TRUE(RunUntilDone(rig, ticket.value(), 1).ok());
  EXPECT_EQ(batch.Check(made, ticket.value()).wrong, 0U);
}

TEST(HbmCacheTest, OneLayerMayBeAskedForAlone) {
  const MadeCheckpoint made({});
  const HbmRig rig = OpenRig(made, {.hbm = SmallHbm(made, 500)});
  HbmBatch batch(rig, HbmFormat::kStored, 8);
  batch.Draw(made, 1, 3);
  Result<HbmTicket> ticket =
      rig.cache->StartOnStream(batch.runs(), batch.outputs().last(1), rig.stream);
  ASSERT_TRUE(ticket.ok());
  EXPECT_TRUE(RunUntilDone(rig, ticket.value(), 14).ok());
  EXPECT_EQ(ticket.value().TryStatus(1)->code(), StatusCode::kNotFound);
}

TEST(HbmCacheTest, WrongArgumentsAreRefused) {
  const MadeCheckpoint made({});
  const HbmRig rig = OpenRig(made, {.hbm = SmallHbm(made, 500)});
  HbmBatch batch(rig, HbmFormat::kStored, 8);
  batch.Draw(made, 1, 8);
  const auto code = [&](std::span<const HbmOutput> outputs) {
    return rig.cache->StartOnStream(batch.runs(), outputs, rig.stream).status().code();
  };
  EXPECT_EQ(code({}), StatusCode::kInvalidArgument);
  std::vector<HbmOutput> outputs(batch.outputs().begin(), batch.outputs().end());
  outputs[1].layer_id = outputs[0].layer_id;
  EXPECT_EQ(code(outputs), StatusCode::kInvalidArgument);
  outputs[1].layer_id = 5;
  EXPECT_EQ(code(outputs), StatusCode::kNotFound);
  outputs = {batch.outputs().begin(), batch.outputs().end()};
  outputs[0].rows = nullptr;
  EXPECT_EQ(code(outputs), StatusCode::kInvalidArgument);
  outputs = {batch.outputs().begin(), batch.outputs().end()};
  outputs[0].scales = outputs[0].rows;
  EXPECT_EQ(code(outputs), StatusCode::kInvalidArgument);

  const std::vector<std::int32_t> many(65, 1);
  const TokenRun long_run = {.history = {}, .tokens = many};
  EXPECT_EQ(rig.cache->StartOnStream({&long_run, 1}, batch.outputs(), rig.stream).status().code(),
            StatusCode::kResourceExhausted);
  const std::vector<std::int32_t> unknown(1, 2000000000);
  const TokenRun bad_run = {.history = {}, .tokens = unknown};
  EXPECT_EQ(rig.cache->StartOnStream({&bad_run, 1}, batch.outputs(), rig.stream).status().code(),
            StatusCode::kInvalidArgument);
  const HbmTicket none;
  EXPECT_EQ(rig.cache->WaitOnStream(none, 1, rig.stream).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(none.TryStatus(1)->code(), StatusCode::kInvalidArgument);
  // Nothing of it holds anything.
  EXPECT_EQ(rig.cache->Stats().slots_in_flight, 0U);
  EXPECT_EQ(rig.cache->Stats().tickets, 0U);
  EXPECT_EQ(rig.device->pending_count(), 0U);
}

TEST(HbmCacheTest, TicketsAndStagingAreBounded) {
  const MadeCheckpoint made({});
  HbmRigOptions options{.hbm = SmallHbm(made, 500)};
  options.hbm.tickets_max = 2;
  options.hbm.staging_bytes = 100 * 2112;
  const HbmRig rig = OpenRig(made, options);
  HbmBatch batch(rig, HbmFormat::kStored, 64);
  batch.Draw(made, 1, 60);
  const Result<HbmTicket> large =
      rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream);
  EXPECT_EQ(large.status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(rig.cache->Stats().staging_used_bytes, 0U);
  EXPECT_EQ(rig.cache->Stats().slots_in_flight, 0U);

  batch.Draw(made, 2, 2);
  std::vector<HbmTicket> tickets;
  for (int i = 0; i < 2; ++i) {
    Result<HbmTicket> ticket = rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream);
    ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
    tickets.push_back(std::move(ticket).value());
  }
  EXPECT_EQ(rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream).status().code(),
            StatusCode::kResourceExhausted);
  rig.device->SetHealth(false);
  EXPECT_EQ(rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream).status().code(),
            StatusCode::kIoError);
  rig.device->SetHealth(true);
  // Dropped, a ticket keeps its lane until the device is done with it.
  tickets.pop_back();
  EXPECT_EQ(rig.cache->Stats().tickets, 2U);
  ExpectGood(made, rig, batch, tickets[0]);
  while (rig.device->pending_count() > 0) {
    if (rig.device->Run(100) == 0) std::this_thread::yield();
  }
  EXPECT_EQ(rig.cache->Stats().tickets, 1U);
}

class HbmGraphTest : public ::testing::TestWithParam<FlagWait> {};

INSTANTIATE_TEST_SUITE_P(Waits, HbmGraphTest,
                         ::testing::Values(FlagWait::kAuto, FlagWait::kInGather));

TEST_P(HbmGraphTest, ReplaysWithNewTokens) {
  const MadeCheckpoint made({});
  HbmRigOptions options{.hbm = SmallHbm(made, 60)};
  options.hbm.flag_wait = GetParam();
  const HbmRig rig = OpenRig(made, options);
  HbmBatch batch(rig, HbmFormat::kStored, 8);
  Result<HbmTicket> lane = rig.cache->OpenLane(8, batch.outputs());
  ASSERT_TRUE(lane.ok()) << lane.status().ToString();
  EXPECT_EQ(lane.value().TryStatus(1)->code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(rig.cache->WaitOnStream(lane.value(), 1, rig.stream).code(),
            StatusCode::kInvalidArgument);
  rig.device->BeginCapture(rig.stream);
  ASSERT_TRUE(rig.cache->EnqueueOnStream(lane.value(), rig.stream).ok());
  ASSERT_TRUE(rig.cache->WaitOnStream(lane.value(), 14, rig.stream).ok());
  const auto graph = rig.device->EndCapture(rig.stream);
  const std::uint64_t gathers = rig.device->calls(testing::FakeCall::kGather);
  // A branch a layer, or one launch for both that waits itself.
  const bool together = GetParam() == FlagWait::kInGather;
  EXPECT_EQ(gathers, together ? 1U : 2U);
  EXPECT_EQ(rig.device->calls(testing::FakeCall::kWaitFlag), together ? 0U : 2U);
  for (std::uint64_t round = 0; round < 200; ++round) {
    batch.Poison();
    batch.Draw(made, round, 1 + round % 8);
    const Status restarted = rig.cache->Restart(lane.value(), batch.runs());
    ASSERT_TRUE(restarted.ok()) << restarted.ToString();
    rig.device->Launch(graph, rig.stream);
    if (round % 5 == 0) {
      EXPECT_EQ(rig.cache->Restart(lane.value(), batch.runs()).code(), StatusCode::kUnavailable);
    }
    for (const std::uint32_t layer_id : {1U, 14U}) {
      ASSERT_TRUE(RunUntilDone(rig, lane.value(), layer_id).ok());
    }
    ASSERT_EQ(batch.Check(made, lane.value()).wrong, 0U) << round;
  }
  EXPECT_EQ(rig.device->calls(testing::FakeCall::kGather), gathers);
  EXPECT_GT(Hits(rig.cache->Stats()), 0U);
}

TEST(HbmCacheTest, LayersOfFewTokensThatMissNothingAreOneLaunch) {
  const MadeCheckpoint made({});
  const HbmRig rig = OpenRig(made, {.hbm = SmallHbm(made, 60)});
  HbmBatch batch(rig, HbmFormat::kStored, 4);
  std::uint64_t launches_before = 0;
  for (const std::uint64_t launches : {2U, 1U}) {  // All missed; all hit.
    batch.Poison();
    batch.Draw(made, 3, 4);
    Result<HbmTicket> ticket = rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream);
    ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
    EXPECT_EQ(rig.device->calls(testing::FakeCall::kGather) - launches_before, launches);
    launches_before += launches;
    for (const std::uint32_t layer_id : {1U, 14U}) {
      ASSERT_TRUE(RunUntilDone(rig, ticket.value(), layer_id).ok());
    }
    EXPECT_EQ(batch.Check(made, ticket.value()).wrong, 0U);
  }
}

TEST(HbmCacheTest, ALaneWhoseReplayWasNotLaunchedIsFreedByCancel) {
  const MadeCheckpoint made({});
  const HbmRig rig = OpenRig(made, {.hbm = SmallHbm(made, 60)});
  HbmBatch batch(rig, HbmFormat::kStored, 8);
  batch.Draw(made, 3, 8);
  Result<HbmTicket> lane = rig.cache->OpenLane(8, batch.outputs());
  ASSERT_TRUE(lane.ok());
  ASSERT_TRUE(rig.cache->Restart(lane.value(), batch.runs()).ok());
  EXPECT_EQ(rig.cache->Restart(lane.value(), batch.runs()).code(), StatusCode::kUnavailable);
  ASSERT_TRUE(rig.cache->Cancel(lane.value()).ok());
  EXPECT_EQ(lane.value().TryStatus(1)->code(), StatusCode::kCancelled);
  EXPECT_EQ(rig.cache->Stats().slots_in_flight, 0U);
  ASSERT_TRUE(rig.cache->Restart(lane.value(), batch.runs()).ok());
  ASSERT_TRUE(rig.cache->EnqueueOnStream(lane.value(), rig.stream).ok());
  ExpectGood(made, rig, batch, lane.value());
  EXPECT_EQ(rig.cache->OpenLane(0, batch.outputs()).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(rig.cache->OpenLane(65, batch.outputs()).status().code(), StatusCode::kInvalidArgument);
  // One that was dropped is taken again.
  const std::size_t allocations = rig.device->allocation_count();
  lane.value() = HbmTicket();
  EXPECT_TRUE(rig.cache->OpenLane(8, batch.outputs()).ok());
  EXPECT_EQ(rig.device->allocation_count(), allocations);
}

TEST(HbmCacheTest, CloseEndsWhatIsUnderWayAndGivesAllMemoryBack) {
  const MadeCheckpoint made({});
  HbmRig rig = OpenRig(made, {.hbm = SmallHbm(made, 60)});
  HbmBatch batch(rig, HbmFormat::kStored, 64);
  batch.Draw(made, 3, 64);
  Result<HbmTicket> ticket = rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream);
  ASSERT_TRUE(ticket.ok());
  rig.cache->Close();
  EXPECT_EQ(rig.device->allocation_count(), 0U);
  EXPECT_EQ(rig.device->pending_count(), 0U);
  EXPECT_EQ(ticket.value().TryStatus(1)->code(), StatusCode::kCancelled);
  EXPECT_EQ(rig.cache->WaitOnStream(ticket.value(), 1, rig.stream).code(), StatusCode::kCancelled);
  EXPECT_EQ(rig.cache->StartOnStream(batch.runs(), batch.outputs(), rig.stream).status().code(),
            StatusCode::kCancelled);
}

TEST(HbmCacheTest, OptionsOutOfRangeAreRefused) {
  const MadeCheckpoint made({});
  const HbmRig rig = OpenRig(made, {.hbm = SmallHbm(made, 60)});
  const auto code = [&](const HbmOptions& options) {
    return HbmCache::Create(*rig.store, std::make_unique<testing::FakeHbmDevice>(1, 0), options)
        .status()
        .code();
  };
  HbmOptions options = SmallHbm(made, 15);
  EXPECT_EQ(code(options), StatusCode::kInvalidArgument);
  options = SmallHbm(made, 60);
  options.tickets_max = 0;
  EXPECT_EQ(code(options), StatusCode::kInvalidArgument);
  options = SmallHbm(made, 60);
  options.tokens_max = 65537;
  EXPECT_EQ(code(options), StatusCode::kInvalidArgument);
  options = SmallHbm(made, 60);
  options.layer_ids = {2};
  EXPECT_EQ(code(options), StatusCode::kNotFound);
}

}  // namespace
}  // namespace tiercel
