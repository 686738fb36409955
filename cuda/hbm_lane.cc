#include "cuda/hbm_lane.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "cache/group_hash.h"

namespace tiercel {

MissTable::MissTable(std::size_t groups_max) : cells_(std::bit_ceil(2 * groups_max + 1)) {
  misses_.reserve(groups_max);
}

void MissTable::Clear() noexcept {
  misses_.clear();
  if (++stamp_ != 0) return;
  std::ranges::fill(cells_, Cell{});
  stamp_ = 1;
}

/// The group's cell, or the free one that it may take.
MissTable::Cell& MissTable::Find(const Miss& miss) noexcept {
  const std::size_t mask = cells_.size() - 1;
  std::size_t at = HashGroup(miss.order_index, miss.key) & mask;
  for (; cells_[at].stamp == stamp_; at = (at + 1) & mask) {
    const Miss& other = misses_[cells_[at].number];
    if (other.key == miss.key && other.order_index == miss.order_index) break;
  }
  return cells_[at];
}

MissTable::Noted MissTable::Note(const Miss& miss) noexcept {
  const Cell& cell = Find(miss);
  if (cell.stamp == stamp_) return {.number = cell.number, .is_new = false};
  return NoteAnyhow(miss);
}

MissTable::Noted MissTable::NoteAnyhow(const Miss& miss) noexcept {
  TIERCEL_CHECK(misses_.size() < misses_.capacity());
  const auto number = static_cast<std::uint32_t>(misses_.size());
  Cell& cell = Find(miss);
  const bool is_new = cell.stamp != stamp_;
  if (is_new) cell = {.stamp = stamp_, .number = number};
  misses_.push_back(miss);
  return {.number = number, .is_new = is_new};
}

LaneLayer::LaneLayer(std::uint32_t layer_slot, std::size_t groups_max, std::uint32_t rows_per_group)
    : slot_of_layer(layer_slot), misses(groups_max) {
  pinned.reserve(groups_max);
  fills.reserve(groups_max);
  staged_status.reserve(groups_max * rows_per_group);
}

}  // namespace tiercel
