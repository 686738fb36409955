#ifndef TIERCEL_STORE_ROW_LOCATOR_H_
#define TIERCEL_STORE_ROW_LOCATOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "store/checksum_sidecar.h"
#include "store/resident_part.h"
#include "store/space.h"
#include "tiercel/checkpoint.h"
#include "tiercel/types.h"

namespace tiercel {

/// What to read for one part of one row, and where the part goes in the row. Where reads
/// are checked, whole pages are read.
struct RowRead {
  std::uint32_t file_index = 0;
  std::uint32_t size_bytes = 0;        ///< To read.
  std::uint64_t offset_bytes = 0;      ///< In the file.
  std::uint32_t skip_bytes = 0;        ///< Bytes read before the part's first.
  std::uint32_t part_size_bytes = 0;   ///< Of the part.
  std::uint32_t row_offset_bytes = 0;  ///< Of the part, in the row.
  std::uint32_t row_in_page = 0;       ///< Of a packed table.
};

/// Turns (layer, row, part) into a place on disk, or into bytes where the part is
/// resident in DRAM.
///
/// Threading: immutable but for the resident parts, which are safe by themselves;
/// all methods may run concurrently. Allocates nothing after it was made.
class RowLocator {
 public:
  /// `checkpoint` and `layout` must outlive the locator.
  RowLocator(const CheckpointInfo& checkpoint, const Layout& layout);

  /// Adopts a DRAM copy of one part of one layer.
  void SetResident(std::uint32_t layer_index, std::uint32_t part,
                   std::unique_ptr<ResidentPart> resident);

  [[nodiscard]] std::uint32_t PartCount(std::uint32_t layer_index) const noexcept {
    return static_cast<std::uint32_t>(layers_[layer_index].parts.size());
  }

  /// Most parts of any layer's rows.
  [[nodiscard]] std::uint32_t part_count_max() const noexcept;

  /// Has what is read of the files of in-place tables checked. `sums` must outlive the
  /// locator.
  void SetChecksums(const ChecksumSidecar* sums) noexcept { sums_ = sums; }

  /// Whether the layer's files hold the row: those of a packed shard hold a rank's alone.
  /// REQUIRES: row < the layer's row count.
  [[nodiscard]] bool Holds(std::uint32_t layer_index, RowId row) const noexcept;

  /// Most bytes of any RowRead.
  [[nodiscard]] std::uint32_t read_size_bytes_max() const noexcept;

  /// REQUIRES: row < the layer's row count, Holds().
  [[nodiscard]] RowRead Locate(std::uint32_t layer_index, std::uint32_t part,
                               RowId row) const noexcept;

  /// Whether the part is what was once written, by the checksums that there are for it.
  ///   place  Locate() of the row.
  ///   read   shape [place.size_bytes].
  [[nodiscard]] bool Intact(std::uint32_t layer_index, std::uint32_t part, RowId row,
                            const RowRead& place, std::span<const std::byte> read) const noexcept;

  /// Copies the part into `row_bytes` (a whole row) if it is in DRAM by now.
  /// REQUIRES: row < the layer's row count.
  [[nodiscard]] bool CopyResident(std::uint32_t layer_index, std::uint32_t part, RowId row,
                                  std::span<std::byte> row_bytes) const noexcept;

  [[nodiscard]] std::uint64_t resident_bytes() const noexcept;

 private:
  struct Part {
    std::uint32_t size_bytes = 0;
    std::uint32_t row_offset_bytes = 0;
    std::span<const RowExtent> extents;
    RowPages pages;
    std::unique_ptr<ResidentPart> resident;
  };
  struct Layer {
    std::vector<Part> parts;
  };
  [[nodiscard]] static const RowExtent* Find(const Part& part, RowId row) noexcept;

  std::vector<Layer> layers_;
  const ChecksumSidecar* sums_ = nullptr;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_ROW_LOCATOR_H_
