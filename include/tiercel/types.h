#ifndef TIERCEL_TYPES_H_
#define TIERCEL_TYPES_H_

#include <cstdint>
#include <span>
#include <string_view>

namespace tiercel {

/// Index of one row in a layer's table: dense, 0-based, in [0, row_count).
enum class RowId : std::uint64_t {};

[[nodiscard]] constexpr std::uint64_t Index(RowId id) noexcept {
  return static_cast<std::uint64_t>(id);
}

/// A token that takes part in no n-gram (an image patch, padding).
inline constexpr std::int32_t kDeadToken = -1;

/// Consecutive tokens of one sequence, and what came right before them.
///
/// The library keeps no state between calls: the caller owns the history, so
/// that rollback (speculative decoding) and prefix caching need no word with us.
struct TokenRun {
  /// Shape [h]: the ids right before `tokens`, oldest first. Give at least
  /// order_max - 1 of them; fewer mean that the sequence starts there. Only the
  /// last order_max - 1 are looked at.
  std::span<const std::int32_t> history;
  /// Shape [t]: the ids whose rows are wanted. kDeadToken marks a dead token.
  std::span<const std::int32_t> tokens;
};

/// What became of one row of a batch. One byte per row; never allocates.
/// Whatever is not kOk has zero bytes in the output: a bad row never turns into
/// good bytes.
enum class RowStatus : std::uint8_t {
  kOk = 0,      ///< The row's bytes are in the output.
  kDead,        ///< The position is a dead token: no row is wanted; zeros.
  kOutOfRange,  ///< The id is not a row of the table; zeros.
  kIoError,     ///< The device failed every attempt; zeros.
  kCorruption,  ///< A checksum did not hold, or the file ends before the row; zeros.
};

/// "OK", "DEAD", ...: stable names.
[[nodiscard]] std::string_view Name(RowStatus status) noexcept;

/// What a lookup writes for each row.
enum class RowOutput : std::uint8_t {
  kStored,  ///< The row's stored bytes, scales included.
  kBf16,    ///< value_count bfloat16, dequantised (see row_format.h).
};

/// How the disk is read.
enum class Engine : std::uint8_t {
  kAuto,   ///< io_uring; a pool of pread threads where it cannot be had, said aloud.
  kUring,  ///< io_uring, or an error with the reason.
  kPread,  ///< A pool of pread threads.
};

}  // namespace tiercel

#endif  // TIERCEL_TYPES_H_
