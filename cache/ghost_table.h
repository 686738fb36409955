#ifndef TIERCEL_CACHE_GHOST_TABLE_H_
#define TIERCEL_CACHE_GHOST_TABLE_H_

#include <cstdint>
#include <span>

namespace tiercel {

/// Remembers which groups were dropped lately: a fingerprint and a coarse time each,
/// in buckets of one cache line. An entry is forgotten after as many others as the
/// table holds, or sooner where its bucket is crowded.
///
/// Threading: one thread at a time.
class GhostTable {
 public:
  static constexpr std::uint32_t kWays = 16;  // Of 4 bytes: one line.

  GhostTable() noexcept = default;
  /// `entries` zeroed, a multiple of kWays, not empty; another's memory.
  explicit GhostTable(std::span<std::uint32_t> entries) noexcept;

  /// Remembers the group with this hash as dropped now.
  void Add(std::uint64_t hash) noexcept;
  /// Whether it was dropped lately; forgets it. Wrong once in 4,000 times: 16
  /// fingerprints of 16 bits are compared.
  [[nodiscard]] bool Take(std::uint64_t hash) noexcept;

 private:
  // An entry: fingerprint in the high half, time in the low half; 0 is free.
  [[nodiscard]] std::uint32_t* Bucket(std::uint64_t hash) const noexcept;
  [[nodiscard]] std::uint16_t Now() const noexcept;

  std::span<std::uint32_t> entries_;
  std::uint64_t added_ = 0;
  std::uint32_t tick_shift_ = 0;  ///< Additions a tick, as a power of two.
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_GHOST_TABLE_H_
