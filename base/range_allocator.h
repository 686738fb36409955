#ifndef TIERCEL_BASE_RANGE_ALLOCATOR_H_
#define TIERCEL_BASE_RANGE_ALLOCATOR_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace tiercel {

/// A piece of something that is counted from 0: bytes of a slab, say.
struct Range {
  std::uint64_t first = 0;
  std::uint64_t size = 0;
};

/// Lends ranges of [0, capacity): the first gap that is large enough. For few, large
/// ranges: each call looks at the gaps one by one, of which there are at most one more
/// than ranges on loan.
///
/// Threading: none. Allocates nothing after it was made.
class RangeAllocator {
 public:
  /// `ranges_max`: ranges on loan at a time. Sizes are rounded up to `alignment`, which
  /// `capacity` is rounded down to.
  RangeAllocator(std::uint64_t capacity, std::uint64_t alignment, std::size_t ranges_max);

  /// Nothing where no gap is large enough, or ranges_max are on loan. A range of size 0
  /// takes nothing and may be given back or not.
  [[nodiscard]] std::optional<Range> Take(std::uint64_t size);
  /// REQUIRES: Take() lent it.
  void Give(const Range& range);

  [[nodiscard]] std::uint64_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] std::uint64_t used() const noexcept { return used_; }

 private:
  std::uint64_t capacity_;
  std::uint64_t alignment_;
  std::size_t ranges_max_;
  std::size_t lent_ = 0;
  std::uint64_t used_ = 0;
  std::vector<Range> gaps_;  ///< In rising order; no two touch.
};

}  // namespace tiercel

#endif  // TIERCEL_BASE_RANGE_ALLOCATOR_H_
