// Goal: a store serves GGUF models as it serves all others, and their rows are those of a
// safetensors checkpoint of the same content.
//
// Method: made models of every row format, whole and split, each row compared with the
// generator; a DeepSeek-V4.1 checkpoint written out as GGUF by the tests' own writer; the
// same rows in both formats.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/prng.h"
#include "tests/store/checkpoint_files.h"
#include "tests/store/gguf_builder.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/store.h"
#include "tiercel/synthetic.h"

namespace tiercel {
namespace {

using testing::CheckRows;
using testing::GgufBuilder;
using testing::kGgufI32;
using testing::kGgufU32;
using testing::kTensorBf16;
using testing::kTensorF32;
using testing::LayerBuffers;
using testing::MadeCheckpoint;
using testing::RowIdsOf;
using testing::RowTally;
using testing::ScratchDir;

constexpr RowFormat kGgufFormats[] = {RowFormat::kFp32, RowFormat::kFp16, RowFormat::kBf16,
                                      RowFormat::kQ8_0, RowFormat::kQ4_K, RowFormat::kQ3_K,
                                      RowFormat::kQ2_K};

std::unique_ptr<Store> Open(const std::string& path, const StoreOptions& changed = {}) {
  StoreOptions options = changed;
  options.dram_budget_bytes = std::uint64_t{24} << 20;
  options.queue_depth = 32;
  if (!options.log) options.log = [](std::string_view /*line*/) {};
  Result<std::unique_ptr<Store>> store = Store::Open(path, options);
  EXPECT_TRUE(store.ok()) << store.status().ToString();
  return store.ok() ? std::move(store).value() : nullptr;
}

/// Rows of all layers at the tokens of `run`, layer by layer.
std::vector<std::byte> RowsOf(Store& store, const TokenRun& run, RowOutput format) {
  std::vector<LayerBuffers> buffers;
  for (const LayerTable& layer : store.checkpoint().layers) {
    buffers.emplace_back(store, layer.layer_id,
                         run.tokens.size() * store.checkpoint().recipe.column_count(), format);
  }
  std::vector<LayerOutput> outputs;
  for (LayerBuffers& layer : buffers) outputs.push_back(layer.Output());
  const Status status = store.Lookup({&run, 1}, outputs, format);
  EXPECT_TRUE(status.ok()) << status.ToString();
  std::vector<std::byte> rows;
  for (const LayerBuffers& layer : buffers) {
    rows.insert(rows.end(), layer.rows.begin(), layer.rows.end());
  }
  return rows;
}

TEST(GgufStoreTest, EveryRowFormatIsServed) {
  for (const RowFormat format : kGgufFormats) {
    SCOPED_TRACE(Name(format));
    const MadeCheckpoint made({.shrink = 40000, .gguf = format, .split_count = 2});
    ASSERT_EQ(made.info().layout, "gguf");
    ASSERT_TRUE(made.info().notes.empty());
    ASSERT_EQ(made.info().files.size(), 2U);
    const std::unique_ptr<Store> store = Open(made.path());
    ASSERT_NE(store, nullptr);
    const std::vector<std::int32_t> tokens = made.RandomTokens(3, 300);
    const TokenRun run{.history = {}, .tokens = tokens};
    const std::size_t row_count = tokens.size() * made.info().recipe.column_count();
    for (const RowOutput output : {RowOutput::kStored, RowOutput::kBf16}) {
      for (const LayerTable& table : made.info().layers) {
        ASSERT_EQ(table.shape.format, format);
        LayerBuffers layer(*store, table.layer_id, row_count, output);
        const LayerOutput out = layer.Output();
        ASSERT_TRUE(store->Lookup({&run, 1}, {&out, 1}, output).ok());
        const RowTally tally =
            CheckRows(made, layer, RowIdsOf(*store, table.layer_id, run), output);
        EXPECT_EQ(tally.right, row_count);

        // By id too: the first rows, the last ones, and some between.
        std::vector<RowId> ids = {RowId{0}, RowId{1}, RowId{table.row_count - 1}};
        Prng prng(9);
        for (int i = 0; i < 200; ++i) ids.push_back(RowId{prng.Below(table.row_count)});
        LayerBuffers rows(*store, table.layer_id, ids.size(), output);
        ASSERT_TRUE(store->LookupRows(ids, rows.Output(), output).ok());
        EXPECT_EQ(CheckRows(made, rows, ids, output).right, ids.size());
      }
    }
  }
}

TEST(GgufStoreTest, VerifyReadsEveryRowAndFindsDamage) {
  const MadeCheckpoint made({.shrink = 40000, .gguf = RowFormat::kQ4_K, .split_count = 3});
  const Result<VerifyReport> clean = VerifySynthetic(made.info(), nullptr);
  ASSERT_TRUE(clean.ok()) << clean.status().ToString();
  const std::uint64_t row_count = made.info().layers[0].row_count + made.info().layers[1].row_count;
  EXPECT_EQ(clean.value().rows_checked, row_count);
  EXPECT_EQ(clean.value().rows_different, 0U);

  const RowExtent& extent = made.info().layers[1].parts[0].extents[0];
  const std::string& path = made.info().files[extent.file_index].path;
  std::FILE* const file = std::fopen(path.c_str(), "r+b");
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(std::fseek(file, static_cast<long>(extent.offset_bytes + 144 * 5 + 7), SEEK_SET), 0);
  ASSERT_NE(std::fputc(std::fgetc(file) ^ 1, file), EOF);
  std::fclose(file);
  const Result<VerifyReport> damaged = VerifySynthetic(made.info(), nullptr);
  ASSERT_TRUE(damaged.ok());
  EXPECT_EQ(damaged.value().rows_different, 1U);
}

TEST(GgufStoreTest, TokensGoThroughTheFilesOwnMap) {
  const MadeCheckpoint made({.shrink = 40000, .gguf = RowFormat::kQ8_0});
  const std::unique_ptr<Store> raw = Open(made.path());
  const std::unique_ptr<Store> compressed = Open(made.path(), {.compressed_tokens = true});
  const std::shared_ptr<const TokenMap> map = made.info().token_map;
  ASSERT_NE(map, nullptr);
  ASSERT_GT(map->entry_count(), map->class_count());
  std::vector<std::int32_t> tokens;  // All of them merged with another.
  std::vector<std::int32_t> classes;
  for (std::uint32_t id = map->class_count(); tokens.size() < 40; id += 7) {
    tokens.push_back(static_cast<std::int32_t>(id));
    classes.push_back(static_cast<std::int32_t>(map->classes()[id]));
    ASSERT_NE(tokens.back(), classes.back());
  }
  EXPECT_EQ(RowsOf(*raw, {.history = {}, .tokens = tokens}, RowOutput::kStored),
            RowsOf(*compressed, {.history = {}, .tokens = classes}, RowOutput::kStored));
  // A map of the caller's goes before the file's.
  std::vector<std::uint32_t> reversed(map->class_count());
  for (std::uint32_t i = 0; i < reversed.size(); ++i) reversed[i] = i;
  reversed.push_back(5);
  Result<TokenMap> own = TokenMap::FromClasses(reversed);
  ASSERT_TRUE(own.ok());
  const auto shared = std::make_shared<const TokenMap>(std::move(own).value());
  const std::unique_ptr<Store> given = Open(made.path(), {.token_map = shared});
  const std::vector<std::int32_t> last = {static_cast<std::int32_t>(map->class_count())};
  const std::vector<std::int32_t> five = {5};
  EXPECT_EQ(RowsOf(*given, {.history = {}, .tokens = last}, RowOutput::kStored),
            RowsOf(*compressed, {.history = {}, .tokens = five}, RowOutput::kStored));
  const Result<std::unique_ptr<Store>> both =
      Store::Open(made.path(), {.token_map = shared, .compressed_tokens = true});
  EXPECT_EQ(both.status().code(), StatusCode::kInvalidArgument);
}

/// A GGUF file of a checkpoint's tables, rows of `type`, as a converter would write it.
std::string WriteAsGguf(const MadeCheckpoint& made, std::uint32_t type) {
  const RecipeParameters& p = made.info().recipe.parameters;
  GgufBuilder builder;
  builder.Text("general.architecture", "deepseek4");
  const std::string at = "deepseek4.engram.";
  builder.Array(at + "layer_ids", kGgufI32, {p.layer_ids.begin(), p.layer_ids.end()})
      .Number(at + "head_count", kGgufU32, p.head_count)
      .Number(at + "head_dim", kGgufU32, p.head_dim)
      .Number(at + "max_ngram", kGgufU32, p.order_max)
      .Number(at + "pad_id_compressed", kGgufU32, static_cast<std::uint64_t>(p.pad_token))
      .Number(at + "vocab_size", kGgufU32, p.head_size_bases.front())
      .Number(at + "compressed_vocab_size", kGgufU32, p.compressed_vocab_size);
  for (const LayerTable& table : made.info().layers) {
    std::string rows;
    std::vector<float> values(table.shape.value_count);
    for (std::uint64_t row = 0; row < table.row_count; ++row) {
      DequantizeToFloat(table.shape, made.Row(table.layer_id, RowId{row}), values);
      for (const float value : values) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, &value, 4);
        char bytes[4];
        std::memcpy(bytes, &bits, 4);
        // E4M3 times a power of two has 4 significant bits: the low half is zero.
        EXPECT_TRUE(type == kTensorF32 || (bits & 0xFFFFU) == 0U);
        rows.append(type == kTensorBf16 ? bytes + 2 : bytes, type == kTensorBf16 ? 2 : 4);
      }
    }
    builder.Tensor(fmt::format("blk.{}.engram_embd.weight", table.layer_id), type,
                   {table.shape.value_count, table.row_count}, rows);
  }
  return builder.Build();
}

