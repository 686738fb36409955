#ifndef TIERCEL_CACHE_POOL_LAYOUT_H_
#define TIERCEL_CACHE_POOL_LAYOUT_H_

#include <cstddef>
#include <cstdint>

#include "cache/group_index.h"
#include "cache/slot_record.h"
#include "cache/slot_version.h"

namespace tiercel {

/// Where in a pool's memory lies what lookups read: groups, from its first byte on, then
/// records, versions (of shared memory alone) and buckets. A function of three numbers, so
/// that a reader in another process computes it, and takes no offset on trust.
struct PoolLayout {
  std::uint32_t group_size_bytes = 0;
  std::uint32_t stride_bytes = 0;  ///< From one group to the next.
  std::uint32_t slot_count = 0;
  std::uint64_t records_offset_bytes = 0;
  std::uint64_t versions_offset_bytes = 0;
  std::uint64_t buckets_offset_bytes = 0;
  std::uint64_t bucket_count = 0;
  std::uint64_t size_bytes = 0;  ///< Whole lines.

  /// Of shared memory, groups begin at multiples of this: readers copy whole words, and a
  /// GPU gathers 16 B at a time.
  static constexpr std::uint32_t kSharedAlignmentBytes = 16;

  /// REQUIRES: a group size of at most 2^30, slots below 2^32.
  [[nodiscard]] static constexpr PoolLayout Of(std::uint32_t group_size_bytes,
                                               std::uint32_t slot_count, bool shared) noexcept {
    PoolLayout layout;
    layout.group_size_bytes = group_size_bytes;
    layout.stride_bytes = shared ? (group_size_bytes + kSharedAlignmentBytes - 1) /
                                       kSharedAlignmentBytes * kSharedAlignmentBytes
                                 : group_size_bytes;
    layout.slot_count = slot_count;
    layout.records_offset_bytes = AlignToLine(std::uint64_t{slot_count} * layout.stride_bytes);
    layout.versions_offset_bytes =
        AlignToLine(layout.records_offset_bytes + std::uint64_t{slot_count} * sizeof(SlotRecord));
    layout.buckets_offset_bytes = shared
                                      ? AlignToLine(layout.versions_offset_bytes +
                                                    std::uint64_t{slot_count} * sizeof(SlotVersion))
                                      : layout.versions_offset_bytes;
    layout.bucket_count = GroupIndex::BucketCount(slot_count);
    layout.size_bytes = layout.buckets_offset_bytes + layout.bucket_count * sizeof(IndexBucket);
    return layout;
  }

  friend bool operator==(const PoolLayout&, const PoolLayout&) = default;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_POOL_LAYOUT_H_
