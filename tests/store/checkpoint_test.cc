// Goal: InspectCheckpoint finds the tables of every layout where they lie, whatever
// prefix and sharding an export chose, and refuses a checkpoint that contradicts its
// config or itself, with words that lead to the cause. It reads headers alone.
//
// Method: small hand-made shards, mostly holes; each kind of damage, and the message.

#include "tiercel/checkpoint.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tests/store/checkpoint_files.h"
#include "tests/support/scratch_dir.h"

namespace tiercel {
namespace {

using testing::FakeDemo;
using testing::FakeModel;
using testing::FakeQwen;
using testing::FakeTensor;
using testing::FakeV41;
using testing::IndexText;
using testing::ScratchDir;
using testing::Tensor;
using testing::WriteShard;

constexpr std::uint64_t kBase = 1000;

std::vector<FakeTensor> V41Layer(std::string_view prefix, std::uint32_t layer, std::uint64_t rows) {
  const std::string at = fmt::format("{}layers.{}.engram.", prefix, layer);
  return {Tensor(at + "q_weight", "BF16", {4, 16}),
          Tensor(at + "embed.scale", "F8_E8M0", {rows, 8}),
          Tensor(at + "wkv.weight", "F8_E4M3", {5, 7}),
          Tensor(at + "embed.weight", "F8_E4M3", {rows, 256})};
}

std::string ShardName(std::uint64_t index) {
  return fmt::format(
      "model.language_model.layers.1.ple.ple_embedding.ngram_embedding.shard_{}.weight", index);
}

// Expects an error of that code whose message has all of `words`.
void ExpectError(const std::string& path, StatusCode code, const std::vector<std::string>& words) {
  const Result<CheckpointInfo> info = InspectCheckpoint(path);
  ASSERT_FALSE(info.ok());
  EXPECT_EQ(info.status().code(), code) << info.status().ToString();
  for (const std::string& word : words) {
    EXPECT_NE(info.status().message().find(word), std::string::npos)
        << info.status().message() << "\nlacks: " << word;
  }
}

// A V4.1 checkpoint in two shards with an index, to be damaged by a test.
class V41CheckpointTest : public ::testing::Test {
 protected:
  V41CheckpointTest() {
    scratch_.Write("config.json", model_.config);
    WriteShard(a_, V41Layer("model.", 1, model_.row_counts[0]));
    WriteShard(b_, V41Layer("model.", 14, model_.row_counts[1]));
    WriteIndex("a.safetensors", "b.safetensors");
  }

  void WriteIndex(const std::string& first, const std::string& second) {
    scratch_.Write("model.safetensors.index.json",
                   IndexText({{"model.layers.1.engram.embed.weight", first},
                              {"model.layers.1.engram.embed.scale", first},
                              {"model.layers.0.mlp.weight", "never-opened.safetensors"},
                              {"model.layers.14.engram.embed.weight", second},
                              {"model.layers.14.engram.embed.scale", second}}));
  }

