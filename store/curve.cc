#include "tiercel/curve.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>
#include <utility>

#include "cache/group_cache.h"
#include "cache/sim/simulate_cache.h"
#include "store/group_trace.h"

namespace tiercel {
namespace {

struct PolicyName {
  CurvePolicy policy;
  SimPolicy sim_policy;
  std::string_view name;
};
constexpr std::array<PolicyName, 7> kPolicies = {{
    {CurvePolicy::kLru, SimPolicy::kLru, "lru"},
    {CurvePolicy::kS3Fifo, SimPolicy::kS3Fifo, "s3fifo"},
    {CurvePolicy::kTinyLfu, SimPolicy::kTinyLfu, "tinylfu"},
    {CurvePolicy::kOurs, SimPolicy::kGroupPolicy, "ours"},
    {CurvePolicy::kTopK, SimPolicy::kTopK, "topk"},
    {CurvePolicy::kClairvoyant, SimPolicy::kClairvoyant, "opt"},
    {CurvePolicy::kCache, SimPolicy::kGroupPolicy, "cache"},
}};

const PolicyName& EntryOf(CurvePolicy policy) noexcept {
  return kPolicies[static_cast<std::size_t>(policy)];
}

/// Fewer than this and a slice's own chances drown what is measured.
constexpr double kSliceNgramsMin = 64.0;

/// A cache as large as this shows what a slot costs with all that belongs to it; beyond
/// it slots grow in proportion. Only its address space is taken.
constexpr std::uint64_t kProbeBytes = std::uint64_t{64} << 20;

/// Room for expectations, as a share of the n-grams that are known ahead: those that come
/// more than once take one entry.
constexpr double kExpectedShare = 0.65;

/// The rate of hits where `misses` of each slice, shape [slices], stand for all of `uses`.
CurveRate HitRate(std::span<const std::uint64_t> misses, double uses, double sample_fraction) {
  CurveRate result;
  if (uses <= 0.0) return result;
  const auto count = static_cast<double>(misses.size());
  double sum = 0.0;
  for (const std::uint64_t slice : misses) sum += static_cast<double>(slice);
  const double mean = sum / count;
  // A slice has sample_fraction / count of all n-grams.
  const double to_rate = count / sample_fraction / uses;
  result.rate = std::max(0.0, 1.0 - mean * to_rate);
  if (misses.size() < 2) return result;
  double squares = 0.0;
  for (const std::uint64_t slice : misses) {
    const double distance = static_cast<double>(slice) - mean;
    squares += distance * distance;
  }
  // The slices are drawn without putting back, hence the last factor.
  result.standard_error =
      to_rate * std::sqrt(squares / (count - 1.0) / count) * std::sqrt(1.0 - sample_fraction);
  return result;
}

/// Misses of every slice, counted by `count_misses(trace)`, made into rates.
struct Rates {
  CurveRate all;
  std::vector<CurveRate> orders;
};
template <typename CountMisses>
Rates RatesOf(const std::vector<TraceSlice>& slices, std::size_t order_count, double uses,
              double sample_fraction, const CountMisses& count_misses) {
  std::vector<std::uint64_t> all(slices.size());
  std::vector<std::vector<std::uint64_t>> of_order(order_count, all);
  for (std::size_t s = 0; s < slices.size(); ++s) {
    const std::vector<std::uint64_t> misses = count_misses(slices[s].trace);
    for (std::size_t order = 0; order < order_count; ++order) {
      of_order[order][s] = misses[order];
      all[s] += misses[order];
    }
  }
  Rates rates;
  rates.all = HitRate(all, uses * static_cast<double>(order_count), sample_fraction);
  for (const std::vector<std::uint64_t>& misses : of_order) {
    rates.orders.push_back(HitRate(misses, uses, sample_fraction));
  }
  return rates;
}

Status CheckOptions(const CurveOptions& options) {
  if (options.policies.empty() || options.size_bytes.empty() || options.row_size_bytes == 0) {
    return Status(StatusCode::kInvalidArgument,
                  "a curve needs a policy, a size and the size of a row");
  }
  if (options.trace_known && options.known_token_count > 0) {
    return Status(StatusCode::kInvalidArgument,
                  "trace_known and known_token_count exclude each other: the whole trace is known, "
                  "or so many tokens of it");
  }
  if (options.trace_known && std::ranges::count(options.policies, CurvePolicy::kCache) > 0) {
    return Status(StatusCode::kInvalidArgument,
                  "trace_known is for the simulated policy: a cache does not tell what it gave up");
  }
  return {};
}

/// One call of GroupTrace::Simulate().
class Simulation {
 public:
  Simulation(const GroupTraceImpl& trace, const CurveOptions& options) noexcept
      : trace_(trace), options_(options), order_count_(trace.hasher.recipe().order_count()) {}

  /// All of the curve but its lines.
  [[nodiscard]] Curve Describe() const;

