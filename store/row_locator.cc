#include "store/row_locator.h"

#include <algorithm>
#include <cassert>
#include <iterator>

#include "store/packed_page.h"

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
                                 .pages = part.pages,
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

const RowExtent* RowLocator::Find(const Part& part, RowId row) noexcept {
  // The last extent that starts at or before the row.
  const auto after = std::upper_bound(
      part.extents.begin(), part.extents.end(), Index(row),
      [](std::uint64_t id, const RowExtent& extent) { return id < extent.first_row; });
  if (after == part.extents.begin()) return nullptr;
  const RowExtent& extent = *std::prev(after);
  return Index(row) - extent.first_row < extent.row_count ? &extent : nullptr;
}

bool RowLocator::Holds(std::uint32_t layer_index, RowId row) const noexcept {
  return Find(layers_[layer_index].parts[0], row) != nullptr;
}

std::uint32_t RowLocator::read_size_bytes_max() const noexcept {
  std::uint32_t size_bytes = 1;
  for (const Layer& layer : layers_) {
    for (const Part& part : layer.parts) {
      const std::uint32_t read_bytes = part.pages.rows_per_page > 0 ? part.pages.page_size_bytes
                                       : sums_ != nullptr
                                           ? ChecksumSidecar::CoverSizeBytesMax(part.size_bytes)
                                           : part.size_bytes;
      size_bytes = std::max(size_bytes, read_bytes);
    }
  }
  return size_bytes;
}

RowRead RowLocator::Locate(std::uint32_t layer_index, std::uint32_t part,
                           RowId row) const noexcept {
  const Part& found = layers_[layer_index].parts[part];
  const RowExtent* const extent = Find(found, row);
  assert(extent != nullptr);
  const std::uint64_t index = Index(row) - extent->first_row;
  RowRead read = {.file_index = extent->file_index,
                  .size_bytes = found.size_bytes,
                  .offset_bytes = extent->offset_bytes + index * found.size_bytes,
                  .skip_bytes = 0,
                  .part_size_bytes = found.size_bytes,
                  .row_offset_bytes = found.row_offset_bytes,
                  .row_in_page = 0};
  if (found.pages.rows_per_page > 0) {
    const std::uint64_t page = index / found.pages.rows_per_page;
    read.row_in_page = static_cast<std::uint32_t>(index % found.pages.rows_per_page);
    read.offset_bytes = extent->offset_bytes + page * found.pages.page_size_bytes;
    read.size_bytes = found.pages.page_size_bytes;
    read.skip_bytes = RowOffsetInPage(found.pages, found.size_bytes, read.row_in_page);
  } else if (sums_ != nullptr) {
    const FileSpan cover = sums_->Cover(read.file_index, read.offset_bytes, read.size_bytes);
    read.skip_bytes = static_cast<std::uint32_t>(read.offset_bytes - cover.offset_bytes);
    read.offset_bytes = cover.offset_bytes;
    read.size_bytes = static_cast<std::uint32_t>(cover.size_bytes);
  }
  return read;
}

bool RowLocator::Intact(std::uint32_t layer_index, std::uint32_t part, RowId row,
                        const RowRead& place, std::span<const std::byte> read) const noexcept {
  const Part& found = layers_[layer_index].parts[part];
  if (found.pages.rows_per_page > 0) {
    return RowIntact(found.pages, found.size_bytes, Index(row) - place.row_in_page,
                     place.row_in_page, read);
  }
  return sums_ == nullptr || sums_->Intact(place.file_index, place.offset_bytes, read);
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
