// Goal: weights beside a table are read as the numbers that they are, in every type in which
// they are stored, and what is none of these is told.
//
// Method: shards written by hand.

#include "store/tensor_set.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/store/checkpoint_files.h"
#include "tests/support/scratch_dir.h"

namespace tiercel::testing {
namespace {

std::string Bytes(const std::vector<int>& bytes) {
  std::string text;
  for (const int byte : bytes) text += static_cast<char>(byte);
  return text;
}

TensorSet OpenBoth(const ScratchDir& scratch, const std::vector<FakeTensor>& first,
                   const std::vector<FakeTensor>& second) {
  WriteShard(scratch.File("a.safetensors"), first);
  WriteShard(scratch.File("b.safetensors"), second);
  Result<TensorSet> set =
      TensorSet::Open({scratch.File("a.safetensors"), scratch.File("b.safetensors")},
                      [](std::string_view) { return true; });
  EXPECT_TRUE(set.ok()) << set.status().ToString();
  return std::move(set).value();
}

TEST(TensorSetTest, FloatsOfEveryType) {
  const ScratchDir scratch;
  FakeTensor bf16 = Tensor("model.layers.1.norm", "BF16", {2});
  bf16.bytes = Bytes({0x80, 0x3F, 0x00, 0xC0});  // 1, -2
  FakeTensor half = Tensor("half", "F16", {1});
  half.bytes = Bytes({0x00, 0x38});  // 0.5
  FakeTensor single = Tensor("single", "F32", {1, 1});
  single.bytes = Bytes({0x00, 0x00, 0x40, 0x40});  // 3
  const TensorSet set = OpenBoth(scratch, {bf16, half}, {single});
  EXPECT_EQ(set.Read("layers.1.norm").value().values, (std::vector<float>{1, -2}));
  EXPECT_EQ(set.Read("half").value().values, std::vector<float>{0.5F});
  const FloatTensor read = set.Read("single").value();
  EXPECT_EQ(read.values, std::vector<float>{3});
  EXPECT_EQ(read.shape, (std::vector<std::uint64_t>{1, 1}));
  EXPECT_FALSE(set.Has("orm"));  // Names end at dots.
  EXPECT_EQ(set.Read("orm").status().code(), StatusCode::kNotFound);
}

TEST(TensorSetTest, BlocksOfE4M3HaveTheirScales) {
  const ScratchDir scratch;
  FakeTensor weight = Tensor("w.weight", "F8_E4M3", {33, 64});
  weight.bytes = std::string(33 * 64, '\x38');  // 1
  weight.bytes[1] = '\xB8';                     // -1
  FakeTensor scale = Tensor("w.scale", "F8_E8M0", {2, 2});
  scale.bytes = Bytes({127, 128, 129, 126});
  const TensorSet set = OpenBoth(scratch, {weight}, {scale, Tensor("short", "F8_E8M0", {1, 2})});
  const std::vector<float> values = set.Read("w.weight", "w.scale").value().values;
  ASSERT_EQ(values.size(), 33U * 64);
  EXPECT_EQ(values[0], 1);
  EXPECT_EQ(values[1], -1);
  EXPECT_EQ(values[32], 2);            // The second block of a row.
  EXPECT_EQ(values[31 * 64 + 63], 2);  // The last row of the first blocks.
  EXPECT_EQ(values[32 * 64], 4);       // The next row's block.
  EXPECT_EQ(values[32 * 64 + 63], 0.5F);
  EXPECT_EQ(set.Read("w.weight", "short").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(set.Read("w.weight", "none").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(set.Read("w.weight").status().code(), StatusCode::kInvalidArgument);
}

TEST(TensorSetTest, IntegersAreNoWeights) {
  const ScratchDir scratch;
  const TensorSet set = OpenBoth(scratch, {Tensor("ids", "I64", {3})}, {});
  EXPECT_EQ(set.Read("ids").status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tiercel::testing
