#ifndef TIERCEL_CACHE_SIM_GROUP_CACHE_SIM_H_
#define TIERCEL_CACHE_SIM_GROUP_CACHE_SIM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "cache/group_cache.h"
#include "cache/sim/access_trace.h"

namespace tiercel {

/// The group cache itself, bytes and all, driven by a trace as a store drives it: what the
/// simulation of its policy is held against. A class of the trace is a space.
///
/// Threading: one thread at a time.
class GroupCacheSim {
 public:
  /// `trace` must outlive it.
  ///   known_count  as GroupPolicySim's.
  GroupCacheSim(const AccessTrace& trace, std::unique_ptr<GroupCache> cache,
                std::uint32_t group_size_bytes, std::uint64_t known_count)
      : trace_(trace),
        cache_(std::move(cache)),
        bytes_(group_size_bytes),
        known_count_(known_count),
        noted_(known_count > 0 ? trace.items.size() : 0) {}
  GroupCacheSim(const GroupCacheSim&) = delete;
  GroupCacheSim& operator=(const GroupCacheSim&) = delete;

  /// Asks for `item`, the next of the trace, and offers it where it is missing. Returns
  /// whether it was there.
  bool Access(std::uint32_t item) noexcept {
    for (; known_count_ > 0 && seen_ < trace_.items.size() && seen_ <= served_ + known_count_;
         ++seen_) {
      const std::uint32_t ahead = trace_.items[seen_];
      noted_[seen_] = cache_->Expect(trace_.classes[ahead], {&trace_.keys[ahead], 1}, seen_) == 1;
    }
    const std::uint32_t space = trace_.classes[item];
    const GroupTarget target{.key = trace_.keys[item], .destination = bytes_.data()};
    std::uint8_t hit = 0;
    cache_->Lookup(space, {&target, 1}, {&hit, 1});
    if (hit == 0) cache_->Insert(space, target.key, bytes_);
    if (known_count_ > 0 && noted_[served_]) cache_->Release(space, {&target.key, 1});
    ++served_;
    return hit != 0;
  }

 private:
  const AccessTrace& trace_;
  const std::unique_ptr<GroupCache> cache_;
  std::vector<std::byte> bytes_;
  const std::uint64_t known_count_;
  std::size_t seen_ = 0;
  std::size_t served_ = 0;
  std::vector<bool> noted_;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SIM_GROUP_CACHE_SIM_H_
