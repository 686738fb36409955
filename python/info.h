#ifndef TIERCEL_PYTHON_INFO_H_
#define TIERCEL_PYTHON_INFO_H_

#include <pybind11/pybind11.h>

#include <memory>

#include "tiercel/checkpoint.h"
#include "tiercel/hasher.h"
#include "tiercel/hot_set.h"
#include "tiercel/prefetch.h"
#include "tiercel/store.h"

namespace tiercel::python {

namespace py = pybind11;

// Structs of the library as the dataclasses of tiercel/_results.py.

[[nodiscard]] py::object ToPython(const Recipe& recipe);
[[nodiscard]] py::object ToPython(const CheckpointInfo& info);
[[nodiscard]] py::object ToPython(const StoreStats& stats);
[[nodiscard]] py::object ToPython(const TicketStats& stats);
[[nodiscard]] py::object ToPython(const HotSetProgress& progress);
[[nodiscard]] py::object ToPython(const HotSetSaved& saved);

/// An instance of the class `name` of tiercel._results with these fields.
template <typename... Fields>
py::object MakeResult(const char* name, Fields&&... fields) {
  return py::module_::import("tiercel._results").attr(name)(std::forward<Fields>(fields)...);
}

/// A tuple of what `convert` makes of each item.
template <typename Items, typename Convert>
py::tuple TupleOf(const Items& items, Convert convert) {
  py::tuple result(items.size());
  std::size_t i = 0;
  for (const auto& item : items) result[i++] = convert(item);
  return result;
}

// What each file of the module binds.

void BindHasher(py::module_& module);     ///< TokenMap and Hasher.
void BindSynthetic(py::module_& module);  ///< inspect and the made checkpoints.
void BindStore(py::module_& module);
void BindSharedCache(py::module_& module);
void BindTicket(py::module_& module);

/// An instance of tiercel.Hasher with the store's recipe and token map.
[[nodiscard]] py::object MakeHasher(const Recipe& recipe,
                                    std::shared_ptr<const TokenMap> token_map);

}  // namespace tiercel::python

#endif  // TIERCEL_PYTHON_INFO_H_
