#ifndef TIERCEL_TOOLS_ROW_SIZES_H_
#define TIERCEL_TOOLS_ROW_SIZES_H_

#include <cstdint>

#include "tiercel/recipe.h"

namespace tiercel::tools {

/// How many bytes a model's rows have, and how they lie on disk.
struct RowSizes {
  std::uint32_t row_size_bytes = 0;
  /// Of those, bytes that a checkpoint keeps in a tensor of their own (DeepSeek-V4.1's
  /// scales), so that a row is read in two places unless they are in memory. Else 0.
  std::uint32_t scale_size_bytes = 0;
};

/// The sizes of the model's published rows: E4M3 with scales, bf16, float32.
[[nodiscard]] RowSizes RowSizesOf(const RecipeParameters& parameters);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_ROW_SIZES_H_
