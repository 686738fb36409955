#ifndef TIERCEL_CACHE_GHOST_TABLE_H_
#define TIERCEL_CACHE_GHOST_TABLE_H_

#include <cstdint>
#include <span>

namespace tiercel {

/// Remembers which groups were dropped lately and how often they had been used: two
/// bytes each, in buckets of one cache line that forget in order of arrival.
///
/// Threading: one thread at a time.
class GhostTable {
 public:
  /// One line: a cursor and 31 entries.
  struct alignas(64) Bucket {
    static constexpr std::uint32_t kWays = 31;
    std::uint16_t cursor;          ///< The way that is overwritten next.
    std::uint16_t entries[kWays];  ///< Fingerprint * 4 + uses; 0 is free.
  };
  static_assert(sizeof(Bucket) == 64);
  static constexpr std::uint32_t kUsesMax = 3;

  GhostTable() noexcept = default;
  /// Zeroed, not empty; another's memory.
  explicit GhostTable(std::span<Bucket> buckets) noexcept : buckets_(buckets) {}

  /// Remembers the group with this hash as dropped now, after `uses` hits.
  void Add(std::uint64_t hash, std::uint32_t uses) noexcept;

  /// Forgets the group. Returns 1 + its uses (at most kUsesMax), or 0 if it is not known.
  /// Takes a stranger for a ghost once in 500 times: 31 of 2^14 fingerprints are there.
  [[nodiscard]] std::uint32_t Take(std::uint64_t hash) noexcept;

 private:
  [[nodiscard]] Bucket& BucketOf(std::uint64_t hash) noexcept;

  std::span<Bucket> buckets_;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_GHOST_TABLE_H_
