#ifndef TIERCEL_PYTHON_HOST_TENSOR_H_
#define TIERCEL_PYTHON_HOST_TENSOR_H_

#include <pybind11/pybind11.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tiercel::python {

namespace py = pybind11;

enum class ItemKind : std::uint8_t { kSigned, kUnsigned, kOther };

inline constexpr int kTensorDimsMax = 8;

/// Host memory of a Python object: a NumPy array, anything with the buffer protocol, or
/// a DLPack tensor. Nothing is copied.
///
/// Threading: made, copied and destroyed with the GIL; the memory is plain.
struct HostTensor {
  std::byte* data = nullptr;
  int dims = 0;
  std::array<std::int64_t, kTensorDimsMax> shape{};
  std::array<std::int64_t, kTensorDimsMax> strides{};  ///< In bytes.
  std::int64_t item_bytes = 1;
  ItemKind kind = ItemKind::kOther;
  bool read_only = false;
  py::object owner;  ///< The memory stays, and stays in place, while this does.

  [[nodiscard]] std::int64_t item_count() const noexcept;
  /// Items touch, last dimension fastest.
  [[nodiscard]] bool contiguous() const noexcept;
};

/// The memory of `object`. `what` names the argument in messages.
///
/// Raises TypeError (no array), InvalidArgumentError (memory of a GPU, more than 8
/// dimensions), and whatever the object's own methods raise.
[[nodiscard]] HostTensor ReadHostTensor(py::handle object, std::string_view what);

/// Whether ReadHostTensor() would find an array in it.
[[nodiscard]] bool IsHostTensor(py::handle object);

/// Where rows are written: `span` starts at the first one and ends with the last.
struct RowDestination {
  std::span<std::byte> span;
  std::size_t stride_bytes = 0;
};

/// `tensor` as a destination of `row_count` rows of `row_bytes` each: of any shape and
/// item type whose bytes are those, where the bytes of a row touch and rows are evenly
/// spaced. Raises InvalidArgumentError (read-only, other sizes or strides; the message
/// says which are wanted).
[[nodiscard]] RowDestination AsRowDestination(const HostTensor& tensor, std::size_t row_count,
                                              std::size_t row_bytes, std::string_view what);

/// As AsRowDestination(), where rows must touch.
[[nodiscard]] std::span<std::byte> AsDenseDestination(const HostTensor& tensor,
                                                      std::size_t row_count, std::size_t row_bytes,
                                                      std::string_view what);

}  // namespace tiercel::python

#endif  // TIERCEL_PYTHON_HOST_TENSOR_H_