  const ScratchDir scratch_;
  const std::string dir_ = scratch_.path();
  const std::string a_ = scratch_.File("a.safetensors");
  const std::string b_ = scratch_.File("b.safetensors");
  const FakeModel model_ = FakeV41(kBase);
};

TEST_F(V41CheckpointTest, FindsBothPartsOfEachLayer) {
  const Result<CheckpointInfo> result = InspectCheckpoint(dir_);
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  const CheckpointInfo& info = result.value();
  EXPECT_EQ(info.path, dir_);
  EXPECT_EQ(info.layout, "deepseek-v4.1");
  EXPECT_FALSE(info.synthetic_seed.has_value());
  ASSERT_EQ(info.files.size(), 2U);
  EXPECT_EQ(info.files[0].path, a_);
  EXPECT_EQ(info.files[0].size_bytes, std::filesystem::file_size(a_));
  ASSERT_EQ(info.layers.size(), 2U);
  EXPECT_EQ(info.table_bytes, 264 * (model_.row_counts[0] + model_.row_counts[1]));
  for (std::size_t i = 0; i < 2; ++i) {
    const LayerTable& layer = info.layers[i];
    EXPECT_EQ(layer.layer_id, i == 0 ? 1U : 14U);
    EXPECT_EQ(layer.row_count, model_.row_counts[i]);
    EXPECT_EQ(layer.shape.row_size_bytes(), 264U);
    ASSERT_EQ(layer.parts.size(), 2U);
    EXPECT_EQ(layer.parts[0].size_bytes, 256U);
    EXPECT_EQ(layer.parts[1].size_bytes, 8U);
    for (const RowPart& part : layer.parts) {
      ASSERT_EQ(part.extents.size(), 1U);
      EXPECT_EQ(part.extents[0].file_index, i);
      EXPECT_EQ(part.extents[0].first_row, 0U);
      EXPECT_EQ(part.extents[0].row_count, layer.row_count);
    }
    EXPECT_EQ(layer.parts[1].extents[0].tensor,
              fmt::format("model.layers.{}.engram.embed.scale", layer.layer_id));
    // By the order in the shard: scales, 35 B of a projection, weights, end of file.
    EXPECT_EQ(layer.parts[0].extents[0].offset_bytes,
              layer.parts[1].extents[0].offset_bytes + 8 * layer.row_count + 35);
    EXPECT_EQ(layer.parts[0].extents[0].offset_bytes + 256 * layer.row_count,
              info.files[i].size_bytes);
  }
}

TEST_F(V41CheckpointTest, ReadsEveryShardWhereThereIsNoIndex) {
  std::filesystem::remove(scratch_.File("model.safetensors.index.json"));
  WriteShard(scratch_.File("c.safetensors"), {Tensor("layers.0.mlp.weight", "BF16", {2, 2})});
  const Result<CheckpointInfo> info = InspectCheckpoint(dir_ + "/");
  ASSERT_TRUE(info.ok()) << info.status().ToString();
  EXPECT_EQ(info.value().files.size(), 2U);
}

TEST_F(V41CheckpointTest, TakesASingleFile) {
  std::vector<FakeTensor> all = V41Layer("", 1, model_.row_counts[0]);
  for (FakeTensor& tensor : V41Layer("", 14, model_.row_counts[1])) all.push_back(tensor);
  const std::string one = scratch_.File("one.safetensors");
  WriteShard(one, all);
  const Result<CheckpointInfo> info = InspectCheckpoint(one);
  ASSERT_TRUE(info.ok()) << info.status().ToString();
  ASSERT_EQ(info.value().files.size(), 1U);
  EXPECT_EQ(info.value().files[0].path, one);
}

TEST_F(V41CheckpointTest, NamesThatOnlyLookAlikeAreNotTheTable) {
  std::filesystem::remove(scratch_.File("model.safetensors.index.json"));
  std::vector<FakeTensor> alike;
  for (const char* const name :
       {"model.xlayers.1.engram.embed.weight", "layers.01.engram.embed.weight",
        "layers.1.engram.embed.weight.bias", "layers..engram.embed.weight",
        "layers.-1.engram.embed.weight", "layers.1x.engram.embed.weight",
        "layers.4294967297.engram.embed.weight", "layers.1.xengram.embed.weight",
        "engram.embed.weight", "1.engram.embed.weight", ".engram.embed.weight",
        "layers.7.engram.embed.weight"}) {
    alike.push_back(Tensor(name, "F8_E4M3", {1, 256}));
  }
  WriteShard(scratch_.File("c.safetensors"), alike);
  const Result<CheckpointInfo> info = InspectCheckpoint(dir_);
  ASSERT_TRUE(info.ok()) << info.status().ToString();
  EXPECT_EQ(info.value().files.size(), 2U);
}

TEST_F(V41CheckpointTest, AMissingScaleIsNamed) {
  std::filesystem::remove(scratch_.File("model.safetensors.index.json"));
  WriteShard(b_, {Tensor("layers.14.engram.embed.weight", "F8_E4M3", {model_.row_counts[1], 256})});
  ExpectError(dir_, StatusCode::kNotFound, {dir_, "layers.14.engram.embed.scale", "config.json"});
}

TEST_F(V41CheckpointTest, TwoTensorsForOneTableAreBothNamed) {
  std::filesystem::remove(scratch_.File("model.safetensors.index.json"));
  WriteShard(scratch_.File("c.safetensors"), V41Layer("draft.", 1, model_.row_counts[0]));
  ExpectError(dir_, StatusCode::kInvalidArgument,
              {a_, "model.layers.1.engram.embed.weight", "c.safetensors",
               "draft.layers.1.engram.embed.weight", "at byte"});
}

TEST_F(V41CheckpointTest, AWrongTypeIsNamed) {
  std::vector<FakeTensor> tensors = V41Layer("model.", 1, model_.row_counts[0]);
  tensors[3].type = "F8_E5M2";
  WriteShard(a_, tensors);
  ExpectError(dir_, StatusCode::kInvalidArgument,
              {a_, "model.layers.1.engram.embed.weight", "at byte", "F8_E5M2", "F8_E4M3"});
}

TEST_F(V41CheckpointTest, AShapeAgainstTheConfigIsNamed) {
  const std::uint64_t rows = model_.row_counts[0];
  for (const auto& [index, shape] :
       std::vector<std::pair<std::size_t, std::vector<std::uint64_t>>>{{3, {rows + 1, 256}},
                                                                       {3, {rows, 128}},
                                                                       {3, {rows * 256}},
                                                                       {3, {rows, 256, 1}},
                                                                       {3, {}},
                                                                       {3, {0, 256}},
                                                                       {1, {rows, 4}},
                                                                       {1, {rows - 1, 8}}}) {
    std::vector<FakeTensor> tensors = V41Layer("model.", 1, rows);
    tensors[index].shape = shape;
    WriteShard(a_, tensors);
    ExpectError(dir_, StatusCode::kInvalidArgument,
                {a_, tensors[index].name, "at byte", std::to_string(rows), "config.json"});
  }
}

TEST_F(V41CheckpointTest, ATruncatedShardIsNamed) {
  const std::uint64_t size_bytes = std::filesystem::file_size(b_);
  std::filesystem::resize_file(b_, size_bytes - 1);
  ExpectError(
      dir_, StatusCode::kCorruption,
      {b_, "model.layers.14.engram.embed.weight", "truncated", std::to_string(size_bytes - 1)});
  std::filesystem::resize_file(b_, 100);
  ExpectError(dir_, StatusCode::kCorruption, {b_, "truncated"});
  std::filesystem::resize_file(b_, 0);
  ExpectError(dir_, StatusCode::kCorruption, {b_, "truncated"});
  std::filesystem::resize_file(b_, size_bytes);
}

TEST_F(V41CheckpointTest, AnIndexThatNamesAMissingShardIsNamed) {
  std::filesystem::remove(b_);
  ExpectError(dir_, StatusCode::kNotFound,
              {"model.safetensors.index.json", "model.layers.14.engram.embed", "b.safetensors"});
}

TEST_F(V41CheckpointTest, AnIndexThatNamesTheWrongShardIsNamed) {
  WriteIndex("a.safetensors", "a.safetensors");
  ExpectError(dir_, StatusCode::kNotFound,
              {a_, "model.layers.14.engram.embed", "model.safetensors.index.json"});
}

TEST_F(V41CheckpointTest, AnIndexMustNotLeadOutOfTheDirectory) {
  for (const std::string& shard :
       std::vector<std::string>{"../b.safetensors", "/etc/passwd", "x/b.safetensors", "..", ".", "",
                                std::string("a\0b", 3), std::string(300, 'x')}) {
    WriteIndex("a.safetensors", shard);
    ExpectError(
        dir_, StatusCode::kInvalidArgument,
        {"model.safetensors.index.json", "model.layers.14.engram.embed", "plain file name"});
  }
}

TEST_F(V41CheckpointTest, AMalformedIndexIsRefused) {
  const std::string wanted = R"("layers.1.engram.embed.weight")";
  for (const auto& [text, word] : std::vector<std::pair<std::string, std::string>>{
           {"", "not JSON"},
           {"{", "not JSON"},
           {"[]", "weight_map"},
           {"{}", "weight_map"},
           {R"({"weight_map": []})", "weight_map"},
           {R"({"metadata": {"weight_map": {}}})", "weight_map"},
           {R"({"weight_map": {)" + wanted + ": 7}}", "no shard name"},
           {R"({"weight_map": {)" + wanted + ": null}}", "no shard name"},
           {R"({"weight_map": {)" + wanted + R"(: {"a": "b"}}})", "no shard name"},
           {R"({"weight_map": {)" + wanted + R"(: ["b"]}})", "no shard name"},
           {R"({"weight_map": {}, "weight_map": {}})", "twice"},
           {R"({"weight_map": {)" + wanted + R"(: "a", )" + wanted + R"(: "b"}})", "twice"},
           {R"({"metadata": )" + std::string(1000, '[') + "}", "nested"}}) {
    SCOPED_TRACE(text.substr(0, 100));
    scratch_.Write("model.safetensors.index.json", text);
    ExpectError(dir_, StatusCode::kInvalidArgument, {"model.safetensors.index.json", word});
  }
  scratch_.Write("model.safetensors.index.json", R"({"weight_map": {"a": "a.safetensors"}})");
  ExpectError(dir_, StatusCode::kNotFound, {dir_, "layers.1.engram.embed.weight"});
}

TEST_F(V41CheckpointTest, MissingPiecesAreNamed) {
  ExpectError(scratch_.File("nowhere"), StatusCode::kNotFound, {"nowhere"});
  ExpectError(scratch_.File("config.json"), StatusCode::kInvalidArgument, {"config.json"});
  std::filesystem::remove(scratch_.File("config.json"));
  ExpectError(dir_, StatusCode::kNotFound, {"config.json"});
  scratch_.Write("config.json", R"({"model_type": "llama"})");
  ExpectError(dir_, StatusCode::kInvalidArgument, {"config.json", "llama"});

  const ScratchDir empty;
  empty.Write("config.json", model_.config);
  ExpectError(empty.path(), StatusCode::kNotFound, {empty.path(), ".safetensors"});
}

TEST_F(V41CheckpointTest, PermissionDeniedIsSaid) {
  ASSERT_EQ(chmod(b_.c_str(), 0), 0);
  ASSERT_EQ(chmod(dir_.c_str(), 0755), 0);
  // Root may read any file: be somebody else meanwhile.
  const bool root = geteuid() == 0;
  if (root && seteuid(65534) != 0) GTEST_SKIP() << "runs as root and cannot be anyone else";
  ExpectError(dir_, StatusCode::kPermissionDenied, {b_});
  if (root) {
    ASSERT_EQ(seteuid(0), 0);
  }
}

TEST_F(V41CheckpointTest, TheMarkerOfAMadeCheckpointIsReadAndChecked) {
  scratch_.Write("tiercel_synthetic.json",
                 R"({"format":"tiercel-synthetic","version":1,"generator":1,)"
                 R"("seed":18446744073709551615,"like":"x","shrink":3})");
  const Result<CheckpointInfo> info = InspectCheckpoint(dir_);
  ASSERT_TRUE(info.ok()) << info.status().ToString();
  EXPECT_EQ(info.value().synthetic_seed, ~std::uint64_t{0});
  for (const char* const text :
       {"", "[]", "{}", R"({"format":"x","version":1,"generator":1,"seed":1})",
        R"({"format":"tiercel-synthetic","version":2,"generator":1,"seed":1})",
        R"({"format":"tiercel-synthetic","version":1,"generator":2,"seed":1})",
        R"({"format":"tiercel-synthetic","version":1,"generator":1})",
        R"({"format":"tiercel-synthetic","version":1,"generator":1,"seed":-1})",
        R"({"format":"tiercel-synthetic","version":1,"generator":1,"seed":"1"})"}) {
    SCOPED_TRACE(text);
    scratch_.Write("tiercel_synthetic.json", text);
    ExpectError(dir_, StatusCode::kInvalidArgument, {"tiercel_synthetic.json"});
  }
}

// The real model's size: the shards are holes, and opening reads their headers alone.
TEST(CheckpointTest, OpensTwoHundredGigabytesByTheirHeaders) {
  const ScratchDir scratch;
  const FakeModel model = FakeV41(16'000'000);
  ASSERT_EQ(model.row_counts, (std::vector<std::uint64_t>{384'006'168, 384'016'682}));
  scratch.Write("config.json", model.config);
  WriteShard(scratch.File("model-00047-of-00048.safetensors"),
             V41Layer("", 1, model.row_counts[0]));
  WriteShard(scratch.File("model-00048-of-00048.safetensors"),
             V41Layer("", 14, model.row_counts[1]));
  const Result<CheckpointInfo> info = InspectCheckpoint(scratch.path());
  ASSERT_TRUE(info.ok()) << info.status().ToString();
  EXPECT_EQ(info.value().table_bytes, 202'758'032'400U);
  EXPECT_GT(info.value().files[0].size_bytes, 101'377'000'000U);
}

class QwenCheckpointTest : public ::testing::Test {
 protected:
  QwenCheckpointTest() { scratch_.Write("config.json", model_.config); }

  // Shards of `rows` rows, the i-th in file i % 3.
  void Write(const std::vector<std::uint64_t>& rows, const std::string& type) {
    std::vector<std::vector<FakeTensor>> files(3);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      files[i % 3].push_back(Tensor(ShardName(i), type, {rows[i], 160}));
    }
    for (FakeTensor& tensor : extra_) files[0].push_back(tensor);
    for (std::size_t i = 0; i < 3; ++i) {
      WriteShard(scratch_.File(fmt::format("{}.safetensors", i)), files[i]);
    }
  }

  const ScratchDir scratch_;
  const std::string dir_ = scratch_.path();
  const FakeModel model_ = FakeQwen(kBase);
  const std::uint64_t rows_ = model_.row_counts.at(0);
  std::vector<FakeTensor> extra_ = {
      Tensor("model.language_model.layers.1.ple.ple_embedding.layer_multipliers", "I64", {3})};
};

const std::string kScaleName =
    "model.language_model.layers.1.ple.ple_embedding.ngram_embedding.weight_scale";

TEST_F(QwenCheckpointTest, JoinsShardsByNumberNotByName) {
  const std::uint64_t each = rows_ / 128;
  Write(std::vector<std::uint64_t>(128, each), "BF16");
  const Result<CheckpointInfo> info = InspectCheckpoint(dir_);
  ASSERT_TRUE(info.ok()) << info.status().ToString();
  EXPECT_EQ(info.value().layout, "qwen3.8");
  ASSERT_EQ(info.value().layers.size(), 1U);
  const LayerTable& layer = info.value().layers[0];
  EXPECT_EQ(layer.layer_id, 1U);
  EXPECT_EQ(layer.shape.format, RowFormat::kBf16);
  ASSERT_EQ(layer.parts.size(), 1U);
  EXPECT_EQ(layer.parts[0].size_bytes, 320U);
  ASSERT_EQ(layer.parts[0].extents.size(), 128U);
  for (std::size_t i = 0; i < 128; ++i) {
    EXPECT_EQ(layer.parts[0].extents[i].tensor, ShardName(i));
    EXPECT_EQ(layer.parts[0].extents[i].first_row, i * each);
    EXPECT_EQ(layer.parts[0].extents[i].row_count, each);
    EXPECT_EQ(layer.parts[0].extents[i].file_index, i % 3);
  }
}

TEST_F(QwenCheckpointTest, TheLastShardMayBeSmaller) {
  Write({rows_ / 2 + 100, rows_ - rows_ / 2 - 100}, "BF16");
  EXPECT_TRUE(InspectCheckpoint(dir_).ok());
  Write({rows_ / 2 - 100, rows_ - rows_ / 2 + 100}, "BF16");
  ExpectError(dir_, StatusCode::kInvalidArgument, {ShardName(0), ShardName(1), "alike"});
}

TEST_F(QwenCheckpointTest, ReadsTheScaleOfFp8) {
  extra_.push_back({kScaleName, "BF16", {1}, std::string("\x51\x39", 2)});
  Write({rows_}, "F8_E4M3");
  const Result<CheckpointInfo> info = InspectCheckpoint(dir_);
  ASSERT_TRUE(info.ok()) << info.status().ToString();
  EXPECT_EQ(info.value().layers[0].shape.format, RowFormat::kE4M3Tensor);
  EXPECT_EQ(info.value().layers[0].shape.tensor_scale, 1.9931793212890625e-04F);
  EXPECT_EQ(info.value().layers[0].parts[0].size_bytes, 160U);
}

TEST_F(QwenCheckpointTest, RefusesAMissingOrBadScale) {
  Write({rows_}, "F8_E4M3");
  ExpectError(dir_, StatusCode::kNotFound, {"ngram_embedding.weight_scale"});
  extra_.push_back({kScaleName, "BF16", {1}, ""});
  struct Case {
    const char* type;
    std::vector<std::uint64_t> shape;
    std::string bytes;
  };
  for (const Case& c : {Case{"BF16", {1}, std::string("\0\0", 2)},
                        {"BF16", {1}, "\xc0\x7f"},
                        {"BF16", {1}, "\x80\x7f"},
                        {"BF16", {1}, "\x80\xbf"},
                        {"BF16", {2}, "\x51\x39\x51\x39"},
                        {"F32", {1}, ""}}) {
    extra_.back() = {kScaleName, c.type, c.shape, c.bytes};
    Write({rows_}, "F8_E4M3");
    ExpectError(dir_, StatusCode::kInvalidArgument, {kScaleName, "at byte"});
  }
}

TEST_F(QwenCheckpointTest, RefusesShardsThatDoNotMakeATable) {
  Write({rows_ / 2, rows_ / 2 - 1}, "BF16");
  ExpectError(dir_, StatusCode::kInvalidArgument, {ShardName(1), std::to_string(rows_ - 1)});
  Write({rows_ / 2, rows_ - rows_ / 2}, "F16");
  ExpectError(dir_, StatusCode::kInvalidArgument, {ShardName(0), "F16"});

  extra_.push_back(Tensor("draft.layers.1.ple.ple_embedding.ngram_embedding.shard_0.weight", "BF16",
                          {rows_, 160}));
  Write({rows_}, "BF16");
  ExpectError(dir_, StatusCode::kInvalidArgument, {ShardName(0), extra_.back().name});

  extra_ = {Tensor(ShardName(2), "BF16", {rows_ / 4, 160})};
  Write({rows_ / 4}, "BF16");
  ExpectError(dir_, StatusCode::kNotFound, {"shard_1.weight"});

  extra_ = {Tensor(ShardName(1), "BF16", {rows_ / 2, 80})};
  Write({rows_ / 2}, "BF16");
  ExpectError(dir_, StatusCode::kInvalidArgument, {ShardName(1), "160"});

  extra_ = {Tensor(ShardName(1), "F8_E4M3", {rows_ / 2, 160})};
  Write({rows_ / 2}, "BF16");
  ExpectError(dir_, StatusCode::kInvalidArgument, {ShardName(1), "F8_E4M3"});

  extra_.clear();
  Write({}, "BF16");
  ExpectError(dir_, StatusCode::kNotFound, {"shard_0.weight"});
}

TEST(DemoCheckpointTest, TakesItsThreeTypesAndPrefixes) {
  const FakeModel model = FakeDemo(kBase);
  struct Case {
    const char* type;
    RowFormat format;
    std::uint32_t row_bytes;
  };
  for (const Case& c : {Case{"F32", RowFormat::kFp32, 256},
                        {"BF16", RowFormat::kBf16, 128},
                        {"F16", RowFormat::kFp16, 128}}) {
    for (const char* const prefix : {"", "model."}) {
      const ScratchDir scratch;
      scratch.Write("config.json", model.config);
      const auto name = [prefix](int layer) {
        return fmt::format("{}layers.{}.engram.multi_head_embedding.embedding.weight", prefix,
                           layer);
      };
      WriteShard(scratch.File("model.safetensors"),
                 {Tensor(name(15), c.type, {model.row_counts[1], 64}),
                  Tensor(name(1), c.type, {model.row_counts[0], 64})});
      const Result<CheckpointInfo> info = InspectCheckpoint(scratch.path());
      ASSERT_TRUE(info.ok()) << info.status().ToString();
      EXPECT_EQ(info.value().layout, "engram-demo");
      ASSERT_EQ(info.value().layers.size(), 2U);
      EXPECT_EQ(info.value().layers[0].layer_id, 1U);
      EXPECT_EQ(info.value().layers[0].shape.format, c.format);
      EXPECT_EQ(info.value().layers[1].shape.row_size_bytes(), c.row_bytes);
      EXPECT_EQ(info.value().layers[1].parts[0].extents[0].tensor, name(15));
    }
  }
}

}  // namespace
}  // namespace tiercel
