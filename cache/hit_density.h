#ifndef TIERCEL_CACHE_HIT_DENSITY_H_
#define TIERCEL_CACHE_HIT_DENSITY_H_

#include <atomic>
#include <bit>
#include <cstdint>
#include <span>

namespace tiercel {

/// Learns how many hits a slot can be expected to give for the time that it will still
/// occupy memory, from what became of slots like it: same class, same age since the
/// last use.
///
/// Of a class, events (a hit or a drop, each ends a life of some age) are counted by
/// age. A slot that has reached age a without an event may expect
///   density(a) = hits at ages >= a / sum over events at ages >= a of (their age - a).
/// Counts decay by a tenth at each Refresh(), so that what is learned follows drift.
/// No constant says what a good reuse distance is, or which order earns more.
///
/// Threading: Count() may run anywhere, anytime; the rest is one thread's.
class HitDensity {
 public:
  /// Ages in ticks: 0 to 7 one by one, then four to an octave, the last from 3,584 on.
  static constexpr std::uint32_t kAgeCount = 44;

  [[nodiscard]] static constexpr std::uint32_t AgeBucket(std::uint32_t age_ticks) noexcept {
    if (age_ticks < 8) return age_ticks;
    if (age_ticks >= 4096) return kAgeCount - 1;
    const auto log2 = static_cast<std::uint32_t>(std::bit_width(age_ticks)) - 1;
    return 8 + (log2 - 3) * 4 + ((age_ticks >> (log2 - 2)) & 3);
  }
  /// The least age of a bucket. REQUIRES: bucket <= kAgeCount.
  [[nodiscard]] static constexpr std::uint32_t AgeOfBucket(std::uint32_t bucket) noexcept {
    if (bucket < 8) return bucket;
    return (4 + bucket % 4) << ((bucket - 8) / 4 + 1);
  }

  /// Of one class and one age.
  struct Cell {
    std::atomic<std::uint32_t> hits;   ///< In units of 1 / kUnit.
    std::atomic<std::uint32_t> drops;  ///< Likewise.
    float density;
  };

  HitDensity() noexcept = default;
  /// Shape [classes, kAgeCount], zeroed; another's memory. Until something has been
  /// learned, the density falls with age: that is LRU.
  explicit HitDensity(std::span<Cell> cells) noexcept;

  void CountHit(std::uint32_t slot_class, std::uint32_t age_bucket) noexcept {
    At(slot_class, age_bucket).hits.fetch_add(kUnit, std::memory_order_relaxed);
  }
  void CountDrop(std::uint32_t slot_class, std::uint32_t age_bucket) noexcept {
    At(slot_class, age_bucket).drops.fetch_add(kUnit, std::memory_order_relaxed);
  }
  [[nodiscard]] float Density(std::uint32_t slot_class, std::uint32_t age_bucket) const noexcept {
    return cells_[slot_class * kAgeCount + age_bucket].density;
  }

  /// Turns counts into densities and lets them decay. A class with few events leans on
  /// all classes together.
  void Refresh() noexcept;

 private:
  static constexpr std::uint32_t kUnit = 64;
  [[nodiscard]] Cell& At(std::uint32_t slot_class, std::uint32_t age_bucket) const noexcept {
    return cells_[slot_class * kAgeCount + age_bucket];
  }

  std::span<Cell> cells_;
};
static_assert(sizeof(HitDensity::Cell) == 12);
static_assert(HitDensity::AgeBucket(4095) == HitDensity::kAgeCount - 1);

}  // namespace tiercel

#endif  // TIERCEL_CACHE_HIT_DENSITY_H_
