// Goal: a ticket delivers what a lookup would, wherever its rows go and whoever looks for
// them; its calls say what is wrong with them; limits refuse or block and lose nothing.
//
// Method: made checkpoints, whose generator says every byte, read through io_uring or
// pread, whichever is there.

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/made_checkpoint.h"
#include "tiercel/store.h"

namespace tiercel::testing {
namespace {

constexpr std::uint32_t kFirstLayer = 1;
constexpr std::uint32_t kSecondLayer = 14;

class TicketTest : public ::testing::Test {
 protected:
  std::unique_ptr<Store> Open(const PrefetchLimits& limits = {}) {
    StoreOptions options;
    options.dram_budget_bytes = std::uint64_t{48} << 20;
    options.prefetch = limits;
    options.log = [](std::string_view /*line*/) {};
    Result<std::unique_ptr<Store>> store = Store::Open(made_.path(), options);
    EXPECT_TRUE(store.ok()) << store.status().ToString();
    return store.ok() ? std::move(store).value() : nullptr;
  }

  [[nodiscard]] std::size_t RowCount(std::size_t token_count) const {
    return token_count * made_.info().recipe.column_count();
  }

  void ExpectRight(const Store& store, const LayerBuffers& buffers, const TokenRun& run,
                   RowOutput format) {
    const RowTally tally =
        CheckRows(made_, buffers, RowIdsOf(store, buffers.layer_id, run), format);
    EXPECT_EQ(tally.right, buffers.row_status.size());
    EXPECT_EQ(tally.wrong, 0U);
    EXPECT_EQ(tally.marked, 0U);
  }

  /// Starts `run` into the buffers' memory.
  static Result<Ticket> Start(Store& store, const TokenRun& run, std::vector<LayerBuffers*> layers,
                              const PrefetchOptions& options = {}) {
    std::vector<PrefetchLayer> wanted;
    for (LayerBuffers* layer : layers) {
      wanted.push_back(
          {.layer_id = layer->layer_id, .rows = layer->rows, .row_status = layer->row_status});
    }
    return store.Start({&run, 1}, wanted, options);
  }

