#include "store/row_locator.h"

#include <algorithm>
#include <cassert>

namespace tiercel {

RowLocator::RowLocator(const CheckpointInfo& checkpoint, const Layout& layout) {
  layers_.reserve(layout.layers.size());
  for (const ServedLayer& served : layout.layers) {
    Layer& layer = layers_.emplace_back();
    std::uint32_t row_offset_bytes = 0;
    for (const RowPart& part : checkpoint.layers[served.recipe_index].parts) {
      layer.parts.push_back(Part{.size_bytes = part.size_bytes,
                                 .row_offset_bytes = row_offset_bytes,
                                 .extents = part.extents,
                                 .resident = nullptr});
      row_offset_bytes += part.size_bytes;
    }
    assert(row_offset_bytes == served.row_size_bytes);
  }
}

void RowLocator::SetResident(std::uint32_t layer_index, std::uint32_t part,
                             std::unique_ptr<ResidentPart> resident) {
  layers_[layer_index].parts[part].resident = std::move(resident);
}

std::uint32_t RowLocator::part_count_max() const noexcept {
  std::size_t count = 0;
  for (const Layer& layer : layers_) count = std::max(count, layer.parts.size());
  return static_cast<std::uint32_t>(count);
}

RowRead RowLocator::Locate(std::uint32_t layer_index, std::uint32_t part,
                           RowId row) const noexcept {
  const Part& found = layers_[layer_index].parts[part];
  // The last extent that starts at or before the row.
  const auto after = std::upper_bound(
      found.extents.begin(), found.extents.end(), Index(row),
      [](std::uint64_t id, const RowExtent& extent) { return id < extent.first_row; });
  assert(after != found.extents.begin());
  const RowExtent& extent = *std::prev(after);
  const std::uint64_t index = Index(row) - extent.first_row;
  assert(index < extent.row_count);
  return {.file_index = extent.file_index,
          .size_bytes = found.size_bytes,
          .offset_bytes = extent.offset_bytes + index * found.size_bytes,
          .row_offset_bytes = found.row_offset_bytes};
}

bool RowLocator::CopyResident(std::uint32_t layer_index, std::uint32_t part, RowId row,
                              std::span<std::byte> row_bytes) const noexcept {
  const Part& found = layers_[layer_index].parts[part];
  return found.resident != nullptr &&
         found.resident->Copy(row, row_bytes.subspan(found.row_offset_bytes, found.size_bytes));
}

std::uint64_t RowLocator::resident_bytes() const noexcept {
  std::uint64_t total = 0;
  for (const Layer& layer : layers_) {
    for (const Part& part : layer.parts) {
      if (part.resident != nullptr) total += part.resident->memory_bytes();
    }
  }
  return total;
}

}  // namespace tiercel
