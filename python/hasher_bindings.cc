// tiercel.TokenMap and tiercel.Hasher.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python/errors.h"
#include "python/info.h"
#include "python/token_runs.h"
#include "tiercel/hasher.h"
#include "tiercel/token_map.h"

namespace tiercel::python {
namespace {

using py::literals::operator""_a;

/// Batches below this are hashed in less time than it takes to get the GIL back where
/// other threads want it.
constexpr std::size_t kTokensWithGil = 64;

using TokenMapClass = py::class_<TokenMap, std::shared_ptr<TokenMap>>;

std::shared_ptr<TokenMap> Share(Result<TokenMap> map) {
  return std::make_shared<TokenMap>(ValueOrRaise(std::move(map)));
}

std::shared_ptr<TokenMap> LoadTokenMap(const std::filesystem::path& path) {
  const auto load = [&] {
    const py::gil_scoped_release release;
    return TokenMap::Load(path.string());
  };
  return Share(load());
}

std::shared_ptr<TokenMap> TokenMapFromJson(const py::bytes& json, const std::string& source_name) {
  const std::string_view text = json;
  const auto build = [&] {
    const py::gil_scoped_release release;
    return TokenMap::FromTokenizerJson(text, source_name);
  };
  return Share(build());
}

std::shared_ptr<TokenMap> TokenMapFromClasses(const py::handle& classes) {
  const RowIdList ids(classes);
  std::vector<std::uint32_t> values;
  values.reserve(ids.rows().size());
  for (const RowId id : ids.rows()) {
    if (!std::in_range<std::uint32_t>(Index(id))) {
      RaiseInvalid("classes[" + std::to_string(values.size()) + "] is no uint32");
    }
    values.push_back(static_cast<std::uint32_t>(Index(id)));
  }
  return Share(TokenMap::FromClasses(std::move(values)));
}

void SaveTokenMap(const TokenMap& map, const std::filesystem::path& path) {
  const auto save = [&] {
    const py::gil_scoped_release release;
    return map.Save(path.string());
  };
  RaiseUnlessOk(save());
}

py::array TokenMapClasses(const py::object& self) {
  const auto& map = py::cast<const TokenMap&>(self);
  py::array_t<std::uint32_t> array(static_cast<py::ssize_t>(map.classes().size()),
                                   map.classes().data(), self);
  array.attr("setflags")("write"_a = false);
  return array;
}

/// Hasher with what its methods need to name layers by block index.
class PyHasher {
 public:
  explicit PyHasher(Hasher hasher) : hasher_(std::move(hasher)) {}

  [[nodiscard]] const Recipe& recipe() const noexcept { return hasher_.recipe(); }

  [[nodiscard]] std::uint32_t LayerIndex(std::uint32_t layer_id) const {
    const std::optional<std::uint32_t> index = recipe().FindLayer(layer_id);
    if (!index) {
      Raise(Status(StatusCode::kNotFound,
                   "the recipe has no table for layer " + std::to_string(layer_id)));
    }
    return *index;
  }

  /// `hash(run, values, dead)` for one run after another, into new arrays.
  template <typename Value, typename Hash>
  py::object Apply(const TokenRuns& runs, std::size_t columns, bool return_dead, Hash hash) const {
    const auto count = static_cast<py::ssize_t>(runs.token_count());
    py::array_t<std::uint64_t> values({count, static_cast<py::ssize_t>(columns)});
    py::array_t<std::uint8_t> dead(return_dead ? count : 0);
    std::span<Value> values_left{reinterpret_cast<Value*>(values.mutable_data()),
                                 runs.token_count() * columns};
    std::span<std::uint8_t> dead_left{dead.mutable_data(), static_cast<std::size_t>(dead.size())};
    const auto all = [&]() -> Status {
      for (const TokenRun& run : runs.runs()) {
        const std::size_t tokens = run.tokens.size();
        Status status = hash(run, values_left.first(tokens * columns),
                             dead_left.first(return_dead ? tokens : 0));
        if (!status.ok()) return status;
        values_left = values_left.subspan(tokens * columns);
        dead_left = dead_left.subspan(return_dead ? tokens : 0);
      }
      return {};
    };
    if (runs.token_count() < kTokensWithGil) {
      RaiseUnlessOk(all());
    } else {
      RaiseUnlessOk([&] {
        const py::gil_scoped_release release;
        return all();
      }());
    }
    if (!return_dead) return values;
    return py::make_tuple(values, dead.view("?"));
  }

  py::object RowIds(const py::handle& runs, std::uint32_t layer_id, const py::handle& history,
                    bool return_dead) const {
    const std::uint32_t layer = LayerIndex(layer_id);
    return Apply<RowId>(
        TokenRuns(runs, history), recipe().column_count(), return_dead,
        [&](const TokenRun& run, std::span<RowId> rows, std::span<std::uint8_t> dead) {
          return hasher_.RowIds(layer, run, rows, dead);
        });
  }

  py::object Mixes(const py::handle& runs, std::uint32_t layer_id, const py::handle& history,
                   bool return_dead) const {
    const std::uint32_t layer = LayerIndex(layer_id);
    return Apply<std::uint64_t>(
        TokenRuns(runs, history), recipe().order_count(), return_dead,
        [&](const TokenRun& run, std::span<std::uint64_t> mixes, std::span<std::uint8_t> dead) {
          return hasher_.Mixes(layer, run, mixes, dead);
        });
  }

 private:
  Hasher hasher_;
};

PyHasher HasherFromConfig(const std::filesystem::path& path, std::shared_ptr<TokenMap> token_map,
                          std::optional<std::uint32_t> compressed_vocab_size) {
  ParseRecipeOptions options;
  options.compressed_vocab_size = compressed_vocab_size;
  Recipe recipe = ValueOrRaise(LoadRecipe(path.string(), options));
  return PyHasher(ValueOrRaise(Hasher::Create(std::move(recipe), std::move(token_map))));
}

}  // namespace

py::object MakeHasher(const Recipe& recipe, std::shared_ptr<const TokenMap> token_map) {
  return py::cast(PyHasher(ValueOrRaise(Hasher::Create(recipe, std::move(token_map)))));
}

void BindHasher(py::module_& module) {
  TokenMapClass(module, "TokenMap", "The map from a tokenizer's ids to compressed ids. Immutable.")
      .def_static("load", &LoadTokenMap, "path"_a)
      .def_static("from_tokenizer_json", &TokenMapFromJson, "json"_a,
                  "source_name"_a = "tokenizer.json")
      .def_static("from_classes", &TokenMapFromClasses, "classes"_a)
      .def("save", &SaveTokenMap, "path"_a)
      .def("__len__", &TokenMap::entry_count)
      .def_property_readonly("class_count", &TokenMap::class_count)
      .def_property_readonly("classes", &TokenMapClasses);

  py::class_<PyHasher>(module, "Hasher",
                       "Turns token runs into mixes and row ids, as the model does. Immutable.")
      .def(py::init(&HasherFromConfig), "config_path"_a, "token_map"_a = nullptr,
           "compressed_vocab_size"_a = py::none())
      .def_property_readonly("recipe",
                             [](const PyHasher& hasher) { return ToPython(hasher.recipe()); })
      .def("row_ids", &PyHasher::RowIds, "runs"_a, "layer"_a, "history"_a = py::none(),
           py::kw_only(), "return_dead"_a = false)
      .def("mixes", &PyHasher::Mixes, "runs"_a, "layer"_a, "history"_a = py::none(), py::kw_only(),
           "return_dead"_a = false);
}

}  // namespace tiercel::python
