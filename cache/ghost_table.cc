#include "cache/ghost_table.h"

#include <algorithm>
#include <bit>
#include <cassert>

#include "cache/group_hash.h"

namespace tiercel {
namespace {

/// A lifetime is at least this many ticks: an entry's age is known to 1 / 4,096 of it.
constexpr std::uint32_t kTicksPerLifetimeLog2 = 12;

/// Never 0, so that an entry is never the free one.
std::uint32_t FingerprintOf(std::uint64_t hash) noexcept {
  const auto bits = static_cast<std::uint32_t>(hash >> 8) & 0xFFFF;
  return bits == 0 ? 1 : bits;
}

}  // namespace

GhostTable::GhostTable(std::span<std::uint32_t> entries) noexcept : entries_(entries) {
  assert(!entries.empty() && entries.size() % kWays == 0);
  const auto size_log2 = static_cast<std::uint32_t>(std::bit_width(entries.size()));
  tick_shift_ = size_log2 > kTicksPerLifetimeLog2 ? size_log2 - kTicksPerLifetimeLog2 : 0;
}

std::uint32_t* GhostTable::Bucket(std::uint64_t hash) const noexcept {
  return entries_.data() +
         std::size_t{ReduceHash(hash, static_cast<std::uint32_t>(entries_.size() / kWays))} * kWays;
}

std::uint16_t GhostTable::Now() const noexcept {
  return static_cast<std::uint16_t>(added_ >> tick_shift_);
}

void GhostTable::Add(std::uint64_t hash) noexcept {
  std::uint32_t* const bucket = Bucket(hash);
  std::uint32_t* victim = bucket;
  std::uint32_t victim_age = 0;
  for (std::uint32_t way = 0; way < kWays; ++way) {
    if (bucket[way] == 0) {
      victim = bucket + way;
      break;
    }
    const auto age = static_cast<std::uint16_t>(Now() - (bucket[way] & 0xFFFF));
    if (age >= victim_age) {
      victim = bucket + way;
      victim_age = age;
    }
  }
  *victim = (FingerprintOf(hash) << 16) | Now();
  ++added_;
}

bool GhostTable::Take(std::uint64_t hash) noexcept {
  std::uint32_t* const bucket = Bucket(hash);
  for (std::uint32_t way = 0; way < kWays; ++way) {
    if (bucket[way] == 0 || bucket[way] >> 16 != FingerprintOf(hash)) continue;
    const auto age = static_cast<std::uint16_t>(Now() - (bucket[way] & 0xFFFF));
    bucket[way] = 0;
    return (std::uint64_t{age} << tick_shift_) <= entries_.size();
  }
  return false;
}

}  // namespace tiercel
