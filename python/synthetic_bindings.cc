// inspect, and made checkpoints: tables whose every byte is known from nothing.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python/errors.h"
#include "python/info.h"
#include "python/layer_outputs.h"
#include "python/token_runs.h"
#include "tiercel/synthetic.h"

namespace tiercel::python {
namespace {

using py::literals::operator""_a;

CheckpointModel ParseModel(const std::string& name) {
  std::string known;
  for (const CheckpointModel model :
       {CheckpointModel::kDeepSeekV41Flash, CheckpointModel::kQwen38FlashNext,
        CheckpointModel::kEngramDemo}) {
    if (name == Name(model)) return model;
    known += (known.empty() ? "'" : ", '") + std::string(Name(model)) + "'";
  }
  RaiseInvalid("like is '" + name + "'; known are " + known);
}

RowFormat ParseRowFormat(const std::string& name) {
  for (const RowFormat format : kRowFormats) {
    if (name == Name(format)) return format;
  }
  RaiseInvalid("there is no row format '" + name + "'");
}

/// A progress callable for the library, which calls it without the GIL in the thread that
/// waits. What it raises stops the work, and is raised again by Rethrow().
class ProgressCall {
 public:
  explicit ProgressCall(const py::object& callable) : callable_(callable) {}

  [[nodiscard]] Progress AsProgress() {
    return [this](std::uint64_t done, std::uint64_t total) {
      const py::gil_scoped_acquire acquire;
      try {
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
        if (callable_.is_none()) return true;
        const py::object answer = callable_(done, total);
        // Nothing returned is no wish to stop.
        return answer.is_none() || py::cast<bool>(py::bool_(answer));
      } catch (py::error_already_set&) {
        raised_ = std::current_exception();
        return false;
      }
    };
  }

  void Rethrow() const {
    if (raised_) std::rethrow_exception(raised_);
  }

 private:
  const py::object& callable_;
  std::exception_ptr raised_;
};

py::object Inspect(const std::filesystem::path& path) {
  return ToPython(ValueOrRaise([&] {
    const py::gil_scoped_release release;
    return InspectCheckpoint(path.string());
  }()));
}

py::object Make(const std::filesystem::path& path, const std::string& like, std::uint64_t shrink,
                std::uint64_t seed, bool fp8, bool tables_only, const py::object& progress) {
  ProgressCall call(progress);
  MakeCheckpointOptions options;
  options.like = ParseModel(like);
  options.shrink = shrink;
  options.seed = seed;
  options.out_dir = path.string();
  options.fp8 = fp8;
  options.tables_only = tables_only;
  options.progress = call.AsProgress();
  Result<MakeCheckpointReport> made = [&] {
    const py::gil_scoped_release release;
    return MakeCheckpoint(options);
  }();
  call.Rethrow();
  const MakeCheckpointReport report = ValueOrRaise(std::move(made));
  return MakeResult("MakeCheckpointReport", "file_count"_a = report.file_count,
                    "bytes_written"_a = report.bytes_written, "row_count"_a = report.row_count,
                    "direct_io"_a = report.direct_io);
}

py::object Verify(const std::filesystem::path& path, const py::object& progress) {
  ProgressCall call(progress);
  Result<VerifyReport> verified = [&]() -> Result<VerifyReport> {
    const py::gil_scoped_release release;
    Result<CheckpointInfo> info = InspectCheckpoint(path.string());
    if (!info.ok()) return std::move(info).TakeStatus();
    return VerifySynthetic(info.value(), call.AsProgress());
  }();
  call.Rethrow();
  const VerifyReport report = ValueOrRaise(std::move(verified));
  return MakeResult(
      "VerifyReport", "rows_checked"_a = report.rows_checked,
      "rows_different"_a = report.rows_different, "rows_unreadable"_a = report.rows_unreadable,
      "findings"_a =
          TupleOf(report.findings, [](const std::string& text) { return py::str(text); }));
}

/// The table of `layer_id` in a tiercel.CheckpointInfo.
py::object FindTable(const py::object& info, std::uint32_t layer_id) {
  for (const py::handle table : info.attr("layers")) {
    if (py::cast<std::uint32_t>(table.attr("layer_id")) == layer_id) {
      return py::reinterpret_borrow<py::object>(table);
    }
  }
  Raise(Status(StatusCode::kNotFound,
               "the checkpoint has no table for layer " + std::to_string(layer_id)));
}

py::object SyntheticRows(const py::object& info, std::uint32_t layer_id, const py::handle& rows,
                         const std::string& format) {
  const auto seed = py::cast<std::optional<std::uint64_t>>(info.attr("synthetic_seed"));
  if (!seed) RaiseInvalid("the checkpoint was not made by make_checkpoint: rows are unknown");
  const py::object table = FindTable(info, layer_id);
  RowShape shape;
  shape.format = ParseRowFormat(py::cast<std::string>(table.attr("row_format")));
  shape.value_count = py::cast<std::uint32_t>(table.attr("value_count"));
  shape.tensor_scale = py::cast<float>(table.attr("tensor_scale"));
  const std::size_t row_bytes = shape.row_size_bytes();

  const RowIdList ids(rows);
  LayerShape wanted;
  wanted.layer_id = layer_id;
  wanted.tokens = ids.rows().size();
  wanted.columns = 1;
  wanted.by_rows = true;
  wanted.format = ParseRowOutput(format);
  const bool bf16 = wanted.format == RowOutput::kBf16;
  wanted.row_bytes = bf16 ? 2 * std::size_t{shape.value_count} : row_bytes;
  const LayerOutputs outputs = TakeOutputs(wanted, py::none(), py::none(), /*dense=*/true);
  {
    const py::gil_scoped_release release;
    std::vector<std::byte> stored(row_bytes);
    std::byte* output = outputs.rows_memory.span.data();
    for (const RowId id : ids.rows()) {
      SyntheticRow(*seed, layer_id, id, shape, stored);
      if (bf16) {
        DequantizeToBf16(shape, stored,
                         {reinterpret_cast<std::uint16_t*>(output), shape.value_count});
      } else {
        std::copy(stored.begin(), stored.end(), output);
      }
      output += wanted.row_bytes;
    }
  }
  return outputs.rows;
}

}  // namespace

void BindSynthetic(py::module_& module) {
  module.def("inspect", &Inspect, "path"_a);
  module.def("make_checkpoint", &Make, "path"_a, py::kw_only(), "like"_a = "deepseek-v4.1-flash",
             "shrink"_a = 1, "seed"_a = 1, "fp8"_a = false, "tables_only"_a = false,
             "progress"_a = py::none());
  module.def("verify_synthetic", &Verify, "path"_a, py::kw_only(), "progress"_a = py::none());
  module.def("synthetic_rows", &SyntheticRows, "checkpoint"_a, "layer"_a, "rows"_a, py::kw_only(),
             "format"_a = "stored");
}

}  // namespace tiercel::python
