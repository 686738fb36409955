// Goal: a caller that was compiled with an older or a newer header is served right or
// refused with a reason, and no byte beyond its struct is read or written.
//
// Method: structs cut short, followed by bytes that must not matter; structs with more
// behind them, zero and not; arrays with a larger stride.

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "tests/capi/c_store.h"

namespace tiercel::testing {
namespace {

/// A struct of a header that is newer than the library.
template <typename T>
struct Newer {
  T known;
  std::array<std::uint64_t, 2> added;
};

/// `size` bytes of `value`, then bytes that no function may read or write.
template <typename T>
class Older {
 public:
  explicit Older(std::size_t size) : size_(size) { bytes_.fill(0xEE); }
  [[nodiscard]] T* get() { return reinterpret_cast<T*>(bytes_.data()); }
  /// Whether the bytes behind the struct are as they were.
  [[nodiscard]] bool TailIsIntact() const {
    for (std::size_t i = size_; i < bytes_.size(); ++i) {
      if (bytes_[i] != 0xEE) return false;
    }
    return true;
  }

 private:
  std::size_t size_;
  alignas(8) std::array<unsigned char, sizeof(T) + 64> bytes_;
};

/// Size, if any, and message of what the library says about `struct_size`.
tiercel_code OpenWithSize(const MadeCheckpoint& made, std::size_t struct_size) {
  tiercel_store_options options = SmallCOptions();
  options.struct_size = struct_size;
  tiercel_store* store = nullptr;
  const tiercel_code code = tiercel_store_open(made.path().c_str(), &options, &store);
  tiercel_store_close(store);
  return code;
}

TEST(CStructs, SizesOfNoVersionAreRefused) {
  const MadeCheckpoint made({});
  for (const std::size_t size : {0UL, 8UL, 12UL, 20UL, 4104UL, ~std::size_t{7}, ~std::size_t{0}}) {
    EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, OpenWithSize(made, size)) << size;
    EXPECT_NE(std::strstr(tiercel_last_error(), "struct_size of `options`"), nullptr)
        << tiercel_last_error();
    tiercel_store_options options;
    EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, tiercel_store_options_init(&options, size)) << size;
  }
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, tiercel_store_options_init(nullptr, 16));
}

TEST(CStructs, DefaultsAreThoseOfCxx) {
  tiercel_store_options options;
  ASSERT_CODE(TIERCEL_OK, tiercel_store_options_init(&options, sizeof(options)));
  const StoreOptions cxx;
  EXPECT_EQ(options.struct_size, sizeof(options));
  EXPECT_EQ(options.dram_budget_bytes, cxx.dram_budget_bytes);
  EXPECT_EQ(options.read_attempts_max, cxx.read_attempts_max);
  EXPECT_EQ(options.prefetch_tickets_max, cxx.prefetch.tickets_max);
  EXPECT_EQ(options.prefetch_tokens_max, cxx.prefetch.tokens_max);
  EXPECT_EQ(options.prefetch_start_groups_max, cxx.prefetch.start_groups_max);
  EXPECT_EQ(options.log, nullptr);
  tiercel_start_options start;
  ASSERT_CODE(TIERCEL_OK, tiercel_start_options_init(&start, sizeof(start)));
  EXPECT_EQ(start.event_fd, -1);
  EXPECT_EQ(start.on_layer, nullptr);
  tiercel_hot_set_save_options save;
  ASSERT_CODE(TIERCEL_OK, tiercel_hot_set_save_options_init(&save, sizeof(save)));
  EXPECT_EQ(save.group_count_max, HotSetSaveOptions().group_count_max);
  EXPECT_EQ(save.bytes, 1U);
  EXPECT_EQ(save.block_bytes, HotSetSaveOptions().block_bytes);
}

TEST(CStructs, OlderInitWritesNoMoreThanItsSize) {
  Older<tiercel_store_options> options(24);
  ASSERT_CODE(TIERCEL_OK, tiercel_store_options_init(options.get(), 24));
  EXPECT_EQ(options.get()->struct_size, 24U);
  EXPECT_EQ(options.get()->dram_budget_bytes, StoreOptions().dram_budget_bytes);
  EXPECT_TRUE(options.TailIsIntact());
}

TEST(CStructs, NewerInitIsZeroBeyondWhatIsKnown) {
  Newer<tiercel_store_options> options;
  std::memset(static_cast<void*>(&options), 0xEE, sizeof(options));
  ASSERT_CODE(TIERCEL_OK, tiercel_store_options_init(&options.known, sizeof(options)));
  EXPECT_EQ(options.known.struct_size, sizeof(options));
  EXPECT_EQ(options.added[0], 0U);
  EXPECT_EQ(options.added[1], 0U);
}

TEST(CStructs, OlderOptionsHaveDefaultsForTheRest) {
  const MadeCheckpoint made({});
  // Until dram_budget_bytes; what lies behind would be refused as options.
  Older<tiercel_store_options> options(16);
  ASSERT_CODE(TIERCEL_OK, tiercel_store_options_init(options.get(), 16));
  options.get()->dram_budget_bytes = std::uint64_t{20} << 20;
  tiercel_store* store = nullptr;
  ASSERT_CODE(TIERCEL_OK, tiercel_store_open(made.path().c_str(), options.get(), &store));
  tiercel_store_stats stats = {};
  stats.struct_size = sizeof(stats);
  EXPECT_CODE(TIERCEL_OK, tiercel_store_get_stats(store, &stats, nullptr, 0, nullptr));
  EXPECT_EQ(stats.dram_budget_bytes, std::uint64_t{20} << 20);
  tiercel_store_close(store);
}

