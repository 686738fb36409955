#include "base/range_allocator.h"

#include <algorithm>

#include "base/check.h"

namespace tiercel {

RangeAllocator::RangeAllocator(std::uint64_t capacity, std::uint64_t alignment,
                               std::size_t ranges_max)
    : capacity_(capacity / alignment * alignment), alignment_(alignment), ranges_max_(ranges_max) {
  gaps_.reserve(ranges_max + 2);
  if (capacity_ > 0) gaps_.push_back({0, capacity_});
}

std::optional<Range> RangeAllocator::Take(std::uint64_t size) {
  if (size == 0) return Range{};
  if (size > capacity_ || lent_ == ranges_max_) return std::nullopt;
  const std::uint64_t rounded = (size + alignment_ - 1) / alignment_ * alignment_;
  const auto gap =
      std::ranges::find_if(gaps_, [rounded](const Range& range) { return range.size >= rounded; });
  if (gap == gaps_.end()) return std::nullopt;
  const Range taken{gap->first, rounded};
  if (gap->size == rounded) {
    gaps_.erase(gap);
  } else {
    gap->first += rounded;
    gap->size -= rounded;
  }
  ++lent_;
  used_ += rounded;
  return taken;
}

void RangeAllocator::Give(const Range& range) {
  if (range.size == 0) return;
  TIERCEL_CHECK(lent_ > 0 && used_ >= range.size);
  --lent_;
  used_ -= range.size;
  const auto next =
      std::ranges::find_if(gaps_, [&range](const Range& gap) { return gap.first > range.first; });
  const bool touches_next = next != gaps_.end() && range.first + range.size == next->first;
  const bool touches_previous =
      next != gaps_.begin() && (next - 1)->first + (next - 1)->size == range.first;
  if (touches_previous) {
    (next - 1)->size += range.size;
    if (touches_next) {
      (next - 1)->size += next->size;
      gaps_.erase(next);
    }
  } else if (touches_next) {
    next->first = range.first;
    next->size += range.size;
  } else {
    gaps_.insert(next, range);
  }
}

}  // namespace tiercel
