// tiercel.SharedCache, and the store's side of it.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "python/errors.h"
#include "python/host_tensor.h"
#include "python/info.h"
#include "python/token_runs.h"
#include "tiercel/checkpoint.h"
#include "tiercel/shared_cache.h"

namespace tiercel::python {
namespace {

using py::literals::operator""_a;

/// What the tables are for a rank.
Result<CheckpointInfo> InspectShard(const std::string& path, HeadShard shard) {
  Result<CheckpointInfo> info = InspectCheckpoint(path);
  if (!info.ok() || shard == HeadShard{}) return info;
  Result<Recipe> recipe = ShardRecipe(info.value().recipe, shard);
  if (!recipe.ok()) return std::move(recipe).TakeStatus();
  info.value().recipe = std::move(recipe).value();
  return info;
}

/// tiercel.SharedCache: a SharedCache that lookups hold while they run.
///
/// Threading: methods need the GIL, and give it up while the library works.
class SharedCacheObject {
 public:
  SharedCacheObject(int descriptor, const std::filesystem::path& path,
                    std::pair<std::uint32_t, std::uint32_t> shard);

  void Close() noexcept { cache_ = nullptr; }
  [[nodiscard]] bool closed() const noexcept { return cache_ == nullptr; }

  /// Raises InvalidArgumentError where it is closed.
  [[nodiscard]] std::shared_ptr<const SharedCache> cache() const {
    if (cache_ == nullptr) RaiseInvalid("the shared cache is closed");
    return cache_;
  }

  [[nodiscard]] py::tuple Lookup(const py::handle& mixes, std::uint32_t layer_id,
                                 const py::object& out, const py::object& hits) const;

 private:
  [[nodiscard]] const SharedCacheLayer& Layer(std::uint32_t layer_id) const;

  std::shared_ptr<const SharedCache> cache_;
  std::uint32_t head_count_ = 1;
};

SharedCacheObject::SharedCacheObject(int descriptor, const std::filesystem::path& path,
                                     std::pair<std::uint32_t, std::uint32_t> shard) {
  const auto open = [&]() -> Result<SharedCache> {
    const py::gil_scoped_release release;
    Result<CheckpointInfo> info =
        InspectShard(path.string(), {.rank = shard.first, .count = shard.second});
    if (!info.ok()) return std::move(info).TakeStatus();
    head_count_ = info.value().recipe.parameters.head_count;
    return SharedCache::Open(descriptor, info.value());
  };
  cache_ = std::make_shared<const SharedCache>(ValueOrRaise(open()));
}

const SharedCacheLayer& SharedCacheObject::Layer(std::uint32_t layer_id) const {
  for (const SharedCacheLayer& layer : cache()->info().layers) {
    if (layer.layer_id == layer_id) return layer;
  }
  Raise(Status(StatusCode::kNotFound, "the shared cache has no layer " + std::to_string(layer_id)));
}

/// New zeros, or what was given.
py::object OrZeros(const py::object& given, const std::vector<py::ssize_t>& shape) {
  if (!given.is_none()) return given;
  py::array_t<std::uint8_t> zeros(shape);
  std::memset(zeros.mutable_data(), 0, static_cast<std::size_t>(zeros.nbytes()));
  return zeros;
}

py::tuple SharedCacheObject::Lookup(const py::handle& mixes, std::uint32_t layer_id,
                                    const py::object& out, const py::object& hits) const {
  const std::shared_ptr<const SharedCache> cache = this->cache();
  const SharedCacheLayer& layer = Layer(layer_id);
  const MixArray keys(mixes);
  const std::size_t groups = keys.mixes().size();
  if (groups % layer.order_count != 0) {
    RaiseInvalid("mixes has " + std::to_string(groups) + " items, which are no whole tokens of " +
                 std::to_string(layer.order_count) + " orders");
  }
  const auto tokens = static_cast<py::ssize_t>(groups / layer.order_count);
  const py::object rows = OrZeros(out, {tokens, py::ssize_t{layer.order_count} * head_count_,
                                        layer.group_size_bytes / head_count_});
  const py::object found = OrZeros(hits, {tokens, layer.order_count});
  const HostTensor rows_memory = ReadHostTensor(rows, "out");
  const HostTensor found_memory = ReadHostTensor(found, "hits");
  const std::span<std::byte> rows_bytes =
      AsDenseDestination(rows_memory, groups, layer.group_size_bytes, "out");
  const std::span<std::byte> found_bytes = AsDenseDestination(found_memory, groups, 1, "hits");
  const auto look = [&] {
    const py::gil_scoped_release release;
    return cache->Lookup(layer_id, keys.mixes(), rows_bytes,
                         {reinterpret_cast<std::uint8_t*>(found_bytes.data()), found_bytes.size()});
  };
  (void)ValueOrRaise(look());
  return py::make_tuple(rows, hits.is_none() ? py::object(found.attr("view")("?")) : found);
}

}  // namespace

void BindSharedCache(py::module_& module) {
  py::class_<SharedCacheObject>(module, "SharedCache",
                                "The DRAM cache of another process's store, to read.")
      .def(py::init<int, const std::filesystem::path&, std::pair<std::uint32_t, std::uint32_t>>(),
           "descriptor"_a, "path"_a, py::kw_only(), "shard"_a = std::make_pair(0U, 1U))
      .def("lookup", &SharedCacheObject::Lookup, "mixes"_a, "layer"_a, py::kw_only(),
           "out"_a = py::none(), "hits"_a = py::none())
      .def_property_readonly(
          "layers",
          [](const SharedCacheObject& self) {
            return TupleOf(self.cache()->info().layers,
                           [](const SharedCacheLayer& layer) { return py::int_(layer.layer_id); });
          })
      .def_property_readonly(
          "size_bytes",
          [](const SharedCacheObject& self) { return self.cache()->info().size_bytes; })
      .def_property_readonly(
          "has_updates",
          [](const SharedCacheObject& self) { return self.cache()->info().has_updates; })
      .def_property_readonly(
          "writer_closed",
          [](const SharedCacheObject& self) { return self.cache()->WriterClosed(); })
      .def("close", &SharedCacheObject::Close)
      .def_property_readonly("closed", &SharedCacheObject::closed)
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](SharedCacheObject& self, const py::args&) { self.Close(); });
}

}  // namespace tiercel::python
