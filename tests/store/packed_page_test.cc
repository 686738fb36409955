// Pages of packed tables and their manifest: every bit counts.

#include "store/packed_page.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/prng.h"
#include "store/packed_manifest.h"
#include "tiercel/recipe.h"
#include "tiercel/synthetic.h"

namespace tiercel {
namespace {

struct Page {
  RowPages pages;
  std::uint32_t row_bytes = 0;
  std::uint64_t first_row = 0;
  std::uint32_t row_count = 0;
  std::vector<std::byte> bytes;

  [[nodiscard]] bool Frame() const {
    return PageFrameIntact(pages, row_bytes, first_row, row_count, bytes);
  }
  [[nodiscard]] std::uint32_t IntactRows() const {
    std::uint32_t count = 0;
    for (std::uint32_t i = 0; i < row_count; ++i) {
      count += RowIntact(pages, row_bytes, first_row, i, bytes) ? 1 : 0;
    }
    return count;
  }
};

Page MakePage(std::uint32_t row_bytes, std::uint32_t missing_rows, std::uint64_t first_row) {
  Page page{.pages = PagesFor(row_bytes, 0x1234),
            .row_bytes = row_bytes,
            .first_row = first_row,
            .row_count = 0,
            .bytes = {}};
  page.row_count = page.pages.rows_per_page - missing_rows;
  Prng prng(row_bytes);
  std::vector<std::byte> rows(std::size_t{page.row_count} * row_bytes);
  for (std::byte& byte : rows) byte = static_cast<std::byte>(prng());
  page.bytes.resize(page.pages.page_size_bytes, std::byte{0xA5});
  EncodePage(page.pages, row_bytes, first_row, rows, page.bytes);
  return page;
}

TEST(PackedPageTest, FifteenRowsOfV41FillAPageToItsLastByte) {
  const RowPages pages = PagesFor(264, 0);
  EXPECT_EQ(pages.rows_per_page, 15U);
  EXPECT_EQ(pages.page_size_bytes, 4096U);
  EXPECT_EQ(RowOffsetInPage(pages, 264, 15), 4096U);
}

TEST(PackedPageTest, AnyRowSizeFindsItsPage) {
  for (std::uint32_t row_bytes = 1; row_bytes <= 20000; row_bytes += row_bytes < 300 ? 1 : 61) {
    const RowPages pages = PagesFor(row_bytes, 0);
    ASSERT_GE(pages.rows_per_page, 1U) << row_bytes;
    ASSERT_EQ(pages.page_size_bytes % kPackedPageBytes, 0U) << row_bytes;
    ASSERT_LE(RowOffsetInPage(pages, row_bytes, pages.rows_per_page), pages.page_size_bytes);
    // A page less would not do; a row more would not fit.
    ASSERT_GT(RowOffsetInPage(pages, row_bytes, pages.rows_per_page) + row_bytes + 8,
              pages.page_size_bytes);
  }
}

TEST(PackedPageTest, EveryFlippedBitIsNoticedAndCostsItsRowAlone) {
  for (const std::uint32_t row_bytes : {16U, 160U, 264U, 320U, 4072U, 5000U}) {
    for (const std::uint32_t missing_rows : {0U, 1U}) {
      const Page whole =
          MakePage(row_bytes, std::min(missing_rows, PagesFor(row_bytes, 0).rows_per_page - 1), 30);
      ASSERT_TRUE(whole.Frame());
      ASSERT_EQ(whole.IntactRows(), whole.row_count);
      Page page = whole;
      const std::size_t step = row_bytes < 264 ? 11 : 1;  // Odd: all bits of some bytes.
      for (std::size_t bit = 0; bit < page.bytes.size() * 8; bit += step) {
        std::byte& byte = page.bytes[bit / 8];
        byte ^= static_cast<std::byte>(1U << bit % 8);
        const bool header = bit / 8 < kPageHeaderBytes;
        const std::uint32_t intact = page.IntactRows();
        ASSERT_TRUE(!page.Frame() || intact < page.row_count) << row_bytes << " bit " << bit;
        ASSERT_TRUE(header ? intact == 0 : intact + 1 >= page.row_count) << "bit " << bit;
        byte ^= static_cast<std::byte>(1U << bit % 8);
      }
    }
  }
}

TEST(PackedPageTest, ARowOrPageInAnothersPlaceIsNoticed) {
  Page page = MakePage(264, 0, 30);
  page.first_row = 45;  // The page is the one before.
  EXPECT_EQ(page.IntactRows(), 0U);
  page.first_row = 30;
  page.pages.tag ^= 1;  // It is another file's, or an earlier generation's.
  EXPECT_EQ(page.IntactRows(), 0U);
  page.pages.tag ^= 1;
  // Rows 2 and 3 with their checksums, exchanged.
  for (std::size_t i = 0; i < 264; ++i) {
    std::swap(page.bytes[RowOffsetInPage(page.pages, 264, 2) + i],
              page.bytes[RowOffsetInPage(page.pages, 264, 3) + i]);
  }
  for (std::size_t i = 0; i < 8; ++i) {
    std::swap(page.bytes[kPageHeaderBytes + 16 + i], page.bytes[kPageHeaderBytes + 24 + i]);
  }
  EXPECT_EQ(page.IntactRows(), 13U);
}

TEST(PackedPageTest, DigestsSumUpWhateverThePages) {
  std::vector<std::byte> rows(30 * 264);
  Prng prng(5);
  for (std::byte& byte : rows) byte = static_cast<std::byte>(prng());
  const RowPages pages = PagesFor(264, 1);
  std::vector<std::byte> page(pages.page_size_bytes);
  std::uint64_t sum = EncodePage(pages, 264, 0, std::span(rows).first(15 * 264), page);
  sum += EncodePage(pages, 264, 15, std::span(rows).subspan(15 * 264), page);
  std::uint64_t expected = 0;
  for (std::uint64_t row = 0; row < 30; ++row) {
    expected += RowChecksum(row, std::span(rows).subspan(row * 264, 264));
  }
  EXPECT_EQ(sum, expected);
}

PackedManifest SmallManifest() {
  PackedManifest manifest;
  manifest.source_layout = "deepseek-v4.1";
  manifest.synthetic_seed = 7;
  manifest.recipe =
      BuildRecipe(ModelParameters(CheckpointModel::kDeepSeekV41Flash, 100'000).value()).value();
  for (const LayerRecipe& recipe : manifest.recipe.layers) {
    PackedLayer& layer = manifest.layers.emplace_back();
    layer.layer_id = recipe.layer_id;
    layer.shape = {.format = RowFormat::kE4M3Block32, .value_count = 256};
    layer.row_count = recipe.row_count;
    layer.ranges = {{0, recipe.row_count}};
    layer.content_digest = 0x0123456789abcdefU + recipe.layer_id;
    layer.part_size_bytes = {256, 8};
    layer.tensors = {{0, "a.weight", 0, recipe.row_count}, {1, "a.scale", 0, recipe.row_count}};
  }
  SettlePages(manifest);
  return manifest;
}

TEST(PackedManifestTest, ComesBackAsItWas) {
  const PackedManifest manifest = SmallManifest();
  const std::string text = EncodeManifest(manifest);
  const Result<PackedManifest> read = DecodeManifest(text, "m");
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(EncodeManifest(read.value()), text);
  EXPECT_EQ(read.value().layers[1].tensors, manifest.layers[1].tensors);
  EXPECT_EQ(read.value().layers[0].pages.tag, manifest.layers[0].pages.tag);
}

TEST(PackedManifestTest, EveryFlippedBitIsNoticed) {
  const std::string text = EncodeManifest(SmallManifest());
  std::string damaged = text;
  for (std::size_t bit = 0; bit < text.size() * 8; ++bit) {
    damaged[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
    ASSERT_FALSE(DecodeManifest(damaged, "m").ok()) << "bit " << bit;
    damaged[bit / 8] = text[bit / 8];
  }
}

TEST(PackedManifestTest, TagsTellGenerationsAndLayersApart) {
  PackedManifest manifest = SmallManifest();
  const std::uint64_t first = manifest.layers[0].pages.tag;
  EXPECT_NE(first, manifest.layers[1].pages.tag);
  manifest.generation = 2;
  SettlePages(manifest);
  EXPECT_NE(manifest.layers[0].pages.tag, first);
  EXPECT_EQ(manifest.layers[0].file_name, "gen-000002/layer-1.rows");
}

TEST(PackedManifestTest, ANewerVersionIsRefusedByName) {
  std::string text = EncodeManifest(SmallManifest());
  const std::string old_version = "\"version\": 1";
  text.replace(text.find(old_version), old_version.size(), "\"version\": 2");
  // Whoever writes version 2 sums it up anew; here the old sum tells first.
  EXPECT_EQ(DecodeManifest(text, "m").status().code(), StatusCode::kCorruption);
  EXPECT_EQ(DecodeManifest("{}", "m").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(DecodeManifest("", "m").status().code(), StatusCode::kCorruption);
}

}  // namespace
}  // namespace tiercel
