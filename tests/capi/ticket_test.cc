// Goal: tickets of the C API bring the rows that a lookup would, to where the caller wants
// them, tell of it by wait, callback and eventfd, and may be cancelled, dropped and outlive
// their store.
//
// Method: made checkpoints, whose rows are known from nothing; every byte of every
// destination is compared, gaps between rows too.

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <future>
#include <string>
#include <vector>

#include "tests/capi/c_store.h"

namespace tiercel::testing {
namespace {

constexpr std::int64_t kMinute_ns = 60'000'000'000;

tiercel_prefetch_layer LayerOf(std::uint32_t layer_id) {
  tiercel_prefetch_layer layer;
  EXPECT_CODE(TIERCEL_OK, tiercel_prefetch_layer_init(&layer, sizeof(layer)));
  layer.layer_id = layer_id;
  return layer;
}

tiercel_start_options StartOptions() {
  tiercel_start_options options;
  EXPECT_CODE(TIERCEL_OK, tiercel_start_options_init(&options, sizeof(options)));
  return options;
}

/// A started batch of all layers into the store's staging.
tiercel_ticket* StartStaged(const CStore& store, const std::vector<std::int32_t>& tokens,
                            const tiercel_start_options* options) {
  std::vector<tiercel_prefetch_layer> layers;
  for (const std::uint32_t layer_id : store.layer_ids()) layers.push_back(LayerOf(layer_id));
  const tiercel_token_run run = RunOf(tokens);
  tiercel_ticket* ticket = nullptr;
  EXPECT_CODE(TIERCEL_OK, tiercel_store_start(store.get(), &run, 1, layers.data(), layers.size(),
                                              options, &ticket));
  return ticket;
}

/// Fails unless the rows of a layer are those of a lookup.
void ExpectRows(const CStore& store, const tiercel_ticket* ticket, std::uint32_t layer_id,
                const std::vector<std::int32_t>& tokens, std::uint32_t output) {
  tiercel_ticket_rows rows;
  ASSERT_CODE(TIERCEL_OK, tiercel_ticket_rows_init(&rows, sizeof(rows)));
  ASSERT_CODE(TIERCEL_OK, tiercel_ticket_get_rows(ticket, layer_id, &rows));
  const std::vector<std::byte> want = store.Rows(layer_id, store.RowIds(layer_id, tokens), output);
  ASSERT_EQ(rows.rows_bytes, want.size());
  EXPECT_EQ(rows.row_stride_bytes, store.RowSize(layer_id, output));
  EXPECT_EQ(std::memcmp(rows.rows, want.data(), want.size()), 0);
  ASSERT_EQ(rows.row_status_count, tokens.size() * store.columns());
  for (std::size_t i = 0; i < rows.row_status_count; ++i) {
    EXPECT_EQ(rows.row_status[i], TIERCEL_ROW_OK);
  }
}

TEST(CTicket, StagedRowsAreThoseOfALookup) {
  const CStore store;
  const std::vector<std::int32_t> tokens = store.made().RandomTokens(1, 20);
  for (const std::uint32_t output : {TIERCEL_OUTPUT_STORED, TIERCEL_OUTPUT_BF16}) {
    tiercel_start_options options = StartOptions();
    options.output = output;
    tiercel_ticket* ticket = StartStaged(store, tokens, &options);
    for (const std::uint32_t layer_id : store.layer_ids()) {
      ASSERT_CODE(TIERCEL_OK, tiercel_ticket_wait(ticket, layer_id));
      ExpectRows(store, ticket, layer_id, tokens, output);
    }
    EXPECT_CODE(TIERCEL_OK, tiercel_ticket_wait_all(ticket));
    tiercel_ticket_drop(ticket);
  }
}

TEST(CTicket, RowsGoToTheCallersStrides) {
  const CStore store;
  const std::uint32_t layer_id = store.layer_ids()[0];
  const std::vector<std::uint64_t> ids = store.RowIds(layer_id, store.made().RandomTokens(2, 5));
  const std::size_t size = store.RowSize(layer_id, TIERCEL_OUTPUT_BF16);
  const std::size_t stride = size + 48;
  std::vector<std::byte> rows((ids.size() - 1) * stride + size, std::byte{0xAA});
  std::vector<std::uint8_t> row_status(ids.size(), 0x7F);
  tiercel_prefetch_layer layer = LayerOf(layer_id);
  layer.rows = rows.data();
  layer.rows_bytes = rows.size();
  layer.row_stride_bytes = stride;
  layer.row_status = row_status.data();
  layer.row_status_count = row_status.size();
  tiercel_start_options options = StartOptions();
  options.output = TIERCEL_OUTPUT_BF16;
  tiercel_ticket* ticket = nullptr;
  ASSERT_CODE(TIERCEL_OK, tiercel_store_start_rows(store.get(), ids.data(), ids.size(), &layer,
                                                   &options, &ticket));
  ASSERT_CODE(TIERCEL_OK, tiercel_ticket_wait(ticket, layer_id));
  tiercel_ticket_drop(ticket);
  std::vector<std::byte> want(rows.size(), std::byte{0xAA});
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::vector<std::byte> row = store.Rows(layer_id, {ids[i]}, TIERCEL_OUTPUT_BF16);
    std::memcpy(want.data() + i * stride, row.data(), row.size());
  }
  EXPECT_EQ(rows, want);
  EXPECT_EQ(row_status, std::vector<std::uint8_t>(ids.size(), TIERCEL_ROW_OK));
}

/// What a callback was told.
struct Told {
  std::atomic<int> ok{0};
  std::atomic<int> partial{0};
  std::atomic<std::uint64_t> layer_bits{0};
};

void Tell(std::uint32_t layer_id, tiercel_code code, void* user_data) {
  auto* told = static_cast<Told*>(user_data);
  if (code == TIERCEL_OK) ++told->ok;
  if (code == TIERCEL_PARTIAL) ++told->partial;
  told->layer_bits |= std::uint64_t{1} << layer_id;
}

TEST(CTicket, CallbackAndEventFdAreToldOfEachLayer) {
  const CStore store;
  const std::vector<std::int32_t> tokens = store.made().RandomTokens(3, 30);
  Told told;
  const int event_fd = eventfd(0, EFD_CLOEXEC);
  ASSERT_GE(event_fd, 0);
  tiercel_start_options options = StartOptions();
  options.on_layer = Tell;
  options.on_layer_user_data = &told;
  options.event_fd = event_fd;
  tiercel_ticket* ticket = StartStaged(store, tokens, &options);
  const std::size_t layer_count = store.layer_ids().size();
  std::uint64_t bits = 0;
  for (const std::uint32_t layer_id : store.layer_ids()) bits |= std::uint64_t{1} << layer_id;
  std::uint64_t told_layers = 0;
  while (told_layers < layer_count) {  // Blocks until there is something.
    std::uint64_t added = 0;
    ASSERT_EQ(read(event_fd, &added, sizeof(added)), static_cast<ssize_t>(sizeof(added)));
    told_layers += added;
  }
  EXPECT_EQ(told_layers, layer_count);
  EXPECT_CODE(TIERCEL_OK, tiercel_ticket_wait_all(ticket));
  tiercel_ticket_drop(ticket);  // No call comes after this.
  EXPECT_EQ(told.ok, static_cast<int>(layer_count));
  EXPECT_EQ(told.partial, 0);
  EXPECT_EQ(told.layer_bits, bits);
  close(event_fd);
}

TEST(CTicket, ARowBeyondTheTableIsPartial) {
  const CStore store;
  const std::uint32_t layer_id = store.layer_ids()[0];
  const std::vector<std::uint64_t> rows = {1, store.made().info().layers[0].row_count};
  Told told;
  tiercel_start_options options = StartOptions();
  options.on_layer = Tell;
  options.on_layer_user_data = &told;
  const tiercel_prefetch_layer layer = LayerOf(layer_id);
  tiercel_ticket* ticket = nullptr;
  ASSERT_CODE(TIERCEL_OK, tiercel_store_start_rows(store.get(), rows.data(), rows.size(), &layer,
                                                   &options, &ticket));
  EXPECT_CODE(TIERCEL_PARTIAL, tiercel_ticket_wait(ticket, layer_id));
  EXPECT_NE(std::strlen(tiercel_last_error()), 0U);
  std::int32_t done = 0;
  EXPECT_CODE(TIERCEL_PARTIAL, tiercel_ticket_wait_for(ticket, layer_id, kMinute_ns, &done));
  EXPECT_EQ(done, 1);
  tiercel_ticket_rows view;
  ASSERT_CODE(TIERCEL_OK, tiercel_ticket_rows_init(&view, sizeof(view)));
  ASSERT_CODE(TIERCEL_OK, tiercel_ticket_get_rows(ticket, layer_id, &view));
  EXPECT_EQ(view.row_status[0], TIERCEL_ROW_OK);
  EXPECT_EQ(view.row_status[1], TIERCEL_ROW_OUT_OF_RANGE);
  tiercel_ticket_drop(ticket);
  EXPECT_EQ(told.partial, 1);
}

TEST(CTicket, WaitsTellWhetherTheyAreDone) {
  const CStore store;
  const std::vector<std::int32_t> tokens = store.made().RandomTokens(4, 50);
  tiercel_start_options options = StartOptions();
  options.urgency = TIERCEL_URGENCY_BACKGROUND;
  options.hits = TIERCEL_HITS_DEFERRED;
  options.when_full = TIERCEL_FULL_BLOCK;
  tiercel_ticket* ticket = StartStaged(store, tokens, &options);
  EXPECT_CODE(TIERCEL_OK, tiercel_ticket_promote(ticket));
  const std::uint32_t layer_id = store.layer_ids()[0];
  std::int32_t done = 0;
  EXPECT_CODE(TIERCEL_OK, tiercel_ticket_wait_for(ticket, layer_id, kMinute_ns, &done));
  EXPECT_EQ(done, 1);
  done = 0;
  EXPECT_CODE(TIERCEL_OK, tiercel_ticket_try_wait(ticket, layer_id, &done));
  EXPECT_EQ(done, 1);
  EXPECT_CODE(TIERCEL_NOT_FOUND, tiercel_ticket_try_wait(ticket, 77, &done));
  EXPECT_CODE(TIERCEL_NOT_FOUND, tiercel_ticket_wait(ticket, 77));
  ExpectRows(store, ticket, layer_id, tokens, TIERCEL_OUTPUT_STORED);
  tiercel_ticket_stats stats;
  ASSERT_CODE(TIERCEL_OK, tiercel_ticket_stats_init(&stats, sizeof(stats)));
  EXPECT_CODE(TIERCEL_OK, tiercel_ticket_get_stats(ticket, layer_id, &stats));
  EXPECT_GT(stats.groups, 0U);
  EXPECT_EQ(stats.groups, stats.dram_hits + stats.joined + stats.fetches);
  EXPECT_GT(stats.in_place_after_ns, 0);
  EXPECT_CODE(TIERCEL_NOT_FOUND, tiercel_ticket_get_stats(ticket, 77, &stats));
  tiercel_ticket_drop(ticket);
}

TEST(CTicket, WhatIsKeptOutIsReadAgain) {
  const CStore store;
  const std::vector<std::int32_t> tokens = store.made().RandomTokens(5, 20);
  const std::uint32_t layer_id = store.layer_ids()[0];
  tiercel_start_options options = StartOptions();
  const auto dram_hits = [&](std::uint32_t cache) {
    options.cache = cache;
    tiercel_ticket* const ticket = StartStaged(store, tokens, &options);
    EXPECT_CODE(TIERCEL_OK, tiercel_ticket_wait(ticket, layer_id));
    ExpectRows(store, ticket, layer_id, tokens, TIERCEL_OUTPUT_STORED);
    tiercel_ticket_stats stats;
    EXPECT_CODE(TIERCEL_OK, tiercel_ticket_stats_init(&stats, sizeof(stats)));
    EXPECT_CODE(TIERCEL_OK, tiercel_ticket_get_stats(ticket, layer_id, &stats));
    tiercel_ticket_drop(ticket);
    return stats.dram_hits;
  };
  EXPECT_EQ(dram_hits(TIERCEL_CACHE_KEEP_OUT), 0U);
  EXPECT_EQ(dram_hits(TIERCEL_CACHE_INSERT), 0U);
  EXPECT_GT(dram_hits(TIERCEL_CACHE_KEEP_OUT), 0U);
}

/// A callback that holds the thread that reads, against all advice, so that the layers that
/// are not in place yet stay so.
struct Gate {
  std::promise<std::uint32_t> first;  ///< The layer that is in place.
  std::promise<void> open;
  std::atomic<bool> entered{false};
};

void HoldFirst(std::uint32_t layer_id, tiercel_code /*code*/, void* user_data) {
  auto* gate = static_cast<Gate*>(user_data);
  if (gate->entered.exchange(true)) return;
  gate->first.set_value(layer_id);
  gate->open.get_future().wait();
}

TEST(CTicket, WaitsTellThatTheyAreNotDone) {
  tiercel_store_options store_options = SmallCOptions();
  store_options.io_thread_count = 1;
  const CStore store(store_options);
  const std::vector<std::int32_t> tokens = store.made().RandomTokens(9, 50);
  Gate gate;
  tiercel_start_options options = StartOptions();
  options.on_layer = HoldFirst;
  options.on_layer_user_data = &gate;
  tiercel_ticket* ticket = StartStaged(store, tokens, &options);
  const std::uint32_t in_place = gate.first.get_future().get();
  const std::vector<std::uint32_t> ids = store.layer_ids();
  ASSERT_EQ(ids.size(), 2U);
  const std::uint32_t other = in_place == ids[0] ? ids[1] : ids[0];
  std::int32_t done = 7;
  EXPECT_CODE(TIERCEL_OK, tiercel_ticket_try_wait(ticket, other, &done));
  EXPECT_EQ(done, 0);
  done = 7;
  EXPECT_CODE(TIERCEL_OK, tiercel_ticket_wait_for(ticket, other, 1'000'000, &done));
  EXPECT_EQ(done, 0);
  tiercel_ticket_stats stats;
  ASSERT_CODE(TIERCEL_OK, tiercel_ticket_stats_init(&stats, sizeof(stats)));
  EXPECT_CODE(TIERCEL_OK, tiercel_ticket_get_stats(ticket, other, &stats));
  EXPECT_EQ(stats.in_place_after_ns, 0);
  gate.open.set_value();
  EXPECT_CODE(TIERCEL_OK, tiercel_ticket_wait_all(ticket));
  ExpectRows(store, ticket, other, tokens, TIERCEL_OUTPUT_STORED);
  tiercel_ticket_drop(ticket);
}

TEST(CTicket, CancelEndsIt) {
  const CStore store;
  const std::vector<std::int32_t> tokens = store.made().RandomTokens(5, 40);
  tiercel_ticket* ticket = StartStaged(store, tokens, nullptr);
  EXPECT_CODE(TIERCEL_OK, tiercel_ticket_cancel(ticket));
  EXPECT_CODE(TIERCEL_OK, tiercel_ticket_cancel(ticket));
  for (const std::uint32_t layer_id : store.layer_ids()) {
    // What was in place before stays so.
    const tiercel_code code = tiercel_ticket_wait(ticket, layer_id);
    EXPECT_TRUE(code == TIERCEL_OK || code == TIERCEL_CANCELLED) << tiercel_code_name(code);
  }
  tiercel_ticket_drop(ticket);
}

TEST(CTicket, TicketsOutliveTheirStore) {
  CStore store;
  const std::vector<std::int32_t> tokens = store.made().RandomTokens(6, 40);
  const std::uint32_t layer_id = store.layer_ids()[0];
  tiercel_ticket* ticket = StartStaged(store, tokens, nullptr);
  store.Close();
  const tiercel_code code = tiercel_ticket_wait(ticket, layer_id);
  EXPECT_TRUE(code == TIERCEL_OK || code == TIERCEL_CANCELLED) << tiercel_code_name(code);
  tiercel_ticket_drop(ticket);
}

TEST(CTicket, LimitsRefuseWithAMessage) {
  tiercel_store_options options = SmallCOptions();
  options.prefetch_tickets_max = 1;
  const CStore store(options);
  const std::vector<std::int32_t> tokens = store.made().RandomTokens(7, 4);
  tiercel_ticket* first = StartStaged(store, tokens, nullptr);
  const tiercel_token_run run = RunOf(tokens);
  const tiercel_prefetch_layer layer = LayerOf(store.layer_ids()[0]);
  tiercel_ticket* second = nullptr;
  EXPECT_CODE(TIERCEL_RESOURCE_EXHAUSTED,
              tiercel_store_start(store.get(), &run, 1, &layer, 1, nullptr, &second));
  EXPECT_EQ(second, nullptr);
  EXPECT_NE(std::strlen(tiercel_last_error()), 0U);
  tiercel_store_stats stats;
  ASSERT_CODE(TIERCEL_OK, tiercel_store_stats_init(&stats, sizeof(stats)));
  EXPECT_CODE(TIERCEL_OK, tiercel_store_get_stats(store.get(), &stats, nullptr, 0, nullptr));
  EXPECT_EQ(stats.tickets, 1U);
  EXPECT_GT(stats.ticket_bytes, 0U);
  tiercel_ticket_drop(first);
  EXPECT_CODE(TIERCEL_OK, tiercel_store_start(store.get(), &run, 1, &layer, 1, nullptr, &second));
  EXPECT_CODE(TIERCEL_OK, tiercel_ticket_wait_all(second));
  tiercel_ticket_drop(second);
}

TEST(CTicket, WrongStartsAreRefused) {
  const CStore store;
  const std::vector<std::int32_t> tokens = store.made().RandomTokens(8, 4);
  const tiercel_token_run run = RunOf(tokens);
  const std::uint32_t layer_id = store.layer_ids()[0];
  const tiercel_prefetch_layer good = LayerOf(layer_id);
  tiercel_ticket* ticket = nullptr;
  const auto start = [&](const tiercel_prefetch_layer& layer,
                         const tiercel_start_options& options) {
    return tiercel_store_start(store.get(), &run, 1, &layer, 1, &options, &ticket);
  };
  tiercel_start_options options = StartOptions();
  options.urgency = 2;
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, start(good, options));
  EXPECT_NE(std::strstr(tiercel_last_error(), "`urgency` is 2"), nullptr);
  options = StartOptions();
  options.hits = 2;
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, start(good, options));
  options = StartOptions();
  options.when_full = 2;
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, start(good, options));
  options = StartOptions();
  options.output = 2;
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, start(good, options));
  options = StartOptions();
  options.cache = 2;
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, start(good, options));
  options = StartOptions();
  tiercel_prefetch_layer layer = good;
  layer.rows_bytes = 100;
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, start(layer, options));
  EXPECT_NE(std::strstr(tiercel_last_error(), "`rows` is NULL"), nullptr);
  layer = good;
  layer.reserved = 1;
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, start(layer, options));
  layer = LayerOf(77);
  EXPECT_CODE(TIERCEL_NOT_FOUND, start(layer, options));
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT,
              tiercel_store_start(store.get(), &run, 1, nullptr, 0, nullptr, &ticket));
  const std::vector<tiercel_prefetch_layer> twice = {good, good};
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT,
              tiercel_store_start(store.get(), &run, 1, twice.data(), 2, nullptr, &ticket));
  EXPECT_EQ(ticket, nullptr);
}

}  // namespace
}  // namespace tiercel::testing
