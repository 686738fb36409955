#ifndef TIERCEL_OVERLAY_H_
#define TIERCEL_OVERLAY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel {

// Rows that were updated lie in a *state directory*, a RocksDB database beside the table, as
// an overlay: the table's files are never written. It holds the catalogue, too: which table
// it belongs to. docs/format.md has its keys and values. Written by Store::Update().

/// What a store makes of a state directory.
enum class Updates : std::uint8_t {
  kAuto,       ///< kReadOnly where there is a state directory, else kOff.
  kOff,        ///< The rows of the table's own files; no state is looked for.
  kReadOnly,   ///< Updated rows as of Open(). Any number of processes at a time.
  kReadWrite,  ///< Store::Update() works. One store at a time; the state is made if need be.
};

/// One row to be replaced.
struct RowUpdate {
  std::uint32_t layer_id = 0;
  RowId row{};
  /// The row as it is stored, all parts of it: RowShape::row_size_bytes() of them.
  std::span<const std::byte> bytes;
};

/// Counters of an overlay.
struct OverlayStats {
  std::string state_path;            ///< Empty: no state is open.
  bool writable = false;             ///< Opened with Updates::kReadWrite.
  std::uint64_t rows = 0;            ///< Rows of served layers that may be updated ones.
  std::uint64_t rows_max = 0;        ///< Of them, at most.
  std::uint64_t sequence = 0;        ///< Of the last batch that is visible. 0: none ever was.
  std::uint64_t batches = 0;         ///< Update() calls that succeeded since Open().
  std::uint64_t commits = 0;         ///< Writes that they shared.
  std::uint64_t rows_written = 0;    ///< Rows in them.
  std::uint64_t rows_merged = 0;     ///< Updated rows that were delivered from the overlay.
  std::uint64_t groups_removed = 0;  ///< Groups that updates took out of the cache.
  std::uint64_t memory_bytes = 0;    ///< Out of the DRAM budget.
  std::uint64_t state_bytes = 0;     ///< Files and memory of the database.
};

/// The rows of an update that is under way, as an UpdateObserver is shown them.
///
/// Threading: all methods may run concurrently, until OnUpdateEnds() has returned.
class ChangingRows {
 public:
  /// Whether a group has such a row. Looks at as many rows as a group has, no disk.
  ///
  ///   order_index  order - 2.
  ///   group_key    as Hasher::GroupKey() has it.
  ///
  /// REQUIRES: the store serves the layer, its recipe has the order.
  [[nodiscard]] virtual bool HasRowOf(std::uint32_t layer_id, std::uint32_t order_index,
                                      std::uint64_t group_key) const noexcept = 0;

 protected:
  ~ChangingRows() = default;
};

/// Hears of the updates of a store: for who keeps groups of it elsewhere, as the HBM tier does.
///
/// An update is told of twice: before any lookup or ticket delivers a new row of it, and before
/// Store::Update() returns. In between, who asks the store may be given the old row or the new
/// one; who asks after the second call is given the new one. So who
///
///  - drops, in OnUpdateBegins(), what he has of groups with such a row,
///  - and keeps no such group that he asked the store for before OnUpdateEnds()
///
/// never serves an old row to who came after Update() returned, nor to who came after
/// somebody else had seen the new one.
///
/// After an error of the disk an update may end with a later one: OnUpdateBegins() comes again
/// then, with the rows of both, before there is an OnUpdateEnds().
///
/// Threading: calls come one at a time, from threads in Store::Update(), which wait for them.
/// They may use the store, but for Update() and the observers of it.
class UpdateObserver {
 public:
  /// `rows` may be asked until OnUpdateEnds() has returned.
  virtual void OnUpdateBegins(const ChangingRows& rows) noexcept = 0;
  virtual void OnUpdateEnds() noexcept = 0;

 protected:
  ~UpdateObserver() = default;
};

struct LayerOutput;

/// A store as it was at one moment: its lookups do not see later updates, and they see each
/// batch of earlier ones whole.
///
/// Rows that nobody updated come from where the store has them. A row that was updated, at
/// any time, costs a look into the overlay, and, if that was after the snapshot, a read of
/// its base row. While a snapshot is there, the state keeps what it shows.
///
/// Threading: all methods may run concurrently. REQUIRES: the store outlives it.
class StoreSnapshot {
 public:
  struct Impl;  ///< The library's own.
  explicit StoreSnapshot(std::unique_ptr<Impl> impl) noexcept;
  StoreSnapshot(StoreSnapshot&&) noexcept;
  StoreSnapshot& operator=(StoreSnapshot&&) noexcept;
  ~StoreSnapshot();

  /// As Store::Lookup() and Store::LookupRows(), in all but what is visible.
  [[nodiscard]] Status Lookup(std::span<const TokenRun> runs, std::span<const LayerOutput> outputs,
                              RowOutput format = RowOutput::kStored);
  [[nodiscard]] Status LookupRows(std::span<const RowId> rows, const LayerOutput& output,
                                  RowOutput format = RowOutput::kStored);

  /// Of the last batch that it shows; 0: none was ever written.
  [[nodiscard]] std::uint64_t sequence() const noexcept;

 private:
  std::unique_ptr<Impl> impl_;
};

/// What a state directory holds.
struct StateInfo {
  struct Layer {
    std::uint32_t layer_id = 0;
    std::uint64_t row_count = 0;  ///< Of the table.
    std::uint32_t row_size_bytes = 0;
    std::uint64_t updated_rows = 0;
  };
  std::string path;
  std::uint32_t version = 0;
  std::string table_path;        ///< Where the table was when the state was made.
  std::string table_id;          ///< Of recipe and shapes; hexadecimal.
  std::uint64_t generation = 0;  ///< 0: the table's files as they came.
  std::uint64_t sequence = 0;    ///< Of the last batch.
  std::uint64_t updated_rows = 0;
  std::uint64_t updated_bytes = 0;  ///< Of those rows.
  std::uint64_t state_bytes = 0;    ///< Files and memory of the database.
  std::vector<Layer> layers;        ///< As the catalogue has them.
};

/// Where the state of the table at `table_path` lies unless told otherwise:
/// `table_path`/tiercel-state, or, of a table that is one file, that file's path with
/// ".tiercel-state" behind it.
[[nodiscard]] std::string DefaultStatePath(const std::string& table_path);

/// Whether there is a state directory at `path`.
[[nodiscard]] bool StateExists(const std::string& path);

/// Reads the state directory at `path`, all of its rows, beside whoever uses it. Blocks.
///
/// Errors: kNotFound (no state there), kInvalidArgument (something else, or of a later
/// version), kCorruption, kPermissionDenied, kIoError, kUnavailable (a library that was built
/// without RocksDB).
[[nodiscard]] Result<StateInfo> InspectState(const std::string& path);

}  // namespace tiercel

#endif  // TIERCEL_OVERLAY_H_
