// Goal: a token's bits do not depend on how a sequence is cut into calls; gradients are those
// of the function that Forward() computes; wrong sizes are told, not read.
//
// Method: random layers of all forms, by seed. Cuts are compared bit for bit; gradients with
// central differences in double, every weight and input of a small layer.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/prng.h"
#include "engram/float_formats.h"
#include "engram/product.h"
#include "engram/quantize_activation.h"
#include "tests/engram/engram_test_support.h"
#include "tiercel/layer.h"

namespace tiercel::testing {
namespace {

constexpr RecipeKind kKinds[] = {RecipeKind::kDeepSeekV41, RecipeKind::kEngramDemo,
                                 RecipeKind::kQwen38};

template <typename T>
std::vector<T> Random(Prng& prng, std::size_t count, double scale = 1.0) {
  std::vector<T> values(count);
  for (T& value : values) value = static_cast<T>((prng.Unit() * 2 - 1) * scale);
  return values;
}

template <typename T>
struct Layer {
  FusionShape shape;
  FusionWeights<T> weights;
  std::vector<T> embeddings;
  std::vector<T> hidden;
  std::vector<std::uint8_t> dead;

  Layer(RecipeKind kind, std::uint64_t seed, std::size_t tokens, std::uint32_t dim,
        std::uint32_t embedding_dim) {
    Prng prng(seed);
    shape = PublishedFusionShape(kind, dim, embedding_dim);
    shape.stream_count = 3;
    weights = ZeroFusionWeights<T>(shape);
    weights.kv_weight = Random<T>(prng, weights.kv_weight.size(), 0.5);
    weights.kv_bias = Random<T>(prng, weights.kv_bias.size(), 0.2);
    for (auto* norm : {&weights.key_norm, &weights.query_norm, &weights.conv_norm}) {
      *norm = Random<T>(prng, norm->size(), 0.3);
      if (kind == RecipeKind::kQwen38) continue;
      for (T& factor : *norm) factor += T{1};
    }
    weights.conv_weight = Random<T>(prng, weights.conv_weight.size(), 0.5);
    embeddings = Random<T>(prng, tokens * embedding_dim);
    hidden = Random<T>(prng, tokens * shape.plane());
    dead.resize(tokens);
    for (std::uint8_t& flag : dead) flag = prng.Below(6) == 0 ? 1 : 0;
  }

