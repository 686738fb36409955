#include "engram/utf8.h"

namespace tiercel {
namespace {

/// Forms of UTF-8: how many bytes follow, and the least code point that needs them.
struct Form {
  std::size_t following;
  std::int32_t least;
};

constexpr Form FormOf(std::uint8_t first) noexcept {
  if (first < 0x80) return {0, 0};
  if (first >= 0xC2 && first < 0xE0) return {1, 0x80};
  if (first >= 0xE0 && first < 0xF0) return {2, 0x800};
  if (first >= 0xF0 && first < 0xF5) return {3, 0x10000};
  return {0, -1};  // A following byte, or one that no code point starts with.
}

}  // namespace

std::int32_t NextCodePoint(std::string_view text, std::size_t& at) noexcept {
  const auto first = static_cast<std::uint8_t>(text[at]);
  const Form form = FormOf(first);
  if (form.least < 0 || text.size() - at <= form.following) return -1;
  // A first byte keeps 7, 5, 4 or 3 bits for the code point.
  std::int32_t code = form.following == 0 ? first : first & (0x3F >> form.following);
  for (std::size_t i = 1; i <= form.following; ++i) {
    const auto byte = static_cast<std::uint8_t>(text[at + i]);
    if ((byte & 0xC0) != 0x80) return -1;
    code = code << 6 | (byte & 0x3F);
  }
  const bool surrogate = code >= 0xD800 && code < 0xE000;
  if (code < form.least || code > 0x10FFFF || surrogate) return -1;
  at += 1 + form.following;
  return code;
}

bool IsUtf8(std::string_view text) noexcept {
  for (std::size_t at = 0; at < text.size();) {
    if (NextCodePoint(text, at) < 0) return false;
  }
  return true;
}

}  // namespace tiercel
