#ifndef TIERCEL_PYTHON_ERRORS_H_
#define TIERCEL_PYTHON_ERRORS_H_

#include <pybind11/pybind11.h>

#include <string>
#include <utility>

#include "tiercel/status.h"

namespace tiercel::python {

namespace py = pybind11;

// Status to Python exceptions (tiercel/_errors.py). All of these need the GIL.

/// Raises the exception of the status's code. REQUIRES: !status.ok().
[[noreturn]] void Raise(const Status& status);

/// Raises tiercel.InvalidArgumentError.
[[noreturn]] void RaiseInvalid(const std::string& message);

/// Raises tiercel.PartialError with the outputs of the call. REQUIRES: kPartial.
[[noreturn]] void RaisePartial(const Status& status, const py::object& rows,
                               const py::object& row_status);

inline void RaiseUnlessOk(const Status& status) {
  if (!status.ok()) Raise(status);
}

template <typename T>
T ValueOrRaise(Result<T> result) {
  if (!result.ok()) Raise(result.status());
  return std::move(result).value();
}

}  // namespace tiercel::python

#endif  // TIERCEL_PYTHON_ERRORS_H_
