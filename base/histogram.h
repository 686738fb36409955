#ifndef TIERCEL_BASE_HISTOGRAM_H_
#define TIERCEL_BASE_HISTOGRAM_H_

#include <array>
#include <cstdint>

namespace tiercel {

/// Counts of non-negative integers (latencies in ns, say) in log-linear buckets:
/// 32 to an octave, so that a percentile is within 3.2 % of the truth. Fixed size.
///
/// Threading: one thread at a time. Give each thread its own and Merge().
class Histogram {
 public:
  void Add(std::uint64_t value) noexcept;
  void Merge(const Histogram& other) noexcept;

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t max() const noexcept { return max_; }
  [[nodiscard]] double mean() const noexcept;
  [[nodiscard]] double sum() const noexcept { return sum_; }
  /// Values that are at most `value`, but for those that share its bucket with larger ones.
  [[nodiscard]] std::uint64_t CountUpTo(std::uint64_t value) const noexcept;
  /// The smallest bucket bound that at least `fraction` of the values do not
  /// exceed; never above max(). 0 when empty. REQUIRES: fraction in [0, 1].
  [[nodiscard]] std::uint64_t Percentile(double fraction) const noexcept;

 private:
  static constexpr std::uint32_t kSubBits = 5;
  static constexpr std::uint32_t kBucketCount = (64 - kSubBits + 1) << kSubBits;
  static std::uint32_t BucketOf(std::uint64_t value) noexcept;
  static std::uint64_t UpperBound(std::uint32_t bucket) noexcept;

  std::array<std::uint64_t, kBucketCount> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
  double sum_ = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_BASE_HISTOGRAM_H_