TEST(GgufStoreTest, RowsEqualThoseOfTheCheckpointThatWasConverted) {
  const MadeCheckpoint made({.shrink = 200000});
  const std::unique_ptr<Store> published = Open(made.path());
  const std::vector<std::int32_t> tokens = made.RandomTokens(5, 400);
  const TokenRun run{.history = {}, .tokens = tokens};
  const std::vector<std::byte> expected = RowsOf(*published, run, RowOutput::kBf16);
  for (const std::uint32_t type : {kTensorF32, kTensorBf16}) {
    const ScratchDir scratch;
    const std::string path = scratch.Write("converted.gguf", WriteAsGguf(made, type));
    std::string logged;
    StoreOptions options;
    options.log = [&logged](std::string_view line) { logged += line; };
    const std::unique_ptr<Store> converted = Open(path, options);
    ASSERT_NE(converted, nullptr);
    EXPECT_NE(logged.find("no token map"), std::string::npos) << logged;
    EXPECT_EQ(RowsOf(*converted, run, RowOutput::kBf16), expected) << type;
  }
}

/// The demo's config with DeepSeek-V4.1's numbers: the same multipliers and head sizes.
std::string DemoConfigLike(const RecipeParameters& p) {
  const std::uint64_t base = p.head_size_bases.front();
  return fmt::format(
      R"({{"model_type": "engram_demo", "engram_vocab_size": [{}, {}, {}], "max_ngram_size": 4,)"
      R"( "n_embed_per_ngram": {}, "n_head_per_ngram": {}, "layer_ids": [1, 14], "pad_id": 2,)"
      R"( "seed": 0, "kernel_size": 4, "engram_compressed_vocab_size": {}, "vocab_size": {}}})",
      base, base, base, p.head_count * p.head_dim, p.head_count, p.compressed_vocab_size,
      p.vocab_size);
}