TEST(CStructs, NewerOptionsAreTakenWhereTheyAreZero) {
  const MadeCheckpoint made({});
  Newer<tiercel_store_options> options = {.known = SmallCOptions(), .added = {}};
  options.known.struct_size = sizeof(options);
  tiercel_store* store = nullptr;
  EXPECT_CODE(TIERCEL_OK, tiercel_store_open(made.path().c_str(), &options.known, &store));
  EXPECT_NE(store, nullptr);
  tiercel_store_close(store);
  // The last byte: the whole tail is looked at.
  options.added[1] = std::uint64_t{1} << 56;
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT,
              tiercel_store_open(made.path().c_str(), &options.known, &store));
  EXPECT_EQ(store, nullptr);
  const std::string byte = "byte " + std::to_string(sizeof(options) - 1) + " is not 0";
  EXPECT_NE(std::string(tiercel_last_error()).find(byte), std::string::npos)
      << tiercel_last_error();
}

TEST(CStructs, OlderOutputsGetWhatTheyHaveRoomFor) {
  const CStore store;
  Older<tiercel_checkpoint_info> info(16);
  info.get()->struct_size = 16;
  ASSERT_CODE(TIERCEL_OK,
              tiercel_checkpoint_get_info(tiercel_store_checkpoint(store.get()), info.get()));
  EXPECT_EQ(info.get()->struct_size, 16U);
  EXPECT_EQ(info.get()->table_bytes, store.made().info().table_bytes);
  EXPECT_TRUE(info.TailIsIntact());
}

TEST(CStructs, NewerOutputsAreZeroBeyondWhatIsKnown) {
  const CStore store;
  Newer<tiercel_checkpoint_info> info;
  std::memset(static_cast<void*>(&info), 0xEE, sizeof(info));
  info.known.struct_size = sizeof(info);
  ASSERT_CODE(TIERCEL_OK,
              tiercel_checkpoint_get_info(tiercel_store_checkpoint(store.get()), &info.known));
  EXPECT_EQ(info.known.struct_size, sizeof(info));
  EXPECT_EQ(info.known.layer_count, store.made().info().layers.size());
  EXPECT_EQ(info.added[0], 0U);
  EXPECT_EQ(info.added[1], 0U);
}

TEST(CStructs, OutputsWithoutASizeAreRefused) {
  const CStore store;
  tiercel_layer_info layer = {};
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT,
              tiercel_checkpoint_get_layer(tiercel_store_checkpoint(store.get()), 0, &layer));
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT,
              tiercel_checkpoint_get_layer(tiercel_store_checkpoint(store.get()), 0, nullptr));
  EXPECT_CODE(TIERCEL_OK, tiercel_layer_info_init(&layer, sizeof(layer)));
  EXPECT_CODE(TIERCEL_NOT_FOUND,
              tiercel_checkpoint_get_layer(tiercel_store_checkpoint(store.get()), 99, &layer));
}

TEST(CStructs, ArraysOfAnyVersionAreWalkedByTheirOwnStride) {
  const CStore store;
  std::array<Newer<tiercel_order_stats>, 3> orders;
  std::memset(static_cast<void*>(orders.data()), 0xEE, sizeof(orders));
  orders[0].known.struct_size = sizeof(orders[0]);
  tiercel_store_stats stats;
  ASSERT_CODE(TIERCEL_OK, tiercel_store_stats_init(&stats, sizeof(stats)));
  std::size_t count = 0;
  // Room for two of them, of which there are more.
  ASSERT_CODE(TIERCEL_OK,
              tiercel_store_get_stats(store.get(), &stats, &orders[0].known, 2, &count));
  EXPECT_EQ(count, store.layer_ids().size() * store.made().info().recipe.order_count());
  EXPECT_EQ(orders[0].known.order, 2U);
  EXPECT_EQ(orders[1].known.order, 3U);
  EXPECT_EQ(orders[1].known.struct_size, sizeof(orders[0]));
  EXPECT_EQ(orders[1].known.layer_id, store.layer_ids()[0]);
  EXPECT_EQ(orders[1].added[1], 0U);
  EXPECT_EQ(orders[2].known.order, 0xEEEEEEEEU);
}

TEST(CStructs, ElementsOfDifferentSizesAreRefused) {
  const CStore store;
  const std::vector<std::int32_t> tokens = store.made().RandomTokens(1, 2);
  const tiercel_token_run run = RunOf(tokens);
  std::array<tiercel_prefetch_layer, 2> layers;
  for (tiercel_prefetch_layer& layer : layers) {
    ASSERT_CODE(TIERCEL_OK, tiercel_prefetch_layer_init(&layer, sizeof(layer)));
  }
  layers[1].struct_size = 16;
  tiercel_ticket* ticket = nullptr;
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT,
              tiercel_store_start(store.get(), &run, 1, layers.data(), 2, nullptr, &ticket));
  EXPECT_NE(std::strstr(tiercel_last_error(), "layers[1]"), nullptr) << tiercel_last_error();
}

}  // namespace
}  // namespace tiercel::testing
