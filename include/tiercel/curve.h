#ifndef TIERCEL_CURVE_H_
#define TIERCEL_CURVE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "tiercel/hasher.h"
#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel {

/// What decides which n-grams a simulated cache keeps.
enum class CurvePolicy : std::uint8_t {
  kLru = 0,
  kS3Fifo,
  kTinyLfu,      ///< W-TinyLFU with a window of 30 %.
  kOurs,         ///< The store's own code, and its metadata counted.
  kTopK,         ///< Static: the most frequent of the warm-up.
  kClairvoyant,  ///< Knows the future: no policy has more hits.
  /// The store's cache itself, not a simulation of its policy: takes the memory of a layer's
  /// share of the cache, and longer.
  kCache,
};

/// "lru", "s3fifo", "tinylfu", "ours", "topk", "opt", "cache".
[[nodiscard]] std::string_view Name(CurvePolicy policy) noexcept;
/// Errors: kInvalidArgument; the message lists the names.
[[nodiscard]] Result<CurvePolicy> ParseCurvePolicy(std::string_view name);
/// All that simulate, in the order above: not kCache.
[[nodiscard]] std::vector<CurvePolicy> AllCurvePolicies();

/// N-grams that a store's cache of `size_bytes` holds, by its own plan: metadata counted,
/// each n-gram with the groups of all layers, where one group has `group_size_bytes`.
///   expected_ngrams_max  n-grams that the cache can remember as wanted by waiting prompts.
/// Errors: kInvalidArgument, kResourceExhausted (no useful number of them).
[[nodiscard]] Result<std::uint64_t> CacheNgramCount(std::uint64_t size_bytes,
                                                    std::uint32_t group_size_bytes,
                                                    std::uint32_t layer_count,
                                                    std::uint64_t expected_ngrams_max = 0);

struct GroupTraceImpl;

struct GroupTraceOptions {
  /// Share of the n-grams that is kept: all uses of an n-gram or none, by a hash of it. In
  /// (0, 1]. 1 is exact, and takes 4 bytes a use and 17 to 40 an n-gram.
  double sample_fraction = 1.0;
  /// The first so many tokens warm the caches and are not counted.
  std::uint64_t warm_token_count = 0;
  std::uint64_t seed = 1;  ///< Which n-grams are kept.
};

/// The sample that gives errors of about 0.1 % hit rate at least expense: all of it for
/// up to 12 million n-gram uses, else as many as that and more in the root of the rest.
[[nodiscard]] double SuggestedSampleFraction(std::uint64_t ngram_use_count) noexcept;

struct CurveOptions {
  std::vector<CurvePolicy> policies;      ///< Not empty.
  std::vector<std::uint64_t> size_bytes;  ///< Of caches; not empty.
  std::uint32_t row_size_bytes = 0;       ///< > 0
  /// Tokens that wait in a queue, so that kOurs and kCache know which n-grams come next; the memory
  /// for that is counted. 0: none wait. The other policies are as they were.
  std::uint64_t known_token_count = 0;
  /// kOurs knows with each n-gram when it comes next, as it can where a trace is replayed: what
  /// is left to `opt` is what the policy's draw of candidates costs. The memory for that is
  /// counted. Not with kCache or known_token_count.
  bool trace_known = false;
  /// Called between simulations with those done and all. False stops.
  std::function<bool(std::uint64_t done, std::uint64_t total)> progress;
};

/// A share of what was asked for, and how far it may be off.
struct CurveRate {
  double rate = 0.0;
  /// Standard error of `rate` by the spread of the disjoint parts of the sample; 0 where
  /// the run is exact.
  double standard_error = 0.0;
};

/// One cache of one size.
struct CurvePoint {
  std::uint64_t size_bytes = 0;
  /// N-grams that it holds, each with the groups of all layers.
  std::uint64_t ngram_count = 0;
  CurveRate hit_rate;
  std::vector<CurveRate> order_hit_rates;  ///< Shape [orders]: 2-grams first.
  double rows_missed_per_token = 0.0;      ///< Of all layers.
};

struct CurveLine {
  CurvePolicy policy{};
  std::vector<CurvePoint> points;  ///< Shape [sizes].
};

struct Curve {
  std::vector<CurveLine> lines;  ///< Shape [policies].
  double sample_fraction = 1.0;
  std::uint32_t slice_count = 1;
  std::uint64_t warm_token_count = 0;
  std::uint64_t token_count = 0;  ///< Counted ones: after the warm-up.
  std::uint64_t dead_token_count = 0;
  std::uint32_t layer_count = 0;
  std::uint32_t rows_per_token = 0;  ///< Of a live token, all layers.
  std::uint32_t row_size_bytes = 0;
  std::uint64_t ngram_size_bytes = 0;  ///< Of all layers' groups.
  double unique_ngram_count = 0.0;     ///< Of all tokens; an estimate in a sample.
  CurveRate unbounded_hit_rate;        ///< Of a cache without bounds.
  std::vector<CurveRate> unbounded_order_hit_rates;
};

/// The n-grams that served tokens ask for, all or a sample of them, and what caches would
/// make of them: hit rates without a table, without memory for rows, without a disk.
///
/// An n-gram stands for its groups in all layers: they are asked for together, so one
/// layer's keys are simulated. A repeat within one run counts as a hit, as a store joins it
/// to the read under way.
///
/// Sampling: a cache of C n-grams over all is, over those whose hash falls in a share f, one
/// of f * C (SHARDS; Waldspurger et al., FAST 2015). Misses are scaled up, uses are counted
/// in full, so that it matters little whether the hottest n-grams, which seldom miss, are in
/// the sample. It is taken as disjoint slices that are simulated each by itself; their
/// spread gives the standard error.
///
/// Threading: one thread at a time.
class GroupTrace {
 public:
  /// Errors: kInvalidArgument (a fraction out of range).
  [[nodiscard]] static Result<GroupTrace> Create(Hasher hasher, const GroupTraceOptions& options);

  GroupTrace(GroupTrace&&) noexcept;
  GroupTrace& operator=(GroupTrace&&) noexcept;
  ~GroupTrace();

  /// Takes in the tokens of `run`, of at most 65,536, as the next that are served.
  ///
  /// Errors: kInvalidArgument (a longer run; as Hasher::Mixes()), kResourceExhausted (more
  /// than 2^32 uses in a slice: take a smaller fraction).
  [[nodiscard]] Status Add(const TokenRun& run);

  /// Runs every policy at every size. Takes 10 to 50 ns for each kept use, policy and size.
  ///
  /// Errors: kInvalidArgument (no policy, no size, no counted token, a size so small that a
  /// slice of it holds fewer than 64 n-grams: the message says what to do), kCancelled,
  /// kResourceExhausted (no memory for kCache).
  [[nodiscard]] Result<Curve> Simulate(const CurveOptions& options) const;

 private:
  explicit GroupTrace(std::unique_ptr<GroupTraceImpl> impl) noexcept;
  std::unique_ptr<GroupTraceImpl> impl_;
};

}  // namespace tiercel

#endif  // TIERCEL_CURVE_H_
