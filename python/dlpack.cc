#include "python/dlpack.h"

#include <string>

#include "python/errors.h"

namespace tiercel::python {
namespace {

// The structs of the DLPack ABI (https://dmlc.github.io/dlpack/latest/c_api.html), by hand:
// they are all that is needed of it.

struct DlDevice {
  std::int32_t type;
  std::int32_t id;
};

constexpr std::int32_t kDlCpu = 1;
constexpr std::int32_t kDlCudaHost = 3;
constexpr std::int32_t kDlRocmHost = 11;

struct DlDataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

constexpr std::uint8_t kDlInt = 0;
constexpr std::uint8_t kDlUint = 1;

struct DlTensor {
  void* data;
  DlDevice device;
  std::int32_t ndim;
  DlDataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // In items. Null: contiguous.
  std::uint64_t byte_offset;
};

struct DlManagedTensor {
  DlTensor tensor;
  void* manager_context;
  void (*deleter)(DlManagedTensor*);
};

struct DlManagedTensorVersioned {
  std::uint32_t major;
  std::uint32_t minor;
  void* manager_context;
  void (*deleter)(DlManagedTensorVersioned*);
  std::uint64_t flags;
  DlTensor tensor;
};

constexpr std::uint64_t kDlReadOnly = 1;
constexpr std::uint32_t kDlMajorMax = 1;

const char* DeviceName(std::int32_t type) {
  switch (type) {
    case 2:
      return "a CUDA device";
    case 8:
      return "a Metal device";
    case 10:
      return "a ROCm device";
    case 13:
      return "CUDA managed memory";
    case 14:
      return "a oneAPI device";
    default:
      return "a device that is not the CPU";
  }
}

void CheckDevice(py::handle object, std::string_view what) {
  const auto device = py::cast<py::tuple>(object.attr("__dlpack_device__")());
  const auto type = py::cast<std::int32_t>(py::int_(device[0]));
  if (type == kDlCpu || type == kDlCudaHost || type == kDlRocmHost) return;
  RaiseInvalid(std::string(what) + " lies on " + DeviceName(type) + " (DLPack device type " +
               std::to_string(type) + ", id " + std::to_string(py::cast<int>(py::int_(device[1]))) +
               "); the store reads and writes host memory: give a CPU tensor, pinned if it is "
               "copied to a GPU afterwards");
}

/// An object that gives the tensor back when it goes.
template <typename Managed>
py::object OwnerOf(Managed* managed) {
  return py::capsule(managed, [](void* pointer) {
    auto* tensor = static_cast<Managed*>(pointer);
    if (tensor->deleter != nullptr) tensor->deleter(tensor);
  });
}

void Fill(const DlTensor& from, std::string_view what, HostTensor& to) {
  const std::uint32_t item_bits = std::uint32_t{from.dtype.bits} * from.dtype.lanes;
  if (item_bits == 0 || item_bits % 8 != 0) {
    RaiseInvalid(std::string(what) + " has items of " + std::to_string(item_bits) +
                 " bits; whole bytes are wanted");
  }
  if (from.ndim < 0 || from.ndim > kTensorDimsMax) {
    RaiseInvalid(std::string(what) + " has " + std::to_string(from.ndim) +
                 " dimensions; at most 8 are taken");
  }
  to.data = static_cast<std::byte*>(from.data);
  if (to.data != nullptr) to.data += from.byte_offset;
  to.dims = from.ndim;
  to.item_bytes = item_bits / 8;
  if (from.dtype.lanes == 1 && from.dtype.code == kDlInt) to.kind = ItemKind::kSigned;
  if (from.dtype.lanes == 1 && from.dtype.code == kDlUint) to.kind = ItemKind::kUnsigned;
  std::int64_t dense_stride = to.item_bytes;
  for (int i = from.ndim - 1; i >= 0; --i) {
    const auto at = static_cast<std::size_t>(i);
    to.shape[at] = from.shape[i];
    to.strides[at] = from.strides != nullptr ? from.strides[i] * to.item_bytes : dense_stride;
    dense_stride *= from.shape[i];
  }
}

/// The capsule of `__dlpack__`, in version 1 of the protocol where the tensor knows it.
py::capsule Export(py::handle object) {
  const py::object method = object.attr("__dlpack__");
  try {
    return py::cast<py::capsule>(method(py::arg("max_version") = py::make_tuple(1, 0)));
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return py::cast<py::capsule>(method());
}

/// Takes the tensor out of `capsule`, by renaming it as the protocol has it.
template <typename Managed>
Managed* Take(const py::capsule& capsule, const char* name, const char* used_name) {
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), name));
  if (managed == nullptr || PyCapsule_SetName(capsule.ptr(), used_name) != 0) {
    throw py::error_already_set();
  }
  return managed;
}

}  // namespace

bool HasDlpack(py::handle object) {
  return py::hasattr(object, "__dlpack__") && py::hasattr(object, "__dlpack_device__");
}

HostTensor ReadDlpack(py::handle object, std::string_view what) {
  CheckDevice(object, what);
  const py::capsule capsule = Export(object);
  HostTensor tensor;
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned") != 0) {
    auto* managed =
        Take<DlManagedTensorVersioned>(capsule, "dltensor_versioned", "used_dltensor_versioned");
    tensor.owner = OwnerOf(managed);
    if (managed->major > kDlMajorMax) {
      RaiseInvalid(std::string(what) + " is a DLPack tensor of version " +
                   std::to_string(managed->major) + "; 0 and 1 are known");
    }
    tensor.read_only = (managed->flags & kDlReadOnly) != 0;
    Fill(managed->tensor, what, tensor);
    return tensor;
  }
  auto* managed = Take<DlManagedTensor>(capsule, "dltensor", "used_dltensor");
  tensor.owner = OwnerOf(managed);
  Fill(managed->tensor, what, tensor);
  return tensor;
}

}  // namespace tiercel::python
