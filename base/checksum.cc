#include "base/checksum.h"

// All of it in this file: a static libtiercel then hands no -lxxhash on.
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tiercel {

std::uint64_t Checksum64(std::span<const std::byte> bytes, std::uint64_t seed) noexcept {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

}  // namespace tiercel
