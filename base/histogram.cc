#include "base/histogram.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>

namespace tiercel {

std::uint32_t Histogram::BucketOf(std::uint64_t value) noexcept {
  if (value < (1U << kSubBits)) return static_cast<std::uint32_t>(value);
  const auto octave = static_cast<std::uint32_t>(std::bit_width(value)) - 1 - kSubBits;
  const auto sub = static_cast<std::uint32_t>(value >> octave) - (1U << kSubBits);
  return ((octave + 1) << kSubBits) + sub;
}

std::uint64_t Histogram::UpperBound(std::uint32_t bucket) noexcept {
  if (bucket < (1U << kSubBits)) return bucket;
  const std::uint32_t octave = (bucket >> kSubBits) - 1;
  const std::uint64_t sub = (bucket & ((1U << kSubBits) - 1)) + (1U << kSubBits);
  return (sub << octave) + ((std::uint64_t{1} << octave) - 1);
}

void Histogram::Add(std::uint64_t value) noexcept {
  ++buckets_[BucketOf(value)];
  ++count_;
  max_ = std::max(max_, value);
  sum_ += static_cast<double>(value);
}

void Histogram::Merge(const Histogram& other) noexcept {
  for (std::uint32_t i = 0; i < kBucketCount; ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
}

double Histogram::mean() const noexcept {
  return count_ == 0 ? 0.0 : sum_ / static_cast<double>(count_);
}

std::uint64_t Histogram::CountUpTo(std::uint64_t value) const noexcept {
  std::uint64_t count = 0;
  for (std::uint32_t i = 0; i < kBucketCount && UpperBound(i) <= value; ++i) count += buckets_[i];
  return count;
}

std::uint64_t Histogram::Percentile(double fraction) const noexcept {
  assert(fraction >= 0.0 && fraction <= 1.0);
  if (count_ == 0) return 0;
  const double wanted = std::max(1.0, std::ceil(fraction * static_cast<double>(count_)));
  std::uint64_t seen = 0;
  for (std::uint32_t i = 0; i < kBucketCount; ++i) {
    seen += buckets_[i];
    if (static_cast<double>(seen) >= wanted) return std::min(UpperBound(i), max_);
  }
  return max_;
}

}  // namespace tiercel
