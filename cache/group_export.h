#ifndef TIERCEL_CACHE_GROUP_EXPORT_H_
#define TIERCEL_CACHE_GROUP_EXPORT_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "cache/group_cache.h"
#include "cache/hot_group.h"
#include "cache/slot_record.h"

namespace tiercel {

/// Goes over the resident groups of a cache, the most used first, while others read and
/// write it: what is resident from beginning to end is shown once, with its bytes; what
/// comes or goes meanwhile is shown or not.
///
/// It goes over the index once for each count of uses, and keeps a bit a slot for what it
/// has shown: 200 KB for 1.6 million groups, instead of a list of them to sort. A group
/// whose count changes between two rounds is still shown, in the round after.
///
/// Threading: one thread at a time, beside anything that is done to the cache.
class GroupExport {
 public:
  /// `cache` must outlive it.
  explicit GroupExport(const GroupCache& cache);

  /// Shows some groups, some hundred at most, to `visit`, which must not block: while it
  /// runs, slots that are dropped cannot be used again. `visit` returns false to be shown
  /// this group again by the next call, which ends this one. Returns false when all have
  /// been shown.
  bool Next(const std::function<bool(const HotGroup&)>& visit);

 private:
  bool ShowBucket(const GroupPool& pool, std::vector<std::uint64_t>& shown,
                  const std::function<bool(const HotGroup&)>& visit);

  const GroupCache& cache_;
  std::vector<std::vector<std::uint64_t>> shown_;  ///< A bit a slot, for each pool.
  int uses_ = SlotRecord::kUsesMax;                ///< Of this round: at least these.
  std::size_t pool_ = 0;
  std::uint32_t bucket_ = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_GROUP_EXPORT_H_
