#ifndef TIERCEL_STORE_ROW_STREAM_H_
#define TIERCEL_STORE_ROW_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "store/checksum_sidecar.h"
#include "store/range_reader.h"
#include "store/resident_part.h"
#include "store/row_locator.h"
#include "store/space.h"
#include "tiercel/checkpoint.h"
#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel {

/// Rows of one layer to be streamed.
struct StreamSpan {
  std::uint32_t layer_index = 0;  ///< Into CheckpointInfo::layers.
  RowRange rows;
};

/// All rows of the tables in order of layers and ids, or spans of them, at the disk's
/// sequential speed, from any format: parts put together, checksums checked. A row that
/// cannot be read, or fails its check, is marked and zero; the others stand.
///
/// Threading: one thread at a time.
class RowStream {
 public:
  /// Rows that follow each other.
  struct Chunk {
    std::uint32_t layer_index = 0;
    std::uint64_t first_row = 0;
    std::uint64_t row_count = 0;
    std::span<const std::byte> rows;        ///< Shape [row_count, row size].
    std::span<const RowStatus> row_status;  ///< Shape [row_count].
    std::uint64_t failed_rows = 0;          ///< Whose status is not kOk.
    /// Of a packed table: pages in which something that is no row is damaged. Their rows
    /// are judged by their own checksums.
    std::uint64_t damaged_frames = 0;
  };

  /// `checkpoint` and `sums` (null: there are none) must outlive the stream.
  /// REQUIRES: the files hold all rows of `spans`.
  /// Errors: as RangeReader::Make().
  [[nodiscard]] static Result<std::unique_ptr<RowStream>> Make(const CheckpointInfo& checkpoint,
                                                               std::vector<StreamSpan> spans,
                                                               const ChecksumSidecar* sums);
  /// All rows that the files hold.
  [[nodiscard]] static std::vector<StreamSpan> AllRows(const CheckpointInfo& checkpoint);

  /// The next rows; valid until the next call. False: there are no more.
  [[nodiscard]] bool Next(Chunk& chunk);

  /// Why the last row that is marked could not be had, in words: it names file and place.
  [[nodiscard]] const std::string& failure() const noexcept { return failure_; }

 private:
  struct Planned {
    std::uint32_t layer_index;
    std::uint64_t first_row;
    std::uint64_t row_count;
  };

  RowStream(const CheckpointInfo& checkpoint, const ChecksumSidecar* sums);
  void Plan(const std::vector<StreamSpan>& spans);
  [[nodiscard]] FileRange RangeOf(const Planned& planned, std::uint32_t part) const;
  void TakePart(const Planned& planned, std::uint32_t part, const RangeReader::Got& got);
  void CheckFrames(const Planned& planned, std::span<const std::byte> pages);
  void TakeRow(const Planned& planned, std::uint32_t part, std::uint64_t index,
               std::span<const std::byte> read, bool checked);
  void Mark(std::uint64_t index, RowStatus status, std::string failure);

  const CheckpointInfo& checkpoint_;
  const ChecksumSidecar* sums_;
  Layout layout_;  ///< Of all layers, as the locator wants it.
  RowLocator locator_;
  std::vector<Planned> chunks_;
  std::size_t next_ = 0;
  std::unique_ptr<RangeReader> reader_;
  std::vector<std::byte> rows_;
  std::vector<RowStatus> row_status_;
  std::vector<std::byte> again_;  ///< Of a row that is read by itself.
  std::uint64_t failed_rows_ = 0;
  std::uint64_t damaged_frames_ = 0;
  std::string failure_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_ROW_STREAM_H_
