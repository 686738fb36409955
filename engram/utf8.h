#ifndef TIERCEL_ENGRAM_UTF8_H_
#define TIERCEL_ENGRAM_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tiercel {

/// The code point that starts at `at`, which moves past it; -1, without moving, where
/// the bytes are not well-formed UTF-8 (overlong, surrogate, past U+10FFFF, cut off).
/// REQUIRES: at < text.size().
[[nodiscard]] std::int32_t NextCodePoint(std::string_view text, std::size_t& at) noexcept;

/// Whether all of `text` is well-formed UTF-8.
[[nodiscard]] bool IsUtf8(std::string_view text) noexcept;

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_UTF8_H_
