#include "base/errno_status.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace tiercel {
namespace {

struct Case {
  StatusCode code;
  const char* advice;  // Empty: the errno says it all.
};

Case CaseOf(int os_error) noexcept {
  switch (os_error) {
    case ENOENT:
    case ENOTDIR:
      return {StatusCode::kNotFound, "check the path"};
    case EEXIST:
      return {StatusCode::kAlreadyExists, "choose another path or remove it"};
    case EACCES:
    case EPERM:
      return {StatusCode::kPermissionDenied, "check owner and mode, or the container's profile"};
    case EROFS:
      return {StatusCode::kPermissionDenied, "the file system is mounted read-only"};
    case ENOSPC:
      return {StatusCode::kResourceExhausted, "the disk is full: free some space"};
    case EDQUOT:
      return {StatusCode::kResourceExhausted, "the disk quota is used up"};
    case EMFILE:
      return {StatusCode::kResourceExhausted, "too many open files: raise 'ulimit -n'"};
    case ENFILE:
      return {StatusCode::kResourceExhausted, "the system's file table is full"};
    case ENOMEM:
      return {StatusCode::kResourceExhausted, "not enough memory, or 'ulimit -l' too low"};
    case EAGAIN:
      return {StatusCode::kResourceExhausted, "the kernel has no room for more requests now"};
    case ENOSYS:
      return {StatusCode::kUnavailable, "this kernel does not have it"};
    case EOPNOTSUPP:
      return {StatusCode::kUnavailable, "the file system does not support it"};
    case EINVAL:
      return {StatusCode::kInvalidArgument, ""};
    case EISDIR:
      return {StatusCode::kInvalidArgument, "a file was expected, not a directory"};
    case ENAMETOOLONG:
      return {StatusCode::kInvalidArgument, "the path is too long"};
    case ELOOP:
      return {StatusCode::kInvalidArgument, "too many symbolic links"};
    case EFBIG:
      return {StatusCode::kInvalidArgument, "larger than the file system allows"};
    case EIO:
      return {StatusCode::kIoError, "the device failed: see the kernel log"};
    default:
      return {StatusCode::kIoError, ""};
  }
}

}  // namespace

std::string ErrnoName(int os_error) {
  const char* const name = strerrorname_np(os_error);
  return name != nullptr ? std::string(name) : fmt::format("errno {}", os_error);
}

Status ErrnoStatus(int os_error, std::string_view what) {
  const Case found = CaseOf(os_error);
  const char* const text = strerrordesc_np(os_error);
  std::string message = fmt::format("{}: {} ({})", what, text != nullptr ? text : "unknown error",
                                    ErrnoName(os_error));
  if (found.advice[0] != '\0') message += fmt::format("; {}", found.advice);
  return Status(found.code, std::move(message), os_error);
}

}  // namespace tiercel
