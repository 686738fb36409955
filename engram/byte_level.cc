#include "engram/byte_level.h"

#include <array>
#include <cstddef>
#include <cstdint>

#include "engram/utf8.h"

namespace tiercel {
namespace {

constexpr std::size_t kAlphabetEnd = 0x100 + 68;

constexpr bool StandsForItself(std::size_t byte) noexcept {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/// Shape [code point]: the byte; -1 where the code point is not of the alphabet.
constexpr std::array<std::int16_t, kAlphabetEnd> kBytes = [] {
  std::array<std::int16_t, kAlphabetEnd> bytes{};
  bytes.fill(-1);
  std::size_t next = 0x100;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    bytes[StandsForItself(byte) ? byte : next++] = static_cast<std::int16_t>(byte);
  }
  return bytes;
}();

}  // namespace

std::optional<std::string> BytesOfByteLevel(std::string_view token) {
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const std::int32_t c = NextCodePoint(token, at);
    if (c < 0 || static_cast<std::size_t>(c) >= kAlphabetEnd) return std::nullopt;
    const std::int16_t byte = kBytes[static_cast<std::size_t>(c)];
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
  }
  return bytes;
}

}  // namespace tiercel
