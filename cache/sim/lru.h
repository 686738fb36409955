#ifndef TIERCEL_CACHE_SIM_LRU_H_
#define TIERCEL_CACHE_SIM_LRU_H_

#include <cstdint>
#include <vector>

#include "cache/sim/item_list.h"

namespace tiercel {

/// Gives up what was used longest ago.
///
/// Threading: one thread at a time.
class LruSim {
 public:
  LruSim(std::uint32_t item_count, std::uint64_t capacity)
      : links_(item_count), resident_(item_count), list_(links_), capacity_(capacity) {}
  // Its lists point into its links.
  LruSim(const LruSim&) = delete;
  LruSim& operator=(const LruSim&) = delete;

  /// Asks for `item`, and takes it in where it is missing. Returns whether it was there.
  bool Access(std::uint32_t item) noexcept {
    const bool hit = resident_[item] != 0;
    if (hit) {
      list_.Remove(item);
    } else {
      if (list_.size() == capacity_) resident_[list_.PopOldest()] = 0;
      resident_[item] = 1;
    }
    list_.PushNewest(item);
    return hit;
  }

 private:
  std::vector<ItemLink> links_;
  std::vector<std::uint8_t> resident_;
  ItemList list_;
  std::uint64_t capacity_;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SIM_LRU_H_
