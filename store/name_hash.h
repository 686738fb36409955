#ifndef TIERCEL_STORE_NAME_HASH_H_
#define TIERCEL_STORE_NAME_HASH_H_

#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/byte_order.h"
#include "base/prng.h"

namespace tiercel {

/// 64 bits of a name. A file of 96,085 names has two of one hash by chance with
/// probability 96085^2 / 2^65 = 2.5e-10; one built to have them is refused, no more.
[[nodiscard]] inline std::uint64_t HashName(std::string_view name) noexcept {
  std::uint64_t hash = SplitMix64(name.size());
  while (name.size() >= 8) {
    hash = SplitMix64(hash ^ LoadLittleEndian<std::uint64_t>(name.data()));
    name.remove_prefix(8);
  }
  std::uint64_t tail = 0;
  std::memcpy(&tail, name.data(), name.size());
  return SplitMix64(hash ^ tail);
}

}  // namespace tiercel

#endif  // TIERCEL_STORE_NAME_HASH_H_
