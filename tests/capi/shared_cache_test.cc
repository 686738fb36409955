// Goal: a process that has nothing but the C API reads another store's DRAM cache: what it
// finds is right to the byte, and what cannot be is refused in words.
//
// Method: a store whose cache is shared looks tokens up; a reader maps it in the same process
// and asks for these and for others, by copies and by slots. Rows are functions of their ids.

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/capi/c_store.h"

namespace tiercel::testing {
namespace {

tiercel_store_options SharedCOptions() {
  tiercel_store_options options = SmallCOptions();
  options.shared_cache = 1;
  return options;
}

/// A reader of the store's cache, by the store's own checkpoint.
class CReader {
 public:
  explicit CReader(const CStore& store) {
    std::int32_t descriptor = -1;
    EXPECT_CODE(TIERCEL_OK, tiercel_store_share_cache(store.get(), &descriptor));
    EXPECT_CODE(TIERCEL_OK, tiercel_shared_cache_open(
                                descriptor, tiercel_store_checkpoint(store.get()), 0, 1, &cache_));
  }
  CReader(const CReader&) = delete;
  CReader& operator=(const CReader&) = delete;
  ~CReader() { tiercel_shared_cache_close(cache_); }
  [[nodiscard]] tiercel_shared_cache* get() const noexcept { return cache_; }

 private:
  tiercel_shared_cache* cache_ = nullptr;
};

std::vector<std::uint64_t> Mixes(const CStore& store, std::uint32_t layer_id,
                                 const std::vector<std::int32_t>& tokens) {
  std::vector<std::uint64_t> mixes(tokens.size() * store.made().info().recipe.order_count());
  const tiercel_token_run run = RunOf(tokens);
  EXPECT_CODE(TIERCEL_OK, tiercel_hasher_mixes(tiercel_store_hasher(store.get()), layer_id, &run,
                                               mixes.data(), mixes.size(), nullptr));
  return mixes;
}

void LookUp(const CStore& store, std::uint32_t layer_id, const std::vector<std::int32_t>& tokens) {
  const tiercel_token_run run = RunOf(tokens);
  CLayer layer(store, layer_id, tokens.size() * store.columns(), TIERCEL_OUTPUT_STORED);
  const tiercel_layer_output output = layer.Output();
  ASSERT_CODE(TIERCEL_OK, tiercel_store_lookup(store.get(), &run, 1, &output, 1, 0));
}

class CSharedCache : public ::testing::Test {
 protected:
  const CStore store_{SharedCOptions()};
  const std::uint32_t layer_id_ = store_.layer_ids()[0];
  const std::vector<std::int32_t> tokens_ = store_.made().RandomTokens(1, 40);
  const std::vector<std::uint64_t> mixes_ = Mixes(store_, layer_id_, tokens_);
  const std::vector<std::byte> wanted_ =
      store_.Rows(layer_id_, store_.RowIds(layer_id_, tokens_), TIERCEL_OUTPUT_STORED);
};

TEST_F(CSharedCache, AReaderFindsWhatTheStoreHas) {
  const CReader reader(store_);
  std::vector<std::byte> rows(wanted_.size());
  std::vector<std::uint8_t> hits(mixes_.size(), 9);
  std::uint64_t hit_count = 9;
  ASSERT_CODE(TIERCEL_OK,
              tiercel_shared_cache_lookup(reader.get(), layer_id_, mixes_.data(), mixes_.size(),
                                          rows.data(), rows.size(), hits.data(), &hit_count));
  EXPECT_EQ(hit_count, 0U);
  EXPECT_EQ(hits, std::vector<std::uint8_t>(mixes_.size(), 0));
  LookUp(store_, layer_id_, tokens_);
  ASSERT_CODE(TIERCEL_OK,
              tiercel_shared_cache_lookup(reader.get(), layer_id_, mixes_.data(), mixes_.size(),
                                          rows.data(), rows.size(), hits.data(), &hit_count));
  EXPECT_EQ(hit_count, mixes_.size());
  EXPECT_EQ(rows, wanted_);
  std::uint64_t present = 0;
  EXPECT_CODE(TIERCEL_OK,
              tiercel_store_touch(store_.get(), layer_id_, mixes_.data(), mixes_.size(), &present));
  EXPECT_EQ(present, mixes_.size());
}

TEST_F(CSharedCache, SlotsTellWhereTheGroupsAre) {
  LookUp(store_, layer_id_, tokens_);
  const CReader reader(store_);
  tiercel_shared_cache_info info;
  ASSERT_CODE(TIERCEL_OK, tiercel_shared_cache_info_init(&info, sizeof(info)));
  ASSERT_CODE(TIERCEL_OK, tiercel_shared_cache_get_info(reader.get(), &info));
  EXPECT_EQ(info.layer_count, store_.layer_ids().size());
  EXPECT_EQ(info.shard_count, 1U);
  EXPECT_EQ(info.has_updates, 0U);
  tiercel_shared_cache_layer layer;
  ASSERT_CODE(TIERCEL_OK, tiercel_shared_cache_layer_init(&layer, sizeof(layer)));
  ASSERT_CODE(TIERCEL_OK, tiercel_shared_cache_get_layer(reader.get(), 0, &layer));
  ASSERT_EQ(layer.layer_id, layer_id_);
  const void* bytes = nullptr;
  std::size_t size_bytes = 0;
  ASSERT_CODE(TIERCEL_OK, tiercel_shared_cache_get_bytes(reader.get(), &bytes, &size_bytes));
  EXPECT_EQ(size_bytes, info.size_bytes);

  std::vector<std::uint32_t> slots(mixes_.size());
  std::vector<std::uint64_t> versions(mixes_.size());
  std::uint64_t found = 0;
  ASSERT_CODE(TIERCEL_OK,
              tiercel_shared_cache_find(reader.get(), layer_id_, mixes_.data(), mixes_.size(),
                                        slots.data(), versions.data(), &found));
  ASSERT_EQ(found, mixes_.size());
  for (std::size_t i = 0; i < slots.size(); ++i) {
    ASSERT_LT(slots[i], layer.slot_count);
    const auto* const group = static_cast<const std::byte*>(bytes) + layer.slots_offset_bytes +
                              slots[i] * layer.slot_stride_bytes;
    EXPECT_EQ(std::memcmp(group, &wanted_[i * layer.group_size_bytes], layer.group_size_bytes), 0);
  }
  slots[0] = TIERCEL_NO_SLOT;
  std::vector<std::uint8_t> unchanged(slots.size(), 9);
  std::uint64_t count = 0;
  ASSERT_CODE(TIERCEL_OK,
              tiercel_shared_cache_recheck(reader.get(), layer_id_, slots.data(), versions.data(),
                                           slots.size(), unchanged.data(), &count));
  EXPECT_EQ(count, slots.size() - 1);
  EXPECT_EQ(unchanged[0], 0);
}

TEST_F(CSharedCache, WhatIsThereOutlivesTheStore) {
  CStore store(SharedCOptions());
  LookUp(store, layer_id_, tokens_);
  const CReader reader(store);
  std::int32_t closed = 9;
  ASSERT_CODE(TIERCEL_OK, tiercel_shared_cache_writer_closed(reader.get(), &closed));
  EXPECT_EQ(closed, 0);
  store.Close();
  ASSERT_CODE(TIERCEL_OK, tiercel_shared_cache_writer_closed(reader.get(), &closed));
  EXPECT_EQ(closed, 1);
  std::vector<std::byte> rows(wanted_.size());
  std::vector<std::uint8_t> hits(mixes_.size());
  ASSERT_CODE(TIERCEL_OK,
              tiercel_shared_cache_lookup(reader.get(), layer_id_, mixes_.data(), mixes_.size(),
                                          rows.data(), rows.size(), hits.data(), nullptr));
  EXPECT_EQ(rows, wanted_);
}

TEST_F(CSharedCache, AShardsCacheIsOpenedAsThatShard) {
  tiercel_store_options options = SharedCOptions();
  options.shard_rank = 1;
  options.shard_count = 2;
  const CStore store(options);
  std::int32_t descriptor = -1;
  ASSERT_CODE(TIERCEL_OK, tiercel_store_share_cache(store.get(), &descriptor));
  tiercel_checkpoint* checkpoint = nullptr;
  ASSERT_CODE(TIERCEL_OK, tiercel_inspect(store.made().path().c_str(), &checkpoint));
  tiercel_shared_cache* cache = nullptr;
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT,
              tiercel_shared_cache_open(descriptor, checkpoint, 0, 1, &cache));
  EXPECT_EQ(cache, nullptr);
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT,
              tiercel_shared_cache_open(descriptor, checkpoint, 2, 2, &cache));
  EXPECT_CODE(TIERCEL_OK, tiercel_shared_cache_open(descriptor, checkpoint, 1, 2, &cache));
  tiercel_shared_cache_close(cache);
  tiercel_checkpoint_close(checkpoint);
  EXPECT_CODE(TIERCEL_OK, tiercel_shared_cache_open(
                              descriptor, tiercel_store_checkpoint(store.get()), 0, 1, &cache));
  tiercel_shared_cache_close(cache);
}