  /// The point with its sizes, hit rates still to come.
  [[nodiscard]] Result<CurvePoint> PlanPoint(const Curve& curve, CurvePolicy policy,
                                             std::uint64_t size_bytes) const;

  /// Fills in the hit rates. Errors: kCancelled, kResourceExhausted.
  [[nodiscard]] Status Run(const Curve& curve, CurvePolicy policy, CurvePoint& point,
                           std::uint64_t point_index, std::uint64_t point_count) const;

 private:
  [[nodiscard]] Result<std::vector<std::uint64_t>> RunCache(const Curve& curve,
                                                            const AccessTrace& trace,
                                                            const CurvePoint& point) const;
  [[nodiscard]] double live_tokens() const noexcept {
    return static_cast<double>(trace_.token_count - trace_.dead_token_count);
  }
  [[nodiscard]] double SliceNgrams(const CurvePoint& point) const noexcept {
    return static_cast<double>(point.ngram_count) * trace_.options.sample_fraction /
           static_cast<double>(trace_.slices.size());
  }

  /// What is known ahead in one slice: of a queue of tokens, its share of all accesses.
  [[nodiscard]] KnownAccesses KnownIn(const AccessTrace& trace) const noexcept {
    if (options_.trace_known) return {.queue_count = 0, .expected_max = 0, .all = true};
    const auto all_tokens = static_cast<double>(trace_.warm_token_count + trace_.token_count);
    const double known = static_cast<double>(options_.known_token_count) *
                         static_cast<double>(trace.items.size()) / all_tokens;
    return {.queue_count = static_cast<std::uint64_t>(known),
            .expected_max = static_cast<std::uint64_t>(known * kExpectedShare),
            .all = false};
  }

