// Goal: what happens while rows are on their way: waits that run out, cancelled and
// dropped tickets, a store that goes first, one read for many tickets, the order of
// urgent, queued and promoted tickets.
//
// Method: a HeldDevice keeps every read in flight until the test lets go, so that "on
// their way" is no matter of chance; on_layer tells the order in which layers came.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "io/device.h"
#include "store/store_impl.h"
#include "tests/store/held_device.h"
#include "tests/support/made_checkpoint.h"
#include "tiercel/store.h"

namespace tiercel::testing {
namespace {

constexpr std::uint32_t kFirstLayer = 1;
constexpr std::uint32_t kSecondLayer = 14;

/// Which tickets' layers came in place, in order.
class Arrivals {
 public:
  std::function<void(std::uint32_t, StatusCode)> Note(std::string name) {
    return [this, name = std::move(name)](std::uint32_t layer_id, StatusCode /*code*/) {
      MutexLock lock(mutex_);
      names_.push_back(name + std::to_string(layer_id));
    };
  }
  std::vector<std::string> names() {
    MutexLock lock(mutex_);
    return names_;
  }
  /// Waits without promoting anything, as Ticket::Wait() would.
  std::vector<std::string> Await(std::size_t count) {
    while (names().size() < count) std::this_thread::yield();
    return names();
  }

 private:
  Mutex mutex_;
  std::vector<std::string> names_ TIERCEL_GUARDED_BY(mutex_);
};

class TicketHeldTest : public ::testing::Test {
 protected:
  void SetUp() override { Open(8); }
  void TearDown() override { hold_.closing.store(true); }

  void Open(std::uint32_t queue_depth) {
    store_.reset();
    StoreOptions options;
    options.dram_budget_bytes = std::uint64_t{48} << 20;
    options.io_thread_count = 1;
    options.queue_depth = queue_depth;
    options.scales = ScalePlacement::kResident;
    options.log = [](std::string_view /*line*/) {};
    Result<std::unique_ptr<Store>> store =
        OpenStoreOn(made_.info(), options,
                    [&](const std::vector<std::string>& paths,
                        const DeviceOptions& device) -> Result<OpenedDevice> {
                      auto base = OpenPreadDevice(paths, device);
                      if (!base.ok()) return std::move(base).TakeStatus();
                      return OpenedDevice{
                          .device = std::make_unique<HeldDevice>(std::move(base).value(), hold_),
                          .fallback_reason = ""};
                    });
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    store_ = std::move(store).value();
  }

  /// Lets all reads go, those in flight too: a queue hears of it when it is woken.
  void LetGo() {
    hold_.closing.store(true);
    const std::vector<std::int32_t> tokens = made_.RandomTokens(999, 1);
    LayerBuffers rows(*store_, kFirstLayer, RowCount(1), RowOutput::kStored);
    const TokenRun run = {.history = {}, .tokens = tokens};
    const LayerOutput output = rows.Output();
    ASSERT_TRUE(store_->Lookup({&run, 1}, {&output, 1}).ok());
  }

  void WaitUntilHeld() const {
    while (hold_.in_flight.load() == 0) std::this_thread::yield();
  }

  [[nodiscard]] std::size_t RowCount(std::size_t token_count) const {
    return token_count * made_.info().recipe.column_count();
  }

  /// Tokens, rows and ticket of one batch.
  struct Batch {
    std::vector<std::int32_t> tokens;
    std::vector<LayerBuffers> layers;
    Ticket ticket;
    [[nodiscard]] TokenRun run() const { return {.history = {}, .tokens = tokens}; }
  };

