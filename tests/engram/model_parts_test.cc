// Goal: the parts of the reference model compute what their papers say: experts, attention,
// hyper-connections.
//
// Method: each against the plain formula of one token, or against a property that the formula
// has; weights random, by seed.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "base/prng.h"
#include "engram/attention.h"
#include "engram/feed_forward.h"
#include "engram/hyper_connections.h"
#include "tests/engram/engram_test_support.h"

namespace tiercel::testing {
namespace {

std::vector<double> Random(Prng& prng, std::size_t count, double scale = 1.0) {
  std::vector<double> values(count);
  for (double& value : values) value = (prng.Unit() * 2 - 1) * scale;
  return values;
}

FeedForwardWeights<double> RandomPart(Prng& prng, std::size_t dim, std::size_t width) {
  return {.gate = Random(prng, width * dim),
          .up = Random(prng, width * dim),
          .down = Random(prng, width * dim)};
}

/// The formula, for one token.
std::vector<double> PlainPart(const FeedForwardWeights<double>& weights,
                              std::span<const double> x) {
  const std::size_t width = weights.gate.size() / x.size();
  std::vector<double> y(x.size());
  for (std::size_t i = 0; i < width; ++i) {
    double gate = 0;
    double up = 0;
    for (std::size_t d = 0; d < x.size(); ++d) {
      gate += weights.gate[i * x.size() + d] * x[d];
      up += weights.up[i * x.size() + d] * x[d];
    }
    const double inner = gate / (1 + std::exp(-gate)) * up;
    for (std::size_t d = 0; d < x.size(); ++d) y[d] += weights.down[d * width + i] * inner;
  }
  return y;
}

constexpr std::size_t kDim = 12;
constexpr std::size_t kExperts = 9;
constexpr std::size_t kActive = 3;

MoeWeights<double> RandomMixture(Prng& prng) {
  MoeWeights<double> weights;
  weights.router = Random(prng, kExperts * kDim);
  weights.router_bias = Random(prng, kExperts, 0.3);
  for (std::size_t i = 0; i < kExperts; ++i) weights.experts.push_back(RandomPart(prng, kDim, 5));
  weights.shared = RandomPart(prng, kDim, 10);
  return weights;
}

TEST(ModelPartsTest, MixtureIsTheWeightedSumOfTheChosen) {
  for (const std::uint64_t seed : Seeds(3)) {
    SCOPED_TRACE(::testing::Message() << "TIERCEL_TEST_SEED=" << seed);
    Prng prng(seed);
    const MoeWeights<double> weights = RandomMixture(prng);
    constexpr std::size_t kTokens = 20;
    const std::vector<double> x = Random(prng, kTokens * kDim);
    std::vector<double> y(x.size());
    std::vector<std::uint64_t> load(kExperts);
    MixtureOfExperts<double>(weights, kDim, kActive, x, y, load);
    std::vector<std::uint64_t> wanted_load(kExperts);
    for (std::size_t token = 0; token < kTokens; ++token) {
      const std::span<const double> own = std::span(x).subspan(token * kDim, kDim);
      std::vector<double> affinity(kExperts);
      for (std::size_t e = 0; e < kExperts; ++e) {
        double sum = 0;
        for (std::size_t d = 0; d < kDim; ++d) sum += weights.router[e * kDim + d] * own[d];
        affinity[e] = 1 / (1 + std::exp(-sum));
      }
      std::vector<std::size_t> order(kExperts);
      std::iota(order.begin(), order.end(), 0U);
      std::ranges::stable_sort(order, std::greater<>(), [&](std::size_t e) {
        return affinity[e] + weights.router_bias[e];  // The bias chooses ...
      });
      order.resize(kActive);
      double sum = 0;
      for (const std::size_t e : order) sum += affinity[e];  // ... and does not weigh.
      std::vector<double> wanted = PlainPart(weights.shared, own);
      for (const std::size_t e : order) {
        ++wanted_load[e];
        const std::vector<double> part = PlainPart(weights.experts[e], own);
        for (std::size_t d = 0; d < kDim; ++d) wanted[d] += affinity[e] / sum * part[d];
      }
      for (std::size_t d = 0; d < kDim; ++d) {
        EXPECT_NEAR(y[token * kDim + d], wanted[d], 1e-12) << token;
      }
      // By itself a token gets the same bits as among others.
      std::vector<double> alone(kDim);
      MixtureOfExperts<double>(weights, kDim, kActive, own, alone, {});
      EXPECT_TRUE(std::equal(alone.begin(), alone.end(), y.begin() + token * kDim)) << token;
    }
    EXPECT_EQ(load, wanted_load);
  }
}

// A router that sends nearly all tokens to the same experts comes to spread them.
TEST(ModelPartsTest, BiasUpdatesBalanceTheLoad) {
  Prng prng(4);
  MoeWeights<double> weights = RandomMixture(prng);
  weights.router_bias.assign(kExperts, 0.0);
  weights.router_bias[0] = weights.router_bias[1] = weights.router_bias[2] = 1.0;
  const auto largest_share = [&](bool update) {
    constexpr std::size_t kTokens = 300;
    const std::vector<double> x = Random(prng, kTokens * kDim);
    std::vector<double> y(x.size());
    std::vector<std::uint64_t> load(kExperts);
    MixtureOfExperts<double>(weights, kDim, kActive, x, y, load);
    if (update) BalanceRouter<double>(load, 0.02, weights.router_bias);
    return static_cast<double>(*std::ranges::max_element(load)) / kTokens;
  };
  EXPECT_EQ(largest_share(false), 1.0);
  for (int round = 0; round < 100; ++round) (void)largest_share(true);
  EXPECT_LT(largest_share(false), 0.45);  // A third would be even.
}

AttentionShape SmallAttention() {
  return {.dim = 10, .head_count = 6, .kv_head_count = 2, .head_dim = 4};
}

AttentionWeights<double> RandomAttention(Prng& prng, const AttentionShape& shape) {
  return {.query = Random(prng, shape.head_count * shape.head_dim * shape.dim),
          .key = Random(prng, shape.kv_head_count * shape.head_dim * shape.dim),
          .value = Random(prng, shape.kv_head_count * shape.head_dim * shape.dim),
          .output = Random(prng, shape.head_count * shape.head_dim * shape.dim)};
}

std::vector<double> PlainProduct(const std::vector<double>& w, std::span<const double> x) {
  std::vector<double> y(w.size() / x.size());
  for (std::size_t i = 0; i < w.size(); ++i) y[i / x.size()] += w[i] * x[i % x.size()];
  return y;
}

TEST(ModelPartsTest, AttentionIsTheFormula) {
  Prng prng(6);
  const AttentionShape shape = SmallAttention();
  const AttentionWeights<double> weights = RandomAttention(prng, shape);
  constexpr std::size_t kTokens = 7;
  const std::vector<double> x = Random(prng, kTokens * shape.dim);
  std::vector<double> y(x.size());
  KvCache<double> cache;
  Attention<double>(shape, weights, x, cache, y);
  const auto projected = [&](const std::vector<double>& w, std::size_t token, std::size_t head,
                             bool rotate) {
    const std::vector<double> all =
        PlainProduct(w, std::span(x).subspan(token * shape.dim, shape.dim));
    std::vector<double> own(all.begin() + head * shape.head_dim,
                            all.begin() + (head + 1) * shape.head_dim);
    if (rotate) RotatePosition<double>(token, shape.rope_theta, own);
    return own;
  };
  for (std::size_t token = 0; token < kTokens; ++token) {
    std::vector<double> heads;
    for (std::size_t head = 0; head < shape.head_count; ++head) {
      const std::vector<double> query = projected(weights.query, token, head, true);
      std::vector<double> mean(shape.head_dim);
      double sum = 0;
      for (std::size_t j = 0; j <= token; ++j) {
        const std::vector<double> key = projected(weights.key, j, head / 3, true);
        const std::vector<double> value = projected(weights.value, j, head / 3, false);
        const double dot = std::inner_product(query.begin(), query.end(), key.begin(), 0.0);
        const double weight = std::exp(dot / 2);  // sqrt(head_dim) = 2.
        sum += weight;
        for (std::size_t d = 0; d < shape.head_dim; ++d) mean[d] += weight * value[d];
      }
      for (const double value : mean) heads.push_back(value / sum);
    }
    const std::vector<double> wanted = PlainProduct(weights.output, heads);
    for (std::size_t d = 0; d < shape.dim; ++d) {
      EXPECT_NEAR(y[token * shape.dim + d], wanted[d], 1e-11) << token;
    }
  }
}

TEST(ModelPartsTest, AttentionInPartsHasTheSameBits) {
  Prng prng(7);
  const AttentionShape shape = SmallAttention();
  const AttentionWeights<double> weights = RandomAttention(prng, shape);
  const std::vector<double> x = Random(prng, 9 * shape.dim);
  std::vector<double> whole(x.size());
  KvCache<double> cache;
  Attention<double>(shape, weights, x, cache, whole);
  std::vector<double> parts(x.size());
  KvCache<double> other;
  std::size_t at = 0;
  for (const std::size_t count : {1U, 5U, 1U, 2U}) {
    Attention<double>(shape, weights, std::span(x).subspan(at * shape.dim, count * shape.dim),
                      other, std::span(parts).subspan(at * shape.dim, count * shape.dim));
    at += count;
  }
  EXPECT_EQ(parts, whole);
  EXPECT_EQ(other.keys, cache.keys);
}

// What rotation is for: the product of a query and a key depends on how far apart they are.
TEST(ModelPartsTest, RotationTellsDistances) {
  Prng prng(8);
  const std::vector<double> query = Random(prng, 16);
  const std::vector<double> key = Random(prng, 16);
  const auto product = [&](std::size_t query_at, std::size_t key_at) {
    std::vector<double> q = query;
    std::vector<double> k = key;
    RotatePosition<double>(query_at, 10000.0, q);
    RotatePosition<double>(key_at, 10000.0, k);
    return std::inner_product(q.begin(), q.end(), k.begin(), 0.0);
  };
  EXPECT_NEAR(product(9, 4), product(1005, 1000), 1e-9);
  EXPECT_GT(std::fabs(product(9, 4) - product(9, 3)), 1e-3);
  EXPECT_NEAR(product(0, 0), std::inner_product(query.begin(), query.end(), key.begin(), 0.0), 0);
}

TEST(ModelPartsTest, StreamsAreMixedByADoublyStochasticMatrix) {
  Prng prng(10);
  constexpr std::size_t kStreams = 4;
  constexpr std::size_t kWidth = 6;
  constexpr std::size_t kOutputs = 2 * kStreams + kStreams * kStreams;
  const HyperWeights<double> weights = {.projection = Random(prng, kOutputs * kStreams * kWidth),
                                        .bias = Random(prng, kOutputs),
                                        .scale = {0.5, 0.4, 0.3}};
  std::vector<double> streams = Random(prng, kStreams * kWidth);
  const HyperMix<double> mix = MixOf<double>(weights, kStreams, 1e-6, streams);
  for (std::size_t i = 0; i < kStreams; ++i) {
    double row = 0;
    double column = 0;
    for (std::size_t j = 0; j < kStreams; ++j) {
      EXPECT_GT(mix.mix[i * kStreams + j], 0);
      row += mix.mix[i * kStreams + j];
      column += mix.mix[j * kStreams + i];
    }
    EXPECT_NEAR(row, 1, 1e-6);
    EXPECT_NEAR(column, 1, 1e-12);
    EXPECT_GT(mix.read[i], 0);
    EXPECT_LT(mix.read[i], 1);
    EXPECT_GT(mix.write[i], 0);
    EXPECT_LT(mix.write[i], 2);
  }
  const std::vector<double> before = streams;
  std::vector<double> input(kWidth);
  ReadStreams<double>(mix, before, input);
  const std::vector<double> output = Random(prng, kWidth);
  WriteStreams<double>(mix, output, streams);
  for (std::size_t d = 0; d < kWidth; ++d) {
    double read = 0;
    double sum_before = 0;
    double sum_after = 0;
    double written = 0;
    for (std::size_t g = 0; g < kStreams; ++g) {
      read += mix.read[g] * before[g * kWidth + d];
      sum_before += before[g * kWidth + d];
      sum_after += streams[g * kWidth + d];
      written += mix.write[g] * output[d];
    }
    EXPECT_NEAR(input[d], read, 1e-12);
    // Columns sum to 1: mixing moves nothing in or out.
    EXPECT_NEAR(sum_after, sum_before + written, 1e-11);
  }
}

}  // namespace
}  // namespace tiercel::testing
