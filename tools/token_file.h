#ifndef TIERCEL_TOOLS_TOKEN_FILE_H_
#define TIERCEL_TOOLS_TOKEN_FILE_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "tiercel/status.h"

namespace tiercel::tools {

struct ReadTokensOptions {
  /// Tokens that are kept in memory, from the start. The rest is read all the
  /// same: to be counted and checked.
  std::uint64_t keep_count_max = std::numeric_limits<std::uint64_t>::max();
  /// Ids must lie below this; kDeadToken is always allowed.
  std::uint64_t id_limit = std::uint64_t{1} << 31;
  /// More kept tokens than this are refused: 2^30 tokens are 4 GiB of memory.
  std::uint64_t kept_count_limit = std::uint64_t{1} << 30;
  /// More tokens than this are refused, kept or not: a small compressed file can
  /// hold any number of them.
  std::uint64_t token_count_limit = std::uint64_t{1} << 36;
};

struct TokenFile {
  std::vector<std::int32_t> tokens;  ///< The first of them; see keep_count_max.
  std::uint64_t token_count = 0;     ///< All tokens of the file.
};

/// Reads a file of little-endian 32-bit token ids, one after another, plain or
/// compressed with zstd (known by its first bytes, or by the name's end). "-" is
/// stdin.
///
/// Errors: kNotFound, kPermissionDenied, kIoError; kInvalidArgument (a size that
/// is no multiple of 4, an id out of range: its position is named, too many
/// tokens), kCorruption (compressed data that is damaged or ends too early).
[[nodiscard]] Result<TokenFile> ReadTokens(const std::string& path,
                                           const ReadTokensOptions& options = {});

/// Reads document boundaries: little-endian 64-bit token positions, plain or zstd.
/// At most 2^27 of them (1 GiB).
///
/// Errors: as ReadTokens(); kInvalidArgument (fewer than two, the first not 0, or one
/// that lies before its predecessor).
[[nodiscard]] Result<std::vector<std::uint64_t>> ReadOffsets(const std::string& path);

/// Reads a whole file of at most `limit_bytes` (unpacked), plain or zstd.
///
/// Errors: as ReadTokens(); kInvalidArgument if it is longer.
[[nodiscard]] Result<std::string> ReadText(const std::string& path, std::uint64_t limit_bytes);

/// Writes `bytes` to `path`, or to stdout for "-". A regular file is written beside
/// `path` and renamed, so that a failure leaves what was there before.
///
/// Errors: kNotFound (no such folder), kPermissionDenied, kResourceExhausted (disk
/// full), kIoError.
[[nodiscard]] Status WriteOutput(const std::string& path, std::span<const std::byte> bytes);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_TOKEN_FILE_H_
