// Goal: rows are updated through the C API, refused with a reason where they cannot be, and a
// caller of an older header, whose options know of no updates, is served as before.
//
// Method: a made checkpoint; rows that are updated are looked up through the C API again.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "tests/capi/c_store.h"
#include "tests/support/scratch_dir.h"

namespace tiercel::testing {
namespace {

/// The stored bytes of one row.
std::vector<std::byte> LookUp(const CStore& store, std::uint32_t layer_id, std::uint64_t row) {
  CLayer layer(store, layer_id, 1, TIERCEL_OUTPUT_STORED);
  tiercel_layer_output output = layer.Output();
  EXPECT_CODE(TIERCEL_OK,
              tiercel_store_lookup_rows(store.get(), &row, 1, &output, TIERCEL_OUTPUT_STORED));
  return layer.rows;
}

TEST(CUpdate, RowsAreReplacedAllOrNone) {
  const ScratchDir scratch;
  const std::string state = scratch.File("state");
  tiercel_store_options options = SmallCOptions();
  options.updates = TIERCEL_UPDATES_READ_WRITE;
  options.state_path = state.c_str();
  const MadeCheckpoint probe({});
  tiercel_store* opened = nullptr;
  const tiercel_code code = tiercel_store_open(probe.path().c_str(), &options, &opened);
  if (code == TIERCEL_UNAVAILABLE) GTEST_SKIP() << tiercel_last_error();
  ASSERT_CODE(TIERCEL_OK, code);
  tiercel_store_close(opened);

  const CStore store(options);
  const std::uint32_t layer_id = store.layer_ids()[0];
  const std::vector<std::byte> bytes(store.RowSize(layer_id, TIERCEL_OUTPUT_STORED),
                                     std::byte{0x5A});
  std::vector<tiercel_row_update> rows = {{layer_id, 0, 3, bytes.data(), bytes.size()},
                                          {layer_id, 0, 900, bytes.data(), bytes.size()}};
  ASSERT_CODE(TIERCEL_OK, tiercel_store_update(store.get(), rows.data(), rows.size()));
  EXPECT_EQ(LookUp(store, layer_id, 3), bytes);
  EXPECT_EQ(LookUp(store, layer_id, 900), bytes);
  EXPECT_EQ(LookUp(store, layer_id, 4), store.made().Row(layer_id, RowId{4}));
  EXPECT_CODE(TIERCEL_OK, tiercel_store_update(store.get(), nullptr, 0));

  rows[0].row = 4;
  rows[1].byte_count = 1;
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, tiercel_store_update(store.get(), rows.data(), 2));
  EXPECT_NE(std::strstr(tiercel_last_error(), "update 1"), nullptr) << tiercel_last_error();
  rows[1] = rows[0];
  rows[1].reserved = 1;
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, tiercel_store_update(store.get(), rows.data(), 2));
  rows[1] = rows[0];
  rows[1].bytes = nullptr;
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, tiercel_store_update(store.get(), rows.data(), 2));
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, tiercel_store_update(store.get(), nullptr, 2));
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, tiercel_store_update(nullptr, rows.data(), 1));
  EXPECT_EQ(LookUp(store, layer_id, 4), store.made().Row(layer_id, RowId{4}));
}

TEST(CUpdate, OptionsOfAnOlderHeaderKnowOfNoUpdates) {
  tiercel_store_options options = SmallCOptions();
  options.updates = 99;  // Beyond what that header has.
  options.struct_size = offsetof(tiercel_store_options, state_path);
  const CStore store(options);
  const std::uint32_t layer_id = store.layer_ids()[0];
  const std::vector<std::byte> bytes(store.RowSize(layer_id, TIERCEL_OUTPUT_STORED));
  const tiercel_row_update row = {layer_id, 0, 3, bytes.data(), bytes.size()};
  EXPECT_CODE(TIERCEL_UNAVAILABLE, tiercel_store_update(store.get(), &row, 1));
}

}  // namespace
}  // namespace tiercel::testing
