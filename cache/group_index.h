#ifndef TIERCEL_CACHE_GROUP_INDEX_H_
#define TIERCEL_CACHE_GROUP_INDEX_H_

#include <atomic>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>

#include "cache/group_hash.h"
#include "cache/slot_record.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace tiercel {

/// One cache line of the index: twelve tags, how many groups went past this bucket
/// because it was full, and twelve slots. Twelve rather than sixteen, because then
/// tags and slots share one line: a probe costs one miss instead of two.
struct alignas(64) IndexBucket {
  static constexpr std::uint32_t kWays = 12;
  static constexpr std::uint32_t kOverflowShift = 32;  // Bytes 12 and 13: bits 32 on of tags[1].

  /// Byte i, little-endian: the tag of way i, 0 if it is free.
  std::atomic<std::uint64_t> tags[2];
  /// Slot + 1, so that zeroed memory is an empty bucket. 0: none.
  std::atomic<std::uint32_t> slots[kWays];
};
static_assert(sizeof(IndexBucket) == 64);

/// Bit i is set where byte i of the twelve tags is `tag`.
[[nodiscard]] inline std::uint32_t MatchTags(std::uint64_t low, std::uint64_t high,
                                             std::uint8_t tag) noexcept {
#if defined(__SSE2__)
  const __m128i tags = _mm_set_epi64x(static_cast<long long>(high), static_cast<long long>(low));
  const __m128i equal = _mm_cmpeq_epi8(tags, _mm_set1_epi8(static_cast<char>(tag)));
  return static_cast<std::uint32_t>(_mm_movemask_epi8(equal)) & 0xFFF;
#elif defined(__aarch64__)
  const uint8x16_t tags = vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(low), vcreate_u64(high)));
  const uint8x16_t bits = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201U));
  const uint8x16_t equal = vandq_u8(vceqq_u8(tags, vdupq_n_u8(tag)), bits);
  return vaddv_u8(vget_low_u8(equal)) | ((vaddv_u8(vget_high_u8(equal)) & 0xFU) << 8);
#else
  const auto match8 = [tag](std::uint64_t word) {
    constexpr std::uint64_t kLow7 = 0x7F7F7F7F7F7F7F7FU;
    const std::uint64_t x = word ^ (tag * std::uint64_t{0x0101010101010101U});
    const std::uint64_t zero = ~(((x & kLow7) + kLow7) | x | kLow7);  // 0x80 where x's byte is 0.
    return static_cast<std::uint32_t>(((zero >> 7) * std::uint64_t{0x0102040810204080U}) >> 56);
  };
  return match8(low) | ((match8(high) & 0xFU) << 8);
#endif
}

/// Finds the slot of a group: buckets of tags, over memory that another owns.
///
/// A group lies in the first bucket with a free way on its path of at most
/// kPathBuckets; each full bucket before it counts it in its overflow. A search
/// goes on only where that count is not zero, so removal needs no tombstones: it
/// lowers the counts again.
///
/// Threading: one writer at a time (Insert, Remove); any number of readers beside it,
/// each inside a ReaderPin. A slot id found by a reader was stored with release after
/// the slot's record and bytes were written, and is loaded with acquire. Tags are a
/// hint alone: a stale one costs a compare of keys, or a miss of a group that is just
/// coming or going. An entry never moves, so a group that stays is always found.
class GroupIndex {
 public:
  static constexpr std::uint32_t kNoSlot = ~std::uint32_t{0};
  static constexpr std::uint32_t kPathBuckets = 8;

  /// Buckets for `slot_count` slots: three of four ways in use when all are taken. Then
  /// one bucket in six is full, and one insertion in a million finds its path full.
  [[nodiscard]] static constexpr std::uint64_t BucketCount(std::uint64_t slot_count) noexcept {
    return slot_count / 9 + 1;
  }

  GroupIndex() noexcept = default;
  /// Both zeroed, of one GroupPool; `buckets` not empty.
  GroupIndex(std::span<IndexBucket> buckets, std::span<const SlotRecord> records) noexcept
      : buckets_(buckets.data()),
        records_(records.data()),
        bucket_count_(static_cast<std::uint32_t>(buckets.size())) {}

  [[nodiscard]] const IndexBucket* HomeBucket(std::uint64_t hash) const noexcept {
    return buckets_ + ReduceHash(hash, bucket_count_);
  }

