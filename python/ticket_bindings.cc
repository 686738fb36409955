// tiercel.Ticket, and Store.start and start_rows, which make them.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python/errors.h"
#include "python/info.h"
#include "python/store_object.h"
#include "python/ticket_core.h"

namespace tiercel::python {
namespace {

using py::literals::operator""_a;
using std::chrono::nanoseconds;

/// Seconds of Python's as nanoseconds; those that are none or too many are as long as can be.
nanoseconds Nanoseconds(double seconds, const char* what) {
  constexpr double kSecondsMax = 1e9;
  if (std::isnan(seconds)) RaiseInvalid(std::string(what) + " is no number");
  const double bounded = std::min(std::max(seconds, 0.0), kSecondsMax);
  return std::chrono::duration_cast<nanoseconds>(std::chrono::duration<double>(bounded));
}

/// tiercel.Ticket. Threading: methods need the GIL.
class TicketObject {
 public:
  TicketObject(std::shared_ptr<TicketCore> core, std::vector<LayerShape> layers,
               std::shared_ptr<CallbackSlot> on_layer) noexcept
      : core_(std::move(core)), layers_(std::move(layers)), on_layer_(std::move(on_layer)) {}
  ~TicketObject() { on_layer_->Clear(); }
  TicketObject(const TicketObject&) = delete;
  TicketObject& operator=(const TicketObject&) = delete;

  CallbackSlot& on_layer() { return *on_layer_; }
  [[nodiscard]] bool closed() const noexcept { return core_ == nullptr; }
  [[nodiscard]] const std::vector<LayerShape>& layers() const noexcept { return layers_; }

  /// No callback begins from now on, and nothing writes to the destinations afterwards.
  void Cancel() {
    on_layer_->Clear();
    const std::shared_ptr<TicketCore> core = core_;
    if (core == nullptr) return;
    const py::gil_scoped_release release;
    core->Cancel();
  }

  /// Cancels, and lets go: the staging is given back when no array over it is left.
  void Close() {
    Cancel();
    core_ = nullptr;
  }

  /// Whether the layer is in place within `timeout`; nothing waits for ever. Raises what is
  /// not OK, and what a signal handler raises (KeyboardInterrupt).
  bool WaitFor(std::uint32_t layer_id, std::optional<nanoseconds> timeout) const {
    const std::optional<Status> status = WaitForStatus(layer_id, timeout);
    if (!status) return false;
    RaiseUnlessInPlace(layer_id, *status);
    return true;
  }

  bool TryWait(std::uint32_t layer_id) const {
    const std::optional<Status> status = core()->TryWait(layer_id);
    if (!status) return false;
    RaiseUnlessInPlace(layer_id, *status);
    return true;
  }

  void WaitAll() const {
    std::optional<Status> first_error;
    for (const LayerShape& layer : layers_) {
      std::optional<Status> status = WaitForStatus(layer.layer_id, std::nullopt);
      if (!status->ok() && !first_error) first_error = std::move(status);
    }
    if (!first_error) return;
    if (first_error->code() != StatusCode::kPartial) Raise(*first_error);
    py::dict rows;
    py::dict row_status;
    for (const LayerShape& layer : layers_) {
      rows[py::int_(layer.layer_id)] = Rows(layer.layer_id);
      row_status[py::int_(layer.layer_id)] = RowStatusOf(layer.layer_id);
    }
    RaisePartial(*first_error, rows, row_status);
  }

  void Promote() const {
    const std::shared_ptr<TicketCore> held = core();
    const py::gil_scoped_release release;
    held->Promote();
  }

  [[nodiscard]] py::array Rows(std::uint32_t layer_id) const {
    const std::shared_ptr<TicketCore> held = core();
    const TicketRows rows = RowsOf(*held, layer_id);
    return RowsView(Shape(layer_id), rows.rows, rows.row_stride_bytes, OwnerOf(held));
  }

  [[nodiscard]] py::array RowStatusOf(std::uint32_t layer_id) const {
    const std::shared_ptr<TicketCore> held = core();
    return StatusView(Shape(layer_id), RowsOf(*held, layer_id).row_status, OwnerOf(held));
  }

  [[nodiscard]] py::object Stats(std::uint32_t layer_id) const {
    const std::shared_ptr<TicketCore> held = core();
    return ToPython(ValueOrRaise([&] {
      const py::gil_scoped_release release;
      return held->Stats(layer_id);
    }()));
  }

 private:
  [[nodiscard]] std::shared_ptr<TicketCore> core() const {
    if (core_ == nullptr) RaiseInvalid("the ticket is closed");
    return core_;
  }

  /// REQUIRES: the ticket has the layer.
  [[nodiscard]] const LayerShape& Shape(std::uint32_t layer_id) const {
    std::size_t i = 0;
    while (layers_[i].layer_id != layer_id) ++i;
    return layers_[i];
  }

  static TicketRows RowsOf(TicketCore& core, std::uint32_t layer_id) {
    return ValueOrRaise([&] {
      const py::gil_scoped_release release;
      return core.Rows(layer_id);
    }());
  }