TEST_F(CSharedCache, WrongUsesAreRefused) {
  const CStore plain;
  std::int32_t descriptor = 9;
  EXPECT_CODE(TIERCEL_UNAVAILABLE, tiercel_store_share_cache(plain.get(), &descriptor));
  EXPECT_EQ(descriptor, -1);
  tiercel_store_options options = SharedCOptions();
  options.shared_cache = 2;
  tiercel_store* none = nullptr;
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT,
              tiercel_store_open(store_.made().path().c_str(), &options, &none));
  EXPECT_NE(std::strstr(tiercel_last_error(), "shared_cache"), nullptr) << tiercel_last_error();

  const CReader reader(store_);
  tiercel_shared_cache* cache = nullptr;
  const tiercel_checkpoint* const checkpoint = tiercel_store_checkpoint(store_.get());
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, tiercel_shared_cache_open(-1, checkpoint, 0, 1, &cache));
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, tiercel_shared_cache_open(0, nullptr, 0, 1, &cache));
  tiercel_shared_cache_layer layer;
  ASSERT_CODE(TIERCEL_OK, tiercel_shared_cache_layer_init(&layer, sizeof(layer)));
  EXPECT_CODE(TIERCEL_NOT_FOUND, tiercel_shared_cache_get_layer(reader.get(), 99, &layer));
  std::vector<std::byte> rows(wanted_.size(), std::byte{0xEE});
  const std::vector<std::byte> before = rows;
  std::vector<std::uint8_t> hits(mixes_.size());
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT,
              tiercel_shared_cache_lookup(reader.get(), layer_id_, mixes_.data(), mixes_.size(),
                                          rows.data(), rows.size() - 1, hits.data(), nullptr));
  EXPECT_CODE(TIERCEL_NOT_FOUND,
              tiercel_shared_cache_lookup(reader.get(), 999, mixes_.data(), mixes_.size(),
                                          rows.data(), rows.size(), hits.data(), nullptr));
  EXPECT_EQ(rows, before);
  tiercel_shared_cache_close(nullptr);
}

}  // namespace
}  // namespace tiercel::testing