  /// The first slot of the home bucket whose tag matches, unchecked: worth a prefetch.
  /// kNoSlot if there is none.
  [[nodiscard]] std::uint32_t Candidate(std::uint64_t hash) const noexcept {
    const IndexBucket& bucket = *HomeBucket(hash);
    const std::uint32_t matches =
        MatchTags(bucket.tags[0].load(std::memory_order_relaxed),
                  bucket.tags[1].load(std::memory_order_relaxed), TagOf(hash));
    if (matches == 0) return kNoSlot;
    return bucket.slots[std::countr_zero(matches)].load(std::memory_order_acquire) - 1;
  }

  /// Where a search goes on that finds nothing in the home bucket.
  [[nodiscard]] const IndexBucket* SecondBucket(std::uint64_t hash) const noexcept {
    return buckets_ + PathBucket(hash, 1);
  }

  /// Whether `slot` (from Candidate) holds the group.
  [[nodiscard]] bool Holds(std::uint32_t slot, std::uint32_t space,
                           std::uint64_t key) const noexcept {
    return slot != kNoSlot && records_[slot].key == key && records_[slot].space == space;
  }

  /// Slot of the group, or kNoSlot.
  [[nodiscard]] std::uint32_t Find(std::uint64_t hash, std::uint32_t space,
                                   std::uint64_t key) const noexcept {
    return FindIf(hash, [this, space, key](std::uint32_t slot) { return Holds(slot, space, key); });
  }

  /// The first slot on the path of `hash`, among those with its tag, for which
  /// `condition(slot)` is true, or kNoSlot. It is asked kPathBuckets * kWays times at most,
  /// also about kNoSlot. Looks at no record by itself.
  template <typename Condition>
  [[nodiscard]] std::uint32_t FindIf(std::uint64_t hash,
                                     const Condition& condition) const noexcept {
    const std::uint8_t tag = TagOf(hash);
    for (std::uint32_t step = 0; step < kPathBuckets; ++step) {
      const IndexBucket& bucket = buckets_[PathBucket(hash, step)];
      const std::uint64_t high = bucket.tags[1].load(std::memory_order_relaxed);
      std::uint32_t matches = MatchTags(bucket.tags[0].load(std::memory_order_relaxed), high, tag);
      for (; matches != 0; matches &= matches - 1) {
        const std::uint32_t slot =
            bucket.slots[std::countr_zero(matches)].load(std::memory_order_acquire) - 1;
        if (condition(slot)) return slot;
      }
      if ((high >> IndexBucket::kOverflowShift) == 0) return kNoSlot;
    }
    return kNoSlot;
  }

  [[nodiscard]] std::uint32_t bucket_count() const noexcept { return bucket_count_; }

  /// Writes the slots that bucket `bucket` leads to now to `slots`; returns how many. The
  /// buckets together lead to every group that is in the index all the while.
  std::uint32_t SlotsOf(std::uint32_t bucket,
                        std::span<std::uint32_t, IndexBucket::kWays> slots) const noexcept {
    std::uint32_t count = 0;
    for (const std::atomic<std::uint32_t>& link : buckets_[bucket].slots) {
      const std::uint32_t slot = link.load(std::memory_order_acquire) - 1;
      if (slot != kNoSlot) slots[count++] = slot;
    }
    return count;
  }

  /// Publishes `slot`, whose record and bytes are written. False, and nothing done,
  /// if every bucket of the path is full. REQUIRES: the group is not in the index.
  [[nodiscard]] bool Insert(std::uint64_t hash, std::uint32_t slot) noexcept;

  /// Unlinks `slot`. REQUIRES: Insert(hash, slot) was the last call for it.
  void Remove(std::uint64_t hash, std::uint32_t slot) noexcept;

 private:
  [[nodiscard]] static std::uint8_t TagOf(std::uint64_t hash) noexcept {
    const auto tag = static_cast<std::uint8_t>(hash);
    return tag == 0 ? 1 : tag;  // 0 means a free way.
  }
  /// Bucket `step` of the group's path: unrelated to the one before, so that the
  /// overflow of a crowded bucket spreads over all.
  [[nodiscard]] std::uint32_t PathBucket(std::uint64_t hash, std::uint32_t step) const noexcept {
    return ReduceHash(step == 0 ? hash : SplitMix64(hash + step), bucket_count_);
  }
  static void SetTag(IndexBucket& bucket, std::uint32_t way, std::uint8_t tag) noexcept;
  static void AddOverflow(IndexBucket& bucket, std::int64_t change) noexcept;

  IndexBucket* buckets_ = nullptr;
  const SlotRecord* records_ = nullptr;
  std::uint32_t bucket_count_ = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_GROUP_INDEX_H_
