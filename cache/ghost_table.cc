#include "cache/ghost_table.h"

#include <algorithm>
#include <cassert>

#include "cache/group_hash.h"

namespace tiercel {
namespace {

using Bucket = GhostTable::Bucket;

constexpr std::uint32_t kCursorBits = 12;
constexpr std::uint32_t kEntryBits = 20;
constexpr std::uint32_t kHistoryBits = 3;
static_assert(kCursorBits + Bucket::kWays * kEntryBits == 512);

/// Never 0, so that an entry is never the free one.
std::uint32_t FingerprintOf(std::uint64_t hash) noexcept {
  return std::max<std::uint32_t>(static_cast<std::uint32_t>(hash >> 8) & 0x1FFFF, 1);
}

/// Up to 20 bits that start at a multiple of four: they lie in three bytes.
std::uint32_t Load(const Bucket& bucket, std::uint32_t bit, std::uint32_t bits) noexcept {
  std::uint32_t word = 0;
  for (std::uint32_t i = 0; i < 3; ++i) {
    word |= std::to_integer<std::uint32_t>(bucket.bytes[bit / 8 + i]) << (8 * i);
  }
  return (word >> bit % 8) & ((1U << bits) - 1);
}

void Store(Bucket& bucket, std::uint32_t bit, std::uint32_t bits, std::uint32_t value) noexcept {
  const std::uint32_t mask = ((1U << bits) - 1) << bit % 8;
  const std::uint32_t word = value << bit % 8;
  for (std::uint32_t i = 0; i < 3; ++i) {
    std::byte& byte = bucket.bytes[bit / 8 + i];
    byte =
        (byte & ~static_cast<std::byte>(mask >> (8 * i))) | static_cast<std::byte>(word >> (8 * i));
  }
}

constexpr std::uint32_t BitOf(std::uint32_t way) noexcept {
  return kCursorBits + way * kEntryBits;
}

}  // namespace

GhostTable::Bucket& GhostTable::BucketOf(std::uint64_t hash) const noexcept {
  return buckets_[ReduceHash(hash, static_cast<std::uint32_t>(buckets_.size()))];
}

void GhostTable::Add(std::uint64_t hash, std::uint32_t history) noexcept {
  assert(history >= 1 && history <= kHistoryMax);
  Bucket& bucket = BucketOf(hash);
  const std::uint32_t way = Load(bucket, 0, kCursorBits);
  Store(bucket, 0, kCursorBits, (way + 1) % Bucket::kWays);
  Store(bucket, BitOf(way), kEntryBits, (FingerprintOf(hash) << kHistoryBits) | history);
}

std::uint32_t GhostTable::Take(std::uint64_t hash) noexcept {
  Bucket& bucket = BucketOf(hash);
  const std::uint32_t fingerprint = FingerprintOf(hash);
  for (std::uint32_t way = 0; way < Bucket::kWays; ++way) {
    const std::uint32_t entry = Load(bucket, BitOf(way), kEntryBits);
    if (entry >> kHistoryBits != fingerprint) continue;
    Store(bucket, BitOf(way), kEntryBits, 0);
    return entry & kHistoryMax;
  }
  return 0;
}

}  // namespace tiercel