  [[nodiscard]] EngramFusion<T> Make() const {
    return EngramFusion<T>::Create(shape, weights).value();
  }
};

/// The output, computed in calls of the given numbers of tokens.
template <typename T>
std::vector<T> InCuts(const Layer<T>& layer, const std::vector<std::size_t>& cuts) {
  const EngramFusion<T> fusion = layer.Make();
  FusionState<T> state;
  std::vector<T> output(layer.hidden.size());
  const std::size_t plane = layer.shape.plane();
  const std::size_t width = layer.shape.embedding_dim;
  std::size_t at = 0;
  for (const std::size_t count : cuts) {
    const Status status =
        fusion.Forward(std::span(layer.embeddings).subspan(at * width, count * width),
                       std::span(layer.hidden).subspan(at * plane, count * plane),
                       std::span(layer.dead).subspan(at, count), state,
                       std::span(output).subspan(at * plane, count * plane));
    EXPECT_TRUE(status.ok()) << status.ToString();
    at += count;
  }
  return output;
}

template <typename T>
void CheckCuts(const Layer<T>& layer) {
  const std::vector<T> whole = InCuts(layer, {25});
  EXPECT_EQ(InCuts(layer, std::vector<std::size_t>(25, 1)), whole);
  EXPECT_EQ(InCuts(layer, {1, 7, 2, 13, 2}), whole);
  EXPECT_EQ(InCuts(layer, {12, 0, 13}), whole);
}

TEST(LayerTest, PrefillIsDecodeBitForBit) {
  for (const RecipeKind kind : kKinds) {
    for (const std::uint64_t seed : Seeds(3)) {
      SCOPED_TRACE(::testing::Message() << Name(kind) << " TIERCEL_TEST_SEED=" << seed);
      CheckCuts(Layer<double>(kind, seed, 25, 17, 96));
      CheckCuts(Layer<float>(kind, seed, 25, 17, 96));
      Layer<float> rounded(kind, seed, 25, 16, 96);
      rounded.shape.rounding = FusionRounding::kDeepSeekV41;
      CheckCuts(rounded);
    }
  }
}

// V4.1's rounding points, each where it belongs: what is multiplied was through the quantiser,
// its product is bf16, and so is what leaves.
TEST(LayerTest, RoundingOfV41) {
  Layer<float> layer(RecipeKind::kDeepSeekV41, 7, 25, 64, 96);
  layer.shape.rounding = FusionRounding::kDeepSeekV41;
  FusionState<float> state;
  FusionTrace<float> trace;
  std::vector<float> output(layer.hidden.size());
  ASSERT_TRUE(
      layer.Make().Forward(layer.embeddings, layer.hidden, layer.dead, state, output, &trace).ok());
  const auto bf16 = [](float value) { return FloatFromBf16(Bf16FromFloat(value)); };
  std::vector<float> input = layer.embeddings;
  for (float& value : input) value = bf16(value);
  std::vector<std::uint8_t> bytes(input.size());
  std::vector<std::uint8_t> scales(input.size() / kActivationBlock);
  QuantizeActivation(input, bytes, scales);
  for (std::size_t i = 0; i < input.size(); ++i) {
    input[i] = FloatFromE4M3(bytes[i]) * FloatFromUe8m0(scales[i / kActivationBlock]);
    EXPECT_NEAR(input[i], layer.embeddings[i], std::fabs(layer.embeddings[i]) / 16 + 1e-3);
  }
  EXPECT_EQ(trace.input, input);
  std::vector<float> kv(trace.kv.size());
  Product<float>(input, layer.weights.kv_weight, layer.shape.embedding_dim, kv);
  for (std::size_t i = 0; i < kv.size(); ++i) EXPECT_EQ(trace.kv[i], bf16(kv[i])) << i;
  for (std::size_t i = 0; i < output.size(); ++i) {
    EXPECT_EQ(output[i], bf16(layer.hidden[i] + trace.gated_value[i])) << i;
  }
}

// Rows of a table pass the quantiser unchanged unless all of a block is tiny.
TEST(LayerTest, TableRowsSurviveTheQuantizer) {
  Prng prng(3);
  for (int round = 0; round < 200; ++round) {
    const float scale = FloatFromUe8m0(static_cast<std::uint8_t>(115 + prng.Below(20)));
    std::vector<float> values(kActivationBlock);
    for (float& value : values) {
      std::uint8_t byte = 0x7F;
      while ((byte & 0x7F) == 0x7F) byte = static_cast<std::uint8_t>(prng());
      value = FloatFromE4M3(byte) * scale;
    }
    std::vector<std::uint8_t> bytes(kActivationBlock);
    std::vector<std::uint8_t> scales(1);
    QuantizeActivation(values, bytes, scales);
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ(FloatFromE4M3(bytes[i]) * FloatFromUe8m0(scales[0]), values[i]);
    }
  }
}

TEST(LayerTest, DeadTokensAddNothingButTheConvolution) {
  Layer<double> layer(RecipeKind::kDeepSeekV41, 5, 4, 8, 32);
  layer.dead = {0, 1, 0, 1};
  const std::vector<double> output = InCuts(layer, {4});
  const std::size_t plane = layer.shape.plane();
  for (std::size_t token = 0; token < 4; ++token) {
    const bool same =
        std::equal(output.begin() + token * plane, output.begin() + (token + 1) * plane,
                   layer.hidden.begin() + token * plane);
    EXPECT_EQ(same, layer.dead[token] == 1) << token;
  }
}

/// A loss with a gradient that differs from output to output.
double LossOf(const std::vector<double>& output, const std::vector<double>& factors) {
  double loss = 0;
  for (std::size_t i = 0; i < output.size(); ++i) loss += factors[i] * output[i];
  return loss;
}

/// Compares `gradient` with central differences of the loss by `values`.
void CheckGradient(const std::string& what, std::vector<double>& values,
                   const std::vector<double>& gradient, const std::function<double()>& loss) {
  ASSERT_EQ(values.size(), gradient.size()) << what;
  constexpr double kStep = 1e-5;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double value = values[i];
    values[i] = value + kStep;
    const double above = loss();
    values[i] = value - kStep;
    const double below = loss();
    values[i] = value;
    const double difference = (above - below) / (2 * kStep);
    EXPECT_NEAR(gradient[i], difference, 1e-6 * std::max(1.0, std::fabs(difference)))
        << what << " [" << i << "]";
  }
}

