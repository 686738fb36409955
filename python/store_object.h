#ifndef TIERCEL_PYTHON_STORE_OBJECT_H_
#define TIERCEL_PYTHON_STORE_OBJECT_H_

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "python/dispatcher.h"
#include "python/layer_outputs.h"
#include "python/token_runs.h"
#include "tiercel/store.h"

namespace tiercel::python {

namespace py = pybind11;

/// tiercel.Store: a Store that calls hold while they run, so that close() in one thread
/// does not pull it away from another.
///
/// Threading: methods need the GIL, and give it up while the library works.
class StoreObject {
 public:
  StoreObject(const std::string& path, const StoreOptions& options, const py::object& log);
  ~StoreObject() { Close(); }
  StoreObject(const StoreObject&) = delete;
  StoreObject& operator=(const StoreObject&) = delete;

  /// Lets go of the store, which is closed when the last call on it has ended. Twice: nothing.
  void Close();
  [[nodiscard]] bool closed() const noexcept { return store_ == nullptr; }

  /// Raises InvalidArgumentError where it is closed.
  [[nodiscard]] std::shared_ptr<Store> store() const;

  [[nodiscard]] const std::vector<std::uint32_t>& layers() const noexcept { return layers_; }
  [[nodiscard]] const std::shared_ptr<const TokenMap>& token_map() const noexcept {
    return token_map_;
  }
  /// The `log` callable, for the garbage collector.
  [[nodiscard]] CallbackSlot& log() { return *log_; }

  /// Shape of the outputs of a layer. Raises NotFoundError (a layer that is not served).
  [[nodiscard]] LayerShape Shape(std::uint32_t layer_id, std::size_t token_count,
                                 RowOutput format) const;
  [[nodiscard]] LayerShape ShapeOfRows(std::uint32_t layer_id, std::size_t row_count,
                                       RowOutput format) const;

 private:
  std::shared_ptr<Store> store_;
  std::shared_ptr<const TokenMap> token_map_;
  std::vector<std::uint32_t> layers_;
  std::size_t columns_ = 0;
  std::shared_ptr<CallbackSlot> log_ = std::make_shared<CallbackSlot>();
};

/// tiercel.Store.start and start_rows, which return a tiercel.Ticket.
[[nodiscard]] py::object StartTicket(const StoreObject& store, const py::handle& runs,
                                     const py::object& layers, const py::handle& history,
                                     const py::kwargs& options);
[[nodiscard]] py::object StartRowsTicket(const StoreObject& store, const py::handle& rows,
                                         const py::object& layer, const py::kwargs& options);

/// The Object in `self`, or null while its constructor runs (others may collect garbage
/// meanwhile) and where that failed.
template <typename Object>
Object* Constructed(PyObject* self) {
  const auto value = reinterpret_cast<py::detail::instance*>(self)->get_value_and_holder();
  return value.holder_constructed() ? value.template value_ptr<Object>() : nullptr;
}

/// Has the collector find the callable that `Slot` of an object gives: callables often
/// hold, by way of a closure, what they were given to.
template <typename Object, CallbackSlot& (Object::*Slot)()>
void TraverseCallback(PyHeapTypeObject* heap_type) {
  PyTypeObject* type = &heap_type->ht_type;
  type->tp_flags |= Py_TPFLAGS_HAVE_GC;
  type->tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    Object* const object = Constructed<Object>(self);
    if (object != nullptr) Py_VISIT((object->*Slot)().callable());
    return 0;
  };
  type->tp_clear = [](PyObject* self) {
    Object* const object = Constructed<Object>(self);
    if (object != nullptr) (object->*Slot)().Clear();
    return 0;
  };
}

}  // namespace tiercel::python

#endif  // TIERCEL_PYTHON_STORE_OBJECT_H_
