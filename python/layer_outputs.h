#ifndef TIERCEL_PYTHON_LAYER_OUTPUTS_H_
#define TIERCEL_PYTHON_LAYER_OUTPUTS_H_

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "python/host_tensor.h"
#include "tiercel/types.h"

namespace tiercel::python {

namespace py = pybind11;

/// What a batch asks of one layer: the shape of its outputs.
struct LayerShape {
  std::uint32_t layer_id = 0;
  std::size_t tokens = 0;   ///< Of row ids: rows.
  std::size_t columns = 0;  ///< Of row ids: 1, and no dimension of the outputs.
  std::size_t row_bytes = 0;
  bool by_rows = false;
  RowOutput format = RowOutput::kStored;

  [[nodiscard]] std::size_t row_count() const noexcept { return tokens * columns; }
  /// [tokens, columns], or [rows].
  [[nodiscard]] std::vector<py::ssize_t> StatusShape() const;
  /// That and a row: bytes as they are stored, or bf16 values.
  [[nodiscard]] std::vector<py::ssize_t> RowsShape() const;
  [[nodiscard]] py::dtype RowsType() const;
};

/// The outputs of one layer: what Python gave or, for None, new NumPy arrays.
struct LayerOutputs {
  LayerShape shape;
  py::object rows;                 ///< As given, or the new array.
  py::object row_status;           ///< In the same way.
  std::vector<py::object> owners;  ///< Of the memory that was given.
  RowDestination rows_memory;
  std::span<RowStatus> status_memory;
};

/// `rows` and `row_status` as Python gave them, checked against the shape; None makes new
/// arrays. With `dense`, rows must touch.
[[nodiscard]] LayerOutputs TakeOutputs(const LayerShape& shape, const py::object& rows,
                                       const py::object& row_status, bool dense);

/// A read-only array over `memory`, with rows `stride_bytes` apart; keeps `owner`.
[[nodiscard]] py::array RowsView(const LayerShape& shape, std::span<const std::byte> memory,
                                 std::size_t stride_bytes, const py::object& owner);
[[nodiscard]] py::array StatusView(const LayerShape& shape, std::span<const RowStatus> memory,
                                   const py::object& owner);

/// "stored" or "bf16"; raises InvalidArgumentError.
[[nodiscard]] RowOutput ParseRowOutput(const std::string& name);

}  // namespace tiercel::python

#endif  // TIERCEL_PYTHON_LAYER_OUTPUTS_H_
