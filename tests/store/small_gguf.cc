#include "tests/store/small_gguf.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <utility>

namespace tiercel::testing {

SmallGguf::SmallGguf() {
  RecipeParameters p;
  p.kind = RecipeKind::kDeepSeekV41;
  p.layer_ids = {1, 14};
  p.order_max = 3;
  p.head_count = 2;
  p.head_dim = 32;
  p.head_size_bases = {12, 12};  // No prime: the first head size is 13.
  p.vocab_size = 60;
  p.compressed_vocab_size = 50;
  p.pad_token = 2;
  Result<Recipe> recipe = BuildRecipe(p);
  EXPECT_TRUE(recipe.ok()) << recipe.status().ToString();
  if (recipe.ok()) recipe_ = std::move(recipe).value();
}

std::vector<std::uint64_t> SmallGguf::Multipliers() const {
  std::vector<std::uint64_t> all;
  for (const LayerRecipe& layer : recipe_.layers) {
    all.insert(all.end(), layer.multipliers.begin(), layer.multipliers.end());
  }
  return all;
}

std::vector<std::uint64_t> SmallGguf::Primes() const {
  std::vector<std::uint64_t> all;
  for (const LayerRecipe& layer : recipe_.layers) {
    all.insert(all.end(), layer.head_sizes.begin(), layer.head_sizes.end());
  }
  return all;
}

std::vector<std::uint64_t> SmallGguf::Offsets() const {
  std::vector<std::uint64_t> all;
  for (const LayerRecipe& layer : recipe_.layers) {
    all.insert(all.end(), layer.offsets.begin(), layer.offsets.end());
  }
  return all;
}

std::vector<std::uint64_t> SmallGguf::TokenMapEntries() {
  std::vector<std::uint64_t> classes;
  for (std::uint64_t i = 0; i < 60; ++i) classes.push_back(i < 50 ? i : 3 * i % 50);
  return classes;
}

void SmallGguf::WriteKeys(GgufBuilder& builder) const {
  if (!architecture.empty()) builder.Text("general.architecture", architecture);
  const auto write = [&](const std::string& name, const Write& usual) {
    const auto changed = writes_.find(name);
    (changed == writes_.end() ? usual : changed->second)(builder, prefix);
  };
  const auto number = [&](const std::string& name, std::uint64_t value) {
    write(name,
          [&](GgufBuilder& to, const std::string& at) { to.Number(at + name, kGgufU32, value); });
  };
  const auto array = [&](const std::string& name, std::uint32_t type,
                         const std::vector<std::uint64_t>& values) {
    write(name, [&](GgufBuilder& to, const std::string& at) { to.Array(at + name, type, values); });
  };
  array("layer_ids", kGgufI32, {1, 14});
  number("head_count", 2);
  number("key_length", 32);
  number("max_ngram_size", 3);
  number("pad_id", 2);
  number("vocab_size", 12);
  number("compressed_vocab_size", 50);
  array("num_embeddings", kGgufU64, {recipe_.layers[0].row_count, recipe_.layers[1].row_count});
  array("multipliers", kGgufU64, Multipliers());
  array("primes", kGgufU64, Primes());
  array("offsets", kGgufU64, Offsets());
  array("token_map", kGgufI32, TokenMapEntries());
  write("extra", [](GgufBuilder&, const std::string&) {});
}

void SmallGguf::WriteTable(GgufBuilder& builder, std::uint32_t layer_id, char fill) const {
  const std::uint64_t rows = recipe_.layers[*recipe_.FindLayer(layer_id)].row_count;
  const std::size_t row_bytes = tensor_type == kTensorF32  ? 128
                                : tensor_type == kTensorQ8 ? 34
                                                           : 64;
  builder.Tensor(fmt::format("blk.{}.engram_embd.weight", layer_id), tensor_type, {32, rows},
                 std::string(rows * row_bytes, fill));
}

std::string SmallGguf::Build() const {
  GgufBuilder builder;
  WriteKeys(builder);
  builder.Tensor("token_embd.weight", kTensorF32, {4, 1}, std::string(16, 't'));
  for (const std::uint32_t layer_id : tensor_layers) WriteTable(builder, layer_id);
  return builder.Build();
}

}  // namespace tiercel::testing