  const GroupTraceImpl& trace_;
  const CurveOptions& options_;
  const std::size_t order_count_;
};

Curve Simulation::Describe() const {
  const Recipe& recipe = trace_.hasher.recipe();
  Curve curve;
  curve.sample_fraction = trace_.options.sample_fraction;
  curve.slice_count = static_cast<std::uint32_t>(trace_.slices.size());
  curve.warm_token_count = trace_.warm_token_count;
  curve.token_count = trace_.token_count;
  curve.dead_token_count = trace_.dead_token_count;
  curve.layer_count = static_cast<std::uint32_t>(recipe.layers.size());
  curve.rows_per_token = recipe.column_count() * curve.layer_count;
  curve.row_size_bytes = options_.row_size_bytes;
  curve.ngram_size_bytes =
      std::uint64_t{recipe.parameters.head_count} * curve.row_size_bytes * curve.layer_count;
  for (const TraceSlice& slice : trace_.slices) {
    curve.unique_ngram_count += slice.trace.item_count() / curve.sample_fraction;
  }
  Rates rates =
      RatesOf(trace_.slices, order_count_, live_tokens(), curve.sample_fraction, CountFirstUses);
  curve.unbounded_hit_rate = rates.all;
  curve.unbounded_order_hit_rates = std::move(rates.orders);
  return curve;
}

Result<CurvePoint> Simulation::PlanPoint(const Curve& curve, CurvePolicy policy,
                                         std::uint64_t size_bytes) const {
  CurvePoint point;
  point.size_bytes = size_bytes;
  point.ngram_count = size_bytes / curve.ngram_size_bytes;
  if (policy == CurvePolicy::kOurs || policy == CurvePolicy::kCache) {
    const auto group_size_bytes =
        static_cast<std::uint32_t>(curve.ngram_size_bytes / curve.layer_count);
    // Of all that is known, what is in the cache is expected, no more.
    const auto expected_ngrams =
        options_.trace_known
            ? point.ngram_count
            : static_cast<std::uint64_t>(
                  kExpectedShare * static_cast<double>(options_.known_token_count * order_count_));
    Result<std::uint64_t> count =
        CacheNgramCount(size_bytes, group_size_bytes, curve.layer_count, expected_ngrams);
    if (!count.ok()) return std::move(count).TakeStatus();
    point.ngram_count = count.value();
  }
  const double slice_ngrams = SliceNgrams(point);
  if (slice_ngrams >= (trace_.slices.size() > 1 ? kSliceNgramsMin : 1.0)) return point;
  return Status(StatusCode::kInvalidArgument,
                fmt::format("a cache of {} B holds {} n-grams of {} B, which is {:.1f} in each of "
                            "{} slices of the sample, too few: take a larger cache, or a larger "
                            "sample, up to 1",
                            size_bytes, point.ngram_count, curve.ngram_size_bytes, slice_ngrams,
                            trace_.slices.size()));
}

/// Misses of the cache itself: of one layer's share of it, for one layer's keys.
Result<std::vector<std::uint64_t>> Simulation::RunCache(const Curve& curve,
                                                        const AccessTrace& trace,
                                                        const CurvePoint& point) const {
  const double share =
      curve.sample_fraction / (static_cast<double>(trace_.slices.size()) * curve.layer_count);
  return SimulateGroupCache(
      trace, static_cast<std::uint64_t>(static_cast<double>(point.size_bytes) * share),
      static_cast<std::uint32_t>(curve.ngram_size_bytes / curve.layer_count), KnownIn(trace));
}

Status Simulation::Run(const Curve& curve, CurvePolicy policy, CurvePoint& point,
                       std::uint64_t point_index, std::uint64_t point_count) const {
  const auto capacity = static_cast<std::uint64_t>(std::llround(SliceNgrams(point)));
  const std::uint64_t slice_count = trace_.slices.size();
  std::uint64_t slices_done = 0;
  Status status;
  Rates rates =
      RatesOf(trace_.slices, order_count_, live_tokens(), curve.sample_fraction,
              [&](const AccessTrace& trace) {
                const std::uint64_t done = point_index * slice_count + slices_done++;
                if (status.ok() && options_.progress &&
                    !options_.progress(done, point_count * slice_count)) {
                  status = Status(StatusCode::kCancelled, "the simulation was stopped");
                }
                if (!status.ok()) return std::vector<std::uint64_t>(order_count_);
                if (policy == CurvePolicy::kCache) {
                  Result<std::vector<std::uint64_t>> misses = RunCache(curve, trace, point);
                  if (misses.ok()) return std::move(misses).value();
                  status = std::move(misses).TakeStatus();
                  return std::vector<std::uint64_t>(order_count_);
                }
                return SimulateMisses(EntryOf(policy).sim_policy, trace, capacity, KnownIn(trace));
              });
  point.hit_rate = rates.all;
  point.order_hit_rates = std::move(rates.orders);
  point.rows_missed_per_token = (1.0 - point.hit_rate.rate) * curve.rows_per_token * live_tokens() /
                                static_cast<double>(curve.token_count);
  return status;
}

}  // namespace

std::string_view Name(CurvePolicy policy) noexcept {
  return EntryOf(policy).name;
}

Result<CurvePolicy> ParseCurvePolicy(std::string_view name) {
  std::string names;
  for (const PolicyName& entry : kPolicies) {
    if (entry.name == name) return entry.policy;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", entry.name);
  }
  return Status(StatusCode::kInvalidArgument,
                fmt::format("'{}' is not a policy; there are {}", name, names));
}

std::vector<CurvePolicy> AllCurvePolicies() {
  std::vector<CurvePolicy> policies;
  for (const PolicyName& entry : kPolicies) {
    if (entry.policy != CurvePolicy::kCache) policies.push_back(entry.policy);
  }
  return policies;
}

Result<std::uint64_t> CacheNgramCount(std::uint64_t size_bytes, std::uint32_t group_size_bytes,
                                      std::uint32_t layer_count,
                                      std::uint64_t expected_ngrams_max) {
  if (size_bytes == 0 || layer_count == 0) {
    return Status(StatusCode::kInvalidArgument, "a cache of no bytes, or for no layers");
  }
  GroupCacheOptions options;
  options.budget_bytes = std::min(size_bytes, kProbeBytes);
  options.group_size_bytes.assign(layer_count, group_size_bytes);
  const double times = static_cast<double>(size_bytes) / static_cast<double>(options.budget_bytes);
  options.expected_groups_max =
      static_cast<std::uint64_t>(static_cast<double>(expected_ngrams_max * layer_count) / times);
  Result<std::unique_ptr<GroupCache>> cache = GroupCache::Create(options);
  if (!cache.ok()) return std::move(cache).TakeStatus();
  const auto groups = static_cast<double>(cache.value()->capacity_groups());
  return static_cast<std::uint64_t>(groups * times / layer_count);
}

Result<Curve> GroupTrace::Simulate(const CurveOptions& options) const {
  if (Status status = CheckOptions(options); !status.ok()) return status;
  const Simulation simulation(*impl_, options);
  Curve curve = simulation.Describe();
  if (curve.token_count == curve.dead_token_count) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("no token is left to count after a warm-up of {}", curve.warm_token_count));
  }
  // All sizes first: what cannot be done is said at once.
  for (const CurvePolicy policy : options.policies) {
    curve.lines.push_back({.policy = policy, .points = {}});
    for (const std::uint64_t size_bytes : options.size_bytes) {
      Result<CurvePoint> point = simulation.PlanPoint(curve, policy, size_bytes);
      if (!point.ok()) return std::move(point).TakeStatus();
      curve.lines.back().points.push_back(std::move(point).value());
    }
  }
  const std::uint64_t total = options.policies.size() * options.size_bytes.size();
  std::uint64_t done = 0;
  for (CurveLine& line : curve.lines) {
    for (CurvePoint& point : line.points) {
      Status status = simulation.Run(curve, line.policy, point, done++, total);
      if (!status.ok()) return status;
    }
  }
  return curve;
}

}  // namespace tiercel
