// Goal: the three forms of the Engram layer compute what their models do.
//
// Method: the golden vectors, each number on the way to the output compared, in float and in
// double, within what another order of summation may change.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engram/float_formats.h"
#include "engram/quantize_activation.h"
#include "tests/engram/engram_test_support.h"
#include "tiercel/layer.h"

namespace tiercel::testing {
namespace {

using Json = nlohmann::json;

/// The numbers of a nested array, in order.
template <typename T>
std::vector<T> Flat(const Json& json) {
  if (json.is_number()) return {static_cast<T>(json.get<double>())};
  if (json.is_boolean()) return {static_cast<T>(json.get<bool>() ? 1 : 0)};
  std::vector<T> values;
  for (const Json& part : json) {
    const std::vector<T> inner = Flat<T>(part);
    values.insert(values.end(), inner.begin(), inner.end());
  }
  return values;
}

template <typename T>
void ExpectNear(const std::vector<T>& values, const Json& golden, double tolerance,
                const std::string& what) {
  const std::vector<double> wanted = Flat<double>(golden);
  ASSERT_EQ(values.size(), wanted.size()) << what;
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(values[i]), wanted[i], tolerance) << what << " [" << i << "]";
  }
}

template <typename T>
std::vector<T> Joined(std::vector<T> first, const std::vector<T>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

/// The weights of gate_demo.json and gate_qwen38.json.
template <typename T>
FusionWeights<T> WeightsOf(const Json& inputs) {
  FusionWeights<T> weights;
  weights.kv_weight = Joined(Flat<T>(inputs.at("key_w")), Flat<T>(inputs.at("value_w")));
  if (inputs.contains("key_b")) {
    weights.kv_bias = Joined(Flat<T>(inputs.at("key_b")), Flat<T>(inputs.at("value_b")));
  }
  weights.key_norm = Flat<T>(inputs.at("norm_key"));
  weights.query_norm = Flat<T>(inputs.at("norm_query"));
  weights.conv_norm = Flat<T>(inputs.at("conv_norm"));
  weights.conv_weight = Flat<T>(inputs.at("conv_w"));
  return weights;
}

/// Compares every number on the way: `golden` is one of the file's outputs.
template <typename T>
void CheckConvForm(const FusionShape& shape, const Json& inputs, const Json& golden,
                   double tolerance) {
  Result<EngramFusion<T>> layer = EngramFusion<T>::Create(shape, WeightsOf<T>(inputs));
  ASSERT_TRUE(layer.ok()) << layer.status().ToString();
  const std::vector<T> hidden = Flat<T>(inputs.at("hidden"));
  std::vector<T> output(hidden.size());
  FusionState<T> state;
  FusionTrace<T> trace;
  ASSERT_TRUE(layer.value()
                  .Forward(Flat<T>(inputs.at("embeddings")), hidden, {}, state, output, &trace)
                  .ok());
  std::vector<T> key;
  std::vector<T> value;
  for (std::size_t token = 0; token < trace.token_count; ++token) {
    const T* const kv = trace.kv.data() + token * (shape.plane() + shape.dim);
    key.insert(key.end(), kv, kv + shape.plane());
    value.insert(value.end(), kv + shape.plane(), kv + shape.plane() + shape.dim);
  }
  ExpectNear(key, golden.at("key"), tolerance, "key");
  ExpectNear(value, golden.at("value"), tolerance, "value");
  ExpectNear(trace.score, golden.at("dot"), tolerance, "dot");
  ExpectNear(trace.gate, golden.at("gate"), tolerance, "gate");
  ExpectNear(trace.gated_value, golden.at("gated_value"), tolerance, "gated_value");
  ExpectNear(trace.conv, golden.at("conv_pre_silu"), tolerance, "conv_pre_silu");
  ExpectNear(output, golden.at("residual_sum"), tolerance, "residual_sum");
}

TEST(LayerGoldenTest, Demo) {
  const Json golden = Golden("gate_demo.json");
  FusionShape shape = PublishedFusionShape(RecipeKind::kEngramDemo, 8, 32);
  // Twice what two orders of summation were seen to differ by (max_abs_diff in the file).
  CheckConvForm<float>(shape, golden.at("inputs"), golden.at("output_float32"), 1.2e-6);
  CheckConvForm<double>(shape, golden.at("inputs"), golden.at("output_float64_eps_f32"), 2e-15);
  shape.norm_epsilon = 0x1p-52;
  CheckConvForm<double>(shape, golden.at("inputs"), golden.at("output_float64_eps_f64"), 2e-15);
}

TEST(LayerGoldenTest, Qwen38) {
  const Json golden = Golden("gate_qwen38.json");
  const FusionShape shape = PublishedFusionShape(RecipeKind::kQwen38, 8, 32);
  CheckConvForm<float>(shape, golden.at("inputs"), golden.at("output_float32"), 1.2e-6);
  CheckConvForm<double>(shape, golden.at("inputs"), golden.at("output_float64"), 2e-15);
}

/// The golden's kv is what wkv gave: here an identity matrix has the embedding be kv.
template <typename T>
void CheckV41(const char* golden_name, double tolerance) {
  const Json golden = Golden("gate_v41.json");
  const Json& inputs = golden.at("inputs");
  constexpr std::uint32_t kWidth = 40;
  FusionShape shape = PublishedFusionShape(RecipeKind::kDeepSeekV41, 8, kWidth);
  FusionWeights<T> weights = ZeroFusionWeights<T>(shape);
  for (std::size_t i = 0; i < kWidth; ++i) weights.kv_weight[i * kWidth + i] = T{1};
  weights.query_norm = Flat<T>(inputs.at("q_weight"));
  weights.key_norm = Flat<T>(inputs.at("k_weight"));
  Result<EngramFusion<T>> layer = EngramFusion<T>::Create(shape, weights);
  ASSERT_TRUE(layer.ok()) << layer.status().ToString();
  std::vector<std::uint8_t> dead;
  for (const int alive : Flat<int>(inputs.at("token_mask"))) dead.push_back(alive == 0 ? 1 : 0);
  const std::vector<T> hidden = Flat<T>(inputs.at("h"));
  std::vector<T> output(hidden.size());
  FusionState<T> state;
  FusionTrace<T> trace;
  ASSERT_TRUE(
      layer.value().Forward(Flat<T>(inputs.at("kv")), hidden, dead, state, output, &trace).ok());
  ExpectNear(trace.score, golden.at(golden_name).at("dot"), tolerance, "dot");
  ExpectNear(trace.gate, golden.at(golden_name).at("gate"), tolerance, "gate");
  ExpectNear(output, golden.at(golden_name).at("output_before_cast"), tolerance, "output");
  const std::vector<int> bits = Flat<int>(golden.at("output_bf16_bits"));
  for (std::size_t i = 0; i < output.size(); ++i) {
    EXPECT_NEAR(Bf16FromFloat(static_cast<float>(output[i])), bits[i], 1) << i;
  }
}

TEST(LayerGoldenTest, V41) {
  CheckV41<float>("output_float32", 5e-7);
  CheckV41<double>("output_float64", 2e-15);
}

// The quantiser in front of V4.1's product, byte for byte.
TEST(LayerGoldenTest, ActivationQuantizer) {
  const Json golden = Golden("fp8_v41.json").at("act_quant_block32");
  const std::vector<float> values = Flat<float>(golden.at("x_bf16_values"));
  const std::vector<int> wanted_bytes = Flat<int>(golden.at("e4m3_bytes"));
  const std::vector<int> wanted_scales = Flat<int>(golden.at("scale_bytes"));
  std::vector<std::uint8_t> bytes(values.size());
  std::vector<std::uint8_t> scales(values.size() / kActivationBlock);
  QuantizeActivation(values, bytes, scales);
  for (std::size_t i = 0; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], wanted_bytes[i]) << i;
  for (std::size_t i = 0; i < scales.size(); ++i) EXPECT_EQ(scales[i], wanted_scales[i]) << i;
}

// Every E4M3 value is its own nearest; halves between neighbours go to the even one.
TEST(LayerGoldenTest, NearestE4M3) {
  for (int byte = 0; byte < 256; ++byte) {
    const auto code = static_cast<std::uint8_t>(byte);
    if ((code & 0x7F) == 0x7F) continue;  // NaN
    EXPECT_EQ(E4M3FromFloat(FloatFromE4M3(code)), code);
    if ((code & 0x7F) >= 0x7E) continue;
    const float middle =
        (FloatFromE4M3(code) + FloatFromE4M3(static_cast<std::uint8_t>(code + 1))) / 2;
    EXPECT_EQ(E4M3FromFloat(middle), code % 2 == 0 ? code : code + 1) << byte;
  }
  EXPECT_EQ(E4M3FromFloat(1e9F), 0x7E);
  EXPECT_EQ(E4M3FromFloat(-1e9F), 0xFE);
  EXPECT_EQ(E4M3FromFloat(NAN) & 0x7F, 0x7F);
}

}  // namespace
}  // namespace tiercel::testing
