// Goal: each simulated policy does what its name says, access by access; the clairvoyant
// one has the most hits there can be; the cache's own policy hits as the real cache does.
// Method: small traces by seed, against plain re-tellings of each policy over standard
// containers, an exhaustive search, and a GroupCache. TIERCEL_TEST_SEED repeats a seed.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <list>
#include <map>
#include <set>
#include <vector>

#include "base/prng.h"
#include "cache/group_cache.h"
#include "cache/sim/clairvoyant.h"
#include "cache/sim/group_policy.h"
#include "cache/sim/lru.h"
#include "cache/sim/s3_fifo.h"
#include "cache/sim/simulate_cache.h"
#include "cache/sim/tiny_lfu.h"
#include "cache/sim/top_k.h"

namespace tiercel {
namespace {

using Items = std::vector<std::uint32_t>;

std::vector<std::uint64_t> Seeds(std::uint64_t count) {
  if (const char* text = std::getenv("TIERCEL_TEST_SEED")) {
    return {std::strtoull(text, nullptr, 10)};
  }
  std::vector<std::uint64_t> seeds(count);
  for (std::uint64_t i = 0; i < count; ++i) seeds[i] = i + 1;
  return seeds;
}

/// A trace of `items`, numbered anew as they appear; all of class 0, all counted.
AccessTrace TraceOf(const Items& items) {
  AccessTrace trace;
  std::map<std::uint32_t, std::uint32_t> numbers;
  for (const std::uint32_t item : items) {
    const auto [at, added] = numbers.try_emplace(item, trace.item_count());
    if (added) {
      trace.keys.push_back(SplitMix64(item));
      trace.classes.push_back(0);
    }
    trace.items.push_back(at->second);
  }
  return trace;
}

/// Few items are frequent, most are rare: the product of two small numbers.
AccessTrace SkewedTrace(std::uint64_t seed, std::size_t count, std::uint64_t spread) {
  Prng prng(seed);
  Items items;
  for (std::size_t i = 0; i < count; ++i) {
    items.push_back(static_cast<std::uint32_t>(prng.Below(spread) * prng.Below(spread)));
  }
  return TraceOf(items);
}

std::uint64_t Misses(SimPolicy policy, const AccessTrace& trace, std::uint64_t capacity) {
  return SimulateMisses(policy, trace, capacity).at(0);
}

/// Runs both and compares the outcome of every access.
template <typename Simulated, typename Plain>
void ExpectSame(const AccessTrace& trace, Simulated& simulated, Plain plain) {
  for (std::size_t i = 0; i < trace.items.size(); ++i) {
    const bool expected = plain(trace.items[i]);
    ASSERT_EQ(simulated.Access(trace.items[i]), expected) << "access " << i;
  }
}

TEST(LruSimTest, IsAListOfWhatWasUsedLast) {
  for (const std::uint64_t seed : Seeds(20)) {
    SCOPED_TRACE(seed);
    const AccessTrace trace = SkewedTrace(seed, 3000, 12);
    const std::uint64_t capacity = 1 + seed % 17;
    LruSim simulated(trace.item_count(), capacity);
    std::list<std::uint32_t> list;
    ExpectSame(trace, simulated, [&](std::uint32_t item) {
      const auto at = std::find(list.begin(), list.end(), item);
      const bool hit = at != list.end();
      if (hit) list.erase(at);
      list.push_front(item);
      if (list.size() > capacity) list.pop_back();
      return hit;
    });
  }
}

/// S3-FIFO over deques.
class PlainS3Fifo {
 public:
  explicit PlainS3Fifo(std::size_t capacity)
      : capacity_(capacity), small_max_(std::max<std::size_t>(capacity / 10, 1)) {}

  bool operator()(std::uint32_t item) {
    for (std::deque<Entry>* queue : {&small_, &main_}) {
      for (Entry& entry : *queue) {
        if (entry.item != item) continue;
        entry.uses = std::min(entry.uses + 1, 3);
        return true;
      }
    }
    const auto ghost = std::find(ghosts_.begin(), ghosts_.end(), item);
    const bool came_back = ghost != ghosts_.end();
    if (came_back) ghosts_.erase(ghost);
    while (small_.size() + main_.size() >= capacity_) Evict();
    (came_back ? main_ : small_).push_back({item, 0});
    return false;
  }

 private:
  struct Entry {
    std::uint32_t item;
    int uses;
  };

  void Evict() {
    const bool from_small = small_.size() > small_max_ || main_.empty();
    std::deque<Entry>& queue = from_small ? small_ : main_;
    const Entry entry = queue.front();
    queue.pop_front();
    if (entry.uses > (from_small ? 1 : 0)) {
      main_.push_back({entry.item, from_small ? 0 : entry.uses - 1});
    } else if (from_small) {
      ghosts_.push_back(entry.item);
      if (ghosts_.size() > capacity_ - small_max_) ghosts_.pop_front();
    }
  }