  const MadeCheckpoint made_{MadeCheckpoint::Options{}};
};

TEST_F(TicketTest, DeliversTheRowsOfEveryLayerAndFormat) {
  const std::unique_ptr<Store> store = Open();
  for (const RowOutput format : {RowOutput::kStored, RowOutput::kBf16}) {
    for (const HitCopy hits : {HitCopy::kInStart, HitCopy::kDeferred}) {
      for (const std::size_t token_count : {1, 7, 64, 700}) {
        SCOPED_TRACE(token_count);
        const std::vector<std::int32_t> tokens = made_.RandomTokens(token_count, token_count + 3);
        const TokenRun run = {.history = std::span(tokens).first(3),
                              .tokens = std::span(tokens).subspan(3)};
        LayerBuffers first(*store, kFirstLayer, RowCount(token_count), format);
        LayerBuffers second(*store, kSecondLayer, RowCount(token_count), format);
        Result<Ticket> ticket =
            Start(*store, run, {&first, &second}, {.format = format, .hits = hits});
        ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
        EXPECT_TRUE(ticket.value().Wait(kSecondLayer).ok());
        ExpectRight(*store, second, run, format);
        EXPECT_TRUE(ticket.value().WaitAll().ok());
        ExpectRight(*store, first, run, format);
      }
    }
  }
}

TEST_F(TicketTest, TokensMayGoOnceStartHasReturned) {
  const std::unique_ptr<Store> store = Open();
  const std::vector<std::int32_t> tokens = made_.RandomTokens(1, 800);
  std::vector<std::int32_t> lent = tokens;
  LayerBuffers rows(*store, kFirstLayer, RowCount(lent.size()), RowOutput::kStored);
  const TokenRun run = {.history = {}, .tokens = lent};
  Result<Ticket> ticket = Start(*store, run, {&rows}, {.hits = HitCopy::kDeferred});
  ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
  std::ranges::fill(lent, -7);
  lent = {};
  EXPECT_TRUE(ticket.value().WaitAll().ok());
  ExpectRight(*store, rows, {.history = {}, .tokens = tokens}, RowOutput::kStored);
}

TEST_F(TicketTest, StridedRowsLeaveWhatLiesBetweenAlone) {
  const std::unique_ptr<Store> store = Open();
  for (const RowOutput format : {RowOutput::kStored, RowOutput::kBf16}) {
    for (int round = 0; round < 2; ++round) {  // From disk, then from the cache.
      const std::vector<std::int32_t> tokens = made_.RandomTokens(9, 20);
      const TokenRun run = {.history = {}, .tokens = tokens};
      LayerBuffers rows(*store, kFirstLayer, RowCount(tokens.size()), format);
      const std::size_t stride_bytes = rows.row_size_bytes + 24;
      std::vector<std::byte> memory(rows.row_status.size() * stride_bytes, std::byte{0xC5});
      const PrefetchLayer layer = {.layer_id = kFirstLayer,
                                   .rows = std::span(memory).first(memory.size() - 24),
                                   .row_stride_bytes = stride_bytes,
                                   .row_status = rows.row_status};
      Result<Ticket> ticket = store->Start({&run, 1}, {&layer, 1}, {.format = format});
      ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
      EXPECT_TRUE(ticket.value().WaitAll().ok());
      for (std::size_t row = 0; row < rows.row_status.size(); ++row) {
        std::memcpy(rows.rows.data() + row * rows.row_size_bytes,
                    memory.data() + row * stride_bytes, rows.row_size_bytes);
        for (std::size_t i = rows.row_size_bytes; i < stride_bytes; ++i) {
          ASSERT_EQ(memory[row * stride_bytes + i], std::byte{0xC5});
        }
      }
      ExpectRight(*store, rows, run, format);
    }
  }
}

TEST_F(TicketTest, StagedRowsLiveAsLongAsTheTicketEvenWithoutTheStore) {
  std::unique_ptr<Store> store = Open({.staging_bytes = std::uint64_t{4} << 20});
  const std::vector<std::int32_t> tokens = made_.RandomTokens(3, 50);
  const TokenRun run = {.history = {}, .tokens = tokens};
  const PrefetchLayer layers[] = {{.layer_id = kFirstLayer}, {.layer_id = kSecondLayer}};
  Result<Ticket> ticket = store->Start({&run, 1}, layers);
  ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
  ASSERT_TRUE(ticket.value().WaitAll().ok());
  for (const PrefetchLayer& layer : layers) {
    LayerBuffers rows(*store, layer.layer_id, RowCount(tokens.size()), RowOutput::kStored);
    const std::vector<RowId> ids = RowIdsOf(*store, layer.layer_id, run);
    if (layer.layer_id == kSecondLayer) store.reset();
    const Result<TicketRows> staged = ticket.value().Rows(layer.layer_id);
    ASSERT_TRUE(staged.ok());
    EXPECT_EQ(staged.value().row_stride_bytes, rows.row_size_bytes);
    ASSERT_EQ(staged.value().rows.size(), rows.rows.size());
    ASSERT_EQ(staged.value().row_status.size(), rows.row_status.size());
    std::ranges::copy(staged.value().rows, rows.rows.begin());
    std::ranges::copy(staged.value().row_status, rows.row_status.begin());
    EXPECT_EQ(CheckRows(made_, rows, ids, RowOutput::kStored).right, ids.size());
  }
}

TEST_F(TicketTest, RowIdsAreServedAsLookupRowsDoes) {
  const std::unique_ptr<Store> store = Open();
  const std::vector<std::int32_t> tokens = made_.RandomTokens(4, 400);
  std::vector<RowId> ids = RowIdsOf(*store, kFirstLayer, {.history = {}, .tokens = tokens});
  ids.erase(ids.begin() + 5);
  ids.push_back(RowId{made_.info().layers[0].row_count});
  for (const std::size_t count : {std::size_t{40}, ids.size()}) {
    const std::span<const RowId> wanted = std::span(ids).last(count);
    LayerBuffers want(*store, kFirstLayer, count, RowOutput::kStored);
    LayerBuffers got(*store, kFirstLayer, count, RowOutput::kStored);
    EXPECT_EQ(store->LookupRows(wanted, want.Output()).code(), StatusCode::kPartial);
    Result<Ticket> ticket = store->StartRows(
        wanted, {.layer_id = kFirstLayer, .rows = got.rows, .row_status = got.row_status});
    ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
    EXPECT_EQ(ticket.value().Wait(kFirstLayer).code(), StatusCode::kPartial);
    EXPECT_EQ(got.rows, want.rows);
    EXPECT_EQ(got.row_status, want.row_status);
    EXPECT_EQ(got.row_status.back(), RowStatus::kOutOfRange);
  }
}

TEST_F(TicketTest, DeadTokensGetZerosAndNoStatusIsNeeded) {
  const std::unique_ptr<Store> store = Open();
  std::vector<std::int32_t> tokens = made_.RandomTokens(5, 8);
  tokens[7] = kDeadToken;
  const TokenRun run = {.history = {}, .tokens = tokens};
  LayerBuffers rows(*store, kFirstLayer, RowCount(8), RowOutput::kStored);
  std::ranges::fill(rows.rows, std::byte{0xC5});
  const PrefetchLayer layer = {.layer_id = kFirstLayer, .rows = rows.rows};
  Result<Ticket> ticket = store->Start({&run, 1}, {&layer, 1});
  ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
  EXPECT_TRUE(ticket.value().WaitAll().ok());
  const std::size_t dead_bytes = RowCount(1) * rows.row_size_bytes;
  for (const std::byte byte : std::span(rows.rows).last(dead_bytes)) {
    ASSERT_EQ(byte, std::byte{0});
  }
  EXPECT_TRUE(ticket.value().Rows(kFirstLayer).value().row_status.empty());
}

TEST_F(TicketTest, HitsAreInPlaceWhenStartReturns) {
  const std::unique_ptr<Store> store = Open();
  const std::vector<std::int32_t> tokens = made_.RandomTokens(6, 8);
  const TokenRun run = {.history = {}, .tokens = tokens};
  LayerBuffers rows(*store, kFirstLayer, RowCount(8), RowOutput::kStored);
  ASSERT_TRUE(Start(*store, run, {&rows}).value().WaitAll().ok());
  std::ranges::fill(rows.rows, std::byte{0});
  std::vector<std::uint32_t> announced;
  Result<Ticket> ticket =
      Start(*store, run, {&rows}, {.on_layer = [&](std::uint32_t layer_id, StatusCode code) {
        EXPECT_EQ(code, StatusCode::kOk);
        announced.push_back(layer_id);
      }});
  EXPECT_EQ(announced, std::vector<std::uint32_t>{kFirstLayer});
  const std::optional<Status> outcome = ticket.value().TryWait(kFirstLayer);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_TRUE(outcome->ok());
  ExpectRight(*store, rows, run, RowOutput::kStored);
  const TicketStats stats = ticket.value().Stats(kFirstLayer).value();
  EXPECT_EQ(stats.groups, 8U * made_.info().recipe.order_count());
  EXPECT_EQ(stats.dram_hits, stats.groups);
  EXPECT_GT(stats.in_place_after.count(), 0);
}

TEST_F(TicketTest, AnEventDescriptorCountsLayers) {
  const std::unique_ptr<Store> store = Open();
  const int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  ASSERT_GE(event_fd, 0);
  const std::vector<std::int32_t> tokens = made_.RandomTokens(7, 300);
  const TokenRun run = {.history = {}, .tokens = tokens};
  LayerBuffers first(*store, kFirstLayer, RowCount(300), RowOutput::kStored);
  LayerBuffers second(*store, kSecondLayer, RowCount(300), RowOutput::kStored);
  Result<Ticket> ticket = Start(*store, run, {&first, &second}, {.event_fd = event_fd});
  ASSERT_TRUE(ticket.ok());
  std::uint64_t total = 0;
  while (total < 2) {
    pollfd waited = {.fd = event_fd, .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&waited, 1, -1), 1);
    std::uint64_t count = 0;
    ASSERT_EQ(read(event_fd, &count, sizeof(count)), static_cast<ssize_t>(sizeof(count)));
    total += count;
  }
  EXPECT_EQ(total, 2U);
  EXPECT_TRUE(ticket.value().TryWait(kFirstLayer).has_value());
  EXPECT_TRUE(ticket.value().TryWait(kSecondLayer).has_value());
  close(event_fd);
}

TEST_F(TicketTest, SaysWhatIsWrongWithACall) {
  const std::unique_ptr<Store> store = Open();
  const std::vector<std::int32_t> tokens = made_.RandomTokens(8, 4);
  const TokenRun run = {.history = {}, .tokens = tokens};
  LayerBuffers rows(*store, kFirstLayer, RowCount(4), RowOutput::kStored);
  const auto start = [&](std::vector<PrefetchLayer> layers) {
    return store->Start({&run, 1}, layers).status().ToString();
  };
  const PrefetchLayer good = {.layer_id = kFirstLayer, .rows = rows.rows};
  EXPECT_EQ(start({}), "INVALID_ARGUMENT: a ticket needs a layer at least");
  EXPECT_EQ(start({good, good}), "INVALID_ARGUMENT: layer 1 is named twice");
  EXPECT_NE(start({{.layer_id = 99, .rows = rows.rows}}).find("NOT_FOUND: layer 99"),
            std::string::npos);
  PrefetchLayer bad = good;
  bad.row_stride_bytes = rows.row_size_bytes - 1;
  EXPECT_NE(start({bad}).find("cannot lie"), std::string::npos);
  bad = good;
  bad.rows = bad.rows.first(bad.rows.size() - 1);
  EXPECT_NE(start({bad}).find("layer 1: the output has"), std::string::npos);
  bad = good;
  bad.row_status = std::span(rows.row_status).first(3);
  EXPECT_NE(start({bad}).find("row_status has 3 entries for"), std::string::npos);
  bad = {.layer_id = kFirstLayer};
  EXPECT_NE(start({bad}).find("RESOURCE_EXHAUSTED: the ticket needs"), std::string::npos);
  EXPECT_EQ(store->Stats().tickets, 0U);
}

TEST_F(TicketTest, ATokenOutOfRangeEndsTheTicket) {
  const std::unique_ptr<Store> store = Open();
  std::vector<std::int32_t> tokens = made_.RandomTokens(8, 500);
  tokens.back() = 1 << 30;
  LayerBuffers rows(*store, kFirstLayer, RowCount(500), RowOutput::kStored);
  const TokenRun last = {.history = {}, .tokens = std::span(tokens).last(1)};
  LayerBuffers one(*store, kFirstLayer, RowCount(1), RowOutput::kStored);
  EXPECT_EQ(Start(*store, last, {&one}).status().code(), StatusCode::kInvalidArgument);
  Result<Ticket> ticket = Start(*store, {.history = {}, .tokens = tokens}, {&rows});
  ASSERT_TRUE(ticket.ok());  // Too many to be looked at by Start().
  EXPECT_EQ(ticket.value().Wait(kFirstLayer).code(), StatusCode::kInvalidArgument);
  ticket = Ticket();
  EXPECT_EQ(store->Stats().tickets, 0U);
}

TEST_F(TicketTest, TicketsMoveAndEmptyOnesSaySo) {
  const std::unique_ptr<Store> store = Open();
  const std::vector<std::int32_t> tokens = made_.RandomTokens(8, 4);
  const TokenRun run = {.history = {}, .tokens = tokens};
  LayerBuffers rows(*store, kFirstLayer, RowCount(4), RowOutput::kStored);
  Ticket ticket = std::move(Start(*store, run, {&rows})).value();
  Ticket other = std::move(ticket);
  EXPECT_FALSE(ticket.valid());  // NOLINT(bugprone-use-after-move): what is tested.
  EXPECT_EQ(ticket.Wait(kFirstLayer).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ticket.TryWait(kFirstLayer)->code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ticket.WaitFor(kFirstLayer, std::chrono::seconds(1))->code(),
            StatusCode::kInvalidArgument);
  ticket.Cancel();
  ticket.Promote();
  EXPECT_EQ(other.Wait(2).code(), StatusCode::kNotFound);
  EXPECT_TRUE(other.WaitAll().ok());
  other.Cancel();  // What is in place stays.
  EXPECT_TRUE(other.Wait(kFirstLayer).ok());
  EXPECT_EQ(store->Stats().tickets, 1U);
  other = Ticket();
  EXPECT_EQ(store->Stats().tickets, 0U);
}

TEST_F(TicketTest, AnEmptyBatchIsInPlaceAtOnce) {
  const std::unique_ptr<Store> store = Open();
  const TokenRun run;
  const PrefetchLayer layer = {.layer_id = kFirstLayer};
  for (const HitCopy hits : {HitCopy::kInStart, HitCopy::kDeferred}) {
    Result<Ticket> ticket = store->Start({&run, 1}, {&layer, 1}, {.hits = hits});
    ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
    EXPECT_TRUE(ticket.value().WaitAll().ok());
  }
}

TEST_F(TicketTest, LimitsAreRefusedByNameAndRoomComesBack) {
  const std::unique_ptr<Store> store =
      Open({.tickets_max = 2, .tokens_max = 64, .staging_bytes = 1 << 16, .start_groups_max = 1});
  const std::vector<std::int32_t> tokens = made_.RandomTokens(8, 40);
  const TokenRun run = {.history = {}, .tokens = tokens};
  LayerBuffers rows(*store, kFirstLayer, RowCount(40), RowOutput::kStored);
  for (int round = 0; round < 3; ++round) {
    Result<Ticket> first = Start(*store, run, {&rows});
    ASSERT_TRUE(first.ok()) << first.status().ToString();
    Result<Ticket> second = Start(*store, run, {&rows});
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.status().code(), StatusCode::kResourceExhausted);
    EXPECT_NE(second.status().message().find("tokens_max (64)"), std::string::npos);
    const TokenRun empty;
    const PrefetchLayer layer = {.layer_id = kFirstLayer};
    second = store->Start({&empty, 1}, {&layer, 1});
    EXPECT_TRUE(second.ok());
    Result<Ticket> third = store->Start({&empty, 1}, {&layer, 1});
    ASSERT_FALSE(third.ok());
    EXPECT_NE(third.status().message().find("tickets_max (2)"), std::string::npos);
  }
}

