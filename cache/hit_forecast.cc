#include "cache/hit_forecast.h"

#include <algorithm>

namespace tiercel {
namespace {

/// A cell is trusted like what it has seen itself plus this many hits at the rate of the
/// wider set: enough to keep a few odd events from deciding, little against the thousands
/// of a busy cell.
constexpr double kBorrowedHits = 8;
/// All slots of an age together need less help.
constexpr double kBorrowedHitsOfAll = 0.1;
/// What of the counts is left after a turn. A turn is a quarter of a turnover of the slots, and
/// less in large caches, so that half of what is known is at most some six turnovers old.
constexpr float kKept = 0.97F;

double Width(std::uint32_t bucket) noexcept {
  return HitForecast::AgeOfBucket(bucket + 1) - HitForecast::AgeOfBucket(bucket);
}

/// Hits a tick before anything was seen: those that there were, over the time since. This
/// also orders slots of which none is ever hit: what had uses goes last.
double PriorRate(std::uint32_t kind, std::uint32_t age_bucket) noexcept {
  const std::uint32_t uses = kind % HitForecast::kUses;
  const std::uint32_t history = kind / HitForecast::kUses % HitForecast::kHistories;
  return (0.5 + uses + history) / (1.0 + HitForecast::AgeOfBucket(age_bucket));
}

}  // namespace

HitForecast::HitForecast(std::span<Cell> cells, float ticks_per_look) noexcept
    : cells_(cells), ticks_per_look_(ticks_per_look) {
  for (std::uint32_t i = 0; i < cells_.size(); ++i) {
    cells_[i].worth = static_cast<float>(PriorRate(i / kAgeCount, i % kAgeCount));
  }
}

/// Hits a tick at each age: what the kind itself has shown, leaning on its like in all
/// spaces, which lean on all slots, which lean on the prior.
HitForecast::Rates HitForecast::RatesOf(std::uint32_t kind) const noexcept {
  Rates rates;
  for (std::uint32_t age = 0; age < kAgeCount; ++age) {
    Seen alike;
    for (std::uint32_t i = kind % kKindsPerSpace; i < kind_count(); i += kKindsPerSpace) {
      alike.hits += cells_[i * kAgeCount + age].hits;
      alike.looks += cells_[i * kAgeCount + age].looks;
    }
    const double all_rate = (all_[age].hits + kBorrowedHitsOfAll * PriorRate(kind, age)) /
                            (all_[age].looks * ticks_per_look_ + kBorrowedHitsOfAll);
    const double alike_rate =
        (alike.hits + kBorrowedHits) / (alike.looks * ticks_per_look_ + kBorrowedHits / all_rate);
    const Cell& cell = cells_[kind * kAgeCount + age];
    rates[age] =
        (cell.hits + kBorrowedHits) / (cell.looks * ticks_per_look_ + kBorrowedHits / alike_rate);
  }
  return rates;
}

void HitForecast::RefreshNext() noexcept {
  if (next_kind_ == 0) {
    all_.fill({});
    for (std::uint32_t i = 0; i < cells_.size(); ++i) {
      all_[i % kAgeCount].hits += cells_[i].hits;
      all_[i % kAgeCount].looks += cells_[i].looks;
    }
  }
  const Rates rates = RatesOf(next_kind_);
  const std::span<Cell> cells = cells_.subspan(next_kind_ * kAgeCount, kAgeCount);
  for (std::uint32_t age = 0; age < kAgeCount; ++age) {
    double best = 0;
    double hits = 0;
    double ticks = 0;
    double unhit = 1;  // Share of such slots that is not hit before age `end`.
    for (std::uint32_t end = age; end < kAgeCount; ++end) {
      // Somewhere in the bucket a share of h / (1 + h) is hit, h being rate x width.
      const double stayed = unhit / (1 + rates[end] * Width(end));
      hits += unhit - stayed;
      ticks += stayed * Width(end);
      unhit = stayed;
      best = std::max(best, hits / ticks);
    }
    cells[age].worth = static_cast<float>(best);
  }
  for (Cell& cell : cells) {
    cell.hits *= kKept;
    cell.looks *= kKept;
  }
  next_kind_ = (next_kind_ + 1) % kind_count();
}

}  // namespace tiercel