  std::size_t capacity_;
  std::size_t small_max_;
  std::deque<Entry> small_;
  std::deque<Entry> main_;
  std::deque<std::uint32_t> ghosts_;
};

TEST(S3FifoSimTest, IsThreeQueues) {
  for (const std::uint64_t seed : Seeds(20)) {
    SCOPED_TRACE(seed);
    const AccessTrace trace = SkewedTrace(seed, 3000, 14);
    const std::uint64_t capacity = 1 + seed * 7 % 41;
    S3FifoSim simulated(trace.item_count(), capacity);
    ExpectSame(trace, simulated, PlainS3Fifo(capacity));
  }
}

TEST(S3FifoSimTest, AScanLeavesWhatIsUsedAlone) {
  Items items;
  for (int round = 0; round < 3; ++round) {
    for (std::uint32_t hot = 0; hot < 50; ++hot) items.push_back(hot);
  }
  // So few that W-TinyLFU does not yet halve its counters.
  for (std::uint32_t scanned = 1000; scanned < 1800; ++scanned) items.push_back(scanned);
  AccessTrace trace = TraceOf(items);
  for (std::uint32_t hot = 0; hot < 50; ++hot) trace.items.push_back(hot);
  trace.counted_begin = trace.items.size() - 50;
  EXPECT_EQ(Misses(SimPolicy::kLru, trace, 100), 50U);
  EXPECT_EQ(Misses(SimPolicy::kS3Fifo, trace, 100), 0U);
  EXPECT_EQ(Misses(SimPolicy::kTinyLfu, trace, 100), 0U);
}

TEST(FrequencySketchTest, NeverForgetsBeforeItHalves) {
  FrequencySketch sketch(100);
  std::map<std::uint32_t, int> counts;
  Prng prng(3);
  for (int i = 0; i < 999; ++i) {
    const auto item = static_cast<std::uint32_t>(prng.Below(40) * prng.Below(40));
    sketch.Count(item);
    ++counts[item];
  }
  for (const auto& [item, count] : counts) {
    EXPECT_GE(sketch.Estimate(item), std::min(count, 15)) << item;
  }
  const int before = sketch.Estimate(0);
  sketch.Count(1'000'000);  // The thousandth: ten for each of a hundred.
  EXPECT_EQ(sketch.Estimate(0), before / 2);
}

/// W-TinyLFU over lists, with the sketch as it is.
class PlainTinyLfu {
 public:
  explicit PlainTinyLfu(std::size_t capacity)
      : sketch_(capacity),
        window_max_(std::max<std::size_t>(capacity * 3 / 10, 1)),
        main_max_(capacity - window_max_) {}

  bool operator()(std::uint32_t item) {
    sketch_.Count(item);
    if (Take(window_, item)) {
      window_.push_front(item);
      return true;
    }
    if (Take(protected_, item) || Take(probation_, item)) {
      protected_.push_front(item);
      if (protected_.size() > main_max_ * 8 / 10) {
        probation_.push_front(protected_.back());
        protected_.pop_back();
      }
      return true;
    }
    window_.push_front(item);
    if (window_.size() > window_max_) Offer(Last(window_));
    return false;
  }

 private:
  using List = std::list<std::uint32_t>;

  static bool Take(List& list, std::uint32_t item) {
    const auto at = std::find(list.begin(), list.end(), item);
    if (at == list.end()) return false;
    list.erase(at);
    return true;
  }
  static std::uint32_t Last(List& list) {
    const std::uint32_t item = list.back();
    list.pop_back();
    return item;
  }
  void Offer(std::uint32_t candidate) {
    if (main_max_ == 0) return;
    if (probation_.size() + protected_.size() == main_max_) {
      List& from = probation_.empty() ? protected_ : probation_;
      if (sketch_.Estimate(candidate) <= sketch_.Estimate(from.back())) return;
      from.pop_back();
    }
    probation_.push_front(candidate);
  }

