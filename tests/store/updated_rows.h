#ifndef TIERCEL_TESTS_STORE_UPDATED_ROWS_H_
#define TIERCEL_TESTS_STORE_UPDATED_ROWS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "base/prng.h"
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

/// A row that is written to, and what may be seen of it.
struct VersionedRow {
  std::size_t writer = 0;
  std::atomic<std::uint64_t> floor = 0;  ///< Acknowledged or seen by somebody.
  std::atomic<std::uint64_t> begun = 0;  ///< Greatest version that an update was begun with.

  void Raise(std::uint64_t version);
};

/// Rows of one layer that writers give version after version, and what readers must see: the
/// old row or the new one, never a mixture, and nothing older than anybody has seen.
///
/// Threading: Choose() first; then all others, concurrently, a writer in one thread.
class VersionModel {
 public:
  VersionModel(const MadeCheckpoint& made_checkpoint, std::uint32_t layer)
      : made(made_checkpoint), layer_id(layer) {}

  /// Every 17th of `ids` is written to from now on, by one of `writer_count` writers: most
  /// groups have no such row, many have one or two.
  void Choose(std::span<const RowId> ids, Prng& prng, std::size_t writer_count);
  /// Before a read: the least versions that it may give. Shape [ids].
  [[nodiscard]] std::vector<std::uint64_t> Floors(const std::vector<RowId>& ids) const;
  /// After it: counts what was wrong with a row's bytes.
  void Judge(RowId id, std::uint64_t floor, std::span<const std::byte> bytes);
  /// Updates the rows of `writer`, all in one batch, until `stop`.
  void Write(Store& store, std::size_t writer);

  const MadeCheckpoint& made;
  const std::uint32_t layer_id;
  std::map<RowId, VersionedRow> rows;
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> mixtures = 0;
  std::atomic<std::uint64_t> went_back = 0;
  std::atomic<std::uint64_t> never_written = 0;
  std::atomic<std::uint64_t> updated_seen = 0;
  std::atomic<std::uint64_t> failures = 0;
};

/// The stored bytes of one row, by a lookup of it alone; empty, and a failure of the test, if
/// it cannot be had.
[[nodiscard]] std::vector<std::byte> LookUpRow(Store& store, std::uint32_t layer_id, RowId row);

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_STORE_UPDATED_ROWS_H_
