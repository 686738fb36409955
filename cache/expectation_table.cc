#include "cache/expectation_table.h"

#include "cache/group_hash.h"

namespace tiercel {
namespace {

constexpr std::uint16_t kCountMax = 0xFFFF;

/// 13 bits of the hash above the step of the path: an entry is found by groups of the
/// same home bucket alone, so that whoever removes it lowers the counts that were raised.
std::uint16_t FingerprintOf(std::uint64_t hash, std::uint32_t step) noexcept {
  return static_cast<std::uint16_t>((hash >> 8 & 0x1FFF) << 3 | step);
}

}  // namespace

ExpectationTable::Bucket& ExpectationTable::PathBucket(std::uint64_t hash,
                                                       std::uint32_t step) const noexcept {
  const auto count = static_cast<std::uint32_t>(buckets_.size());
  return buckets_[(std::uint64_t{ReduceHash(hash, count)} + step * step) % count];
}

ExpectationTable::Place ExpectationTable::Find(std::uint64_t hash) const noexcept {
  if (buckets_.empty()) return {};
  for (std::uint32_t step = 0; step < kPathBuckets; ++step) {
    Bucket& bucket = PathBucket(hash, step);
    for (Entry& entry : bucket.entries) {
      if (entry.count != 0 && entry.fingerprint == FingerprintOf(hash, step)) return {&entry, step};
    }
    if (bucket.overflow == 0) break;
  }
  return {};
}

ExpectationTable::Place ExpectationTable::FindFree(std::uint64_t hash) const noexcept {
  if (group_count_ >= group_count_max_) return {};
  for (std::uint32_t step = 0; step < kPathBuckets; ++step) {
    for (Entry& entry : PathBucket(hash, step).entries) {
      if (entry.count == 0) return {&entry, step};
    }
  }
  return {};
}

bool ExpectationTable::Add(std::uint64_t hash, Time time) noexcept {
  if (Entry* const entry = Find(hash).entry; entry != nullptr) {
    if (entry->count == kCountMax) return false;
    ++entry->count;
    if (IsLater(entry->next, time)) entry->next = time;
    if (IsLater(time, entry->last)) entry->last = time;
    return true;
  }
  const Place place = FindFree(hash);
  if (place.entry == nullptr) return false;
  *place.entry = {
      .fingerprint = FingerprintOf(hash, place.step), .count = 1, .next = time, .last = time};
  for (std::uint32_t step = 0; step < place.step; ++step) ++PathBucket(hash, step).overflow;
  ++group_count_;
  return true;
}

bool ExpectationTable::Remove(std::uint64_t hash) noexcept {
  const Place place = Find(hash);
  if (place.entry == nullptr) return false;
  Entry& entry = *place.entry;
  if (--entry.count == 0) {
    for (std::uint32_t step = 0; step < place.step; ++step) --PathBucket(hash, step).overflow;
    --group_count_;
    return true;
  }
  const std::uint32_t span = (std::uint32_t{entry.last} - entry.next) & 0x7FFF;
  entry.next = TimeOf(std::uint32_t{entry.next} + span / entry.count);
  return true;
}

ExpectationTable::Time ExpectationTable::NextOf(std::uint64_t hash) const noexcept {
  const Entry* const entry = Find(hash).entry;
  return entry == nullptr ? kNever : entry->next;
}

}  // namespace tiercel
