#ifndef TIERCEL_STORE_SPACE_H_
#define TIERCEL_STORE_SPACE_H_

#include <cstdint>
#include <vector>

#include "tiercel/checkpoint.h"
#include "tiercel/recipe.h"
#include "tiercel/row_format.h"

namespace tiercel {

/// A kind of thing that is fetched as one: the groups of one (layer, order), keyed
/// by group key, or the single rows of one layer, keyed by row id. Keys of
/// different spaces never meet.
struct Space {
  static constexpr std::uint32_t kSingleRows = ~std::uint32_t{0};

  std::uint32_t layer_index = 0;  ///< Into Layout::layers.
  std::uint32_t order_index = 0;  ///< n - 2 of the n-gram, or kSingleRows.
  std::uint32_t row_count = 0;    ///< Rows of one fetch: H, or 1.
  std::uint32_t size_bytes = 0;   ///< row_count stored rows.

  /// Single rows as the table's files have them, whatever was updated: for snapshots.
  bool base_rows = false;

  [[nodiscard]] bool single_rows() const noexcept { return order_index == kSingleRows; }
};

/// A layer that the store serves.
struct ServedLayer {
  std::uint32_t layer_id = 0;
  std::uint32_t recipe_index = 0;  ///< Into Recipe::layers and CheckpointInfo::layers.
  RowShape shape;
  std::uint32_t row_size_bytes = 0;
  std::uint64_t row_count = 0;
  std::uint32_t first_space = 0;   ///< Of its orders: order o is first_space + o.
  std::uint32_t single_space = 0;  ///< Of its single rows.
  std::uint32_t base_space = 0;    ///< Of its single rows without their updates.
};

/// What is served: layers, and the spaces that follow from them. Group spaces come
/// first, [0, group_space_count); the cache knows those alone.
struct Layout {
  std::vector<ServedLayer> layers;
  std::vector<Space> spaces;
  std::uint32_t group_space_count = 0;
  std::uint32_t order_count = 0;
  std::uint32_t head_count = 0;
  std::uint32_t column_count = 0;
  std::uint32_t space_size_bytes_max = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_SPACE_H_
