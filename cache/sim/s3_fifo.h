#ifndef TIERCEL_CACHE_SIM_S3_FIFO_H_
#define TIERCEL_CACHE_SIM_S3_FIFO_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cache/sim/item_list.h"

namespace tiercel {

/// S3-FIFO (Yang et al., SOSP 2023) with its authors' numbers: a small queue of a tenth,
/// which is left for the main one by what was used more than once there; exact ghosts, as
/// many as the main queue may hold.
///
/// Threading: one thread at a time.
class S3FifoSim {
 public:
  S3FifoSim(std::uint32_t item_count, std::uint64_t capacity)
      : links_(item_count),
        states_(item_count),
        small_(links_),
        main_(links_),
        ghosts_(links_),
        capacity_(capacity),
        small_size_max_(std::max<std::uint64_t>(capacity / 10, 1)) {}
  // Its lists point into its links.
  S3FifoSim(const S3FifoSim&) = delete;
  S3FifoSim& operator=(const S3FifoSim&) = delete;

  /// Asks for `item`, and takes it in where it is missing. Returns whether it was there.
  bool Access(std::uint32_t item) noexcept {
    State& state = states_[item];
    if (state.place == Place::kSmall || state.place == Place::kMain) {
      state.uses = std::min<std::uint8_t>(state.uses + 1, kUsesMax);
      return true;
    }
    const bool came_back = state.place == Place::kGhost;
    if (came_back) ghosts_.Remove(item);
    state = {};
    while (small_.size() + main_.size() >= capacity_) Evict();
    Push(item, came_back ? Place::kMain : Place::kSmall);
    return false;
  }

 private:
  enum class Place : std::uint8_t { kNone, kSmall, kMain, kGhost };
  struct State {
    Place place = Place::kNone;
    std::uint8_t uses = 0;
  };
  static constexpr std::uint8_t kUsesMax = 3;

  void Push(std::uint32_t item, Place place) noexcept {
    states_[item] = {.place = place, .uses = 0};
    (place == Place::kSmall ? small_ : main_).PushNewest(item);
  }

  /// Looks at one item of the queue whose turn it is.
  void Evict() noexcept {
    if (small_.size() > small_size_max_ || main_.size() == 0) {
      const std::uint32_t item = small_.PopOldest();
      if (states_[item].uses > 1) {
        Push(item, Place::kMain);
        return;
      }
      states_[item].place = Place::kGhost;
      ghosts_.PushNewest(item);
      if (ghosts_.size() > capacity_ - small_size_max_) {
        states_[ghosts_.PopOldest()] = {};
      }
      return;
    }
    const std::uint32_t item = main_.PopOldest();
    if (states_[item].uses == 0) {
      states_[item] = {};
      return;
    }
    --states_[item].uses;
    main_.PushNewest(item);
  }

  std::vector<ItemLink> links_;
  std::vector<State> states_;
  ItemList small_;
  ItemList main_;
  ItemList ghosts_;
  std::uint64_t capacity_;
  std::uint64_t small_size_max_;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SIM_S3_FIFO_H_
