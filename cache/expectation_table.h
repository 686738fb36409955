#ifndef TIERCEL_CACHE_EXPECTATION_TABLE_H_
#define TIERCEL_CACHE_EXPECTATION_TABLE_H_

#include <cstdint>
#include <span>

namespace tiercel {

/// Remembers which groups waiting prompts will read: how often, when first and when last.
///
/// Times are 15 bits that wrap around, with the top bit set, so that 0 is no time; what is
/// remembered at one time must lie within half of that range. Two groups of one hash are
/// one entry, and so, once in some 1,500 times, are two of one bucket and fingerprint:
/// counts still add up as long as every Add() is undone by one Remove().
///
/// Threading: one thread at a time.
class ExpectationTable {
 public:
  using Time = std::uint16_t;
  static constexpr Time kNever = 0;
  static constexpr std::uint32_t kTimeSpan = 1U << 14;

  struct Entry {
    std::uint16_t fingerprint;
    std::uint16_t count;  ///< 0: free.
    Time next;
    Time last;
  };
  /// One line.
  struct alignas(64) Bucket {
    static constexpr std::uint32_t kWays = 7;
    std::uint32_t overflow;  ///< Entries that lie further on because this one was full.
    std::uint32_t spare;
    Entry entries[kWays];
  };

  /// Buckets for so many groups: five of seven ways in use, so that one group in a hundred
  /// thousand finds no place before the table is full.
  [[nodiscard]] static constexpr std::uint64_t BucketCount(std::uint64_t group_count) noexcept {
    return group_count == 0 ? 0 : group_count / 5 + 1;
  }
  /// The time of a clock that ticks in steps.
  [[nodiscard]] static constexpr Time TimeOf(std::uint64_t step) noexcept {
    return static_cast<Time>(0x8000 | (step & 0x7FFF));
  }
  /// Whether a comes after b. REQUIRES: neither is kNever.
  [[nodiscard]] static constexpr bool IsLater(Time a, Time b) noexcept {
    const std::uint32_t ahead = (std::uint32_t{a} - b) & 0x7FFF;
    return ahead != 0 && ahead < kTimeSpan;
  }

  ExpectationTable() noexcept = default;
  /// Zeroed; another's memory; may be empty. Takes at most `group_count_max` groups.
  ExpectationTable(std::span<Bucket> buckets, std::uint64_t group_count_max) noexcept
      : buckets_(buckets), group_count_max_(group_count_max) {}

  /// One more reading, at `time`. False, and nothing done, if the table is full.
  [[nodiscard]] bool Add(std::uint64_t hash, Time time) noexcept;
  /// One reading less, the next one. False if none was expected.
  bool Remove(std::uint64_t hash) noexcept;
  /// When the group will be read next, as far as known: between the first and the last of
  /// many readings they are taken to be evenly spaced. kNever if it will not.
  [[nodiscard]] Time NextOf(std::uint64_t hash) const noexcept;

  /// Groups in the table.
  [[nodiscard]] std::uint64_t group_count() const noexcept { return group_count_; }

 private:
  static constexpr std::uint32_t kPathBuckets = 8;

  /// Where an entry was found, or a free way.
  struct Place {
    Entry* entry = nullptr;
    std::uint32_t step = 0;  ///< Of the path.
  };
  [[nodiscard]] Bucket& PathBucket(std::uint64_t hash, std::uint32_t step) const noexcept;
  [[nodiscard]] Place Find(std::uint64_t hash) const noexcept;
  [[nodiscard]] Place FindFree(std::uint64_t hash) const noexcept;

  std::span<Bucket> buckets_;
  std::uint64_t group_count_max_ = 0;
  std::uint64_t group_count_ = 0;
};
static_assert(sizeof(ExpectationTable::Bucket) == 64);

}  // namespace tiercel

#endif  // TIERCEL_CACHE_EXPECTATION_TABLE_H_
