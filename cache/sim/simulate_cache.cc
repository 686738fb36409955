#include "cache/sim/simulate_cache.h"

#include <algorithm>
#include <cassert>
#include <memory>
#include <utility>

#include "cache/sim/clairvoyant.h"
#include "cache/sim/group_cache_sim.h"
#include "cache/sim/group_policy.h"
#include "cache/sim/lru.h"
#include "cache/sim/s3_fifo.h"
#include "cache/sim/tiny_lfu.h"
#include "cache/sim/top_k.h"

namespace tiercel {
namespace {

template <typename Cache>
std::vector<std::uint64_t> CountMisses(const AccessTrace& trace, Cache&& cache) {
  std::vector<std::uint64_t> misses(trace.class_count);
  for (std::size_t i = 0; i < trace.items.size(); ++i) {
    const bool hit = cache.Access(trace.items[i]);
    if (!hit && i >= trace.counted_begin) ++misses[trace.classes[trace.items[i]]];
  }
  return misses;
}

}  // namespace

std::vector<std::uint64_t> SimulateMisses(SimPolicy policy, const AccessTrace& trace,
                                          std::uint64_t capacity, const KnownAccesses& known) {
  assert(capacity > 0);
  // More room than items is no use, and some policies take memory for all of it.
  capacity = std::min<std::uint64_t>(capacity, std::max(trace.item_count(), 1U));
  switch (policy) {
    case SimPolicy::kLru:
      return CountMisses(trace, LruSim(trace.item_count(), capacity));
    case SimPolicy::kS3Fifo:
      return CountMisses(trace, S3FifoSim(trace.item_count(), capacity));
    case SimPolicy::kTinyLfu:
      return CountMisses(trace, TinyLfuSim(trace.item_count(), capacity));
    case SimPolicy::kGroupPolicy:
      return CountMisses(trace, GroupPolicySim(trace, capacity, known));
    case SimPolicy::kTopK:
      return CountMisses(trace, TopKSim(trace, capacity));
    case SimPolicy::kClairvoyant:
      return CountMisses(trace, ClairvoyantSim(trace, capacity));
  }
  return {};
}

Result<std::vector<std::uint64_t>> SimulateGroupCache(const AccessTrace& trace,
                                                      std::uint64_t budget_bytes,
                                                      std::uint32_t group_size_bytes,
                                                      const KnownAccesses& known) {
  assert(!known.all);
  GroupCacheOptions options;
  options.budget_bytes = budget_bytes;
  options.group_size_bytes.assign(trace.class_count, group_size_bytes);
  options.expected_groups_max = known.expected_max;
  options.expected_span = std::max<std::uint64_t>(known.queue_count, 1);
  Result<std::unique_ptr<GroupCache>> cache = GroupCache::Create(options);
  if (!cache.ok()) return std::move(cache).TakeStatus();
  return CountMisses(
      trace, GroupCacheSim(trace, std::move(cache).value(), group_size_bytes, known.queue_count));
}

std::vector<std::uint64_t> CountFirstUses(const AccessTrace& trace) {
  std::vector<std::uint64_t> counts(trace.class_count);
  std::uint32_t seen_count = 0;  // Items are numbered as they appear.
  for (std::size_t i = 0; i < trace.items.size(); ++i) {
    if (trace.items[i] < seen_count) continue;
    ++seen_count;
    if (i >= trace.counted_begin) ++counts[trace.classes[trace.items[i]]];
  }
  return counts;
}

}  // namespace tiercel