  FrequencySketch sketch_;
  std::size_t window_max_;
  std::size_t main_max_;
  List window_;
  List probation_;
  List protected_;
};

TEST(TinyLfuSimTest, IsAWindowAndTwoSegments) {
  for (const std::uint64_t seed : Seeds(20)) {
    SCOPED_TRACE(seed);
    const AccessTrace trace = SkewedTrace(seed, 3000, 14);
    const std::uint64_t capacity = 1 + seed * 7 % 41;
    TinyLfuSim simulated(trace.item_count(), capacity);
    ExpectSame(trace, simulated, PlainTinyLfu(capacity));
  }
}

TEST(TopKSimTest, KeepsTheMostFrequentOfTheWarmUp) {
  // 3 three times, 1 and 2 twice, 4 once; of 1 and 2, 1 came first.
  AccessTrace trace = TraceOf({1, 2, 3, 3, 3, 2, 1, 4, /* counted: */ 1, 2, 3, 4, 5, 5});
  trace.counted_begin = 8;
  EXPECT_EQ(Misses(SimPolicy::kTopK, trace, 1), 5U);
  EXPECT_EQ(Misses(SimPolicy::kTopK, trace, 2), 4U);
  EXPECT_EQ(Misses(SimPolicy::kTopK, trace, 3), 3U);
  EXPECT_EQ(Misses(SimPolicy::kTopK, trace, 100), 2U) << "5 was never seen in the warm-up";
}

/// The most hits that any choices give: all of them are tried.
std::uint64_t MostHits(const AccessTrace& trace, std::size_t capacity) {
  std::map<std::set<std::uint32_t>, std::uint64_t> states = {{{}, 0}};
  for (const std::uint32_t item : trace.items) {
    std::map<std::set<std::uint32_t>, std::uint64_t> next;
    const auto reach = [&next](const std::set<std::uint32_t>& kept, std::uint64_t hits) {
      std::uint64_t& best = next[kept];
      best = std::max(best, hits);
    };
    for (const auto& [kept, hits] : states) {
      if (kept.contains(item)) {
        reach(kept, hits + 1);
        continue;
      }
      reach(kept, hits);  // Not taken in.
      std::set<std::uint32_t> with = kept;
      with.insert(item);
      if (with.size() <= capacity) reach(with, hits);
      for (const std::uint32_t victim : kept) {
        std::set<std::uint32_t> without = with;
        without.erase(victim);
        reach(without, hits);
      }
    }
    states = std::move(next);
  }
  std::uint64_t best = 0;
  for (const auto& [kept, hits] : states) best = std::max(best, hits);
  return best;
}

TEST(ClairvoyantSimTest, HasTheMostHitsThereCanBe) {
  for (const std::uint64_t seed : Seeds(200)) {
    Prng prng(seed);
    Items items;
    const std::uint64_t item_count = 2 + prng.Below(6);
    for (int i = 0; i < 16; ++i) {
      items.push_back(static_cast<std::uint32_t>(prng.Below(item_count)));
    }
    const AccessTrace trace = TraceOf(items);
    for (std::size_t capacity = 1; capacity <= 4; ++capacity) {
      const std::uint64_t hits = items.size() - Misses(SimPolicy::kClairvoyant, trace, capacity);
      ASSERT_EQ(hits, MostHits(trace, capacity)) << "seed " << seed << ", capacity " << capacity;
    }
  }
}

TEST(ClairvoyantSimTest, NoPolicyHasMoreHits) {
  for (const std::uint64_t seed : Seeds(5)) {
    const AccessTrace trace = SkewedTrace(seed, 60'000, 60);
    for (const std::uint64_t capacity : {3U, 40U, 500U}) {
      const std::uint64_t least = Misses(SimPolicy::kClairvoyant, trace, capacity);
      EXPECT_GE(least, CountFirstUses(trace).at(0));
      for (const SimPolicy policy : {SimPolicy::kLru, SimPolicy::kS3Fifo, SimPolicy::kTinyLfu,
                                     SimPolicy::kGroupPolicy, SimPolicy::kTopK}) {
        EXPECT_GE(Misses(policy, trace, capacity), least)
            << "policy " << static_cast<int>(policy) << ", capacity " << capacity;
      }
    }
  }
}

TEST(NumberSetTest, FindsTheLargestAcrossLevels) {
  NumberSet set(300'000);
  std::set<std::size_t> plain;
  Prng prng(11);
  for (int i = 0; i < 20'000; ++i) {
    const std::size_t number = prng.Below(300'000);
    if (prng.Below(2) == 0 || plain.empty()) {
      set.Insert(number);
      plain.insert(number);
    } else {
      ASSERT_EQ(set.Largest(), *plain.rbegin());
      set.Remove(*plain.rbegin());
      plain.erase(*plain.rbegin());
    }
    ASSERT_EQ(set.Contains(number), plain.contains(number));
  }
  EXPECT_FALSE(plain.empty());
}

TEST(SimulateMissesTest, CountsByClassAndAfterTheWarmUp) {
  AccessTrace trace;
  trace.class_count = 2;
  trace.keys = {10, 20, 30};
  trace.classes = {0, 1, 1};
  trace.items = {0, 1, 0, 2, 1, 2};
  EXPECT_EQ(SimulateMisses(SimPolicy::kLru, trace, 3), (std::vector<std::uint64_t>{1, 2}));
  EXPECT_EQ(CountFirstUses(trace), (std::vector<std::uint64_t>{1, 2}));
  trace.counted_begin = 2;
  EXPECT_EQ(SimulateMisses(SimPolicy::kLru, trace, 3), (std::vector<std::uint64_t>{0, 1}));
  EXPECT_EQ(CountFirstUses(trace), (std::vector<std::uint64_t>{0, 1}));
  // One slot: only what is asked for twice in a row hits.
  EXPECT_EQ(SimulateMisses(SimPolicy::kLru, trace, 1), (std::vector<std::uint64_t>{1, 3}));
}

TEST(SimulateMissesTest, EveryPolicyHitsAllThatFits) {
  const AccessTrace trace = SkewedTrace(4, 20'000, 30);
  const std::uint64_t first_uses = CountFirstUses(trace).at(0);
  // Not W-TinyLFU: its parts are each smaller than the whole.
  for (const SimPolicy policy :
       {SimPolicy::kLru, SimPolicy::kS3Fifo, SimPolicy::kGroupPolicy, SimPolicy::kClairvoyant}) {
    EXPECT_EQ(Misses(policy, trace, trace.item_count()), first_uses) << static_cast<int>(policy);
    EXPECT_GT(Misses(policy, trace, trace.item_count() / 2), first_uses)
        << static_cast<int>(policy);
  }
}

// The real cache keeps up to 64 slots in limbo, so its hits are a little fewer.
TEST(GroupPolicySimTest, AKnownQueueSavesMisses) {
  const AccessTrace trace = SkewedTrace(10, 200'000, 200);
  const std::uint64_t capacity = 500;
  const auto misses = [&](std::uint64_t known_count) {
    return SimulateMisses(SimPolicy::kGroupPolicy, trace, capacity,
                          {.queue_count = known_count, .expected_max = trace.item_count()})
        .at(0);
  };
  const std::uint64_t blind = misses(0);
  const std::uint64_t short_queue = misses(500);
  const std::uint64_t longer_queue = misses(2'000);
  EXPECT_LT(short_queue, blind);
  EXPECT_LT(longer_queue, short_queue);
  EXPECT_GE(longer_queue, Misses(SimPolicy::kClairvoyant, trace, capacity));
}

TEST(GroupPolicySimTest, AKnownTraceIsServedNearlyAsByTheClairvoyant) {
  const AccessTrace trace = SkewedTrace(11, 200'000, 200);
  const double accesses = static_cast<double>(trace.items.size() - trace.counted_begin);
  for (const std::uint64_t capacity : {200U, 500U, 2'000U}) {
    const std::uint64_t least = Misses(SimPolicy::kClairvoyant, trace, capacity);
    const std::uint64_t blind = Misses(SimPolicy::kGroupPolicy, trace, capacity);
    KnownAccesses all;
    all.all = true;
    const std::uint64_t known = SimulateMisses(SimPolicy::kGroupPolicy, trace, capacity, all).at(0);
    EXPECT_GE(known, least);
    EXPECT_LT(static_cast<double>(known - least), 0.02 * accesses) << capacity;
    EXPECT_LT(known, blind) << capacity;
  }
}

TEST(GroupPolicySimTest, HitsAsTheRealCacheDoes) {
  constexpr std::uint32_t kGroupBytes = 64;
  GroupCacheOptions options;
  options.group_size_bytes = {kGroupBytes};
  options.budget_bytes = 2 << 20;
  Result<std::unique_ptr<GroupCache>> created = GroupCache::Create(options);
  ASSERT_TRUE(created.ok()) << created.status().ToString();
  GroupCache& cache = *created.value();
  const AccessTrace trace = SkewedTrace(9, 1'000'000, 700);
  ASSERT_GT(trace.item_count(), 3 * cache.capacity_groups());

  std::vector<std::byte> bytes(kGroupBytes);
  std::uint64_t real_misses = 0;
  for (const std::uint32_t item : trace.items) {
    const GroupTarget target{.key = trace.keys[item], .destination = bytes.data()};
    std::uint8_t hit = 0;
    if (cache.Lookup(0, {&target, 1}, {&hit, 1}) == 1) continue;
    ++real_misses;
    cache.Insert(0, target.key, bytes);
  }
  const auto simulated =
      static_cast<double>(Misses(SimPolicy::kGroupPolicy, trace, cache.capacity_groups()));
  const auto uses = static_cast<double>(trace.items.size());
  EXPECT_NEAR(simulated / uses, static_cast<double>(real_misses) / uses, 0.005);
}

}  // namespace
}  // namespace tiercel
