#ifndef TIERCEL_STORE_ROW_LOCATOR_H_
#define TIERCEL_STORE_ROW_LOCATOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "store/resident_part.h"
#include "store/space.h"
#include "tiercel/checkpoint.h"
#include "tiercel/types.h"

namespace tiercel {

/// Where one part of one row lies on disk, and where it goes in the row.
struct RowRead {
  std::uint32_t file_index = 0;
  std::uint32_t size_bytes = 0;
  std::uint64_t offset_bytes = 0;      ///< In the file.
  std::uint32_t row_offset_bytes = 0;  ///< In the row.
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

  /// REQUIRES: row < the layer's row count.
  [[nodiscard]] RowRead Locate(std::uint32_t layer_index, std::uint32_t part,
                               RowId row) const noexcept;

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
    std::unique_ptr<ResidentPart> resident;
  };
  struct Layer {
    std::vector<Part> parts;
  };
  std::vector<Layer> layers_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_ROW_LOCATOR_H_
