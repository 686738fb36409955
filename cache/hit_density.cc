#include "cache/hit_density.h"

#include <array>

namespace tiercel {
namespace {

/// What all slots of an age and older together did.
struct Ahead {
  double hits = 0;
  double events = 0;
  double ticks = 0;  ///< That these events still lay ahead.
};

/// A class is trusted like its own events plus this many of the average: enough to
/// keep one odd event from deciding, little against the thousands of a busy class.
constexpr double kBorrowedEvents = 8;

double Width(std::uint32_t bucket) noexcept {
  return HitDensity::AgeOfBucket(bucket + 1) - HitDensity::AgeOfBucket(bucket);
}

double PriorDensity(std::uint32_t bucket) noexcept {
  return 1.0 / (1.0 + HitDensity::AgeOfBucket(bucket));
}

}  // namespace

HitDensity::HitDensity(std::span<Cell> cells) noexcept : cells_(cells) {
  for (std::size_t i = 0; i < cells_.size(); ++i) {
    cells_[i].density = static_cast<float>(PriorDensity(static_cast<std::uint32_t>(i % kAgeCount)));
  }
}

void HitDensity::Refresh() noexcept {
  const auto class_count = static_cast<std::uint32_t>(cells_.size() / kAgeCount);
  std::array<Ahead, kAgeCount> all{};
  // Twice over the classes: their sum first, for the others to lean on.
  for (const bool summing : {true, false}) {
    for (std::uint32_t slot_class = 0; slot_class < class_count; ++slot_class) {
      Ahead ahead;
      for (std::uint32_t age = kAgeCount; age-- > 0;) {
        Cell& cell = At(slot_class, age);
        const std::uint32_t hits = cell.hits.load(std::memory_order_relaxed);
        const std::uint32_t drops = cell.drops.load(std::memory_order_relaxed);
        ahead.hits += hits;
        ahead.events += double{1} * hits + drops;
        ahead.ticks += ahead.events * Width(age);
        if (summing) {
          all[age].hits += ahead.hits;
          all[age].events += ahead.events;
          all[age].ticks += ahead.ticks;
          continue;
        }
        // kBorrowedEvents that do as the average does; where there is none, as LRU.
        const Ahead& average = all[age];
        const double borrowed_ticks =
            kBorrowedEvents * kUnit *
            (average.events > 0 ? average.ticks / average.events : Width(age));
        const double borrowed_density =
            (average.hits + kUnit * PriorDensity(age)) / (average.ticks + kUnit);
        cell.density = static_cast<float>((ahead.hits + borrowed_ticks * borrowed_density) /
                                          (ahead.ticks + borrowed_ticks));
        cell.hits.fetch_sub(hits / 10, std::memory_order_relaxed);
        cell.drops.fetch_sub(drops / 10, std::memory_order_relaxed);
      }
    }
  }
}

}  // namespace tiercel