  Batch Start(std::uint64_t seed, std::size_t token_count, const PrefetchOptions& options = {},
              std::vector<std::uint32_t> layer_ids = {kFirstLayer, kSecondLayer}) {
    Batch batch;
    batch.tokens = made_.RandomTokens(seed, token_count);
    std::vector<PrefetchLayer> wanted;
    for (const std::uint32_t layer_id : layer_ids) {
      batch.layers.emplace_back(*store_, layer_id, RowCount(token_count), options.format);
      LayerBuffers& layer = batch.layers.back();
      std::ranges::fill(layer.rows, std::byte{0xC5});
      wanted.push_back({.layer_id = layer_id, .rows = layer.rows, .row_status = layer.row_status});
    }
    const TokenRun run = batch.run();
    Result<Ticket> ticket = store_->Start({&run, 1}, wanted, options);
    EXPECT_TRUE(ticket.ok()) << ticket.status().ToString();
    if (ticket.ok()) batch.ticket = std::move(ticket).value();
    return batch;
  }

  void ExpectRight(const Batch& batch) {
    for (const LayerBuffers& layer : batch.layers) {
      const std::vector<RowId> ids = RowIdsOf(*store_, layer.layer_id, batch.run());
      EXPECT_EQ(CheckRows(made_, layer, ids, RowOutput::kStored).right, ids.size());
    }
  }

  /// Cancels one ticket and drops another while their reads are held, then lets go.
  void ExpectNothingWritten(std::size_t token_count) {
    Arrivals arrivals;
    Batch cancelled = Start(1, token_count, {.on_layer = arrivals.Note("c")});
    Batch dropped = Start(2, token_count, {.on_layer = arrivals.Note("d")});
    WaitUntilHeld();
    cancelled.ticket.Cancel();
    EXPECT_EQ(cancelled.ticket.Wait(kFirstLayer).code(), StatusCode::kCancelled);
    EXPECT_EQ(cancelled.ticket.WaitAll().code(), StatusCode::kCancelled);
    dropped.ticket = Ticket();
    EXPECT_EQ(store_->Stats().tickets, 1U);
    LetGo();
    EXPECT_TRUE(arrivals.names().empty());
    for (const LayerBuffers& layer : cancelled.layers) EXPECT_TRUE(Untouched(layer));
    for (const LayerBuffers& layer : dropped.layers) EXPECT_TRUE(Untouched(layer));
    Batch again = Start(1, token_count);  // Nothing is left behind that would stop it.
    EXPECT_TRUE(again.ticket.WaitAll().ok());
    ExpectRight(again);
  }

  static bool Untouched(const LayerBuffers& layer) {
    return layer.rows[0] == std::byte{0xC5} &&
           std::memcmp(layer.rows.data(), layer.rows.data() + 1, layer.rows.size() - 1) == 0;
  }

