#ifndef TIERCEL_CACHE_SIM_TOP_K_H_
#define TIERCEL_CACHE_SIM_TOP_K_H_

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "cache/sim/access_trace.h"

namespace tiercel {

/// Keeps what was asked for most in the warm-up, whatever comes later; of two that tie,
/// what appeared first.
///
/// Threading: one thread at a time.
class TopKSim {
 public:
  TopKSim(const AccessTrace& trace, std::uint64_t capacity) : kept_(trace.item_count()) {
    std::vector<std::uint32_t> uses(trace.item_count());
    for (std::size_t i = 0; i < trace.counted_begin; ++i) ++uses[trace.items[i]];
    std::vector<std::uint32_t> order(trace.item_count());
    std::iota(order.begin(), order.end(), 0U);
    const std::size_t kept_count = std::min<std::uint64_t>(capacity, order.size());
    const auto first_dropped = order.begin() + static_cast<std::ptrdiff_t>(kept_count);
    std::nth_element(order.begin(), first_dropped, order.end(),
                     [&uses](std::uint32_t a, std::uint32_t b) {
                       return uses[a] != uses[b] ? uses[a] > uses[b] : a < b;
                     });
    // What was never asked for in the warm-up is not known, room or no room.
    for (auto i = order.begin(); i != first_dropped; ++i) kept_[*i] = uses[*i] > 0 ? 1 : 0;
  }

  /// Whether `item` is among those that are kept.
  bool Access(std::uint32_t item) noexcept { return kept_[item] != 0; }

 private:
  std::vector<std::uint8_t> kept_;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SIM_TOP_K_H_