TEST(LayerTest, GradientsAreThoseOfFiniteDifferences) {
  for (const RecipeKind kind : kKinds) {
    for (const std::uint64_t seed : Seeds(2)) {
      SCOPED_TRACE(::testing::Message() << Name(kind) << " TIERCEL_TEST_SEED=" << seed);
      Layer<double> layer(kind, seed, 12, 5, 8);  // Longer than the convolution reaches.
      Prng prng(seed + 100);
      const std::vector<double> factors = Random<double>(prng, layer.hidden.size());
      const auto loss = [&] { return LossOf(InCuts(layer, {12}), factors); };

      const EngramFusion<double> fusion = layer.Make();
      FusionState<double> state;
      FusionTrace<double> trace;
      std::vector<double> output(layer.hidden.size());
      ASSERT_TRUE(
          fusion.Forward(layer.embeddings, layer.hidden, layer.dead, state, output, &trace).ok());
      std::vector<double> d_hidden(layer.hidden.size());
      std::vector<double> d_embeddings(layer.embeddings.size());
      FusionWeights<double> d_weights = ZeroFusionWeights<double>(layer.shape);
      ASSERT_TRUE(
          fusion.Backward(trace, layer.hidden, factors, d_hidden, d_embeddings, d_weights).ok());
      CheckGradient("hidden", layer.hidden, d_hidden, loss);
      CheckGradient("embeddings", layer.embeddings, d_embeddings, loss);
      CheckGradient("kv_weight", layer.weights.kv_weight, d_weights.kv_weight, loss);
      CheckGradient("kv_bias", layer.weights.kv_bias, d_weights.kv_bias, loss);
      CheckGradient("key_norm", layer.weights.key_norm, d_weights.key_norm, loss);
      CheckGradient("query_norm", layer.weights.query_norm, d_weights.query_norm, loss);
      CheckGradient("conv_norm", layer.weights.conv_norm, d_weights.conv_norm, loss);
      CheckGradient("conv_weight", layer.weights.conv_weight, d_weights.conv_weight, loss);
    }
  }
}

// A second part of a sequence: the convolution's history is a constant, and counts.
TEST(LayerTest, GradientsGoOnFromAState) {
  Layer<double> layer(RecipeKind::kEngramDemo, 11, 14, 4, 8);
  std::fill(layer.dead.begin(), layer.dead.end(), std::uint8_t{0});
  const EngramFusion<double> fusion = layer.Make();
  const std::size_t plane = layer.shape.plane();
  Prng prng(12);
  const std::vector<double> factors = Random<double>(prng, 4 * plane);
  FusionState<double> state;
  std::vector<double> output(layer.hidden.size());
  ASSERT_TRUE(fusion
                  .Forward(std::span(layer.embeddings).first(80),
                           std::span(layer.hidden).first(10 * plane), {}, state,
                           std::span(output).first(10 * plane))
                  .ok());
  FusionTrace<double> trace;
  const FusionState<double> before = state;
  std::vector<double> hidden(layer.hidden.begin() + 10 * plane, layer.hidden.end());
  std::vector<double> tail(4 * plane);
  const std::vector<double> embeddings(layer.embeddings.begin() + 80, layer.embeddings.end());
  ASSERT_TRUE(fusion.Forward(embeddings, hidden, {}, state, tail, &trace).ok());
  std::vector<double> d_hidden(hidden.size());
  std::vector<double> d_embeddings(embeddings.size());
  FusionWeights<double> d_weights = ZeroFusionWeights<double>(layer.shape);
  ASSERT_TRUE(fusion.Backward(trace, hidden, factors, d_hidden, d_embeddings, d_weights).ok());
  const auto loss = [&] {
    FusionState<double> copy = before;
    std::vector<double> result(tail.size());
    EXPECT_TRUE(layer.Make().Forward(embeddings, hidden, {}, copy, result).ok());
    return LossOf(result, factors);
  };
  CheckGradient("hidden", hidden, d_hidden, loss);
  CheckGradient("conv_weight", layer.weights.conv_weight, d_weights.conv_weight, loss);
}

