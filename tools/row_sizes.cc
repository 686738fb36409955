#include "tools/row_sizes.h"

#include "tiercel/row_format.h"

namespace tiercel::tools {

RowSizes RowSizesOf(const RecipeParameters& parameters) {
  RowShape shape{.format = RowFormat::kFp32, .value_count = parameters.head_dim};
  if (parameters.kind == RecipeKind::kDeepSeekV41) shape.format = RowFormat::kE4M3Block32;
  if (parameters.kind == RecipeKind::kQwen38) shape.format = RowFormat::kBf16;
  RowSizes sizes{.row_size_bytes = shape.row_size_bytes()};
  if (shape.format == RowFormat::kE4M3Block32) {
    sizes.scale_size_bytes = sizes.row_size_bytes - shape.value_count;
  }
  return sizes;
}

}  // namespace tiercel::tools
