#include "tests/store/checkpoint_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <span>

#include "base/byte_order.h"
#include "base/file.h"

namespace tiercel::testing {
namespace {

std::uint64_t TypeSizeBytes(std::string_view type) {
  return type.starts_with("F8") || type == "U8" ? 1
         : type == "BF16" || type == "F16"      ? 2
         : type == "F32"                        ? 4
                                                : 8;
}

FakeModel Finish(std::string config) {
  const Result<Recipe> recipe = ParseRecipe(config, "fake config");
  EXPECT_TRUE(recipe.ok()) << recipe.status().ToString();
  FakeModel model{.config = std::move(config), .row_counts = {}};
  for (const LayerRecipe& layer : recipe.value().layers) {
    model.row_counts.push_back(layer.row_count);
  }
  return model;
}

}  // namespace

void WriteShard(const std::string& path, const std::vector<FakeTensor>& tensors) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  std::vector<std::uint64_t> offsets;
  std::uint64_t at = 0;
  for (const FakeTensor& tensor : tensors) {
    std::uint64_t size_bytes = TypeSizeBytes(tensor.type);
    for (const std::uint64_t dimension : tensor.shape) size_bytes *= dimension;
    header[tensor.name] = {
        {"dtype", tensor.type}, {"shape", tensor.shape}, {"data_offsets", {at, at + size_bytes}}};
    offsets.push_back(at);
    at += size_bytes;
  }
  const std::string text = header.dump();
  std::string start(8, '\0');
  StoreLittleEndian<std::uint64_t>(start.data(), text.size());
  start += text;
  const Result<FileDescriptor> file = OpenFile(path, O_WRONLY | O_CREAT | O_TRUNC);
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  const auto write = [&](std::uint64_t offset_bytes, std::string_view bytes) {
    const Status status =
        WriteAt(file.value(), path, offset_bytes, std::as_bytes(std::span(bytes)));
    ASSERT_TRUE(status.ok()) << status.ToString();
  };
  write(0, start);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    write(start.size() + offsets[i], tensors[i].bytes);
  }
  ASSERT_EQ(ftruncate(file.value().get(), static_cast<off_t>(start.size() + at)), 0);
}

FakeModel FakeV41(std::uint64_t base) {
  return Finish(
      fmt::format(R"({{"model_type":"deepseek_v41","text_config":{{"engram_layer_ids":[1,14],)"
                  R"("engram_max_ngram_size":4,"engram_n_heads":8,"engram_head_dim":256,)"
                  R"("engram_vocab_size":{},"engram_compressed_vocab_size":99092,)"
                  R"("engram_pad_token_id":2,"vocab_size":129280}}}})",
                  base));
}

FakeModel FakeQwen(std::uint64_t base) {
  return Finish(fmt::format(
      R"({{"model_type":"qwen4_exp","text_config":{{"ple_layer_ids":[2],"ple_embed_dim":2560,)"
      R"("ngram_size":3,"heads_per_ngram":8,"ngram_vocab_size_base":{},"seed":1234,)"
      R"("make_ngram_vocab_size_divisible_by":128,"vocab_size":248320,)"
      R"("eos_token_id":248044}}}})",
      base));
}

FakeModel FakeDemo(std::uint64_t base) {
  return Finish(
      fmt::format(R"({{"engram_vocab_size":[{0},{0}],"max_ngram_size":3,"n_embed_per_ngram":512,)"
                  R"("n_head_per_ngram":8,"layer_ids":[1,15],"pad_id":2,"seed":0,)"
                  R"("engram_compressed_vocab_size":98627,"vocab_size":129280}})",
                  base));
}

std::string IndexText(const std::vector<std::pair<std::string, std::string>>& places) {
  std::string map;
  for (const auto& [tensor, shard] : places) {
    map += fmt::format("{}{}: {}", map.empty() ? "" : ", ", nlohmann::json(tensor).dump(),
                       nlohmann::json(shard).dump());
  }
  return fmt::format(R"({{"metadata": {{"total_size": 1}}, "weight_map": {{{}}}}})", map);
}

}  // namespace tiercel::testing
