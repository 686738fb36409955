#ifndef TIERCEL_CACHE_SIM_CLAIRVOYANT_H_
#define TIERCEL_CACHE_SIM_CLAIRVOYANT_H_

#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache/sim/access_trace.h"

namespace tiercel {

/// A set of numbers below a bound that finds its largest: 64 children a node, so that
/// a set of 2^30 numbers is five levels high.
///
/// Threading: one thread at a time.
class NumberSet {
 public:
  explicit NumberSet(std::size_t bound) {
    do {
      bound = (bound + 63) / 64;
      levels_.emplace_back(bound);
    } while (bound > 1);
  }

  [[nodiscard]] bool Contains(std::size_t number) const noexcept {
    return (levels_[0][number / 64] >> (number % 64) & 1) != 0;
  }
  void Insert(std::size_t number) noexcept {
    for (std::vector<std::uint64_t>& level : levels_) {
      level[number / 64] |= std::uint64_t{1} << (number % 64);
      number /= 64;
    }
  }
  void Remove(std::size_t number) noexcept {
    for (std::vector<std::uint64_t>& level : levels_) {
      level[number / 64] &= ~(std::uint64_t{1} << (number % 64));
      if (level[number / 64] != 0) return;
      number /= 64;
    }
  }
  /// REQUIRES: the set is not empty.
  [[nodiscard]] std::size_t Largest() const noexcept {
    std::size_t number = 0;
    for (auto level = levels_.rbegin(); level != levels_.rend(); ++level) {
      assert((*level)[number] != 0);
      number = number * 64 + 63 - static_cast<std::size_t>(std::countl_zero((*level)[number]));
    }
    return number;
  }

 private:
  std::vector<std::vector<std::uint64_t>> levels_;  ///< Bit i: some bit of word i below is set.
};

/// The most hits that any policy can have (Belady 1966), with the whole future known: it
/// gives up what is needed again last, or does not even take it in. No two items are
/// needed next at the same time, so a resident item is known by that time alone.
///
/// Threading: one thread at a time.
class ClairvoyantSim {
 public:
  ClairvoyantSim(const AccessTrace& trace, std::uint64_t capacity)
      : next_uses_(NextUses(trace)), resident_(trace.items.size()), capacity_(capacity) {}

  /// REQUIRES: called for the items of the trace in their order.
  bool Access(std::uint32_t /*item*/) noexcept {
    const std::size_t now = now_++;
    const bool hit = resident_.Contains(now);
    if (hit) {
      resident_.Remove(now);
      --size_;
    }
    if (next_uses_[now] == kNeverUsed) return hit;
    resident_.Insert(next_uses_[now]);
    if (++size_ > capacity_) {
      resident_.Remove(resident_.Largest());
      --size_;
    }
    return hit;
  }

 private:
  std::vector<std::uint32_t> next_uses_;  ///< Shape [accesses].
  NumberSet resident_;                    ///< When each resident item is needed next.
  std::size_t now_ = 0;
  std::uint64_t size_ = 0;
  std::uint64_t capacity_;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SIM_CLAIRVOYANT_H_
