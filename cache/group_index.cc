#include "cache/group_index.h"

namespace tiercel {

void GroupIndex::SetTag(IndexBucket& bucket, std::uint32_t way, std::uint8_t tag) noexcept {
  std::atomic<std::uint64_t>& word = bucket.tags[way / 8];
  const std::uint32_t shift = way % 8 * 8;
  const std::uint64_t cleared =
      word.load(std::memory_order_relaxed) & ~(std::uint64_t{0xFF} << shift);
  // Not a read-modify-write: there is one writer.
  word.store(cleared | (std::uint64_t{tag} << shift), std::memory_order_relaxed);
}

void GroupIndex::AddOverflow(IndexBucket& bucket, std::int64_t change) noexcept {
  // At most all ways of all other buckets whose path leads here: far below 2^32.
  const std::uint64_t word = bucket.tags[1].load(std::memory_order_relaxed);
  bucket.tags[1].store(
      word + static_cast<std::uint64_t>(change) * (std::uint64_t{1} << IndexBucket::kOverflowShift),
      std::memory_order_relaxed);
}

bool GroupIndex::Insert(std::uint64_t hash, std::uint32_t slot) noexcept {
  const std::uint32_t home = ReduceHash(hash, bucket_count_);
  std::uint32_t bucket_index = home;
  std::uint32_t full_buckets = 0;
  std::uint32_t free_ways = 0;
  for (; full_buckets < kPathBuckets; ++full_buckets) {
    const IndexBucket& bucket = buckets_[bucket_index];
    free_ways = MatchTags(bucket.tags[0].load(std::memory_order_relaxed),
                          bucket.tags[1].load(std::memory_order_relaxed), 0);
    if (free_ways != 0) break;
    bucket_index = Next(bucket_index, hash);
  }
  if (free_ways == 0) return false;

  // The counts first: a reader that finds the tag must not have been turned back.
  std::uint32_t passed = home;
  for (std::uint32_t i = 0; i < full_buckets; ++i) {
    AddOverflow(buckets_[passed], 1);
    passed = Next(passed, hash);
  }
  IndexBucket& bucket = buckets_[bucket_index];
  const auto way = static_cast<std::uint32_t>(std::countr_zero(free_ways));
  assert(bucket.slots[way].load(std::memory_order_relaxed) == 0);
  bucket.slots[way].store(slot + 1, std::memory_order_release);
  SetTag(bucket, way, TagOf(hash));
  return true;
}

void GroupIndex::Remove(std::uint64_t hash, std::uint32_t slot) noexcept {
  const std::uint32_t home = ReduceHash(hash, bucket_count_);
  std::uint32_t bucket_index = home;
  for (std::uint32_t i = 0; i < kPathBuckets; ++i) {
    IndexBucket& bucket = buckets_[bucket_index];
    for (std::uint32_t way = 0; way < IndexBucket::kWays; ++way) {
      if (bucket.slots[way].load(std::memory_order_relaxed) != slot + 1) continue;
      SetTag(bucket, way, 0);
      // The link itself: what ReaderEpochs' proof calls the removal.
      bucket.slots[way].store(0, std::memory_order_relaxed);
      std::uint32_t passed = home;
      for (std::uint32_t j = 0; j < i; ++j) {
        AddOverflow(buckets_[passed], -1);
        passed = Next(passed, hash);
      }
      return;
    }
    bucket_index = Next(bucket_index, hash);
  }
  assert(false && "the slot is not in the index");
}

}  // namespace tiercel
