#include "python/info.h"

#include <pybind11/stl.h>

#include <chrono>

namespace tiercel::python {
namespace {

using py::literals::operator""_a;

py::object OrderToPython(const OrderStats& stats) {
  return MakeResult(
      "OrderStats", "layer_id"_a = stats.layer_id, "order"_a = stats.order,
      "groups"_a = stats.groups, "dram_hits"_a = stats.dram_hits, "joined"_a = stats.joined,
      "fetches"_a = stats.fetches, "failed_groups"_a = stats.failed_groups,
      "cache_insertions"_a = stats.cache_insertions, "cache_evictions"_a = stats.cache_evictions,
      "cache_rejections"_a = stats.cache_rejections, "cache_ghost_hits"_a = stats.cache_ghost_hits,
      "cache_resident_groups"_a = stats.cache_resident_groups,
      "cache_pinned_groups"_a = stats.cache_pinned_groups,
      "group_size_bytes"_a = stats.group_size_bytes, "dram_hit_bytes"_a = stats.dram_hit_bytes,
      "fetched_bytes"_a = stats.fetched_bytes);
}

py::object TableToPython(const LayerTable& table) {
  const std::string_view format = Name(table.shape.format);
  return MakeResult(
      "LayerTable", "layer_id"_a = table.layer_id,
      "row_format"_a = py::str(format.data(), format.size()),
      "value_count"_a = table.shape.value_count, "tensor_scale"_a = table.shape.tensor_scale,
      "row_size_bytes"_a = table.shape.row_size_bytes(), "row_count"_a = table.row_count,
      "part_sizes_bytes"_a =
          TupleOf(table.parts, [](const RowPart& part) { return py::int_(part.size_bytes); }));
}

py::object LayerToPython(const LayerRecipe& layer) {
  const auto number = [](std::uint64_t value) { return py::int_(value); };
  return MakeResult("LayerRecipe", "layer_id"_a = layer.layer_id,
                    "multipliers"_a = TupleOf(layer.multipliers, number),
                    "head_sizes"_a = TupleOf(layer.head_sizes, number),
                    "offsets"_a = TupleOf(layer.offsets, number), "row_count"_a = layer.row_count);
}

}  // namespace

py::object ToPython(const Recipe& recipe) {
  const RecipeParameters& parameters = recipe.parameters;
  const std::string_view kind = Name(parameters.kind);
  return MakeResult("Recipe", "kind"_a = py::str(kind.data(), kind.size()),
                    "order_max"_a = parameters.order_max, "head_count"_a = parameters.head_count,
                    "head_dim"_a = parameters.head_dim, "column_count"_a = recipe.column_count(),
                    "vocab_size"_a = parameters.vocab_size,
                    "compressed_vocab_size"_a = parameters.compressed_vocab_size,
                    "pad_token"_a = parameters.pad_token, "eos_token"_a = parameters.eos_token,
                    "layers"_a = TupleOf(recipe.layers, LayerToPython));
}

py::object ToPython(const CheckpointInfo& info) {
  return MakeResult("CheckpointInfo", "path"_a = info.path, "layout"_a = info.layout,
                    "recipe"_a = ToPython(info.recipe),
                    "files"_a = TupleOf(info.files,
                                        [](const TableFile& file) {
                                          return MakeResult("TableFile", "path"_a = file.path,
                                                            "size_bytes"_a = file.size_bytes);
                                        }),
                    "layers"_a = TupleOf(info.layers, TableToPython),
                    "table_bytes"_a = info.table_bytes,
                    "synthetic_seed"_a = py::cast(info.synthetic_seed));
}

py::object ToPython(const StoreStats& stats) {
  return MakeResult(
      "StoreStats", "orders"_a = TupleOf(stats.orders, OrderToPython),
      "single_rows"_a = stats.single_rows, "device_reads"_a = stats.device_reads,
      "device_reads_shared"_a = stats.device_reads_shared,
      "device_read_bytes"_a = stats.device_read_bytes,
      "device_read_retries"_a = stats.device_read_retries,
      "device_read_failures"_a = stats.device_read_failures,
      "device_read_p50_ns"_a = stats.device_read_p50_ns,
      "device_read_p99_ns"_a = stats.device_read_p99_ns,
      "device_read_max_ns"_a = stats.device_read_max_ns,
      "dram_budget_bytes"_a = stats.dram_budget_bytes, "cache_bytes"_a = stats.cache_bytes,
      "resident_scale_bytes"_a = stats.resident_scale_bytes,
      "read_buffer_bytes"_a = stats.read_buffer_bytes, "ticket_bytes"_a = stats.ticket_bytes,
      "tickets"_a = stats.tickets, "io_thread_count"_a = stats.io_thread_count,
      "engine"_a = stats.engine, "engine_description"_a = stats.engine_description,
      "engine_fallback"_a = stats.engine_fallback, "queue_depth"_a = stats.queue_depth,
      "read_block_bytes"_a = stats.read_block_bytes, "disk_profile"_a = stats.disk_profile,
      "cache_description"_a = stats.cache_description);
}

py::object ToPython(const TicketStats& stats) {
  const std::chrono::duration<double> in_place_after = stats.in_place_after;
  return MakeResult("TicketStats", "groups"_a = stats.groups, "dram_hits"_a = stats.dram_hits,
                    "joined"_a = stats.joined, "fetches"_a = stats.fetches,
                    "in_place_after_s"_a = in_place_after.count());
}

py::object ToPython(const HotSetProgress& progress) {
  return MakeResult(
      "HotSetProgress", "state"_a = Name(progress.state), "group_count"_a = progress.group_count,
      "groups_loaded"_a = progress.groups_loaded, "groups_present"_a = progress.groups_present,
      "groups_left_out"_a = progress.groups_left_out, "groups_damaged"_a = progress.groups_damaged,
      "blocks_damaged"_a = progress.blocks_damaged, "groups_pinned"_a = progress.groups_pinned,
      "read_bytes"_a = progress.read_bytes, "total_bytes"_a = progress.total_bytes,
      "elapsed_ns"_a = progress.elapsed_ns, "message"_a = progress.message);
}

py::object ToPython(const HotSetSaved& saved) {
  return MakeResult("HotSetSaved", "group_count"_a = saved.group_count,
                    "file_bytes"_a = saved.file_bytes, "elapsed_ns"_a = saved.elapsed_ns);
}

}  // namespace tiercel::python