TEST(LayerTest, RowGradientsAreSumsByRow) {
  Prng prng(21);
  constexpr std::uint32_t kHeadDim = 3;
  RowGradients<double> gradients{.head_dim = kHeadDim};
  std::map<std::uint64_t, std::vector<double>> wanted;
  for (int batch = 0; batch < 4; ++batch) {
    std::vector<RowId> rows(10 * 4);
    for (RowId& row : rows) row = RowId{prng.Below(30)};
    std::vector<std::uint8_t> dead(10);
    for (std::uint8_t& flag : dead) flag = prng.Below(4) == 0 ? 1 : 0;
    const std::vector<double> d_embeddings = Random<double>(prng, rows.size() * kHeadDim);
    ASSERT_TRUE(AddRowGradients<double>(rows, d_embeddings, dead, gradients).ok());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (dead[i / 4] != 0) continue;
      std::vector<double>& sum = wanted[Index(rows[i])];
      sum.resize(kHeadDim);
      for (std::size_t d = 0; d < kHeadDim; ++d) sum[d] += d_embeddings[i * kHeadDim + d];
    }
  }
  ASSERT_EQ(gradients.rows.size(), wanted.size());
  std::size_t at = 0;
  for (const auto& [row, sum] : wanted) {
    EXPECT_EQ(Index(gradients.rows[at]), row);
    for (std::size_t d = 0; d < kHeadDim; ++d) {
      EXPECT_EQ(gradients.values[at * kHeadDim + d], sum[d]);
    }
    ++at;
  }
  RowGradients<double> none;
  EXPECT_EQ(AddRowGradients<double>({}, {}, {}, none).code(), StatusCode::kInvalidArgument);
}

TEST(LayerTest, WrongSizesAreTold) {
  Layer<float> layer(RecipeKind::kEngramDemo, 1, 4, 8, 32);
  const EngramFusion<float> fusion = layer.Make();
  FusionState<float> state;
  std::vector<float> output(layer.hidden.size());
  const std::span<const float> short_embeddings = std::span(layer.embeddings).first(64);
  const Status status = fusion.Forward(short_embeddings, layer.hidden, {}, state, output);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("embeddings"), std::string_view::npos) << status.message();
  FusionState<float> other{.conv_history = std::vector<float>(5)};
  EXPECT_EQ(fusion.Forward(layer.embeddings, layer.hidden, {}, other, output).code(),
            StatusCode::kInvalidArgument);
  layer.weights.conv_norm.pop_back();
  EXPECT_EQ(EngramFusion<float>::Create(layer.shape, layer.weights).status().code(),
            StatusCode::kInvalidArgument);
  FusionShape shape = PublishedFusionShape(RecipeKind::kDeepSeekV41, 8, 40);
  shape.rounding = FusionRounding::kDeepSeekV41;
  EXPECT_EQ(EngramFusion<float>::Create(shape, ZeroFusionWeights<float>(shape)).status().code(),
            StatusCode::kInvalidArgument);
}

// What everything stands on: an output's bits follow from its own row.
TEST(LayerTest, ProductsOfOneRowAndOfMany) {
  Prng prng(9);
  for (const std::size_t width : {1U, 7U, 8U, 16U, 33U, 200U}) {
    const std::vector<double> x = Random<double>(prng, 5 * width + 1);
    const std::vector<double> w = Random<double>(prng, 6 * width + 1);
    // One value in: another alignment.
    const std::span<const double> weights = std::span(w).subspan(1);
    std::vector<double> all(5 * 6);
    Product<double>(std::span(x).subspan(1), weights, width, all);
    for (std::size_t token = 0; token < 5; ++token) {
      const std::vector<double> row(x.begin() + 1 + token * width,
                                    x.begin() + 1 + (token + 1) * width);
      std::vector<double> one(6);
      Product<double>(row, weights, width, one);
      EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin() + token * 6)) << width;
      double plain = 0;
      for (std::size_t i = 0; i < width; ++i) plain += row[i] * weights[i];
      EXPECT_NEAR(one[0], plain, 1e-12);
    }
  }
}

}  // namespace
}  // namespace tiercel::testing
