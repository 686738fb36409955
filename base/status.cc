#include "tiercel/status.h"

#include "base/check.h"
#include "tiercel/types.h"

namespace tiercel {

std::string_view Name(StatusCode code) noexcept {
  switch (code) {
    case StatusCode::kOk:
      return "OK";
    case StatusCode::kInvalidArgument:
      return "INVALID_ARGUMENT";
    case StatusCode::kNotFound:
      return "NOT_FOUND";
    case StatusCode::kAlreadyExists:
      return "ALREADY_EXISTS";
    case StatusCode::kPermissionDenied:
      return "PERMISSION_DENIED";
    case StatusCode::kResourceExhausted:
      return "RESOURCE_EXHAUSTED";
    case StatusCode::kIoError:
      return "IO_ERROR";
    case StatusCode::kCorruption:
      return "CORRUPTION";
    case StatusCode::kUnavailable:
      return "UNAVAILABLE";
    case StatusCode::kCancelled:
      return "CANCELLED";
    case StatusCode::kPartial:
      return "PARTIAL";
    case StatusCode::kCount:
      break;
  }
  return "UNKNOWN";
}

std::string_view Name(RowStatus status) noexcept {
  switch (status) {
    case RowStatus::kOk:
      return "OK";
    case RowStatus::kDead:
      return "DEAD";
    case RowStatus::kOutOfRange:
      return "OUT_OF_RANGE";
    case RowStatus::kIoError:
      return "IO_ERROR";
    case RowStatus::kCorruption:
      return "CORRUPTION";
  }
  return "UNKNOWN";
}

Status::Status(StatusCode code, std::string message, int os_error)
    : rep_(std::make_unique<const Rep>(Rep{code, os_error, std::move(message)})) {
  TIERCEL_CHECK(code != StatusCode::kOk && code != StatusCode::kCount);
}

std::string_view Status::message() const noexcept {
  return ok() ? std::string_view{} : std::string_view{rep_->message};
}

std::string Status::ToString() const {
  if (ok()) return "OK";
  return std::string(Name(rep_->code)) + ": " + rep_->message;
}

}  // namespace tiercel
