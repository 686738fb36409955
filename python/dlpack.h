#ifndef TIERCEL_PYTHON_DLPACK_H_
#define TIERCEL_PYTHON_DLPACK_H_

#include <pybind11/pybind11.h>

#include <string_view>

#include "python/host_tensor.h"

namespace tiercel::python {

/// Whether `object` takes part in the DLPack protocol.
[[nodiscard]] bool HasDlpack(py::handle object);

/// The memory of a tensor that exports itself by `__dlpack__` and `__dlpack_device__`
/// (DLPack 0.x and 1.x): CPU memory, or memory of the host that CUDA or ROCm has pinned.
///
/// Raises InvalidArgumentError (memory of a GPU or another device; sub-byte items; more
/// than 8 dimensions) and what the tensor itself raises (PyTorch: one that requires grad).
[[nodiscard]] HostTensor ReadDlpack(py::handle object, std::string_view what);

}  // namespace tiercel::python

#endif  // TIERCEL_PYTHON_DLPACK_H_
