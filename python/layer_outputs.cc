#include "python/layer_outputs.h"

#include "python/errors.h"

namespace tiercel::python {
namespace {

std::string Of(const char* what, const LayerShape& shape) {
  return std::string(what) + " of layer " + std::to_string(shape.layer_id);
}

void MakeReadOnly(py::array& array) {
  py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
}

}  // namespace

std::vector<py::ssize_t> LayerShape::StatusShape() const {
  std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(tokens)};
  if (!by_rows) shape.push_back(static_cast<py::ssize_t>(columns));
  return shape;
}

std::vector<py::ssize_t> LayerShape::RowsShape() const {
  std::vector<py::ssize_t> shape = StatusShape();
  shape.push_back(static_cast<py::ssize_t>(row_bytes) / RowsType().itemsize());
  return shape;
}

py::dtype LayerShape::RowsType() const {
  return format == RowOutput::kBf16 ? py::dtype::of<std::uint16_t>()
                                    : py::dtype::of<std::uint8_t>();
}

LayerOutputs TakeOutputs(const LayerShape& shape, const py::object& rows,
                         const py::object& row_status, bool dense) {
  LayerOutputs outputs;
  outputs.shape = shape;
  outputs.rows = rows.is_none() ? py::array(shape.RowsType(), shape.RowsShape()) : rows;
  const HostTensor memory = ReadHostTensor(outputs.rows, "out");
  const std::string rows_name = Of("out", shape);
  outputs.rows_memory =
      dense ? RowDestination{AsDenseDestination(memory, shape.row_count(), shape.row_bytes,
                                                rows_name),
                             shape.row_bytes}
            : AsRowDestination(memory, shape.row_count(), shape.row_bytes, rows_name);
  outputs.owners.push_back(memory.owner);

  outputs.row_status = row_status.is_none()
                           ? py::array(py::dtype::of<std::uint8_t>(), shape.StatusShape())
                           : row_status;
  const HostTensor statuses = ReadHostTensor(outputs.row_status, "status");
  const std::span<std::byte> bytes =
      AsDenseDestination(statuses, shape.row_count(), 1, Of("status", shape));
  outputs.status_memory = {reinterpret_cast<RowStatus*>(bytes.data()), bytes.size()};
  outputs.owners.push_back(statuses.owner);
  return outputs;
}

py::array RowsView(const LayerShape& shape, std::span<const std::byte> memory,
                   std::size_t stride_bytes, const py::object& owner) {
  const py::dtype type = shape.RowsType();
  const auto stride = static_cast<py::ssize_t>(stride_bytes);
  std::vector<py::ssize_t> strides = {stride, type.itemsize()};
  if (!shape.by_rows) {
    strides.insert(strides.begin(), stride * static_cast<py::ssize_t>(shape.columns));
  }
  py::array array(type, shape.RowsShape(), strides, memory.data(), owner);
  MakeReadOnly(array);
  return array;
}

py::array StatusView(const LayerShape& shape, std::span<const RowStatus> memory,
                     const py::object& owner) {
  py::array array(py::dtype::of<std::uint8_t>(), shape.StatusShape(), {}, memory.data(), owner);
  MakeReadOnly(array);
  return array;
}

RowOutput ParseRowOutput(const std::string& name) {
  if (name == "stored") return RowOutput::kStored;
  if (name == "bf16") return RowOutput::kBf16;
  RaiseInvalid("format is '" + name + "'; 'stored' and 'bf16' are known");
}

}  // namespace tiercel::python
