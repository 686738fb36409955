#include "store/beat.h"

#include <algorithm>

namespace tiercel {
namespace {

constexpr std::uint64_t kShortestNs = 1'000'000;
constexpr std::uint64_t kLongestNs = 250'000'000;
/// Timers ring late by up to this.
constexpr std::uint64_t kMarginNs = 120'000;

}  // namespace

void Beat::Came(std::uint64_t now_ns) noexcept {
  if (now_ns - last_ns_ < kShortestNs) return;
  intervals_ns_[next_interval_] = now_ns - last_ns_;
  next_interval_ = (next_interval_ + 1) % kIntervals;
  last_ns_ = now_ns;
}

Beat::Window Beat::Next(std::uint64_t now_ns) const noexcept {
  const auto [shortest, longest] = std::ranges::minmax(intervals_ns_);
  if (shortest < kShortestNs || longest > kLongestNs) return {};
  // All four lie close together, or it is no beat.
  const std::uint64_t length_ns = longest - shortest + 2 * kMarginNs;
  if (length_ns > shortest / 16 + 2 * kMarginNs || length_ns > shortest / 8) return {};
  const Window window{.begin_ns = last_ns_ + shortest - kMarginNs,
                      .end_ns = last_ns_ + longest + kMarginNs};
  return now_ns < window.end_ns ? window : Window{};
}

}  // namespace tiercel
