#include "python/host_tensor.h"

#include <pybind11/numpy.h>

#include <optional>

#include "python/dlpack.h"
#include "python/errors.h"

namespace tiercel::python {
namespace {

ItemKind KindOfNumpy(char kind) noexcept {
  return kind == 'i' ? ItemKind::kSigned : kind == 'u' ? ItemKind::kUnsigned : ItemKind::kOther;
}

/// Of a format of the struct module: one native or little-endian integer.
ItemKind KindOfFormat(std::string_view format) noexcept {
  if (!format.empty() && (format[0] == '@' || format[0] == '=' || format[0] == '<')) {
    format.remove_prefix(1);
  }
  if (format.size() != 1) return ItemKind::kOther;
  if (std::string_view("bhilqn").find(format[0]) != std::string_view::npos) {
    return ItemKind::kSigned;
  }
  const bool is_unsigned = std::string_view("BHILQN").find(format[0]) != std::string_view::npos;
  return is_unsigned ? ItemKind::kUnsigned : ItemKind::kOther;
}

void CheckDims(std::int64_t dims, std::string_view what) {
  if (dims <= kTensorDimsMax) return;
  RaiseInvalid(std::string(what) + " has " + std::to_string(dims) +
               " dimensions; at most 8 are taken");
}

HostTensor ReadArray(const py::array& array, std::string_view what) {
  CheckDims(array.ndim(), what);
  HostTensor tensor;
  tensor.data = static_cast<std::byte*>(const_cast<void*>(array.data()));
  tensor.dims = static_cast<int>(array.ndim());
  for (int i = 0; i < tensor.dims; ++i) {
    tensor.shape[static_cast<std::size_t>(i)] = array.shape(i);
    tensor.strides[static_cast<std::size_t>(i)] = array.strides(i);
  }
  tensor.item_bytes = array.itemsize();
  const auto* descriptor = py::detail::array_descriptor_proxy(array.dtype().ptr());
  if (descriptor->byteorder != '>') tensor.kind = KindOfNumpy(descriptor->kind);
  tensor.read_only = !array.writeable();
  tensor.owner = array;
  return tensor;
}

HostTensor ReadBuffer(py::handle object, std::string_view what) {
  // A memoryview holds the buffer: a bytearray cannot be resized meanwhile.
  auto view = py::reinterpret_steal<py::object>(PyMemoryView_FromObject(object.ptr()));
  if (!view) throw py::error_already_set();
  const Py_buffer& buffer = *PyMemoryView_GET_BUFFER(view.ptr());
  CheckDims(buffer.ndim, what);
  HostTensor tensor;
  tensor.data = static_cast<std::byte*>(buffer.buf);
  tensor.dims = buffer.ndim;
  for (int i = 0; i < tensor.dims; ++i) {
    tensor.shape[static_cast<std::size_t>(i)] = buffer.shape[i];
    tensor.strides[static_cast<std::size_t>(i)] = buffer.strides[i];
    if (buffer.suboffsets != nullptr && buffer.suboffsets[i] >= 0) {
      RaiseInvalid(std::string(what) + " is a buffer of pointers; plain memory is wanted");
    }
  }
  tensor.item_bytes = buffer.itemsize;
  tensor.kind = KindOfFormat(buffer.format != nullptr ? buffer.format : "B");
  tensor.read_only = buffer.readonly != 0;
  tensor.owner = std::move(view);
  return tensor;
}

std::string ShapeOf(const HostTensor& tensor) {
  std::string text = "[";
  for (int i = 0; i < tensor.dims; ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(tensor.shape[static_cast<std::size_t>(i)]);
  }
  return text + "] of " + std::to_string(tensor.item_bytes) + " B items";
}

[[noreturn]] void RaiseShape(const HostTensor& tensor, std::size_t row_count, std::size_t row_bytes,
                             std::string_view what, const char* why) {
  RaiseInvalid(std::string(what) + " has shape " + ShapeOf(tensor) + "; " +
               std::to_string(row_count) + " rows of " + std::to_string(row_bytes) +
               " B are wanted" + why);
}

/// The distance of rows in `tensor`, if it is evenly spaced rows of so many bytes. 0: not.
std::size_t RowStride(const HostTensor& tensor, std::size_t row_bytes) {
  // From the back: the dimensions that make up a row, then those that count rows.
  auto row_left = static_cast<std::int64_t>(row_bytes);
  std::int64_t dense = tensor.item_bytes;
  int i = tensor.dims - 1;
  for (; i >= 0 && dense < row_left; --i) {
    const auto at = static_cast<std::size_t>(i);
    if (tensor.shape[at] != 1 && tensor.strides[at] != dense) return 0;
    dense *= tensor.shape[at];
  }
  if (dense != row_left) return 0;
  std::optional<std::int64_t> stride;
  std::int64_t expected = 0;
  for (; i >= 0; --i) {
    const auto at = static_cast<std::size_t>(i);
    if (tensor.shape[at] == 1) continue;
    if (!stride) {
      stride = tensor.strides[at];
    } else if (tensor.strides[at] != expected) {
      return 0;
    }
    expected = tensor.strides[at] * tensor.shape[at];
  }
  if (!stride) return row_bytes;  // One row.
  return *stride >= row_left ? static_cast<std::size_t>(*stride) : 0;
}

}  // namespace

std::int64_t HostTensor::item_count() const noexcept {
  std::int64_t count = 1;
  for (int i = 0; i < dims; ++i) count *= shape[static_cast<std::size_t>(i)];
  return count;
}

bool HostTensor::contiguous() const noexcept {
  if (item_count() == 0) return true;
  std::int64_t dense = item_bytes;
  for (int i = dims - 1; i >= 0; --i) {
    const auto at = static_cast<std::size_t>(i);
    if (shape[at] != 1 && strides[at] != dense) return false;
    dense *= shape[at];
  }
  return true;
}

HostTensor ReadHostTensor(py::handle object, std::string_view what) {
  if (py::isinstance<py::array>(object)) {
    return ReadArray(py::reinterpret_borrow<py::array>(object), what);
  }
  if (PyObject_CheckBuffer(object.ptr()) != 0) return ReadBuffer(object, what);
  if (HasDlpack(object)) return ReadDlpack(object, what);
  throw py::type_error(std::string(what) + " is a " + Py_TYPE(object.ptr())->tp_name +
                       "; a NumPy array, an object with the buffer protocol or a DLPack tensor "
                       "is wanted");
}

bool IsHostTensor(py::handle object) {
  return py::isinstance<py::array>(object) || PyObject_CheckBuffer(object.ptr()) != 0 ||
         HasDlpack(object);
}

RowDestination AsRowDestination(const HostTensor& tensor, std::size_t row_count,
                                std::size_t row_bytes, std::string_view what) {
  if (tensor.read_only) RaiseInvalid(std::string(what) + " is read-only");
  const std::size_t bytes = row_count * row_bytes;
  if (static_cast<std::size_t>(tensor.item_count() * tensor.item_bytes) != bytes) {
    RaiseShape(tensor, row_count, row_bytes, what, "");
  }
  if (bytes == 0) return {{}, row_bytes};
  if (tensor.contiguous()) return {{tensor.data, bytes}, row_bytes};
  const std::size_t stride = RowStride(tensor, row_bytes);
  if (stride == 0) {
    RaiseShape(tensor, row_count, row_bytes, what,
               ", each of bytes that touch, all at one distance");
  }
  return {{tensor.data, (row_count - 1) * stride + row_bytes}, stride};
}

std::span<std::byte> AsDenseDestination(const HostTensor& tensor, std::size_t row_count,
                                        std::size_t row_bytes, std::string_view what) {
  const RowDestination destination = AsRowDestination(tensor, row_count, row_bytes, what);
  if (destination.stride_bytes != row_bytes) {
    RaiseShape(tensor, row_count, row_bytes, what, ", in contiguous memory");
  }
  return destination.span;
}

}  // namespace tiercel::python
