#ifndef TIERCEL_TESTS_STORE_UPDATED_ROWS_H_
#define TIERCEL_TESTS_STORE_UPDATED_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "tests/support/made_checkpoint.h"
#include "tiercel/store.h"
#include "tiercel/types.h"

namespace tiercel::testing {

/// The bytes of version `version` > 0 of a row: it names itself in its first 8 bytes, and all
/// others follow from it, so that a mixture of two versions is neither.
[[nodiscard]] std::vector<std::byte> VersionBytes(std::uint32_t layer_id, RowId row,
                                                  std::uint64_t version, std::size_t size_bytes);

/// Which version stored bytes are: 0 for the row that the checkpoint was made with. Nothing if
/// they are none of the row's.
[[nodiscard]] std::optional<std::uint64_t> VersionOf(const MadeCheckpoint& made,
                                                     std::uint32_t layer_id, RowId row,
                                                     std::span<const std::byte> bytes);

/// Rows to be updated, with their bytes.
class UpdateBatch {
 public:
  void Add(std::uint32_t layer_id, RowId row, std::vector<std::byte> bytes);
  /// Version `version` of the row.
  void AddVersion(const Store& store, std::uint32_t layer_id, RowId row, std::uint64_t version);
  [[nodiscard]] std::span<const RowUpdate> rows() const { return rows_; }

 private:
  std::deque<std::vector<std::byte>> bytes_;
  std::vector<RowUpdate> rows_;
};

/// The stored bytes of one row, by a lookup of it alone; empty, and a failure of the test, if
/// it cannot be had.
[[nodiscard]] std::vector<std::byte> LookUpRow(Store& store, std::uint32_t layer_id, RowId row);

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_STORE_UPDATED_ROWS_H_
