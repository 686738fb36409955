#ifndef TIERCEL_ENGRAM_BYTE_LEVEL_H_
#define TIERCEL_ENGRAM_BYTE_LEVEL_H_

#include <optional>
#include <string>
#include <string_view>

namespace tiercel {

/// The bytes that a vocabulary string of a byte-level BPE stands for. Such strings
/// write each byte as one printable character: bytes that are printable in Latin-1 as
/// themselves, the other 68 as U+0100, U+0101, ... in ascending order.
///
/// Nothing if a character is not of that alphabet, or `token` is not UTF-8.
[[nodiscard]] std::optional<std::string> BytesOfByteLevel(std::string_view token);

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_BYTE_LEVEL_H_