TEST(GgufStoreTest, StoredBytesEqualThoseOfSafetensors) {
  struct Case {
    RowFormat format;
    const char* type;
  };
  for (const Case& c :
       {Case{RowFormat::kFp32, "F32"}, {RowFormat::kFp16, "F16"}, {RowFormat::kBf16, "BF16"}}) {
    SCOPED_TRACE(c.type);
    const MadeCheckpoint made({.shrink = 40000, .gguf = c.format});
    const ScratchDir scratch;
    std::vector<testing::FakeTensor> tensors;
    for (const LayerTable& table : made.info().layers) {
      testing::FakeTensor& tensor = tensors.emplace_back();
      tensor.name =
          fmt::format("layers.{}.engram.multi_head_embedding.embedding.weight", table.layer_id);
      tensor.type = c.type;
      tensor.shape = {table.row_count, table.shape.value_count};
      for (std::uint64_t row = 0; row < table.row_count; ++row) {
        const std::vector<std::byte> bytes = made.Row(table.layer_id, RowId{row});
        tensor.bytes.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      }
    }
    testing::WriteShard(scratch.File("model.safetensors"), tensors);
    scratch.Write("config.json", DemoConfigLike(made.info().recipe.parameters));
    const std::unique_ptr<Store> safetensors = Open(scratch.path());
    const std::unique_ptr<Store> gguf = Open(made.path(), {.compressed_tokens = true});
    ASSERT_NE(safetensors, nullptr);
    ASSERT_EQ(safetensors->checkpoint().layout, "engram-demo");
    const std::vector<std::int32_t> tokens = made.RandomTokens(6, 300);
    const TokenRun run{.history = {}, .tokens = tokens};
    for (const RowOutput output : {RowOutput::kStored, RowOutput::kBf16}) {
      EXPECT_EQ(RowsOf(*safetensors, run, output), RowsOf(*gguf, run, output));
    }
  }
}

}  // namespace
}  // namespace tiercel
