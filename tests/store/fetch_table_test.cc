// Goal: a group is fetched once however many wait for it, by earliest deadline;
// waiters come off in any order; a full table makes Add() wait and loses nothing.
//
// Method: the table by itself, with waiters that belong to no real batch; a seeded
// model of waiting sets checks random operations.

#include "store/fetch_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "base/prng.h"

namespace tiercel {
namespace {

std::vector<Waiter> Waiters(const std::vector<std::uint64_t>& keys, std::uint64_t deadline_ns = 1) {
  std::vector<Waiter> waiters;
  for (const std::uint64_t key : keys) {
    waiters.push_back(Waiter{.space = 0, .key = key, .deadline_ns = deadline_ns});
  }
  return waiters;
}

std::size_t CountWaiters(const Waiter* waiter) {
  std::size_t count = 0;
  for (; waiter != nullptr; waiter = waiter->next) ++count;
  return count;
}

const auto kNobody = [](std::uint32_t /*count*/) {};

TEST(FetchTableTest, AGroupIsFetchedOnceForAllWhoWait) {
  FetchTable table({.lookup_fetches = 8});
  std::vector<Waiter> first = Waiters({1, 2, 1});
  std::vector<Waiter> second = Waiters({2, 1});
  EXPECT_EQ(table.Add(first, FetchOwner::kLookup, kNobody), 2U);
  Fetch* const taken = table.Take();
  ASSERT_NE(taken, nullptr);
  EXPECT_EQ(table.Add(second, FetchOwner::kLookup, kNobody), 0U);  // Joins the taken one too.
  EXPECT_EQ(taken->key, 1U);
  EXPECT_EQ(CountWaiters(table.Finish(taken)), 3U);
  Fetch* const other = table.Take();
  ASSERT_NE(other, nullptr);
  EXPECT_EQ(CountWaiters(table.Finish(other)), 2U);
  EXPECT_EQ(table.Take(), nullptr);
}

TEST(FetchTableTest, AFetchIsKeptOutUnlessAnybodyWantsItIn) {
  FetchTable table({.lookup_fetches = 8});
  const auto keep_out = [](std::vector<Waiter> waiters) {
    for (Waiter& waiter : waiters) waiter.keep_out = true;
    return waiters;
  };
  // 1 and 2 are kept out by all, 2 twice; 3 is wanted in by the second, 4 by the first.
  std::vector<Waiter> first = keep_out(Waiters({1, 2, 3}));
  std::vector<Waiter> second = Waiters({4});
  std::vector<Waiter> third = keep_out(Waiters({2, 4}));
  std::vector<Waiter> fourth = Waiters({3});
  table.Add(first, FetchOwner::kLookup, kNobody);
  table.Add(second, FetchOwner::kLookup, kNobody);
  std::vector<Fetch*> taken;
  while (Fetch* const fetch = table.Take()) taken.push_back(fetch);
  ASSERT_EQ(taken.size(), 4U);
  table.Add(third, FetchOwner::kLookup, kNobody);  // They join what is being read.
  table.Add(fourth, FetchOwner::kLookup, kNobody);
  EXPECT_EQ(table.Withdraw(fourth), 1U);  // Who wanted it in is gone: it goes in all the same.
  for (Fetch* const fetch : taken) {
    const std::uint64_t key = fetch->key;
    EXPECT_EQ(fetch->made_kept_out, key != 4U);
    const std::optional<Waiter*> ended = table.FinishKeptOut(fetch);
    ASSERT_EQ(ended.has_value(), key <= 2) << key;
    const Waiter* const waiters = ended ? *ended : table.Finish(fetch);
    EXPECT_EQ(CountWaiters(waiters), key == 2 || key == 4 ? 2U : 1U) << key;
  }
}

TEST(FetchTableTest, EarliestDeadlineComesFirstAndAJoinPromotes) {
  FetchTable table({.lookup_fetches = 8});
  std::vector<Waiter> late = Waiters({1, 2, 3}, 100);
  std::vector<Waiter> early = Waiters({4}, 50);
  std::vector<Waiter> promote = Waiters({3}, 10);
  table.Add(late, FetchOwner::kLookup, kNobody);
  table.Add(early, FetchOwner::kLookup, kNobody);
  table.Add(promote, FetchOwner::kLookup, kNobody);
  std::vector<std::uint64_t> order;
  while (Fetch* const fetch = table.Take()) order.push_back(fetch->key);
  EXPECT_EQ(order, (std::vector<std::uint64_t>{3, 4, 1, 2}));
}

TEST(FetchTableTest, WithdrawnWaitersLeaveAndUnwantedFetchesGo) {
  FetchTable table({.lookup_fetches = 8});
  std::vector<Waiter> first = Waiters({1, 2});
  std::vector<Waiter> second = Waiters({2, 3});
  table.Add(first, FetchOwner::kLookup, kNobody);
  table.Add(second, FetchOwner::kLookup, kNobody);
  EXPECT_EQ(table.Withdraw(first), 2U);
  EXPECT_EQ(table.Withdraw(first), 0U);
  EXPECT_EQ(table.queued_count(), 2U);  // 2 is still wanted, and 3.
  Fetch* const taken = table.Take();
  EXPECT_EQ(table.Withdraw(second), 2U);
  EXPECT_EQ(table.Finish(taken), nullptr);  // Taken: it runs on, for nobody.
  EXPECT_EQ(table.queued_count(), 0U);
}

TEST(FetchTableTest, AFullTableMakesAddWaitAndLosesNothing) {
  FetchTable table({.lookup_fetches = 4});
  std::vector<std::uint64_t> keys(1000);
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = i;
  std::vector<Waiter> waiters = Waiters(keys);
  std::uint32_t queued_count = 0;
  std::uint32_t call_count = 0;
  std::atomic<bool> done = false;
  std::thread adder([&] {
    const auto on_queued = [&](std::uint32_t count) {
      EXPECT_GT(count, 0U);
      EXPECT_LE(count, 4U);  // No more than the table holds: it was full in between.
      queued_count += count;
      ++call_count;
    };
    EXPECT_EQ(table.Add(waiters, FetchOwner::kLookup, on_queued), keys.size());
    done = true;
  });
  std::set<std::uint64_t> seen;
  while (seen.size() < keys.size()) {
    Fetch* const fetch = table.Take();
    if (fetch == nullptr) {
      std::this_thread::yield();
      continue;
    }
    seen.insert(fetch->key);
    EXPECT_EQ(CountWaiters(table.Finish(fetch)), 1U);
  }
  adder.join();
  EXPECT_TRUE(done);
  EXPECT_EQ(queued_count, keys.size());
  EXPECT_GE(call_count, keys.size() / 4);
}

TEST(FetchTableTest, EachOwnerHasAShareOfItsOwn) {
  FetchTable table({.lookup_fetches = 1, .ticket_fetches = 2});
  std::vector<Waiter> lookup = Waiters({1});
  std::vector<Waiter> ticket = Waiters({2, 3, 4});
  table.Add(lookup, FetchOwner::kLookup, kNobody);
  EXPECT_EQ(table.TryAdd(ticket, FetchOwner::kTicket, kNobody), 2U);  // The third does not fit.
  EXPECT_EQ(ticket[2].fetch, nullptr);
  std::vector<Waiter> joins = Waiters({1, 2, 3});
  EXPECT_EQ(table.TryAdd(joins, FetchOwner::kLookup, kNobody), 3U);  // Joining takes no room.
  Fetch* const taken = table.Take();
  ASSERT_EQ(taken->key, 1U);
  EXPECT_EQ(CountWaiters(table.Finish(taken)), 2U);
  EXPECT_EQ(table.TryAdd(std::span(ticket).subspan(2), FetchOwner::kTicket, kNobody), 0U);
  Fetch* const second = table.Take();
  ASSERT_EQ(second->key, 2U);
  EXPECT_EQ(CountWaiters(table.Finish(second)), 2U);
  EXPECT_EQ(table.TryAdd(std::span(ticket).subspan(2), FetchOwner::kTicket, kNobody), 1U);
}

TEST(FetchTableTest, TheBackgroundIsTakenLastAndOnlyWhereItMay) {
  FetchTable table({.ticket_fetches = 8});
  std::vector<Waiter> background = Waiters({1, 2, 3}, kBackgroundDeadlineNs + 5);
  std::vector<Waiter> urgent = Waiters({4}, kBackgroundDeadlineNs - 1);
  table.Add(background, FetchOwner::kTicket, kNobody);
  EXPECT_EQ(table.Take(/*background=*/false), nullptr);
  table.Add(urgent, FetchOwner::kTicket, kNobody);
  Fetch* const first = table.Take(/*background=*/false);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->key, 4U);
  EXPECT_EQ(table.Take(/*background=*/false), nullptr);
  table.Promote(std::span(background).subspan(2), 7);
  Fetch* const promoted = table.Take(/*background=*/false);
  ASSERT_NE(promoted, nullptr);
  EXPECT_EQ(promoted->key, 3U);
  EXPECT_EQ(promoted->deadline_ns, 7U);
  table.Promote(background, 9);  // Nothing for what was taken; 7 is earlier than 9.
  EXPECT_EQ(promoted->deadline_ns, 7U);
  EXPECT_EQ(table.Take(/*background=*/false)->key, 1U);
}

TEST(FetchTableTest, RandomOperationsAgreeWithAModel) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Prng prng(seed);
    FetchTable table({.lookup_fetches = 64});
    std::vector<std::vector<Waiter>> batches(200);
    std::map<std::uint64_t, std::size_t> waiting;  // By key: how many.
    std::vector<Fetch*> taken;
    for (std::vector<Waiter>& batch : batches) {
      std::vector<std::uint64_t> keys(1 + prng.Below(4));
      for (std::uint64_t& key : keys) key = prng.Below(40);
      batch = Waiters(keys, prng.Below(100));
      table.Add(batch, FetchOwner::kLookup, kNobody);
      for (const std::uint64_t key : keys) ++waiting[key];
      if (prng.Below(3) == 0) {
        std::vector<Waiter>& victim = batches[prng.Below(batches.size())];
        for (const Waiter& waiter : victim) {
          if (waiter.fetch != nullptr) --waiting[waiter.key];
        }
        table.Withdraw(victim);
      }
      if (Fetch* const fetch = prng.Below(2) == 0 ? table.Take() : nullptr) taken.push_back(fetch);
      if (!taken.empty() && prng.Below(2) == 0) {
        Fetch* const fetch = taken.back();
        taken.pop_back();
        const std::uint64_t key = fetch->key;
        EXPECT_EQ(CountWaiters(table.Finish(fetch)), waiting[key]);
        waiting[key] = 0;
      }
    }
    std::uint64_t last_deadline_ns = 0;
    while (Fetch* const fetch = table.Take()) {
      EXPECT_GE(fetch->deadline_ns, last_deadline_ns);
      last_deadline_ns = fetch->deadline_ns;
      taken.push_back(fetch);
    }
    for (Fetch* const fetch : taken) {
      const std::uint64_t key = fetch->key;
      EXPECT_EQ(CountWaiters(table.Finish(fetch)), waiting[key]);
      waiting[key] = 0;
    }
    for (const auto& [key, count] : waiting) EXPECT_EQ(count, 0U) << key;
  }
}

}  // namespace
}  // namespace tiercel
