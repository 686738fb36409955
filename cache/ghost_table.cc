#include "cache/ghost_table.h"

#include <algorithm>

#include "cache/group_hash.h"

namespace tiercel {
namespace {

/// Never 0, so that an entry is never the free one.
std::uint32_t FingerprintOf(std::uint64_t hash) noexcept {
  const auto bits = static_cast<std::uint32_t>(hash >> 8) & 0x3FFF;
  return bits == 0 ? 1 : bits;
}

}  // namespace

GhostTable::Bucket& GhostTable::BucketOf(std::uint64_t hash) noexcept {
  return buckets_[ReduceHash(hash, static_cast<std::uint32_t>(buckets_.size()))];
}

void GhostTable::Add(std::uint64_t hash, std::uint32_t uses) noexcept {
  Bucket& bucket = BucketOf(hash);
  bucket.entries[bucket.cursor] =
      static_cast<std::uint16_t>(FingerprintOf(hash) << 2 | std::min(uses, kUsesMax));
  bucket.cursor = static_cast<std::uint16_t>((bucket.cursor + 1) % Bucket::kWays);
}

std::uint32_t GhostTable::Take(std::uint64_t hash) noexcept {
  Bucket& bucket = BucketOf(hash);
  const std::uint32_t fingerprint = FingerprintOf(hash);
  for (std::uint16_t& entry : bucket.entries) {
    if (std::uint32_t{entry} >> 2 != fingerprint) continue;
    const std::uint32_t uses = entry & kUsesMax;
    entry = 0;
    return 1 + uses;
  }
  return 0;
}

}  // namespace tiercel
