#include "store/pending_rows.h"

#include <algorithm>
#include <span>

#include "base/check.h"
#include "engram/recipe_check.h"

namespace tiercel {

void PendingRows::Add(OverlaidKey key) noexcept {
  std::atomic<std::uint64_t>& word = bits_[Bit(key) / 64];
  word.store(word.load(std::memory_order_relaxed) | std::uint64_t{1} << Bit(key) % 64,
             std::memory_order_relaxed);
  const ServedLayer& layer = layout_.layers[key >> 40];
  const LayerRecipe& recipe = recipe_.layers[layer.recipe_index];
  const std::uint64_t row = key & ((std::uint64_t{1} << 40) - 1);
  for (std::uint32_t column = 0; column < layout_.column_count; ++column) {
    if (row < recipe.offsets[column] || row - recipe.offsets[column] >= recipe.head_sizes[column])
      continue;
    touched_[layer.first_space + column / layout_.head_count].store(true,
                                                                    std::memory_order_relaxed);
  }
}

void PendingRows::Clear() noexcept {
  for (std::atomic<bool>& touched : touched_) touched.store(false, std::memory_order_relaxed);
  for (std::atomic<std::uint64_t>& word : bits_) word.store(0, std::memory_order_relaxed);
}

bool PendingRows::IsIn(std::uint32_t space_index, std::uint64_t group_key) const noexcept {
  if (!touched_[space_index].load(std::memory_order_relaxed)) return false;
  const Space& space = layout_.spaces[space_index];
  std::array<RowId, kHeadCountMax> rows;
  const std::span group_rows = std::span(rows).first(space.row_count);
  hasher_.RowsOfMix(layout_.layers[space.layer_index].recipe_index, space.order_index, group_key,
                    group_rows);
  return std::ranges::any_of(group_rows, [&](RowId row) {
    const OverlaidKey key = MakeOverlaidKey(space.layer_index, row);
    return MayHave(key) && marks_.Find(key).pending;
  });
}

bool PendingRows::HasRowOf(std::uint32_t layer_id, std::uint32_t order_index,
                           std::uint64_t group_key) const noexcept {
  const auto layer = std::ranges::find(layout_.layers, layer_id, &ServedLayer::layer_id);
  TIERCEL_CHECK(layer != layout_.layers.end() && order_index < layout_.order_count);
  return IsIn(layer->first_space + order_index, group_key);
}

}  // namespace tiercel
