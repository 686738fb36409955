#ifndef TIERCEL_PYTHON_STORE_OPTIONS_H_
#define TIERCEL_PYTHON_STORE_OPTIONS_H_

#include <pybind11/pybind11.h>

#include "tiercel/store.h"

namespace tiercel::python {

namespace py = pybind11;

/// The keyword arguments of tiercel.Store, all but `log`. Raises TypeError (a keyword that
/// is not known, a value of another type), InvalidArgumentError (a name that is not known;
/// the message lists those that are).
[[nodiscard]] StoreOptions ParseStoreOptions(const py::kwargs& keywords);

}  // namespace tiercel::python

#endif  // TIERCEL_PYTHON_STORE_OPTIONS_H_