  const MadeCheckpoint made_{MadeCheckpoint::Options{}};
  Hold hold_;
  std::unique_ptr<Store> store_;
};

TEST_F(TicketHeldTest, WaitsRunOutWhileRowsAreOnTheirWay) {
  Batch batch = Start(1, 4);
  EXPECT_FALSE(batch.ticket.TryWait(kFirstLayer).has_value());
  EXPECT_FALSE(batch.ticket.WaitFor(kFirstLayer, std::chrono::milliseconds(1)).has_value());
  EXPECT_FALSE(batch.ticket.WaitFor(kFirstLayer, std::chrono::nanoseconds(-1)).has_value());
  LetGo();
  EXPECT_TRUE(batch.ticket.WaitFor(kFirstLayer, std::chrono::nanoseconds::max())->ok());
  EXPECT_TRUE(batch.ticket.WaitAll().ok());
  ExpectRight(batch);
}

TEST_F(TicketHeldTest, NothingIsWrittenAfterCancelOrDrop) {
  ExpectNothingWritten(4);
}

TEST_F(TicketHeldTest, NothingIsWrittenAfterCancelOrDropOfManyWindows) {
  ExpectNothingWritten(250);
}

TEST_F(TicketHeldTest, AStoreThatGoesFirstCancelsItsTickets) {
  Batch batch = Start(1, 4);
  Batch queued = Start(2, 1000, {.urgency = Urgency::kBackground});
  WaitUntilHeld();
  std::thread waits(
      [&] { EXPECT_EQ(batch.ticket.Wait(kSecondLayer).code(), StatusCode::kCancelled); });
  hold_.closing.store(true);
  store_.reset();
  waits.join();
  EXPECT_NE(queued.ticket.WaitAll().ToString().find("the store was closed"), std::string::npos);
  queued.ticket.Promote();
  queued.ticket.Cancel();
}

TEST_F(TicketHeldTest, TheCacheKnowsWhatIsQueuedUntilItIsReadOrGivenUp) {
  // Its first window is held, and there is no credit for a second one.
  Batch queued = Start(1, 1000, {.urgency = Urgency::kBackground});
  while (store_->Stats().expected_groups == 0) std::this_thread::yield();
  queued.ticket.Cancel();
  EXPECT_EQ(store_->Stats().expected_groups, 0U);
  Batch again = Start(1, 1000, {.urgency = Urgency::kBackground});
  while (store_->Stats().expected_groups == 0) std::this_thread::yield();
  LetGo();
  EXPECT_TRUE(again.ticket.WaitAll().ok());
  EXPECT_EQ(store_->Stats().expected_groups, 0U);
  ExpectRight(again);
}

TEST_F(TicketHeldTest, AGroupThatManyTicketsWantIsReadOnce) {
  std::vector<Batch> batches;
  for (int i = 0; i < 10; ++i) batches.push_back(Start(1, 4, {}, {kFirstLayer}));
  const TicketStats first = batches[0].ticket.Stats(kFirstLayer).value();
  EXPECT_GT(first.fetches, 0U);
  for (int i = 1; i < 10; ++i) {
    const TicketStats stats = batches[i].ticket.Stats(kFirstLayer).value();
    EXPECT_EQ(stats.fetches, 0U);
    EXPECT_EQ(stats.joined, stats.groups);
  }
  batches[0].ticket.Cancel();  // Whoever asked first may go: the read is the others' too.
  batches.erase(batches.begin());
  LetGo();
  for (Batch& batch : batches) {
    EXPECT_TRUE(batch.ticket.WaitAll().ok());
    ExpectRight(batch);
  }
}

TEST_F(TicketHeldTest, WhatATicketKeepsOutIsNotCachedUnlessAnotherJoins) {
  const PrefetchOptions keep_out{.cache = CacheUse::kKeepOut};
  const auto in_dram = [this](const Batch& batch) {
    LayerBuffers rows(*store_, kFirstLayer, RowCount(batch.tokens.size()), RowOutput::kStored);
    const PrefetchLayer layer = {
        .layer_id = kFirstLayer, .rows = rows.rows, .row_status = rows.row_status};
    const TokenRun run = batch.run();
    Result<Ticket> ticket = store_->Start({&run, 1}, {&layer, 1}, {.cache = CacheUse::kKeepOut});
    EXPECT_TRUE(ticket.ok() && ticket.value().WaitAll().ok());
    return ticket.value().Stats(kFirstLayer).value();
  };
  Batch alone = Start(1, 4, keep_out, {kFirstLayer});
  Batch joined = Start(2, 4, keep_out, {kFirstLayer});
  WaitUntilHeld();
  Batch joins = Start(2, 4, {}, {kFirstLayer});  // Some of it is being read, some is queued.
  Batch asked = Start(3, 4, {}, {kFirstLayer});
  Batch late = Start(3, 4, keep_out, {kFirstLayer});
  EXPECT_EQ(joins.ticket.Stats(kFirstLayer).value().fetches, 0U);
  EXPECT_EQ(late.ticket.Stats(kFirstLayer).value().fetches, 0U);
  LetGo();
  for (Batch* const batch : {&alone, &joined, &joins, &asked, &late}) {
    EXPECT_TRUE(batch->ticket.WaitAll().ok());
    ExpectRight(*batch);
  }
  EXPECT_EQ(in_dram(alone).dram_hits, 0U);
  EXPECT_EQ(in_dram(alone).dram_hits, 0U);  // Nor by having been asked for again.
  const TicketStats both = in_dram(joined);
  EXPECT_EQ(both.dram_hits, both.groups);
  const TicketStats first = in_dram(asked);
  EXPECT_EQ(first.dram_hits, first.groups);
}

TEST_F(TicketHeldTest, UrgentTicketsOvertakeThoseInTheBackground) {
  Arrivals arrivals;
  Batch prompt =
      Start(1, 250, {.urgency = Urgency::kBackground, .on_layer = arrivals.Note("prompt")});
  WaitUntilHeld();
  Batch decode = Start(2, 4, {.on_layer = arrivals.Note("decode")});
  Batch later = Start(3, 4, {.on_layer = arrivals.Note("later")});
  LetGo();
  EXPECT_EQ(arrivals.Await(6), (std::vector<std::string>{"decode1", "decode14", "later1", "later14",
                                                         "prompt1", "prompt14"}));
  ExpectRight(prompt);
  ExpectRight(decode);
  ExpectRight(later);
}

TEST_F(TicketHeldTest, APromotedTicketOvertakesThoseBeforeIt) {
  Arrivals arrivals;
  // The prefetch thread looks for one of these after the other: two windows of each.
  Batch first =
      Start(1, 250, {.urgency = Urgency::kBackground, .on_layer = arrivals.Note("first")});
  Batch second =
      Start(2, 250, {.urgency = Urgency::kBackground, .on_layer = arrivals.Note("second")});
  WaitUntilHeld();
  second.ticket.Promote();
  LetGo();
  ASSERT_EQ(arrivals.Await(4).size(), 4U);
  EXPECT_EQ(arrivals.names()[0].substr(0, 6), "second");
  EXPECT_EQ(arrivals.names()[1].substr(0, 6), "second");
  ExpectRight(first);
  ExpectRight(second);
}

TEST_F(TicketHeldTest, AWaitPromotesItsTicket) {
  Arrivals arrivals;
  Batch first =
      Start(1, 250, {.urgency = Urgency::kBackground, .on_layer = arrivals.Note("first")});
  Batch second =
      Start(2, 100, {.urgency = Urgency::kBackground, .on_layer = arrivals.Note("second")});
  WaitUntilHeld();
  EXPECT_FALSE(second.ticket.WaitFor(kFirstLayer, std::chrono::nanoseconds(1)).has_value());
  LetGo();
  EXPECT_EQ(arrivals.Await(4)[0], "second1");
}

TEST_F(TicketHeldTest, TheLayerThatIsNeededFirstIsReadFirst) {
  Open(1);  // Of reads side by side, any may be the last.
  Arrivals arrivals;
  const auto start = [&](std::uint64_t seed, const std::string& name, int first_ms, int second_ms) {
    Batch batch;
    batch.tokens = made_.RandomTokens(seed, 4);
    std::vector<PrefetchLayer> wanted;
    for (const std::uint32_t layer_id : {kFirstLayer, kSecondLayer}) {
      batch.layers.emplace_back(*store_, layer_id, RowCount(4), RowOutput::kStored);
    }
    wanted.push_back({.layer_id = kFirstLayer,
                      .needed_after = std::chrono::milliseconds(first_ms),
                      .rows = batch.layers[0].rows});
    wanted.push_back({.layer_id = kSecondLayer,
                      .needed_after = std::chrono::milliseconds(second_ms),
                      .rows = batch.layers[1].rows});
    const TokenRun run = batch.run();
    Result<Ticket> ticket = store_->Start({&run, 1}, wanted, {.on_layer = arrivals.Note(name)});
    EXPECT_TRUE(ticket.ok()) << ticket.status().ToString();
    batch.ticket = std::move(ticket).value();
    return batch;
  };
  Batch blocks = Start(7, 4);  // Its reads fill the queue: the others wait behind them.
  WaitUntilHeld();
  Batch slow = start(1, "slow", 20000, 10000);
  Batch fast = start(2, "fast", 5000, 40000);
  LetGo();
  EXPECT_EQ(arrivals.Await(4), (std::vector<std::string>{"fast1", "slow14", "slow1", "fast14"}));
}

}  // namespace
}  // namespace tiercel::testing
