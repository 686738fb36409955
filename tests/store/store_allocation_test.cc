// Goal: a lookup in the steady state allocates nothing: neither the calling thread on
// hits, nor the I/O threads on misses.
//
// Method: this program's own operator new counts. The same batches run until all
// scratch has its size; from then on the count stands still, while the store's own
// counters show that hits (and, in a cache too small, fetches) went on.

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/counting_new.h"
#include "tests/support/made_checkpoint.h"
#include "tiercel/store.h"

namespace tiercel {
namespace {

using testing::LayerBuffers;
using testing::MadeCheckpoint;

std::uint64_t Fetches(const Store& store) {
  std::uint64_t fetches = 0;
  for (const OrderStats& order : store.Stats().orders) fetches += order.fetches;
  return fetches;
}

/// A store whose cache holds some 5,000 groups: fewer than the tests ask for.
Result<std::unique_ptr<Store>> OpenSmall(const MadeCheckpoint& made) {
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{16} << 20;
  options.log = [](std::string_view /*line*/) {};
  return Store::Open(made.path(), options);
}

TEST(StoreAllocation, NoneInTheSteadyState) {
  const MadeCheckpoint made({.shrink = 2000});
  Result<std::unique_ptr<Store>> opened = OpenSmall(made);
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  Store& store = *opened.value();

  const std::vector<std::int32_t> tokens = made.RandomTokens(1, 1500);  // 9,000 groups.
  const TokenRun run = {.history = {}, .tokens = tokens};
  const std::vector<RowId> ids = testing::RowIdsOf(store, 1, run);
  for (const RowOutput format : {RowOutput::kStored, RowOutput::kBf16}) {
    LayerBuffers first(store, 1, ids.size(), format);
    LayerBuffers second(store, 14, ids.size(), format);
    const std::vector<LayerOutput> outputs = {first.Output(), second.Output()};
    const auto round = [&] {
      return store.Lookup({&run, 1}, outputs, format).ok() &&
             store.LookupRows(ids, outputs[0], format).ok();
    };
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(round());
    const std::uint64_t fetches = Fetches(store);
    const std::uint64_t before = testing::g_allocations.load();
    const bool ok = round() && round();
    const std::uint64_t after = testing::g_allocations.load();
    EXPECT_TRUE(ok);
    EXPECT_EQ(after - before, 0U);
    EXPECT_GT(Fetches(store), fetches) << "nothing was read: the test shows hits alone";
  }
  EXPECT_GT(testing::g_allocations.load(), 0U) << "the counter does not count";
}

TEST(StoreAllocation, NoneForTickets) {
  const MadeCheckpoint made({.shrink = 2000});
  Result<std::unique_ptr<Store>> opened = OpenSmall(made);
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  Store& store = *opened.value();
  const std::vector<std::int32_t> tokens = made.RandomTokens(1, 1500);  // 9,000 groups.
  const std::size_t columns = made.info().recipe.column_count();
  LayerBuffers first(store, 1, tokens.size() * columns, RowOutput::kStored);
  LayerBuffers second(store, 14, tokens.size() * columns, RowOutput::kStored);
  const auto serve = [&](std::span<const std::int32_t> some, Urgency urgency) {
    const TokenRun run = {.history = {}, .tokens = some};
    const std::size_t rows = some.size() * columns;
    const PrefetchLayer layers[] = {
        {.layer_id = 1, .rows = std::span(first.rows).first(rows * first.row_size_bytes)},
        {.layer_id = 14, .rows = std::span(second.rows).first(rows * second.row_size_bytes)}};
    Result<Ticket> ticket = store.Start({&run, 1}, layers, {.urgency = urgency});
    return ticket.ok() && ticket.value().WaitAll().ok();
  };
  const auto round = [&] {
    bool ok = serve(tokens, Urgency::kDeadline) && serve(tokens, Urgency::kBackground);
    for (std::size_t i = 0; i < 100; ++i) {
      ok = ok && serve(std::span(tokens).subspan(i * 8, 8), Urgency::kDeadline);
    }
    return ok;
  };
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(round());
  const std::uint64_t fetches = Fetches(store);
  const std::uint64_t before = testing::g_allocations.load();
  const bool ok = round() && round();
  const std::uint64_t after = testing::g_allocations.load();
  EXPECT_TRUE(ok);
  EXPECT_EQ(after - before, 0U);
  EXPECT_GT(Fetches(store), fetches) << "nothing was read: the test shows hits alone";
}

}  // namespace
}  // namespace tiercel
