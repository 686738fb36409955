#ifndef TIERCEL_CACHE_GHOST_TABLE_H_
#define TIERCEL_CACHE_GHOST_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace tiercel {

/// Remembers which groups were dropped lately and how much they had been used: 20 bits
/// each, in buckets of one cache line that forget in order of arrival.
///
/// Threading: one thread at a time.
class GhostTable {
 public:
  /// One line: 12 bits that say which way is overwritten next, then 25 ways of 20 bits,
  /// a fingerprint of 17 above a history of 3; 0 is free.
  struct alignas(64) Bucket {
    static constexpr std::uint32_t kWays = 25;
    std::byte bytes[64];
  };
  static constexpr std::uint32_t kHistoryMax = 7;

  GhostTable() noexcept = default;
  /// Zeroed, not empty; another's memory.
  explicit GhostTable(std::span<Bucket> buckets) noexcept : buckets_(buckets) {}

  /// Remembers the group with this hash as dropped now, with a history in [1, kHistoryMax].
  void Add(std::uint64_t hash, std::uint32_t history = 1) noexcept;

  /// Forgets the group. Returns its history, or 0 if it is not known. Takes a stranger for
  /// a ghost once in 5,000 times: 25 of 2^17 fingerprints are there.
  [[nodiscard]] std::uint32_t Take(std::uint64_t hash) noexcept;

 private:
  [[nodiscard]] Bucket& BucketOf(std::uint64_t hash) const noexcept;

  std::span<Bucket> buckets_;
};
static_assert(sizeof(GhostTable::Bucket) == 64);

}  // namespace tiercel

#endif  // TIERCEL_CACHE_GHOST_TABLE_H_
