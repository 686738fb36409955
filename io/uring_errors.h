#ifndef TIERCEL_IO_URING_ERRORS_H_
#define TIERCEL_IO_URING_ERRORS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "tiercel/status.h"

namespace tiercel {

/// Which system call of io_uring failed.
enum class UringCall : std::uint8_t { kSetup, kEnter, kRegister };

/// The sentence for an errno of io_uring_setup, _enter or _register: what it means
/// and the way out. The only place where they are told apart.
[[nodiscard]] std::string UringSentence(UringCall call, int os_error);

/// Status of a ring that could not be had. kUnavailable where a fallback may help
/// (not there, not allowed), kResourceExhausted for want of memory or descriptors.
[[nodiscard]] Status UringStatus(UringCall call, int os_error);

}  // namespace tiercel

#endif  // TIERCEL_IO_URING_ERRORS_H_
