#ifndef TIERCEL_IO_READ_ERRORS_H_
#define TIERCEL_IO_READ_ERRORS_H_

#include <cstdint>
#include <string_view>

namespace tiercel {

/// What a failed read means for its rows, and for a next try.
enum class ReadErrorKind : std::uint8_t {
  kPassing,  ///< Another try may succeed: a transport error, want of memory.
  kLasting,  ///< The disk, or the way to it, is broken for good.
  kDamaged,  ///< There are no good bytes there: the file is short, or a checksum fails.
};

/// The case of an errno of a read, and its sentence: what it means and what to do.
/// The only place where they are told apart.
struct ReadError {
  ReadErrorKind kind;
  std::string_view sentence;
};

/// `os_error` is positive, as in ReadCompletion.
[[nodiscard]] ReadError DescribeReadError(int os_error) noexcept;

}  // namespace tiercel

#endif  // TIERCEL_IO_READ_ERRORS_H_