  /// An object that keeps the memory of the ticket's rows.
  static py::object OwnerOf(const std::shared_ptr<TicketCore>& core) {
    return py::capsule(new std::shared_ptr<TicketCore>(core),
                       [](void* held) { delete static_cast<std::shared_ptr<TicketCore>*>(held); });
  }

  std::optional<Status> WaitForStatus(std::uint32_t layer_id,
                                      std::optional<nanoseconds> timeout) const {
    const std::shared_ptr<TicketCore> held = core();
    // In place already: no reason to let go of the GIL, which may take long to get back.
    std::optional<Status> status = held->TryWait(layer_id);
    if (status) return status;
    const auto end = std::chrono::steady_clock::now() + timeout.value_or(nanoseconds{0});
    for (;;) {
      const nanoseconds left =
          timeout ? end - std::chrono::steady_clock::now() : nanoseconds::max();
      {
        const py::gil_scoped_release release;
        status = held->WaitFor(layer_id, std::max(left, nanoseconds{0}));
      }
      if (status) return status;
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      if (timeout && left <= TicketCore::kSlice) return std::nullopt;
    }
  }

  void RaiseUnlessInPlace(std::uint32_t layer_id, const Status& status) const {
    if (status.ok()) return;
    if (status.code() != StatusCode::kPartial) Raise(status);
    RaisePartial(status, Rows(layer_id), RowStatusOf(layer_id));
  }

  std::shared_ptr<TicketCore> core_;
  std::vector<LayerShape> layers_;
  std::shared_ptr<CallbackSlot> on_layer_;
};

/// What a Start() is given, and the Python objects behind it.
struct StartRequest {
  std::vector<PrefetchLayer> layers;
  std::vector<LayerShape> shapes;
  std::vector<py::object> owners;
  PrefetchOptions options;
  std::shared_ptr<CallbackSlot> on_layer = std::make_shared<CallbackSlot>();

