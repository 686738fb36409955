// The extension module tiercel._tiercel: the public C++ API for Python.

#include <pybind11/pybind11.h>

#include "python/info.h"

PYBIND11_MODULE(_tiercel, module) {
  module.doc() = "The extension behind the package tiercel; import that.";
  module.attr("__version__") = TIERCEL_VERSION;
  tiercel::python::BindHasher(module);
  tiercel::python::BindSynthetic(module);
  tiercel::python::BindTicket(module);
  tiercel::python::BindStore(module);
  tiercel::python::BindSharedCache(module);
}
