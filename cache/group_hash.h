#ifndef TIERCEL_CACHE_GROUP_HASH_H_
#define TIERCEL_CACHE_GROUP_HASH_H_

#include <cstdint>

#include "base/prng.h"

namespace tiercel {

/// The hash by which a group is found: the high 32 bits choose the bucket, the low
/// byte is the tag, bits 8 to 31 the fingerprint of the ghost table. A group key is
/// a multiply-xor mix of token ids, far from uniform in its low bits, so all of it
/// goes through a full mixer.
[[nodiscard]] constexpr std::uint64_t HashGroup(std::uint32_t space, std::uint64_t key) noexcept {
  // An odd constant a space: the same key in two spaces lands in unrelated places.
  return SplitMix64(key + space * std::uint64_t{0xD6E8FEB86659FD93U});
}

/// Maps the high half of a hash to [0, count) without a division.
[[nodiscard]] constexpr std::uint32_t ReduceHash(std::uint64_t hash, std::uint32_t count) noexcept {
  return static_cast<std::uint32_t>(((hash >> 32) * count) >> 32);
}

}  // namespace tiercel

#endif  // TIERCEL_CACHE_GROUP_HASH_H_
