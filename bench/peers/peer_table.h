#ifndef TIERCEL_BENCH_PEERS_PEER_TABLE_H_
#define TIERCEL_BENCH_PEERS_PEER_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "tiercel/checkpoint.h"
#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel::peers {

/// Where one part of a row lies.
struct Place {
  std::uint32_t file_index = 0;
  std::uint64_t offset_bytes = 0;
};

/// The checkpoint that every arm serves: what it is and where its rows lie. The first
/// part of a row is its weights; a second one, where there is one, its scales.
///
/// Threading: immutable; all methods may run concurrently.
class PeerTable {
 public:
  /// `block_bytes`: what O_DIRECT reads are widened to; 0: the disk's physical block.
  ///
  /// Errors: as InspectCheckpoint; kInvalidArgument (not a made checkpoint: its rows
  /// could not be checked; a block that is no power of two, or less than O_DIRECT wants).
  [[nodiscard]] static Result<PeerTable> Open(const std::string& path, std::uint32_t block_bytes);

  [[nodiscard]] const CheckpointInfo& info() const noexcept { return info_; }
  [[nodiscard]] std::uint64_t seed() const noexcept { return *info_.synthetic_seed; }
  [[nodiscard]] std::uint32_t row_size_bytes(std::uint32_t layer_index) const noexcept {
    return info_.layers[layer_index].shape.row_size_bytes();
  }
  [[nodiscard]] const std::vector<RowPart>& parts(std::uint32_t layer_index) const noexcept {
    return info_.layers[layer_index].parts;
  }
  /// REQUIRES: row < the layer's row count.
  [[nodiscard]] Place Locate(const RowPart& part, RowId row) const noexcept;
  /// Bytes of all parts but the first, over all layers.
  [[nodiscard]] std::uint64_t scale_bytes() const noexcept;
  /// Names this checkpoint's very bytes: sizes, times, seed.
  [[nodiscard]] std::string Identity() const;
  /// What O_DIRECT reads of its files are widened to, in every arm.
  [[nodiscard]] std::uint32_t block_bytes() const noexcept { return block_bytes_; }

 private:
  explicit PeerTable(CheckpointInfo info) : info_(std::move(info)) {}

  CheckpointInfo info_;
  std::uint32_t block_bytes_ = 512;
};

/// Reads one part of a layer's rows from the first to the last. Goes through the page
/// cache, which it asks to forget each piece at once.
///
/// Threading: one thread at a time.
class PartReader {
 public:
  /// `table` must outlive it.
  PartReader(const PeerTable& table, std::uint32_t layer_index, std::uint32_t part_index);

  /// Fills `target` with the next rows' part. Errors: as ReadAt and OpenFile.
  ///   target  shape [n, part size]; n rows are left at least.
  [[nodiscard]] Status Next(std::span<std::byte> target);

 private:
  const PeerTable& table_;
  const RowPart& part_;
  std::uint64_t row_ = 0;
  std::size_t extent_ = 0;
  std::uint32_t open_file_ = ~0U;
  FileDescriptor file_;
};

/// The scale part of every row in DRAM, as Tiercel keeps it by default; so the arms
/// differ in how they reach the weights. Empty where it is not wanted.
///
/// Threading: immutable once loaded.
class ScaleTable {
 public:
  /// Errors: as PartReader.
  [[nodiscard]] static Result<ScaleTable> Load(const PeerTable& table, bool resident);

  [[nodiscard]] bool resident() const noexcept { return resident_; }
  /// Copies the row's scales behind its weights.
  ///   row_bytes  a whole row.
  void Copy(std::uint32_t layer_index, RowId row, std::byte* row_bytes) const noexcept;
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_; }

 private:
  struct Layer {
    std::uint32_t part_bytes = 0;
    std::uint32_t row_offset_bytes = 0;
    std::vector<std::byte> bytes;
  };
  std::vector<Layer> layers_;
  std::uint64_t size_bytes_ = 0;
  bool resident_ = false;
};

}  // namespace tiercel::peers

#endif  // TIERCEL_BENCH_PEERS_PEER_TABLE_H_
