// Goal: a curve from a trace is what serving that trace comes to: exact where all n-grams
// are simulated, and otherwise off by no more than it says; sizes count what the cache's
// own plan counts; what cannot be done is refused.
// Method: seeded Zipf tokens through the public API; the demo's recipe, which has two
// orders and two layers; a GroupCache for its slots; a plain LRU for one known answer.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <list>
#include <span>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "cache/group_cache.h"
#include "tiercel/curve.h"
#include "tiercel/recipe.h"
#include "tiercel/synthetic.h"

namespace tiercel {
namespace {

constexpr std::uint32_t kRowBytes = 256;
constexpr std::uint64_t kNgramBytes = 2 * 8 * kRowBytes;  // Layers x heads x row.

Hasher DemoHasher() {
  Result<RecipeParameters> parameters = ModelParameters(CheckpointModel::kEngramDemo, 1);
  EXPECT_TRUE(parameters.ok());
  Result<Recipe> recipe = BuildRecipe(parameters.value());
  EXPECT_TRUE(recipe.ok());
  Result<Hasher> hasher = Hasher::Create(std::move(recipe).value());
  EXPECT_TRUE(hasher.ok());
  return std::move(hasher).value();
}

/// Phrases of four tokens, of which number k comes about 1 / k as often as the first.
std::vector<std::int32_t> ZipfTokens(std::uint64_t seed, std::size_t count) {
  Prng prng(seed);
  std::vector<std::int32_t> tokens;
  while (tokens.size() < count) {
    const auto phrase = static_cast<std::uint64_t>(std::exp(prng.Unit() * std::log(20'000.0)));
    for (std::uint64_t i = 0; i < 4 && tokens.size() < count; ++i) {
      tokens.push_back(static_cast<std::int32_t>(SplitMix64(4 * phrase + i) % 5'000));
    }
  }
  return tokens;
}

/// Serves `tokens` as one document, 64 at a time.
GroupTrace Served(const std::vector<std::int32_t>& tokens, const GroupTraceOptions& options) {
  Result<GroupTrace> trace = GroupTrace::Create(DemoHasher(), options);
  EXPECT_TRUE(trace.ok());
  const std::span<const std::int32_t> all(tokens);
  for (std::size_t i = 0; i < tokens.size(); i += 64) {
    const std::size_t history = std::min<std::size_t>(i, 2);
    const Status status =
        trace.value().Add({.history = all.subspan(i - history, history),
                           .tokens = all.subspan(i, std::min<std::size_t>(64, all.size() - i))});
    EXPECT_TRUE(status.ok()) << status.ToString();
  }
  return std::move(trace).value();
}

CurveOptions OptionsFor(std::vector<CurvePolicy> policies, std::vector<std::uint64_t> ngrams) {
  CurveOptions options;
  options.policies = std::move(policies);
  for (const std::uint64_t count : ngrams) options.size_bytes.push_back(count * kNgramBytes);
  options.row_size_bytes = kRowBytes;
  return options;
}

Curve Simulated(const GroupTrace& trace, const CurveOptions& options) {
  Result<Curve> curve = trace.Simulate(options);
  EXPECT_TRUE(curve.ok()) << curve.status().ToString();
  return curve.ok() ? std::move(curve).value() : Curve{};
}

TEST(CurveTest, AnExactRunIsAnLruOfNgrams) {
  const std::vector<std::int32_t> tokens = ZipfTokens(1, 20'000);
  constexpr std::size_t kCapacity = 500;
  const Curve curve = Simulated(Served(tokens, {.warm_token_count = 10'000}),
                                OptionsFor({CurvePolicy::kLru}, {kCapacity}));
  // N-grams by their tokens, the one before the start being -1, in the order of serving.
  std::list<std::vector<std::int32_t>> list;
  double hits[2] = {0, 0};
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    for (std::size_t order = 2; order <= 3; ++order) {
      std::vector<std::int32_t> ngram;
      for (std::size_t back = 0; back < order; ++back) {
        ngram.push_back(i >= back ? tokens[i - back] : -1);
      }
      const auto at = std::find(list.begin(), list.end(), ngram);
      if (at != list.end()) {
        if (i >= 10'000) ++hits[order - 2];
        list.erase(at);
      }
      list.push_front(std::move(ngram));
      if (list.size() > kCapacity) list.pop_back();
    }
  }
  ASSERT_GT(hits[0], hits[1]);
  ASSERT_GT(hits[1], 0);
  const CurvePoint& point = curve.lines.at(0).points.at(0);
  EXPECT_EQ(point.ngram_count, kCapacity);
  EXPECT_NEAR(point.order_hit_rates.at(0).rate, hits[0] / 10'000, 1e-9);
  EXPECT_NEAR(point.order_hit_rates.at(1).rate, hits[1] / 10'000, 1e-9);
  EXPECT_NEAR(point.hit_rate.rate, (hits[0] + hits[1]) / 20'000, 1e-9);
  EXPECT_EQ(point.hit_rate.standard_error, 0.0);
  // 2 orders of 8 heads in 2 layers.
  EXPECT_EQ(curve.rows_per_token, 32U);
  EXPECT_NEAR(point.rows_missed_per_token, 32 * (1 - point.hit_rate.rate), 1e-9);
  EXPECT_EQ(curve.token_count, 10'000U);
  EXPECT_EQ(curve.warm_token_count, 10'000U);
}

TEST(CurveTest, ASampleIsOffByNoMoreThanItSays) {
  const std::vector<std::int32_t> tokens = ZipfTokens(2, 400'000);
  const CurveOptions options = OptionsFor(AllCurvePolicies(), {6'000, 30'000});
  const Curve exact = Simulated(Served(tokens, {.warm_token_count = 200'000}), options);
  int beyond_two_errors = 0;
  int compared = 0;
  for (const std::uint64_t seed : {1U, 2U, 3U, 4U}) {
    const Curve sampled = Simulated(
        Served(tokens, {.sample_fraction = 0.25, .warm_token_count = 200'000, .seed = seed}),
        options);
    EXPECT_EQ(sampled.slice_count, 8U);
    EXPECT_NEAR(sampled.unique_ngram_count / exact.unique_ngram_count, 1.0, 0.02);
    EXPECT_NEAR(sampled.unbounded_hit_rate.rate, exact.unbounded_hit_rate.rate, 0.01);
    for (std::size_t line = 0; line < options.policies.size(); ++line) {
      for (std::size_t i = 0; i < options.size_bytes.size(); ++i) {
        const CurveRate& rate = sampled.lines[line].points[i].hit_rate;
        const double distance = std::abs(rate.rate - exact.lines[line].points[i].hit_rate.rate);
        EXPECT_GT(rate.standard_error, 0.0);
        EXPECT_LT(rate.standard_error, 0.01);
        // Caches of 190 n-grams a slice are noisier than their misses: half a point.
        EXPECT_LT(distance, 4 * rate.standard_error + 0.005)
            << Name(options.policies[line]) << " at " << options.size_bytes[i] << ", seed " << seed;
        ++compared;
        beyond_two_errors += distance > 2 * rate.standard_error + 0.002 ? 1 : 0;
      }
    }
  }
  EXPECT_LT(beyond_two_errors, compared / 4);
}

TEST(CurveTest, TheCacheItselfDoesAsItsSimulationSays) {
  for (const std::uint64_t known_token_count : {0U, 20'000U}) {
    CurveOptions options = OptionsFor({CurvePolicy::kOurs, CurvePolicy::kCache}, {0, 0});
    options.size_bytes = {std::uint64_t{48} << 20, std::uint64_t{96} << 20};
    options.known_token_count = known_token_count;
    const Curve curve =
        Simulated(Served(ZipfTokens(4, 400'000), {.warm_token_count = 100'000}), options);
    for (std::size_t i = 0; i < options.size_bytes.size(); ++i) {
      const CurvePoint& ours = curve.lines[0].points[i];
      const CurvePoint& cache = curve.lines[1].points[i];
      EXPECT_EQ(ours.ngram_count, cache.ngram_count);
      EXPECT_LT(ours.hit_rate.rate, curve.unbounded_hit_rate.rate - 0.02) << "too large to tell";
      EXPECT_NEAR(cache.hit_rate.rate, ours.hit_rate.rate, 0.005) << known_token_count << ", " << i;
    }
  }
}

TEST(CurveTest, AKnownTraceIsWorthWhatIsLeftToOpt) {
  CurveOptions options = OptionsFor({CurvePolicy::kOurs, CurvePolicy::kClairvoyant}, {0});
  options.size_bytes = {std::uint64_t{48} << 20};
  const GroupTrace trace = Served(ZipfTokens(4, 400'000), {.warm_token_count = 100'000});
  const Curve blind = Simulated(trace, options);
  options.trace_known = true;
  const Curve known = Simulated(trace, options);
  const CurvePoint& ours = known.lines[0].points[0];
  EXPECT_LT(ours.ngram_count, blind.lines[0].points[0].ngram_count) << "memory was not counted";
  EXPECT_GT(ours.hit_rate.rate, blind.lines[0].points[0].hit_rate.rate + 0.02);
  EXPECT_NEAR(ours.hit_rate.rate, known.lines[1].points[0].hit_rate.rate, 0.02);
}

TEST(CurveTest, WhatIsKnownMustMakeSense) {
  const GroupTrace trace = Served(ZipfTokens(4, 20'000), {.warm_token_count = 100});
  CurveOptions options = OptionsFor({CurvePolicy::kOurs}, {0});
  options.size_bytes = {std::uint64_t{48} << 20};
  options.trace_known = true;
  options.known_token_count = 100;
  EXPECT_EQ(trace.Simulate(options).status().code(), StatusCode::kInvalidArgument);
  options.known_token_count = 0;
  options.policies.push_back(CurvePolicy::kCache);
  EXPECT_EQ(trace.Simulate(options).status().code(), StatusCode::kInvalidArgument);
}

TEST(CurveTest, MoreMemoryNeverMissesMoreWhereTheFutureIsKnown) {
  const Curve curve = Simulated(
      Served(ZipfTokens(3, 50'000), {}),
      OptionsFor({CurvePolicy::kClairvoyant, CurvePolicy::kLru}, {10, 100, 500, 1'000'000}));
  for (const CurveLine& line : curve.lines) {
    for (std::size_t i = 1; i < line.points.size(); ++i) {
      EXPECT_GT(line.points[i].hit_rate.rate, line.points[i - 1].hit_rate.rate);
    }
    EXPECT_DOUBLE_EQ(line.points.back().hit_rate.rate, curve.unbounded_hit_rate.rate)
        << "nothing is ever given up";
  }
}

TEST(CurveTest, OursHasTheSlotsOfTheCachesOwnPlan) {
  const GroupTrace trace = Served(ZipfTokens(4, 1'000), {});
  for (const std::uint64_t size_bytes : {std::uint64_t{4} << 20, std::uint64_t{300} << 20}) {
    CurveOptions options = OptionsFor({CurvePolicy::kOurs, CurvePolicy::kLru}, {1});
    options.size_bytes = {size_bytes};
    const Curve curve = Simulated(trace, options);
    GroupCacheOptions cache_options;
    cache_options.budget_bytes = size_bytes;
    cache_options.group_size_bytes.assign(4, 8 * kRowBytes);
    Result<std::unique_ptr<GroupCache>> cache = GroupCache::Create(cache_options);
    ASSERT_TRUE(cache.ok()) << cache.status().ToString();
    const double slots = static_cast<double>(cache.value()->capacity_groups()) / 2;
    const auto ours = static_cast<double>(curve.lines.at(0).points.at(0).ngram_count);
    EXPECT_NEAR(ours / slots, 1.0, 0.001);
    EXPECT_LT(ours, static_cast<double>(curve.lines.at(1).points.at(0).ngram_count))
        << "metadata takes room";
  }
}

TEST(CurveTest, DeadTokensAskForNothing) {
  std::vector<std::int32_t> tokens = ZipfTokens(5, 10'000);
  Result<RecipeParameters> parameters = ModelParameters(CheckpointModel::kDeepSeekV41Flash, 1000);
  ASSERT_TRUE(parameters.ok());
  Result<Recipe> recipe = BuildRecipe(parameters.value());
  ASSERT_TRUE(recipe.ok());
  Result<Hasher> hasher = Hasher::Create(std::move(recipe).value());
  ASSERT_TRUE(hasher.ok());
  for (std::size_t i = 0; i < tokens.size(); i += 4) tokens[i] = kDeadToken;
  Result<GroupTrace> trace = GroupTrace::Create(std::move(hasher).value(), {});
  ASSERT_TRUE(trace.ok());
  ASSERT_TRUE(trace.value().Add({.history = {}, .tokens = tokens}).ok());
  const Curve curve = Simulated(trace.value(), OptionsFor({CurvePolicy::kLru}, {100'000}));
  EXPECT_EQ(curve.token_count, 10'000U);
  EXPECT_EQ(curve.dead_token_count, 2'500U);
  const CurvePoint& point = curve.lines.at(0).points.at(0);
  EXPECT_NEAR(point.rows_missed_per_token, 48 * 0.75 * (1 - point.hit_rate.rate), 1e-9);
}

TEST(CurveTest, RefusesWhatMakesNoSense) {
  for (const double fraction : {0.0, -0.5, 1.5, std::nan("")}) {
    EXPECT_EQ(GroupTrace::Create(DemoHasher(), {.sample_fraction = fraction}).status().code(),
              StatusCode::kInvalidArgument)
        << fraction;
  }
  const std::vector<std::int32_t> tokens = ZipfTokens(6, 1'000);
  const GroupTrace trace = Served(tokens, {});
  for (const CurveOptions& options :
       {OptionsFor({}, {100}), OptionsFor({CurvePolicy::kLru}, {}),
        OptionsFor({CurvePolicy::kLru}, {0}), OptionsFor({CurvePolicy::kOurs}, {1})}) {
    EXPECT_FALSE(trace.Simulate(options).ok());
  }
  const GroupTrace sample = Served(tokens, {.sample_fraction = 0.1});
  Result<Curve> small = sample.Simulate(OptionsFor({CurvePolicy::kLru}, {1'000}));
  ASSERT_FALSE(small.ok());
  EXPECT_EQ(small.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(small.status().message().find("larger sample"), std::string::npos);
  const GroupTrace warm = Served(tokens, {.warm_token_count = 1'000});
  EXPECT_FALSE(warm.Simulate(OptionsFor({CurvePolicy::kLru}, {100})).ok()) << "nothing counted";

  GroupTrace broken = Served({}, {});
  const std::vector<std::int32_t> unknown = {1, 2, 200'000};
  const Status status = broken.Add({.history = {}, .tokens = unknown});
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  const std::vector<std::int32_t> long_run(65'537);
  EXPECT_EQ(broken.Add({.history = {}, .tokens = long_run}).code(), StatusCode::kInvalidArgument);
}

TEST(CurveTest, ProgressCanStopIt) {
  const GroupTrace trace = Served(ZipfTokens(7, 1'000), {});
  CurveOptions options = OptionsFor({CurvePolicy::kLru}, {10, 100, 1'000});
  std::vector<std::pair<std::uint64_t, std::uint64_t>> calls;
  options.progress = [&calls](std::uint64_t done, std::uint64_t total) {
    calls.emplace_back(done, total);
    return done < 1;
  };
  EXPECT_EQ(trace.Simulate(options).status().code(), StatusCode::kCancelled);
  EXPECT_EQ(calls, (std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0, 3}, {1, 3}}));
}

TEST(CurveTest, PoliciesHaveNames) {
  for (const CurvePolicy policy : AllCurvePolicies()) {
    const Result<CurvePolicy> parsed = ParseCurvePolicy(Name(policy));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(parsed.value(), policy);
  }
  const Result<CurvePolicy> unknown = ParseCurvePolicy("clock");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.status().message().find("s3fifo"), std::string::npos);
}

TEST(CurveTest, SuggestsAllOfASmallTraceAndLessOfALargeOne) {
  EXPECT_EQ(SuggestedSampleFraction(3'000'000), 1.0);
  EXPECT_LT(SuggestedSampleFraction(100'000'000), 0.3);
  EXPECT_GT(SuggestedSampleFraction(100'000'000), 0.1);
}

}  // namespace
}  // namespace tiercel