  StartRequest() = default;
  StartRequest(const StartRequest&) = delete;
  StartRequest& operator=(const StartRequest&) = delete;
  ~StartRequest() {
    if (on_layer != nullptr) on_layer->Clear();
  }
};

template <typename Value>
Value Choose(const char* what, py::handle given, const char* first, Value first_value,
             const char* second, Value second_value) {
  const auto name = py::cast<std::string>(given);
  if (name == first) return first_value;
  if (name == second) return second_value;
  RaiseInvalid(std::string(what) + " is '" + name + "'; '" + first + "' and '" + second +
               "' are known");
}

void SetOnLayer(const py::object& callable, StartRequest& request) {
  if (callable.is_none()) return;
  request.on_layer->Set(callable);
  // The library's thread must not wait for the GIL: the dispatcher's thread does.
  request.options.on_layer = [dispatcher = Dispatcher::Get(), slot = request.on_layer](
                                 std::uint32_t layer_id, StatusCode code) {
    dispatcher->Post([slot, layer_id, code] {
      if (slot->callable() == nullptr) return;
      const std::string_view name = Name(code);
      py::reinterpret_borrow<py::object>(slot->callable())(layer_id,
                                                           py::str(name.data(), name.size()));
    });
  };
}

void ReadOption(const std::string& name, py::handle value, StartRequest& request) {
  PrefetchOptions& options = request.options;
  if (name == "format") {
    options.format = ParseRowOutput(py::cast<std::string>(value));
  } else if (name == "urgency") {
    options.urgency = Choose("urgency", value, "deadline", Urgency::kDeadline, "background",
                             Urgency::kBackground);
  } else if (name == "hits") {
    options.hits =
        Choose("hits", value, "start", HitCopy::kInStart, "deferred", HitCopy::kDeferred);
  } else if (name == "when_full") {
    options.when_full =
        Choose("when_full", value, "refuse", WhenFull::kRefuse, "block", WhenFull::kBlock);
  } else if (name == "cache") {
    options.cache =
        Choose("cache", value, "insert", CacheUse::kInsert, "keep_out", CacheUse::kKeepOut);
  } else if (name == "event_fd") {
    options.event_fd = value.is_none() ? -1 : py::cast<int>(value);
  } else if (name == "on_layer") {
    SetOnLayer(py::reinterpret_borrow<py::object>(value), request);
  } else {
    throw py::type_error("start() has no keyword argument '" + name + "'");
  }
}

void ReadOptions(const py::kwargs& keywords, StartRequest& request) {
  for (const auto& [key, value] : keywords) {
    const auto name = py::cast<std::string>(key);
    try {
      ReadOption(name, value, request);
    } catch (const py::cast_error&) {
      throw py::type_error("start(): " + name + " is " + std::string(py::repr(value)) +
                           ", which is of a type that it does not take");
    }
  }
}

/// `layer` is a tiercel.PrefetchLayer or a layer id.
void AddLayer(const StoreObject& store, const py::handle& layer, std::size_t count, bool by_rows,
              StartRequest& request) {
  const bool bare = PyIndex_Check(layer.ptr()) != 0;
  if (!bare && !py::hasattr(layer, "layer")) {
    throw py::type_error("layers holds " + std::string(py::repr(layer)) +
                         "; layer ids and PrefetchLayers are wanted");
  }
  const auto layer_id = py::cast<std::uint32_t>(bare ? py::reinterpret_borrow<py::object>(layer)
                                                     : py::object(layer.attr("layer")));
  const RowOutput format = request.options.format;
  const LayerShape shape =
      by_rows ? store.ShapeOfRows(layer_id, count, format) : store.Shape(layer_id, count, format);
  PrefetchLayer plain{.layer_id = layer_id};
  if (!bare) {
    plain.needed_after =
        Nanoseconds(py::cast<double>(layer.attr("needed_after_s")), "needed_after_s");
    const py::object out = layer.attr("out");
    const py::object row_status = layer.attr("status");
    if (!out.is_none()) {
      LayerOutputs outputs = TakeOutputs(shape, out, row_status, /*dense=*/false);
      plain.rows = outputs.rows_memory.span;
      plain.row_stride_bytes = outputs.rows_memory.stride_bytes;
      plain.row_status = outputs.status_memory;
      request.owners.insert(request.owners.end(), outputs.owners.begin(), outputs.owners.end());
    } else if (!row_status.is_none()) {
      RaiseInvalid("layer " + std::to_string(layer_id) +
                   " has a status and no out: statuses of staged rows are staged with them");
    }
  }
  request.shapes.push_back(shape);
  request.layers.push_back(plain);
}

/// `start(store)` without the GIL; then the tiercel.Ticket of it.
template <typename Start>
py::object MakeTicket(const StoreObject& store, StartRequest& request, Start start) {
  std::shared_ptr<Store> held = store.store();
  Ticket ticket = ValueOrRaise([&] {
    const py::gil_scoped_release release;
    Result<Ticket> started = start(*held);
    held = nullptr;
    return started;
  }());
  auto core = std::make_shared<TicketCore>(std::move(ticket), std::move(request.owners));
  return py::cast(std::make_unique<TicketObject>(std::move(core), std::move(request.shapes),
                                                 std::move(request.on_layer)));
}

}  // namespace

py::object StartTicket(const StoreObject& store, const py::handle& runs, const py::object& layers,
                       const py::handle& history, const py::kwargs& options) {
  const TokenRuns tokens(runs, history);
  StartRequest request;
  ReadOptions(options, request);
  if (layers.is_none()) {
    for (const std::uint32_t layer_id : store.layers()) {
      AddLayer(store, py::int_(layer_id), tokens.token_count(), /*by_rows=*/false, request);
    }
  } else if (py::isinstance<py::sequence>(layers)) {
    for (const py::handle layer : layers) {
      AddLayer(store, layer, tokens.token_count(), /*by_rows=*/false, request);
    }
  } else {
    AddLayer(store, layers, tokens.token_count(), /*by_rows=*/false, request);
  }
  return MakeTicket(store, request, [&](Store& plain) {
    return plain.Start(tokens.runs(), request.layers, request.options);
  });
}

py::object StartRowsTicket(const StoreObject& store, const py::handle& rows,
                           const py::object& layer, const py::kwargs& options) {
  const RowIdList ids(rows);
  StartRequest request;
  ReadOptions(options, request);
  AddLayer(store, layer, ids.rows().size(), /*by_rows=*/true, request);
  return MakeTicket(store, request, [&](Store& plain) {
    return plain.StartRows(ids.rows(), request.layers[0], request.options);
  });
}

void BindTicket(py::module_& module) {
  py::class_<TicketObject>(
      module, "Ticket",
      py::custom_type_setup(&TraverseCallback<TicketObject, &TicketObject::on_layer>),
      "Rows on their way: what Store.start() returns.")
      .def(
          "wait",
          [](const TicketObject& self, std::uint32_t layer) {
            (void)self.WaitFor(layer, std::nullopt);
          },
          "layer"_a)
      .def("wait_all", &TicketObject::WaitAll)
      .def(
          "wait_for",
          [](const TicketObject& self, std::uint32_t layer, double seconds) {
            return self.WaitFor(layer, Nanoseconds(seconds, "seconds"));
          },
          "layer"_a, "seconds"_a)
      .def("try_wait", &TicketObject::TryWait, "layer"_a)
      .def("promote", &TicketObject::Promote)
      .def("cancel", &TicketObject::Cancel)
      .def("rows", &TicketObject::Rows, "layer"_a)
      .def("row_status", &TicketObject::RowStatusOf, "layer"_a)
      .def("stats", &TicketObject::Stats, "layer"_a)
      .def_property_readonly("layers",
                             [](const TicketObject& self) {
                               return TupleOf(self.layers(), [](const LayerShape& layer) {
                                 return py::int_(layer.layer_id);
                               });
                             })
      .def("close", &TicketObject::Close)
      .def_property_readonly("closed", &TicketObject::closed)
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](TicketObject& self, const py::args&) { self.Close(); });
}

}  // namespace tiercel::python
