#ifndef TIERCEL_BASE_ERRNO_STATUS_H_
#define TIERCEL_BASE_ERRNO_STATUS_H_

#include <string>
#include <string_view>

#include "tiercel/status.h"

namespace tiercel {

/// The Status for an errno: its code, and "WHAT: STRERROR (ENAME); what to do".
/// The one place where errnos become codes.
///
///   what  what was being done to which file, e.g. "open /data/model.safetensors".
[[nodiscard]] Status ErrnoStatus(int os_error, std::string_view what);

/// "EIO", "ENOSPC", ...; "errno 1234" for an unknown one.
[[nodiscard]] std::string ErrnoName(int os_error);

}  // namespace tiercel

#endif  // TIERCEL_BASE_ERRNO_STATUS_H_
