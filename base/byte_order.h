#ifndef TIERCEL_BASE_BYTE_ORDER_H_
#define TIERCEL_BASE_BYTE_ORDER_H_

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tiercel {

// Everything on disk is little-endian, and so is every host that we build for:
// a load is a memcpy.
static_assert(std::endian::native == std::endian::little, "big-endian hosts are not supported");

/// The T stored little-endian at `bytes`, at any alignment.
template <std::unsigned_integral T>
[[nodiscard]] inline T LoadLittleEndian(const void* bytes) noexcept {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

/// Stores `value` little-endian at `bytes`, at any alignment.
template <std::unsigned_integral T>
inline void StoreLittleEndian(void* bytes, T value) noexcept {
  std::memcpy(bytes, &value, sizeof(value));
}

}  // namespace tiercel

#endif  // TIERCEL_BASE_BYTE_ORDER_H_
