// Goal: hashing allocates nothing on success.
//
// Method: this program's own operator new counts; every const method of a hasher runs
// between two readings. That the counter counts is checked too.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

#include "tests/engram/engram_test_support.h"
#include "tests/support/counting_new.h"
#include "tiercel/hasher.h"
#include "tiercel/row_format.h"

namespace tiercel {
namespace {

TEST(HasherAllocation, NoneOnSuccess) {
  std::vector<std::uint32_t> classes(99092);
  std::iota(classes.begin(), classes.end(), 0U);
  const auto map =
      std::make_shared<const TokenMap>(TokenMap::FromClasses(std::move(classes)).value());
  for (const RecipeParameters& p :
       {testing::V41Parameters(), testing::DemoParameters(), testing::QwenParameters()}) {
    const bool mapped = p.kind == RecipeKind::kDeepSeekV41;
    const Hasher hasher =
        std::move(Hasher::Create(testing::Build(p), mapped ? map : nullptr)).value();
    const std::size_t width = hasher.recipe().column_count();
    const std::vector<std::int32_t> history = {5, 6, 7};
    std::vector<std::int32_t> tokens(100, 9);
    tokens[50] = kDeadToken;
    std::vector<RowId> rows(tokens.size() * width);
    std::vector<std::uint64_t> mixes(tokens.size() * hasher.recipe().order_count());
    std::vector<std::uint8_t> dead(tokens.size());
    std::vector<RowId> group(p.head_count);

    const std::uint64_t before = testing::g_allocations.load();
    const bool rows_ok = hasher.RowIds(0, {history, tokens}, rows, dead).ok();
    const bool mixes_ok = hasher.Mixes(0, {history, tokens}, mixes, dead).ok();
    hasher.RowsOfMix(0, 0, mixes[0], group);
    const std::uint64_t key = hasher.GroupKey(0, 0, mixes[0]);
    const auto key_of_rows = hasher.GroupKeyOfRows(0, 0, group);
    const std::uint64_t after = testing::g_allocations.load();

    EXPECT_EQ(after - before, 0U) << Name(p.kind);
    EXPECT_TRUE(rows_ok && mixes_ok);
    EXPECT_EQ(key_of_rows, key);
  }
}

TEST(HasherAllocation, DequantisingAllocatesNothing) {
  const RowShape shape{RowFormat::kE4M3Block32, 256};
  const std::vector<std::byte> row(shape.row_size_bytes(), std::byte{0x38});
  std::vector<float> floats(256);
  std::vector<std::uint16_t> halves(256);
  const std::uint64_t before = testing::g_allocations.load();
  DequantizeToFloat(shape, row, floats);
  DequantizeToBf16(shape, row, halves);
  EXPECT_EQ(testing::g_allocations.load() - before, 0U);
}

TEST(HasherAllocation, TheCounterCounts) {
  const std::uint64_t before = testing::g_allocations.load();
  const Hasher hasher = testing::MakeHasher(testing::V41Parameters());
  EXPECT_GT(testing::g_allocations.load(), before);
}

}  // namespace
}  // namespace tiercel
