#ifndef TIERCEL_TESTS_CAPI_C_STORE_H_
#define TIERCEL_TESTS_CAPI_C_STORE_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/made_checkpoint.h"
#include "tiercel/store.h"
#include "tiercel/tiercel.h"

namespace tiercel::testing {

/// Defaults for tests: little memory, no lines on stderr.
[[nodiscard]] tiercel_store_options SmallCOptions();

/// Fails the test with the message of the thread where `code` is not `want`.
#define EXPECT_CODE(want, code) EXPECT_PRED_FORMAT2(::tiercel::testing::CodesAgree, want, code)
#define ASSERT_CODE(want, code) ASSERT_PRED_FORMAT2(::tiercel::testing::CodesAgree, want, code)
[[nodiscard]] ::testing::AssertionResult CodesAgree(const char* want_text, const char* code_text,
                                                    tiercel_code want, tiercel_code code);

/// A made checkpoint that is open through the C API.
class CStore {
 public:
  explicit CStore(const tiercel_store_options& options = SmallCOptions(),
                  const MadeCheckpoint::Options& make = {});
  CStore(const CStore&) = delete;
  CStore& operator=(const CStore&) = delete;
  ~CStore();

  [[nodiscard]] tiercel_store* get() const noexcept { return store_; }
  [[nodiscard]] const MadeCheckpoint& made() const noexcept { return made_; }
  [[nodiscard]] std::uint32_t columns() const { return made_.info().recipe.column_count(); }
  [[nodiscard]] std::vector<std::uint32_t> layer_ids() const;
  /// By the C API.
  [[nodiscard]] std::size_t RowSize(std::uint32_t layer_id, std::uint32_t output) const;
  /// Row ids of tokens without history, by the C API.
  [[nodiscard]] std::vector<std::uint64_t> RowIds(std::uint32_t layer_id,
                                                  const std::vector<std::int32_t>& tokens) const;
  /// What an output must hold for these rows, by the generator.
  [[nodiscard]] std::vector<std::byte> Rows(std::uint32_t layer_id,
                                            const std::vector<std::uint64_t>& rows,
                                            std::uint32_t output) const;
  /// Before the destructor: for tests of what may outlive a store.
  void Close();

 private:
  MadeCheckpoint made_;
  tiercel_store* store_ = nullptr;
};

/// One layer's buffers of a lookup through the C API.
struct CLayer {
  CLayer(const CStore& store, std::uint32_t layer_id, std::size_t row_count, std::uint32_t output);
  [[nodiscard]] tiercel_layer_output Output();

  std::uint32_t layer_id;
  std::vector<std::byte> rows;
  std::vector<std::uint8_t> row_status;
};

/// One sequence from its start.
[[nodiscard]] tiercel_token_run RunOf(const std::vector<std::int32_t>& tokens);

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_CAPI_C_STORE_H_
