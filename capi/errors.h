#ifndef TIERCEL_CAPI_ERRORS_H_
#define TIERCEL_CAPI_ERRORS_H_

#include <exception>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#include "tiercel/status.h"
#include "tiercel/tiercel.h"

namespace tiercel::capi {

/// Notes what the calling thread's tiercel_last_error() tells from now on, as "FUNCTION:
/// MESSAGE", and returns `status` as a code. Does nothing for OK. Never throws: where
/// there is no memory for the message it says that.
tiercel_code Report(const char* function, const Status& status) noexcept;
/// The same for a failure that has no Status: an exception that was caught.
tiercel_code Report(const char* function, StatusCode code, const char* message) noexcept;

/// Runs `body`, which returns a Status, as the C function `function`: what every one of
/// them that can fail does. Turns the Status into a code and stops every exception.
template <typename Body>
tiercel_code Guarded(const char* function, Body&& body) noexcept {
  try {
    return Report(function, std::forward<Body>(body)());
  } catch (const std::bad_alloc&) {
    return Report(function, StatusCode::kResourceExhausted, "out of memory");
  } catch (const std::system_error& error) {  // A thread that cannot be started.
    return Report(function, StatusCode::kResourceExhausted, error.what());
  } catch (const std::exception& error) {
    return Report(function, StatusCode::kInvalidArgument, error.what());
  } catch (...) {
    return Report(function, StatusCode::kInvalidArgument, "an exception of an unknown type");
  }
}

/// kInvalidArgument: "`name` is NULL".
[[nodiscard]] Status IsNull(const char* name);

}  // namespace tiercel::capi

#endif  // TIERCEL_CAPI_ERRORS_H_
