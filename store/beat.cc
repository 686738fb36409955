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
  // The next one may lie a little outside of what the last four span.
  const std::uint64_t margin_ns = kMarginNs + (longest - shortest) / 4;
  const std::uint64_t length_ns = longest - shortest + 2 * margin_ns;
  if (length_ns > shortest / 6) return {};
  const Window window{.begin_ns = last_ns_ + shortest - margin_ns,
                      .end_ns = last_ns_ + longest + margin_ns};
  return now_ns < window.end_ns ? window : Window{};
}

}  // namespace tiercel
