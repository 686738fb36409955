#include "python/errors.h"

namespace tiercel::python {
namespace {

[[noreturn]] void RaiseWith(const Status& status, const py::dict& more) {
  const std::string_view code = Name(status.code());
  const std::string_view message = status.message();
  const py::object exception =
      py::module_::import("tiercel._errors")
          .attr("make")(py::str(code.data(), code.size()), py::str(message.data(), message.size()),
                        status.os_error(), **more);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
  throw py::error_already_set();
}

}  // namespace

void Raise(const Status& status) {
  RaiseWith(status, {});
}

void RaiseInvalid(const std::string& message) {
  Raise(Status(StatusCode::kInvalidArgument, message));
}

void RaisePartial(const Status& status, const py::object& rows, const py::object& row_status) {
  py::dict more;
  more["rows"] = rows;
  more["row_status"] = row_status;
  RaiseWith(status, more);
}

}  // namespace tiercel::python
