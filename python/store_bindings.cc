// tiercel.Store.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python/errors.h"
#include "python/host_tensor.h"
#include "python/info.h"
#include "python/store_object.h"
#include "python/store_options.h"

namespace tiercel::python {
namespace {

using py::literals::operator""_a;

/// Calls `work` without the GIL.
template <typename Work>
auto WithoutGil(Work work) {
  const py::gil_scoped_release release;
  return work();
}

/// Whether kPartial is raised ("raise") or left to the statuses ("return").
bool ParseRaisePartial(const std::string& on_partial) {
  if (on_partial == "raise") return true;
  if (on_partial == "return") return false;
  RaiseInvalid("on_partial is '" + on_partial + "'; 'raise' and 'return' are known");
}

LayerOutput AsLayerOutput(const LayerOutputs& outputs) {
  return {.layer_id = outputs.shape.layer_id,
          .rows = outputs.rows_memory.span,
          .row_status = outputs.status_memory};
}

/// Raises what is not OK; kPartial with the outputs, if at all.
void Finish(const Status& status, bool raise_partial, const py::object& rows,
            const py::object& row_status) {
  if (status.ok()) return;
  if (status.code() != StatusCode::kPartial) Raise(status);
  if (raise_partial) RaisePartial(status, rows, row_status);
}

/// A call's outputs are held by its shared_ptr to the store until it has returned: the
/// last one closes the store, without the GIL.
Status LookupWithoutGil(std::shared_ptr<Store> store, const TokenRuns& runs,
                        std::span<const LayerOutput> outputs, RowOutput format) {
  return WithoutGil([&] {
    Status status = store->Lookup(runs.runs(), outputs, format);
    store = nullptr;
    return status;
  });
}

py::object Lookup(const StoreObject& self, const py::handle& runs, std::uint32_t layer_id,
                  const py::handle& history, const py::object& out, const py::object& row_status,
                  const std::string& format, const std::string& on_partial) {
  const bool raise_partial = ParseRaisePartial(on_partial);
  const TokenRuns tokens(runs, history);
  const LayerShape shape = self.Shape(layer_id, tokens.token_count(), ParseRowOutput(format));
  const LayerOutputs outputs = TakeOutputs(shape, out, row_status, /*dense=*/true);
  const LayerOutput output = AsLayerOutput(outputs);
  const Status status = LookupWithoutGil(self.store(), tokens, {&output, 1}, shape.format);
  Finish(status, raise_partial, outputs.rows, outputs.row_status);
  return outputs.rows;
}

/// `mapping[layer_id]`, or None where there is no mapping or nothing for the layer.
py::object ForLayer(const py::object& mapping, std::uint32_t layer_id) {
  if (mapping.is_none()) return py::none();
  return mapping.attr("get")(layer_id);
}

py::object LookupLayers(const StoreObject& self, const py::handle& runs,
                        const std::optional<std::vector<std::uint32_t>>& layers,
                        const py::handle& history, const py::object& out,
                        const py::object& row_status, const std::string& format,
                        const std::string& on_partial) {
  const bool raise_partial = ParseRaisePartial(on_partial);
  const TokenRuns tokens(runs, history);
  const RowOutput row_output = ParseRowOutput(format);
  std::vector<LayerOutputs> outputs;
  std::vector<LayerOutput> plain;
  py::dict rows;
  py::dict statuses;
  for (const std::uint32_t layer_id : layers ? *layers : self.layers()) {
    outputs.push_back(TakeOutputs(self.Shape(layer_id, tokens.token_count(), row_output),
                                  ForLayer(out, layer_id), ForLayer(row_status, layer_id),
                                  /*dense=*/true));
    plain.push_back(AsLayerOutput(outputs.back()));
    rows[py::int_(layer_id)] = outputs.back().rows;
    statuses[py::int_(layer_id)] = outputs.back().row_status;
  }
  const Status status = LookupWithoutGil(self.store(), tokens, plain, row_output);
  Finish(status, raise_partial, rows, statuses);
  return rows;
}

py::object LookupRows(const StoreObject& self, const py::handle& rows, std::uint32_t layer_id,
                      const py::object& out, const py::object& row_status,
                      const std::string& format, const std::string& on_partial) {
  const bool raise_partial = ParseRaisePartial(on_partial);
  const RowIdList ids(rows);
  const LayerShape shape = self.ShapeOfRows(layer_id, ids.rows().size(), ParseRowOutput(format));
  const LayerOutputs outputs = TakeOutputs(shape, out, row_status, /*dense=*/true);
  std::shared_ptr<Store> store = self.store();
  const Status status = WithoutGil([&] {
    Status result = store->LookupRows(ids.rows(), AsLayerOutput(outputs), shape.format);
    store = nullptr;
    return result;
  });
  Finish(status, raise_partial, outputs.rows, outputs.row_status);
  return outputs.rows;
}

void Update(const StoreObject& self, const py::handle& rows, std::uint32_t layer_id,
            const py::handle& data) {
  const RowIdList ids(rows);
  const LayerShape shape = self.ShapeOfRows(layer_id, ids.rows().size(), RowOutput::kStored);
  const HostTensor tensor = ReadHostTensor(data, "data");
  const auto due_bytes = static_cast<std::int64_t>(ids.rows().size() * shape.row_bytes);
  if (!tensor.contiguous() || tensor.item_count() * tensor.item_bytes != due_bytes) {
    RaiseInvalid("data must be contiguous and have " + std::to_string(shape.row_bytes) +
                 " bytes for each of " + std::to_string(ids.rows().size()) + " rows");
  }
  std::vector<RowUpdate> updates;
  updates.reserve(ids.rows().size());
  for (std::size_t i = 0; i < ids.rows().size(); ++i) {
    updates.push_back({.layer_id = layer_id,
                       .row = ids.rows()[i],
                       .bytes = {tensor.data + i * shape.row_bytes, shape.row_bytes}});
  }
  std::shared_ptr<Store> store = self.store();
  RaiseUnlessOk(WithoutGil([&] {
    Status status = store->Update(updates);
    store = nullptr;
    return status;
  }));
}

std::uint64_t Touch(const StoreObject& self, const py::handle& mixes, std::uint32_t layer_id) {
  const MixArray keys(mixes);
  std::shared_ptr<Store> store = self.store();
  return ValueOrRaise(WithoutGil([&] {
    Result<std::uint64_t> present = store->Touch(layer_id, keys.mixes());
    store = nullptr;
    return present;
  }));
}

py::object SaveHotSet(const StoreObject& self, const std::filesystem::path& path, bool bytes,
                      std::optional<std::uint64_t> group_count_max, std::uint32_t block_bytes) {
  HotSetSaveOptions options;
  options.bytes = bytes;
  options.group_count_max = group_count_max.value_or(options.group_count_max);
  options.block_bytes = block_bytes;
  std::shared_ptr<Store> store = self.store();
  return ToPython(ValueOrRaise(WithoutGil([&] {
    Result<HotSetSaved> saved = store->SaveHotSet(path.string(), options);
    store = nullptr;
    return saved;
  })));
}

void LoadHotSet(const StoreObject& self, const std::filesystem::path& path, bool bytes,
                double pin_share) {
  HotSetLoadOptions options;
  options.bytes = bytes;
  options.pin_share = pin_share;
  std::shared_ptr<Store> store = self.store();
  RaiseUnlessOk(WithoutGil([&] {
    Status status = store->LoadHotSet(path.string(), options);
    store = nullptr;
    return status;
  }));
}

void BindTables(py::class_<StoreObject>& store) {
  store
      .def("lookup", &Lookup, "runs"_a, "layer"_a, "history"_a = py::none(), py::kw_only(),
           "out"_a = py::none(), "status"_a = py::none(), "format"_a = "stored",
           "on_partial"_a = "raise")
      .def("lookup_layers", &LookupLayers, "runs"_a, "layers"_a = py::none(),
           "history"_a = py::none(), py::kw_only(), "out"_a = py::none(), "status"_a = py::none(),
           "format"_a = "stored", "on_partial"_a = "raise")
      .def("lookup_rows", &LookupRows, "rows"_a, "layer"_a, py::kw_only(), "out"_a = py::none(),
           "status"_a = py::none(), "format"_a = "stored", "on_partial"_a = "raise")
      .def("update", &Update, "rows"_a, "layer"_a, "data"_a)
      .def("share_cache",
           [](const StoreObject& self) { return ValueOrRaise(self.store()->ShareCache()); })
      .def("touch", &Touch, "mixes"_a, "layer"_a)
      .def_property_readonly("layers",
                             [](const StoreObject& self) {
                               return TupleOf(self.layers(), [](std::uint32_t layer_id) {
                                 return py::int_(layer_id);
                               });
                             })
      .def_property_readonly(
          "checkpoint",
          [](const StoreObject& self) { return ToPython(self.store()->checkpoint()); })
      .def_property_readonly("hasher",
                             [](const StoreObject& self) {
                               return MakeHasher(self.store()->hasher().recipe(), self.token_map());
                             })
      .def("stats", [](const StoreObject& self) { return ToPython(self.store()->Stats()); })
      .def("metrics", [](const StoreObject& self) { return self.store()->WriteMetrics(); })
      .def(
          "row_size_bytes",
          [](const StoreObject& self, std::uint32_t layer_id, const std::string& format) {
            return self.ShapeOfRows(layer_id, 0, ParseRowOutput(format)).row_bytes;
          },
          "layer"_a, "format"_a = "stored");
}

void BindHotSets(py::class_<StoreObject>& type) {
  type.def("save_hot_set", &SaveHotSet, "path"_a, py::kw_only(), "bytes"_a = true,
           "group_count_max"_a = py::none(), "block_bytes"_a = HotSetSaveOptions{}.block_bytes)
      .def("load_hot_set", &LoadHotSet, "path"_a, py::kw_only(), "bytes"_a = true,
           "pin_share"_a = 0.0)
      .def("hot_set", [](const StoreObject& self) { return ToPython(self.store()->HotSet()); })
      .def("wait_for_hot_set",
           [](const StoreObject& self) {
             std::shared_ptr<Store> store = self.store();
             RaiseUnlessOk(WithoutGil([&] {
               Status status = store->WaitForHotSet();
               store = nullptr;
               return status;
             }));
           })
      .def("cancel_hot_set", [](const StoreObject& self) {
        std::shared_ptr<Store> store = self.store();
        WithoutGil([&] {
          store->CancelHotSet();
          store = nullptr;
        });
      });
}

}  // namespace

void BindStore(py::module_& module) {
  py::class_<StoreObject> store(
      module, "Store", py::custom_type_setup(&TraverseCallback<StoreObject, &StoreObject::log>),
      "The tiered store of one checkpoint's Engram tables.");
  store
      .def(py::init([](const std::filesystem::path& path, const py::object& log,
                       const py::kwargs& keywords) {
             return std::make_unique<StoreObject>(path.string(), ParseStoreOptions(keywords), log);
           }),
           "path"_a, py::kw_only(), "log"_a = py::none())
      .def("close", &StoreObject::Close)
      .def_property_readonly("closed", &StoreObject::closed)
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](StoreObject& self, const py::args&) { self.Close(); });
  BindTables(store);
  BindHotSets(store);
  store.def("start", &StartTicket, "runs"_a, "layers"_a = py::none(), "history"_a = py::none())
      .def("start_rows", &StartRowsTicket, "rows"_a, "layer"_a);
}

}  // namespace tiercel::python