TEST_F(TicketTest, ABatchThatCanNeverFitIsRefusedEvenWhereItWouldBlock) {
  const std::unique_ptr<Store> store = Open({.tokens_max = 64, .start_groups_max = 1});
  const std::vector<std::int32_t> tokens = made_.RandomTokens(8, 65);
  const TokenRun run = {.history = {}, .tokens = tokens};
  LayerBuffers rows(*store, kFirstLayer, RowCount(65), RowOutput::kStored);
  EXPECT_EQ(Start(*store, run, {&rows}, {.when_full = WhenFull::kBlock}).status().code(),
            StatusCode::kResourceExhausted);
}

TEST_F(TicketTest, AFullStoreBlocksUntilATicketIsDropped) {
  const std::unique_ptr<Store> store = Open({.tickets_max = 1});
  const std::vector<std::int32_t> tokens = made_.RandomTokens(8, 4);
  const TokenRun run = {.history = {}, .tokens = tokens};
  LayerBuffers rows(*store, kFirstLayer, RowCount(4), RowOutput::kStored);
  LayerBuffers others(*store, kFirstLayer, RowCount(4), RowOutput::kStored);
  std::atomic<bool> started = false;
  Ticket first = std::move(Start(*store, run, {&rows})).value();
  std::thread blocked([&] {
    Result<Ticket> second = Start(*store, run, {&others}, {.when_full = WhenFull::kBlock});
    started.store(true);
    ASSERT_TRUE(second.ok());
    EXPECT_TRUE(second.value().WaitAll().ok());
  });
  EXPECT_TRUE(first.WaitAll().ok());
  EXPECT_FALSE(started.load());  // There is no room for it as long as this one is about.
  first = Ticket();
  blocked.join();
  EXPECT_TRUE(started.load());
  ExpectRight(*store, others, run, RowOutput::kStored);
}

}  // namespace
}  // namespace tiercel::testing
