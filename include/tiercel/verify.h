#ifndef TIERCEL_VERIFY_H_
#define TIERCEL_VERIFY_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tiercel/checkpoint.h"
#include "tiercel/status.h"

namespace tiercel {

/// Called now and then on long work with what is done and the whole, in bytes.
/// Returning false stops the work with kCancelled.
using Progress = std::function<bool(std::uint64_t done_bytes, std::uint64_t total_bytes)>;

/// Whether tables in place are checked against a checksum sidecar, which WriteChecksums()
/// makes. Packed tables have checksums of their own.
enum class ChecksumUse : std::uint8_t {
  kAuto,      ///< Where there is a sidecar: it must then be good.
  kRequired,  ///< It is an error if there is none.
  kOff,
};

struct VerifyOptions {
  ChecksumUse checksums = ChecksumUse::kAuto;
  /// The sidecar. Empty: where WriteChecksums() puts it.
  std::string checksums_path;
  Progress progress;
};

struct VerifyReport {
  /// What rows were held against: "page checksums" (a packed table), "checksum sidecar",
  /// "generator" (a made checkpoint). Empty: it is known only that they can be read.
  std::vector<std::string> checks;
  std::uint64_t rows_checked = 0;     ///< Every row once, readable or not.
  std::uint64_t rows_unreadable = 0;  ///< The disk did not give them.
  std::uint64_t rows_corrupt = 0;     ///< A checksum does not hold.
  std::uint64_t rows_different = 0;   ///< Not what the generator makes, whatever the checksum.
  /// Pages of a packed table that are damaged beside their rows (header, padding).
  std::uint64_t damaged_frames = 0;
  /// The first few that are counted above, in words: file, offset, layer and row.
  std::vector<std::string> findings;

  [[nodiscard]] bool clean() const noexcept {
    return rows_unreadable + rows_corrupt + rows_different + damaged_frames == 0;
  }
};

/// Reads every row of the tables, in file order at disk speed, and checks it against all
/// that there is to check it with. Damage is not an error but a finding. Takes some 40 MB.
///
/// Errors: kPermissionDenied, kIoError (no file can be opened), kCancelled; those of the
/// sidecar: kNotFound (kRequired), kInvalidArgument (of other tables), kCorruption.
[[nodiscard]] Result<VerifyReport> VerifyTable(const CheckpointInfo& checkpoint,
                                               const VerifyOptions& options = {});

struct ChecksumsWritten {
  std::string path;
  std::uint64_t page_count = 0;  ///< Of 4 KiB.
  std::uint64_t file_bytes = 0;  ///< Of the sidecar.
};

/// Reads every page of the files that table bytes lie in and writes a checksum for each
/// to a sidecar (docs/format.md). It says what the pages are now: make it while they are
/// known to be good. Appears at its path when it is whole.
///
///   path  empty: tiercel.checksums in the checkpoint's directory, or the name of a single
///         file with .checksums behind it.
///
/// Errors: kInvalidArgument (a packed table, which has its own), kAlreadyExists (there is
/// one), kIoError (a page cannot be read), kPermissionDenied, kResourceExhausted,
/// kCancelled.
[[nodiscard]] Result<ChecksumsWritten> WriteChecksums(const CheckpointInfo& checkpoint,
                                                      const std::string& path = "",
                                                      const Progress& progress = {});

struct DiffOptions {
  /// Read the rows of tables that are both packed and have equal digests all the same.
  bool read_all = false;
  std::size_t rows_listed_max = 10;  ///< Of each layer.
  Progress progress;
};

/// How the rows of one layer differ.
struct LayerDiff {
  std::uint32_t layer_id = 0;
  std::uint64_t rows_compared = 0;  ///< 0: the digests were equal, nothing was read.
  std::uint64_t rows_different = 0;
  std::uint64_t rows_unreadable = 0;  ///< In one of the two, or damaged there: not compared.
  std::vector<std::uint64_t> rows;    ///< The first ones that differ, rising.
};

/// Compares the rows of two tables, byte for byte, whatever formats they lie in: layers
/// and rows that both hold. Reads both in file order at disk speed.
///
/// Errors: kInvalidArgument (tables that cannot be compared: other layers, rows or row
/// formats; the message says which), as VerifyTable().
[[nodiscard]] Result<std::vector<LayerDiff>> DiffTables(const CheckpointInfo& a,
                                                        const CheckpointInfo& b,
                                                        const DiffOptions& options = {});

}  // namespace tiercel

#endif  // TIERCEL_VERIFY_H_
