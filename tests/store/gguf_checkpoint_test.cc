// Goal: the tables, recipe and token map of GGUF models are found in every dialect, whole and
// split, and what contradicts itself is refused or told.
//
// Method: a small right model, and one change at a time.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/store/gguf_builder.h"
#include "tests/store/small_gguf.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/checkpoint.h"

namespace tiercel {
namespace {

using testing::GgufBuilder;
using testing::kGgufI32;
using testing::kGgufString;
using testing::kGgufU16;
using testing::kGgufU32;
using testing::kGgufU64;
using testing::kTensorF32;
using testing::ScratchDir;
using testing::SmallGguf;

Result<CheckpointInfo> Inspect(const ScratchDir& scratch, const SmallGguf& model) {
  return InspectCheckpoint(scratch.Write("model.gguf", model.Build()));
}

/// What every right dialect of the small model comes to.
void ExpectSmallModel(const Result<CheckpointInfo>& inspected, const SmallGguf& model) {
  ASSERT_TRUE(inspected.ok()) << inspected.status().ToString();
  const CheckpointInfo& info = inspected.value();
  EXPECT_EQ(info.layout, "gguf");
  ASSERT_EQ(info.layers.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    const LayerRecipe& recipe = info.recipe.layers[i];
    const LayerRecipe& expected = model.recipe().layers[i];
    EXPECT_EQ(recipe.multipliers, expected.multipliers);
    EXPECT_EQ(recipe.head_sizes, expected.head_sizes);
    EXPECT_EQ(recipe.offsets, expected.offsets);
    const LayerTable& table = info.layers[i];
    EXPECT_EQ(table.layer_id, i == 0 ? 1U : 14U);
    EXPECT_EQ(table.row_count, expected.row_count);
    EXPECT_EQ(table.shape.value_count, 32U);
    ASSERT_EQ(table.parts.size(), 1U);
    ASSERT_EQ(table.parts[0].extents.size(), 1U);
    EXPECT_EQ(table.parts[0].extents[0].row_count, expected.row_count);
    EXPECT_LT(table.parts[0].extents[0].file_index, info.files.size());
  }
  EXPECT_EQ(info.recipe.parameters.pad_token, 2);
  EXPECT_EQ(info.recipe.parameters.compressed_vocab_size, 50U);
  EXPECT_FALSE(info.synthetic_seed.has_value());
}

void ExpectRefused(const SmallGguf& model, StatusCode code, std::string_view words) {
  const ScratchDir scratch;
  const Result<CheckpointInfo> info = Inspect(scratch, model);
  ASSERT_FALSE(info.ok()) << words;
  EXPECT_EQ(info.status().code(), code) << info.status().ToString();
  EXPECT_NE(info.status().message().find(words), std::string_view::npos)
      << info.status().ToString();
  EXPECT_NE(info.status().message().find("model.gguf"), std::string_view::npos)
      << info.status().ToString();
}

TEST(GgufCheckpointTest, TheUsualDialect) {
  const ScratchDir scratch;
  const SmallGguf model;
  const Result<CheckpointInfo> info = Inspect(scratch, model);
  ExpectSmallModel(info, model);
  EXPECT_TRUE(info.value().notes.empty());
  ASSERT_NE(info.value().token_map, nullptr);
  EXPECT_EQ(info.value().token_map->entry_count(), 60U);
  EXPECT_EQ(info.value().token_map->class_count(), 50U);
  EXPECT_EQ(info.value().recipe.parameters.vocab_size, 60U);
  EXPECT_EQ(info.value().recipe.parameters.head_size_bases, (std::vector<std::uint64_t>{12, 12}));
  ExpectSmallModel(InspectCheckpoint(scratch.path()), model);  // The directory, one model in it.
}

TEST(GgufCheckpointTest, TheOtherNamesAndTypes) {
  SmallGguf model;
  model.architecture = "deepseek4";
  model.prefix = "deepseek4.engram.";
  model.Rename("key_length", "head_dim", 32);
  model.Rename("max_ngram_size", "max_ngram", 3);
  model.Rename("pad_id", "pad_id_compressed", 2);
  model.SetArray("layer_ids", kGgufU64, {1, 14});
  model.SetArray("token_map", kGgufU64, SmallGguf::TokenMapEntries());
  const ScratchDir scratch;
  ExpectSmallModel(Inspect(scratch, model), model);
  // Keys under the other prefix than the architecture's, or under no architecture.
  model.architecture = "deepseek41";
  ExpectSmallModel(Inspect(scratch, model), model);
  model.architecture = "";
  ExpectSmallModel(Inspect(scratch, model), model);
}

TEST(GgufCheckpointTest, WhatIsMissingIsComputed) {
  SmallGguf model;
  for (const char* const key : {"multipliers", "primes", "offsets", "num_embeddings"}) {
    model.Drop(key);
  }
  const ScratchDir scratch;
  const Result<CheckpointInfo> computed = Inspect(scratch, model);
  ExpectSmallModel(computed, model);
  EXPECT_TRUE(computed.value().notes.empty());

  SmallGguf no_base;  // The primes tell where they begin; the map how many classes there are.
  no_base.Drop("vocab_size");
  no_base.Drop("compressed_vocab_size");
  no_base.Drop("multipliers");
  const Result<CheckpointInfo> told = Inspect(scratch, no_base);
  ExpectSmallModel(told, no_base);
  EXPECT_TRUE(told.value().notes.empty());
}

TEST(GgufCheckpointTest, MoreMultipliersThanNeeded) {
  SmallGguf model;
  const std::vector<std::uint64_t> right = model.Multipliers();
  model.SetArray("multipliers", kGgufU64,
                 {right[0], right[1], right[2], 99, right[3], right[4], right[5], 99});
  const ScratchDir scratch;
  const Result<CheckpointInfo> info = Inspect(scratch, model);
  ExpectSmallModel(info, model);
  ASSERT_EQ(info.value().notes.size(), 1U);
  EXPECT_NE(info.value().notes[0].find("multipliers has 4 entries a layer"), std::string::npos);
}

TEST(GgufCheckpointTest, ARecipeThatDiffersIsTakenAndTold) {
  SmallGguf model;
  std::vector<std::uint64_t> multipliers = model.Multipliers();
  multipliers[4] = 12345;
  model.SetArray("multipliers", kGgufU64, multipliers);
  const ScratchDir scratch;
  const Result<CheckpointInfo> info = Inspect(scratch, model);
  ASSERT_TRUE(info.ok()) << info.status().ToString();
  EXPECT_EQ(info.value().recipe.layers[1].multipliers[1], 12345U);
  ASSERT_EQ(info.value().notes.size(), 1U);
  EXPECT_NE(info.value().notes[0].find("multipliers of layer 14"), std::string::npos)
      << info.value().notes[0];

  SmallGguf base;  // A base that the primes do not begin at.
  base.Rename("vocab_size", "vocab_size", 30);
  const Result<CheckpointInfo> other = Inspect(scratch, base);
  ExpectSmallModel(other, base);
  ASSERT_EQ(other.value().notes.size(), 1U);
  EXPECT_NE(other.value().notes[0].find("vocab_size is 30"), std::string::npos);
}

TEST(GgufCheckpointTest, ATokenMapThatIsMissingOrOfAnotherTokenizerIsTold) {
  SmallGguf model;
  model.Drop("token_map");
  const ScratchDir scratch;
  const Result<CheckpointInfo> info = Inspect(scratch, model);
  ExpectSmallModel(info, model);
  EXPECT_EQ(info.value().token_map, nullptr);
  ASSERT_EQ(info.value().notes.size(), 1U);
  EXPECT_NE(info.value().notes[0].find("no token map"), std::string::npos);

  SmallGguf tokens;
  tokens.Replace("extra", [](GgufBuilder& builder, const std::string&) {
    builder.Texts("tokenizer.ggml.tokens", std::vector<std::string>(61, "x"));
  });
  const Result<CheckpointInfo> other = Inspect(scratch, tokens);
  ExpectSmallModel(other, tokens);
  ASSERT_EQ(other.value().notes.size(), 1U);
  EXPECT_NE(other.value().notes[0].find("61 tokens"), std::string::npos);
}

TEST(GgufCheckpointTest, ContradictionsAreRefused) {
  const auto changed = [](const std::string& key, std::uint32_t type,
                          std::vector<std::uint64_t> values) {
    SmallGguf model;
    model.SetArray(key, type, std::move(values));
    return model;
  };
  const SmallGguf right;
  std::vector<std::uint64_t> offsets = right.Offsets();
  ++offsets[1];
  ExpectRefused(changed("offsets", kGgufU64, offsets), StatusCode::kInvalidArgument, "offsets");
  std::vector<std::uint64_t> primes = right.Primes();
  primes[0] = 15;
  ExpectRefused(changed("primes", kGgufU64, primes), StatusCode::kInvalidArgument, "not a prime");
  primes.pop_back();
  ExpectRefused(changed("primes", kGgufU64, primes), StatusCode::kInvalidArgument, "7 entries");
  std::vector<std::uint64_t> multipliers = right.Multipliers();
  multipliers[0] = 4;
  ExpectRefused(changed("multipliers", kGgufU64, multipliers), StatusCode::kInvalidArgument,
                "must be odd");
  ExpectRefused(changed("num_embeddings", kGgufU64, {1, 2}), StatusCode::kInvalidArgument,
                "contradicts itself");
  ExpectRefused(changed("layer_ids", kGgufI32, {1, 1}), StatusCode::kInvalidArgument, "twice");
  ExpectRefused(changed("layer_ids", kGgufI32, {}), StatusCode::kInvalidArgument, "layers");
  ExpectRefused(changed("head_count", kGgufU32, {2}), StatusCode::kInvalidArgument, "head_count");

  std::vector<std::uint64_t> map = SmallGguf::TokenMapEntries();
  map[7] = 51;
  ExpectRefused(changed("token_map", kGgufI32, map), StatusCode::kInvalidArgument, "token 7");
  map[7] = (std::uint64_t{1} << 32) + 7;  // Must not wrap around to 7.
  ExpectRefused(changed("token_map", kGgufU64, map), StatusCode::kInvalidArgument, "token 7");
  map[7] = 0;
  map.resize(49);
  ExpectRefused(changed("token_map", kGgufI32, map), StatusCode::kInvalidArgument, "token_map");
  map.assign(60, 0);
  ExpectRefused(changed("token_map", kGgufI32, map), StatusCode::kInvalidArgument, "1 classes");
}

TEST(GgufCheckpointTest, MissingKeysAreNamed) {
  for (const char* const key : {"head_count", "key_length", "max_ngram_size", "pad_id"}) {
    SmallGguf model;
    model.Drop(key);
    ExpectRefused(model, StatusCode::kInvalidArgument, key);
  }
  SmallGguf none;
  none.Drop("layer_ids");
  none.architecture = "llama";
  ExpectRefused(none, StatusCode::kNotFound, "\"llama\"");
  SmallGguf classes;
  classes.Drop("compressed_vocab_size");
  classes.Drop("token_map");
  ExpectRefused(classes, StatusCode::kInvalidArgument, "token_map");
  SmallGguf sizes;
  sizes.Drop("vocab_size");
  sizes.Drop("primes");
  ExpectRefused(sizes, StatusCode::kInvalidArgument, "primes");
}

TEST(GgufCheckpointTest, TablesThatAreNotThere) {
  SmallGguf model;
  model.tensor_layers = {1};
  ExpectRefused(model, StatusCode::kNotFound, "blk.14.engram_embd.weight");
  model.Replace("extra", [](GgufBuilder& builder, const std::string& at) {
    builder.Text(at + "14.table_path", "tables/engram-14.safetensors");
  });
  ExpectRefused(model, StatusCode::kNotFound, "tables/engram-14.safetensors");

  SmallGguf wrong;
  wrong.tensor_type = 2;  // Q4_0: known, but no row format.
  const ScratchDir scratch;
  GgufBuilder builder;
  wrong.WriteKeys(builder);
  const std::uint64_t rows = wrong.recipe().layers[0].row_count;
  builder.Tensor("blk.1.engram_embd.weight", 2, {32, rows}, std::string(18 * rows, 'x'));
  Result<CheckpointInfo> info = InspectCheckpoint(scratch.Write("model.gguf", builder.Build()));
  EXPECT_EQ(info.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(info.status().message().find("Q4_0"), std::string_view::npos);

  GgufBuilder shape;
  wrong.WriteKeys(shape);
  shape.Tensor("blk.1.engram_embd.weight", kTensorF32, {32, rows - 1},
               std::string(128 * (rows - 1), 'x'));
  info = InspectCheckpoint(scratch.Write("model.gguf", shape.Build()));
  EXPECT_EQ(info.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(info.status().message().find("dimensions"), std::string_view::npos);
}

/// The small model in three parts: metadata and layer 14; other tensors; layer 1.
class SplitModel {
 public:
  struct Says {
    std::uint64_t no;
    std::uint64_t count = 3;
    std::uint64_t tensors = 3;
  };
  Says says[3] = {{0}, {1}, {2}};
  bool twice = false;

  void Write(const ScratchDir& scratch) const {
    const SmallGguf model;
    for (std::uint64_t part = 0; part < 3; ++part) {
      GgufBuilder builder;
      if (part == 0) model.WriteKeys(builder);
      builder.Number("split.no", kGgufU16, says[part].no)
          .Number("split.count", kGgufU16, says[part].count)
          .Number("split.tensors.count", kGgufI32, says[part].tensors);
      if (part == 0 || twice) model.WriteTable(builder, 14);
      if (part == 1) builder.Tensor("output.weight", kTensorF32, {4, 1}, std::string(16, 'o'));
      if (part == 2) model.WriteTable(builder, 1);
      scratch.Write(Name(part + 1), builder.Build());
    }
  }
  static std::string Name(std::uint64_t part) {
    return fmt::format("small-{:05}-of-00003.gguf", part);
  }
};

TEST(GgufCheckpointTest, ASplitModelIsFoundFromAnyPart) {
  const ScratchDir scratch;
  SplitModel().Write(scratch);
  const SmallGguf model;
  for (std::uint64_t part = 1; part <= 3; ++part) {
    const Result<CheckpointInfo> info = InspectCheckpoint(scratch.File(SplitModel::Name(part)));
    ExpectSmallModel(info, model);
    ASSERT_EQ(info.value().files.size(), 2U);  // The second part holds no table.
    EXPECT_EQ(info.value().files[0].path, scratch.File(SplitModel::Name(1)));
    EXPECT_EQ(info.value().files[1].path, scratch.File(SplitModel::Name(3)));
    EXPECT_EQ(info.value().layers[0].parts[0].extents[0].file_index, 1U);
    EXPECT_EQ(info.value().layers[1].parts[0].extents[0].file_index, 0U);
  }
  ExpectSmallModel(InspectCheckpoint(scratch.path()), model);
}

TEST(GgufCheckpointTest, PartsThatDoNotBelongTogether) {
  const auto refused = [](const SplitModel& split, std::string_view words) {
    const ScratchDir scratch;
    split.Write(scratch);
    const Result<CheckpointInfo> info = InspectCheckpoint(scratch.path());
    ASSERT_FALSE(info.ok()) << words;
    EXPECT_EQ(info.status().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(info.status().message().find(words), std::string_view::npos)
        << info.status().ToString();
  };
  SplitModel no;
  no.says[1].no = 2;
  refused(no, "says that it is part 3 of 3");
  SplitModel count;
  count.says[2].count = 4;
  refused(count, "part 3 of 4");
  SplitModel differ;
  differ.says[1].tensors = 4;
  refused(differ, "split.tensors.count");
  SplitModel all;
  for (SplitModel::Says& says : all.says) says.tensors = 4;
  refused(all, "3 parts have 3 tensors");
  SplitModel twice;
  twice.twice = true;
  refused(twice, "another part");

  const ScratchDir scratch;
  SplitModel().Write(scratch);
  std::filesystem::remove(scratch.File(SplitModel::Name(2)));
  const Result<CheckpointInfo> missing = InspectCheckpoint(scratch.path());
  EXPECT_EQ(missing.status().code(), StatusCode::kNotFound);
  EXPECT_NE(missing.status().message().find("small-00002-of-00003.gguf is not there"),
            std::string_view::npos);
  // A part under another name is no model of its own.
  std::filesystem::rename(scratch.File(SplitModel::Name(1)), scratch.File("alone.gguf"));
  const Result<CheckpointInfo> alone = InspectCheckpoint(scratch.File("alone.gguf"));
  EXPECT_EQ(alone.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(alone.status().message().find("part 1 of 3"), std::string_view::npos);
}

TEST(GgufCheckpointTest, SeveralModelsInADirectory) {
  const ScratchDir scratch;
  const SmallGguf model;
  scratch.Write("a.gguf", model.Build());
  scratch.Write("b.gguf", model.Build());
  const Result<CheckpointInfo> info = InspectCheckpoint(scratch.path());
  EXPECT_EQ(info.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(info.status().message().find("name the file"), std::string_view::npos);
  ExpectSmallModel(InspectCheckpoint(scratch.File("b.gguf")), model);
}

TEST(GgufCheckpointTest, ATruncatedFileIsCorrupt) {
  const ScratchDir scratch;
  const std::string file = SmallGguf().Build();
  for (const std::size_t size : {std::size_t{0}, std::size_t{100}, file.size() / 2}) {
    const Result<CheckpointInfo> info =
        InspectCheckpoint(scratch.Write("model.gguf", file.substr(0, size)));
    EXPECT_EQ(info.status().code(), StatusCode::kCorruption) << size;
  }
}

}  // namespace
}  // namespace tiercel
