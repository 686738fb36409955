#ifndef TIERCEL_PACKED_H_
#define TIERCEL_PACKED_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tiercel/recipe.h"
#include "tiercel/status.h"
#include "tiercel/verify.h"

namespace tiercel {

/// A packed table: a directory of a manifest and one file for each layer, whole rows with
/// their checksums in pages of 4 KiB, so that a row takes one read and every read is
/// checked. docs/format.md has every byte. InspectCheckpoint() and Store::Open() take the
/// directory for any other checkpoint.

struct PackOptions {
  std::string source;   ///< A checkpoint, as InspectCheckpoint() takes it. Packed: copied.
  std::string out_dir;  ///< Made if it is not there; else it must hold an unfinished pack.
  std::vector<std::uint32_t> layer_ids;  ///< Empty: all.
  HeadShard shard;                       ///< The columns of one rank alone.
  /// What the source is checked against while it is read.
  ChecksumUse checksums = ChecksumUse::kAuto;
  std::string checksums_path;
  Progress progress;
};

struct PackReport {
  std::uint64_t file_count = 0;
  std::uint64_t row_count = 0;
  std::uint64_t bytes_written = 0;  ///< By this call.
  std::uint64_t file_bytes = 0;     ///< Of the packed table.
  std::uint64_t resumed_bytes = 0;  ///< That an earlier call had written.
  bool direct_io = false;
};

/// Packs tables: streams the source in file order, in some 80 MB of memory, and writes
/// `out_dir`. The source is only read.
///
/// What was killed or failed can be called again with the same options and goes on from
/// its last 1 GiB: its place is in `out_dir`, which is no table until the manifest is
/// there, the last thing that is written. A call that changes source or options is refused.
///
/// Errors: as InspectCheckpoint(); kInvalidArgument (no such layer, a shard out of range,
/// another pack in `out_dir`), kAlreadyExists (`out_dir` holds something else, or a table),
/// kUnavailable (another process packs there), kCorruption or kIoError (a row of the source
/// is damaged or cannot be read: its place is named), kResourceExhausted (disk full, with
/// the figures), kPermissionDenied, kCancelled.
[[nodiscard]] Result<PackReport> PackTable(const PackOptions& options);

struct UnpackReport {
  std::uint64_t file_count = 0;
  std::uint64_t bytes_written = 0;
  bool direct_io = false;
};

/// Writes the tensors that a table was packed from, names, shapes and bytes, as safetensors
/// with an index and a config.json that has the recipe, so that `out_dir` is a checkpoint
/// again. Rows of a format that safetensors has no type for (GGUF's blocks) become U8
/// tensors of their bytes, which InspectCheckpoint() does not take for tables. Appears
/// when it is whole.
///
/// Errors: as InspectCheckpoint(); kInvalidArgument (not packed; a shard, which has not
/// all rows), kAlreadyExists, kCorruption, kIoError, kResourceExhausted, kPermissionDenied,
/// kCancelled.
[[nodiscard]] Result<UnpackReport> UnpackTable(const std::string& source,
                                               const std::string& out_dir,
                                               const Progress& progress = {});

struct CompactOptions {
  std::string table;       ///< A packed table; with `out_dir` any table.
  std::string state_path;  ///< Empty: DefaultStatePath(table).
  /// Where the rows go, as a packed table of its own that leaves `table` and its state as
  /// they are. Empty: into `table` itself, as its next generation.
  std::string out_dir;
  Progress progress;
};

struct CompactReport {
  std::uint64_t folded_rows = 0;  ///< Updated rows that are in the new generation. 0: none were.
  std::uint64_t generation = 0;   ///< Of the packed table that there is now.
  std::uint64_t bytes_written = 0;
  std::uint64_t resumed_bytes = 0;
  /// Generations that were deleted, and those that some store still has open: the next call
  /// deletes them.
  std::uint64_t generations_removed = 0;
  std::uint64_t generations_in_use = 0;
  bool direct_io = false;
};

/// Folds the updated rows of a state (overlay.h) into a new generation of a packed table:
/// writes its files beside the old ones, switches the manifest, takes the rows out of the
/// state, and deletes the files of old generations that no store has open. Needs room for
/// the table once more. Holds the state for updates while it runs; stores that have the
/// table open for reading go on with what they have.
///
/// After whatever crash the table opens with the same rows, and the next call goes on from its
/// last 1 GiB, unless rows were updated meanwhile.
///
/// Errors: as PackTable() and Store::Open(); kNotFound (no state), kInvalidArgument (a table
/// that is not packed, without `out_dir`), kUnavailable (a store has the state open for
/// updates, or another process compacts).
[[nodiscard]] Result<CompactReport> CompactTable(const CompactOptions& options);

}  // namespace tiercel

#endif  // TIERCEL_PACKED_H_
