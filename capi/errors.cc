// Codes, names, the last error of a thread, and the library's version.

#include "capi/errors.h"

#include <cstdlib>

#include "tiercel/types.h"

namespace tiercel::capi {
namespace {

/// Of the last call of a thread that failed. `text` points into `storage` or to a literal.
struct LastError {
  std::string storage;
  const char* text = "";
  int os_error = 0;
};

LastError& OfThread() noexcept {
  thread_local LastError last;
  return last;
}

constexpr int Number(StatusCode code) noexcept {
  return static_cast<int>(code);
}
static_assert(TIERCEL_OK == Number(StatusCode::kOk));
static_assert(TIERCEL_INVALID_ARGUMENT == Number(StatusCode::kInvalidArgument));
static_assert(TIERCEL_NOT_FOUND == Number(StatusCode::kNotFound));
static_assert(TIERCEL_ALREADY_EXISTS == Number(StatusCode::kAlreadyExists));
static_assert(TIERCEL_PERMISSION_DENIED == Number(StatusCode::kPermissionDenied));
static_assert(TIERCEL_RESOURCE_EXHAUSTED == Number(StatusCode::kResourceExhausted));
static_assert(TIERCEL_IO_ERROR == Number(StatusCode::kIoError));
static_assert(TIERCEL_CORRUPTION == Number(StatusCode::kCorruption));
static_assert(TIERCEL_UNAVAILABLE == Number(StatusCode::kUnavailable));
static_assert(TIERCEL_CANCELLED == Number(StatusCode::kCancelled));
static_assert(TIERCEL_PARTIAL == Number(StatusCode::kPartial));
static_assert(TIERCEL_PARTIAL + 1 == Number(StatusCode::kCount), "a code has no name in C");

constexpr int Number(RowStatus status) noexcept {
  return static_cast<int>(status);
}
static_assert(sizeof(RowStatus) == sizeof(std::uint8_t));
static_assert(TIERCEL_ROW_OK == Number(RowStatus::kOk));
static_assert(TIERCEL_ROW_DEAD == Number(RowStatus::kDead));
static_assert(TIERCEL_ROW_OUT_OF_RANGE == Number(RowStatus::kOutOfRange));
static_assert(TIERCEL_ROW_IO_ERROR == Number(RowStatus::kIoError));
static_assert(TIERCEL_ROW_CORRUPTION == Number(RowStatus::kCorruption));
static_assert(TIERCEL_DEAD_TOKEN == kDeadToken);

// CMakeLists.txt has the version of the project.
static_assert(TIERCEL_VERSION_MAJOR == TIERCEL_PROJECT_VERSION_MAJOR);
static_assert(TIERCEL_VERSION_MINOR == TIERCEL_PROJECT_VERSION_MINOR);
static_assert(TIERCEL_VERSION_PATCH == TIERCEL_PROJECT_VERSION_PATCH);

}  // namespace

tiercel_code Report(const char* function, StatusCode code, const char* message) noexcept {
  LastError& last = OfThread();
  last.os_error = 0;
  try {
    last.storage = std::string(function) + ": " + message;
    last.text = last.storage.c_str();
  } catch (...) {
    last.text = "out of memory, also for the message of an error";
  }
  return Number(code);
}

tiercel_code Report(const char* function, const Status& status) noexcept {
  if (status.ok()) return TIERCEL_OK;
  // message() views a std::string, which ends with a zero byte.
  const tiercel_code code = Report(function, status.code(), status.message().data());
  OfThread().os_error = status.os_error();
  return code;
}

Status IsNull(const char* name) {
  return {StatusCode::kInvalidArgument, std::string("`") + name + "` is NULL"};
}

}  // namespace tiercel::capi

const char* tiercel_version(void) noexcept {
  return TIERCEL_PROJECT_VERSION;
}

uint32_t tiercel_version_number(void) noexcept {
  return TIERCEL_VERSION_MAJOR * 1'000'000 + TIERCEL_VERSION_MINOR * 1'000 + TIERCEL_VERSION_PATCH;
}

const char* tiercel_last_error(void) noexcept {
  return tiercel::capi::OfThread().text;
}

int32_t tiercel_last_os_error(void) noexcept {
  return tiercel::capi::OfThread().os_error;
}

const char* tiercel_code_name(tiercel_code code) noexcept {
  // Name() views literals, which end with a zero byte.
  const bool known = code >= TIERCEL_OK && code <= TIERCEL_PARTIAL;
  return tiercel::Name(known ? static_cast<tiercel::StatusCode>(code) : tiercel::StatusCode::kCount)
      .data();
}

const char* tiercel_row_status_name(uint8_t row_status) noexcept {
  return tiercel::Name(static_cast<tiercel::RowStatus>(row_status)).data();
}

void tiercel_string_free(char* text) noexcept {
  std::free(text);
}
