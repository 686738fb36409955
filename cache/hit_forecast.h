#ifndef TIERCEL_CACHE_HIT_FORECAST_H_
#define TIERCEL_CACHE_HIT_FORECAST_H_

#include <array>
#include <cstdint>
#include <span>

namespace tiercel {

/// Learns how many hits a slot can be expected to give for each tick that it still
/// occupies memory, from what is seen of slots like it: same space, history, uses, and age
/// since the last use.
///
/// Two things are counted of each kind of slot: looks (somebody looked at a slot of this
/// kind and age: so much slot time has passed) and hits (the use that ended such an age).
/// hits / looks is the rate of hits at that age, and being a rate it does not depend on
/// which slots were dropped before. The worth of a slot of age a is then the most that any
/// stay from a on can give:
///   worth(a) = max over b of (hits expected in [a, b)) / (ticks expected until hit or b).
/// Counts fade, so that what is learned follows drift. No constant says what a good reuse
/// distance is, or which order earns more. Where little was seen, the kinds of all spaces
/// together fill in, then all slots, and before anything was seen (1 + uses) / age does.
///
/// Threading: one thread at a time.
class HitForecast {
 public:
  /// Ages in ticks: 0 to 7 one by one, then four to an octave, the last from 1,024 on.
  static constexpr std::uint32_t kAgeCount = 37;
  static constexpr std::uint32_t kHistories = 8;
  static constexpr std::uint32_t kUses = 8;
  static constexpr std::uint32_t kKindsPerSpace = kHistories * kUses;

  [[nodiscard]] static constexpr std::uint32_t AgeBucket(std::uint32_t age_ticks) noexcept {
    if (age_ticks < 8) return age_ticks;
    if (age_ticks >= 1024) return kAgeCount - 1;
    std::uint32_t log2 = 3;
    while (age_ticks >> (log2 + 1) != 0) ++log2;
    return 8 + (log2 - 3) * 4 + ((age_ticks >> (log2 - 2)) & 3);
  }
  /// The least age of a bucket. REQUIRES: bucket <= kAgeCount.
  [[nodiscard]] static constexpr std::uint32_t AgeOfBucket(std::uint32_t bucket) noexcept {
    return bucket < 8 ? bucket : (4 + bucket % 4) << ((bucket - 8) / 4 + 1);
  }

  struct Cell {
    float hits;
    float looks;
    float worth;
  };
  [[nodiscard]] static constexpr std::uint64_t CellCount(std::uint64_t space_count) noexcept {
    return space_count * kKindsPerSpace * kAgeCount;
  }

  /// What is told apart about a slot besides its age.
  struct Kind {
    std::uint32_t space = 0;    ///< Below the number of spaces that the cells are for.
    std::uint32_t history = 0;  ///< Below kHistories.
    std::uint32_t uses = 0;     ///< Below kUses.
  };

  HitForecast() noexcept = default;
  /// CellCount(spaces) cells, zeroed; another's memory. A look stands for `ticks_per_look`
  /// ticks of one slot.
  HitForecast(std::span<Cell> cells, float ticks_per_look) noexcept;

  void CountHit(const Kind& kind, std::uint32_t age_ticks) noexcept {
    CellOf(kind, age_ticks).hits += 1;
  }
  void CountLook(const Kind& kind, std::uint32_t age_ticks) noexcept {
    CellOf(kind, age_ticks).looks += 1;
  }
  [[nodiscard]] float Worth(const Kind& kind, std::uint32_t age_ticks) const noexcept {
    return CellOf(kind, age_ticks).worth;
  }

  /// Works out the worths of the next kind of slot, in turn, and lets its counts fade.
  /// Takes some 5 us.
  void RefreshNext() noexcept;
  [[nodiscard]] std::uint32_t kind_count() const noexcept {
    return static_cast<std::uint32_t>(cells_.size() / kAgeCount);
  }

 private:
  struct Seen {
    double hits = 0;
    double looks = 0;
  };
  using Rates = std::array<double, kAgeCount>;

  [[nodiscard]] Cell& CellOf(const Kind& kind, std::uint32_t age_ticks) const noexcept {
    return cells_[((kind.space * kHistories + kind.history) * kUses + kind.uses) * kAgeCount +
                  AgeBucket(age_ticks)];
  }
  [[nodiscard]] Rates RatesOf(std::uint32_t kind) const noexcept;

  std::span<Cell> cells_;
  double ticks_per_look_ = 1;
  std::uint32_t next_kind_ = 0;
  std::array<Seen, kAgeCount> all_{};  ///< All kinds together, at the beginning of this turn.
};
static_assert(sizeof(HitForecast::Cell) == 12);
static_assert(HitForecast::AgeBucket(1023) == HitForecast::kAgeCount - 2);
static_assert(HitForecast::AgeOfBucket(HitForecast::kAgeCount - 1) == 1024);

}  // namespace tiercel

#endif  // TIERCEL_CACHE_HIT_FORECAST_H_
