#include "tests/capi/c_store.h"

#include "base/check.h"

namespace tiercel::testing {
namespace {

void NoLog(const char* /*line*/, std::size_t /*length*/, void* /*user_data*/) {}

}  // namespace

tiercel_store_options SmallCOptions() {
  tiercel_store_options options;
  TIERCEL_CHECK(tiercel_store_options_init(&options, sizeof(options)) == TIERCEL_OK);
  options.dram_budget_bytes = std::uint64_t{24} << 20;
  options.queue_depth = 32;
  options.prefetch_staging_bytes = std::uint64_t{1} << 20;
  options.log = NoLog;
  return options;
}

::testing::AssertionResult CodesAgree(const char* want_text, const char* code_text,
                                      tiercel_code want, tiercel_code code) {
  if (want == code) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << code_text << " is " << tiercel_code_name(code) << ", not "
                                       << want_text << "; " << tiercel_last_error();
}

CStore::CStore(const tiercel_store_options& options, const MadeCheckpoint::Options& make)
    : made_(make) {
  const tiercel_code code = tiercel_store_open(made_.path().c_str(), &options, &store_);
  EXPECT_CODE(TIERCEL_OK, code);
  TIERCEL_CHECK(code == TIERCEL_OK);
}

CStore::~CStore() {
  Close();
}

void CStore::Close() {
  tiercel_store_close(store_);
  store_ = nullptr;
}

std::vector<std::uint32_t> CStore::layer_ids() const {
  return made_.info().recipe.parameters.layer_ids;
}

std::size_t CStore::RowSize(std::uint32_t layer_id, std::uint32_t output) const {
  std::uint32_t size = 0;
  EXPECT_CODE(TIERCEL_OK, tiercel_store_get_row_size(store_, layer_id, output, &size));
  return size;
}

std::vector<std::uint64_t> CStore::RowIds(std::uint32_t layer_id,
                                          const std::vector<std::int32_t>& tokens) const {
  std::vector<std::uint64_t> rows(tokens.size() * columns());
  const tiercel_token_run run = RunOf(tokens);
  EXPECT_CODE(TIERCEL_OK, tiercel_hasher_row_ids(tiercel_store_hasher(store_), layer_id, &run,
                                                 rows.data(), rows.size(), nullptr));
  return rows;
}

std::vector<std::byte> CStore::Rows(std::uint32_t layer_id, const std::vector<std::uint64_t>& rows,
                                    std::uint32_t output) const {
  std::vector<std::byte> all;
  for (const std::uint64_t row : rows) {
    const std::vector<std::byte> one =
        made_.Output(layer_id, RowId{row}, static_cast<RowOutput>(output));
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

CLayer::CLayer(const CStore& store, std::uint32_t layer, std::size_t row_count,
               std::uint32_t output)
    : layer_id(layer),
      rows(row_count * store.RowSize(layer, output), std::byte{0xAA}),
      row_status(row_count, 0x7F) {}

tiercel_layer_output CLayer::Output() {
  return {.layer_id = layer_id,
          .reserved = 0,
          .rows = rows.data(),
          .rows_bytes = rows.size(),
          .row_status = row_status.data(),
          .row_status_count = row_status.size()};
}

tiercel_token_run RunOf(const std::vector<std::int32_t>& tokens) {
  return {.history = nullptr,
          .history_count = 0,
          .tokens = tokens.data(),
          .token_count = tokens.size()};
}

}  // namespace tiercel::testing
