#ifndef TIERCEL_STORE_STATE_DB_H_
#define TIERCEL_STORE_STATE_DB_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "tiercel/overlay.h"
#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel {

/// Entries of a state's catalogue; docs/format.md has their values.
inline constexpr std::string_view kTableEntry = "table";            ///< JSON: StateCatalogue.
inline constexpr std::string_view kSequenceEntry = "sequence";      ///< u64: of the last batch.
inline constexpr std::string_view kGenerationEntry = "generation";  ///< u64: 0 where none.

/// How a state is opened.
struct StateOptions {
  std::string path;
  bool writable = false;  ///< Takes the lock; makes the state where there is none.
  std::uint64_t cache_bytes = std::uint64_t{1} << 20;         ///< Of blocks that were read.
  std::uint64_t write_buffer_bytes = std::uint64_t{1} << 18;  ///< Of each of two.
};

/// A row of the overlay.
struct StateRow {
  std::uint32_t layer_id = 0;
  RowId row{};
  std::uint64_t sequence = 0;        ///< Of the batch that it came with.
  std::span<const std::byte> bytes;  ///< Good until the visitor returns.
};

/// One batch of rows, to be written with others.
struct StateBatch {
  std::span<const RowUpdate> rows;
  std::uint64_t sequence = 0;
};

/// The state as it was at one moment. REQUIRES: its StateDb outlives it.
class StateSnapshot {
 public:
  virtual ~StateSnapshot() = default;
};

/// The database of a state directory: the catalogue's entries, and rows. docs/format.md says
/// how they lie in it. The only place that knows RocksDB.
///
/// RocksDB's errors become Statuses that name the directory: kUnavailable (the lock is
/// another's; a library built without RocksDB), kNotFound, kCorruption, kResourceExhausted
/// (the disk is full), kPermissionDenied, kIoError. All methods may return these.
///
/// Once a write has failed, all that follow do, until Reopen(): behind a record that is torn
/// others would be lost.
///
/// Threading: all methods may run concurrently, but for Reopen().
class StateDb {
 public:
  /// Whether a state could be opened at `path`: there is a database.
  [[nodiscard]] static bool Exists(const std::string& path);

  /// Also kInvalidArgument: a folder that is not empty and is no database, to be written to.
  [[nodiscard]] static Result<std::unique_ptr<StateDb>> Open(const StateOptions& options);
  virtual ~StateDb() = default;

  [[nodiscard]] virtual const std::string& path() const noexcept = 0;
  /// Of what was written until now. Of a state that is not writable: all that there is.
  [[nodiscard]] virtual std::shared_ptr<const StateSnapshot> TakeSnapshot() = 0;

  /// Copies a row to `bytes`, shape [row size]. False, and nothing copied, if the overlay had
  /// none at that moment. Also kCorruption: a row of another size.
  [[nodiscard]] virtual Result<bool> GetRow(const StateSnapshot& at, std::uint32_t layer_id,
                                            RowId row, std::span<std::byte> bytes) const = 0;

  /// Shows all rows, by layer and row, until `visit` returns an error, which is then its own.
  [[nodiscard]] virtual Status ForEachRow(
      const StateSnapshot& at, const std::function<Status(const StateRow&)>& visit) const = 0;

  /// The same of one layer's rows [first, end).
  [[nodiscard]] virtual Status ForEachRowOf(
      const StateSnapshot& at, std::uint32_t layer_id, RowId first, RowId end,
      const std::function<Status(const StateRow&)>& visit) const = 0;

  /// Takes all rows out and writes entries of the catalogue, names and values: after whatever
  /// crash all of it or none. On disk when it returns.
  [[nodiscard]] virtual Status DropRows(
      std::span<const std::pair<std::string_view, std::string>> entries) = 0;

  /// Closes a state that refuses to be written to and opens it anew. What failed to be written
  /// may be there afterwards, each batch whole or not at all. On an error the state is open for
  /// reading alone, if at all: GetRow() fails if not.
  /// REQUIRES: snapshot_count() == 0, and no other method but SizeBytes() runs.
  [[nodiscard]] virtual Status Reopen() = 0;
  /// Of those that TakeSnapshot() gave and that are still about.
  [[nodiscard]] virtual std::uint64_t snapshot_count() const noexcept = 0;
  /// Whether a write has failed since the state was opened.
  [[nodiscard]] virtual bool must_reopen() const noexcept = 0;

  /// Writes all rows of the batches and the last sequence: all or, after whatever crash,
  /// none of each call. On disk when it returns. After an error the rows may come to light
  /// when the state is opened the next time, all or none of them; never before.
  [[nodiscard]] virtual Status Write(std::span<const StateBatch> batches) = 0;

  /// An entry of the catalogue, if it is there.
  [[nodiscard]] virtual Result<std::optional<std::string>> GetEntry(
      std::string_view name) const = 0;
  /// The same of an entry that is a number; 0 where there is none. Also kCorruption.
  [[nodiscard]] Result<std::uint64_t> GetNumber(std::string_view name) const;
  /// Writes one. On disk when it returns.
  [[nodiscard]] virtual Status PutEntry(std::string_view name, std::string_view value) = 0;
  /// Whether nothing was ever written to it.
  [[nodiscard]] virtual Result<bool> IsEmpty() const = 0;

  /// Files and memory of it, about.
  [[nodiscard]] virtual std::uint64_t SizeBytes() const = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_STATE_DB_H_
