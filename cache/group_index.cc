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
  std::uint32_t step = 0;
  std::uint32_t free_ways = 0;
  for (; step < kPathBuckets; ++step) {
    const IndexBucket& bucket = buckets_[PathBucket(hash, step)];
    free_ways = MatchTags(bucket.tags[0].load(std::memory_order_relaxed),
                          bucket.tags[1].load(std::memory_order_relaxed), 0);
    if (free_ways != 0) break;
  }
  if (free_ways == 0) return false;

  // The counts first: a reader that finds the tag must not have been turned back.
  for (std::uint32_t i = 0; i < step; ++i) AddOverflow(buckets_[PathBucket(hash, i)], 1);
  IndexBucket& bucket = buckets_[PathBucket(hash, step)];
  const auto way = static_cast<std::uint32_t>(std::countr_zero(free_ways));
  assert(bucket.slots[way].load(std::memory_order_relaxed) == 0);
  bucket.slots[way].store(slot + 1, std::memory_order_release);
  SetTag(bucket, way, TagOf(hash));
  return true;
}

void GroupIndex::Remove(std::uint64_t hash, std::uint32_t slot) noexcept {
  for (std::uint32_t step = 0; step < kPathBuckets; ++step) {
    IndexBucket& bucket = buckets_[PathBucket(hash, step)];
    for (std::uint32_t way = 0; way < IndexBucket::kWays; ++way) {
      if (bucket.slots[way].load(std::memory_order_relaxed) != slot + 1) continue;
      SetTag(bucket, way, 0);
      // The link itself: what the proof in reader_epochs.h calls the removal.
      bucket.slots[way].store(0, std::memory_order_relaxed);
      for (std::uint32_t i = 0; i < step; ++i) AddOverflow(buckets_[PathBucket(hash, i)], -1);
      return;
    }
  }
  assert(false && "the slot is not in the index");
}

}  // namespace tiercel
