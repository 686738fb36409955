#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "tools/command_line.h"
#include "tools/model_sizing.h"
#include "tools/plan_model.h"
#include "tools/reference_curve.h"
#include "tools/row_sizes.h"

namespace tiercel::tools {
namespace {

using Json = nlohmann::ordered_json;

/// Bytes of scales that the model keeps apart from its rows.
RowSizes SizesOfRows(const SizedModel& model) {
  RowSizes sizes{.row_size_bytes = model.row.row_size_bytes()};
  if (model.row.format == RowFormat::kE4M3Block32) {
    sizes.scale_size_bytes = model.row.value_count / 32;
  }
  return sizes;
}

/// What the memory holds, and the reads that are left. Nothing of the machine's speed is used.
Result<PlanPoint> PlanDram(const SizedModel& model, const HitCurve& curve) {
  const PlanModel plan = PlanModelOf(model.recipe, SizesOfRows(model), model.options.name);
  return PlanFor(plan, curve, PlanMachine{.reads_per_second = 1.0}, ScalePlacement::kAuto,
                 model.options.dram_bytes);
}

/// Rows of a batch, as they are handed to the model: bf16.
std::uint64_t DeviceBytes(const SizedModel& model) {
  return std::uint64_t{model.options.batch_tokens} * model.rows_per_token() *
         model.row.value_count * 2;
}

/// "5.79 B", "331 M".
std::string FormatParams(double params) {
  return params >= 1e9 ? fmt::format("{:.2f} B", params / 1e9)
                       : fmt::format("{:.1f} M", params / 1e6);
}

std::string BackboneText(const SizedModel& model) {
  const SizingOptions& options = model.options;
  const double moe_blocks = options.block_count - options.dense_block_count;
  std::string text =
      fmt::format("  parameters  {} in all: {} active, {} of input embedding, {} sparse\n",
                  FormatParams(*options.total_params), FormatParams(model.active_params),
                  FormatParams(model.embedding_params), FormatParams(model.sparse_params));
  text += fmt::format(
      "  experts     {} routed, {} of them active, and {} shared, in {:.0f} of {} blocks; {} "
      "each\n",
      model.routed_expert_count, options.active_expert_count, options.shared_expert_count,
      moe_blocks, options.block_count, FormatParams(model.expert_params));
  text += fmt::format("  share       {} of the sparse parameters in tables, {} were asked for\n",
                      FormatPercent(model.engram_params, model.sparse_params),
                      FormatPercent(options.ratio, 1.0));
  return text;
}

Json BackboneJson(const SizedModel& model) {
  const SizingOptions& options = model.options;
  return {{"total_params", *options.total_params},
          {"active_params", model.active_params},
          {"embedding_params", model.embedding_params},
          {"sparse_params", model.sparse_params},
          {"expert_params", model.expert_params},
          {"routed_experts", model.routed_expert_count},
          {"active_experts", options.active_expert_count},
          {"shared_experts", options.shared_expert_count},
          {"ratio_asked", options.ratio},
          {"ratio", Ratio(model.engram_params, model.sparse_params)}};
}

}  // namespace

Result<std::string> SizingText(const SizedModel& model) {
  const SizingOptions& options = model.options;
  std::string text = fmt::format("{}\n", options.name);
  if (options.total_params) text += BackboneText(model);
  if (model.recipe.layers.empty()) return text + "  tables      none\n";
  text += fmt::format(
      "  tables      {} parameters: {} slots a head, {} orders x {} heads x {} "
      "values, {} layers\n",
      FormatParams(model.engram_params), FormatCount(model.engram_slots),
      model.recipe.order_count(), options.head_count, model.row.value_count,
      model.recipe.layers.size());
  for (const LayerRecipe& layer : model.recipe.layers) {
    text +=
        fmt::format("  layer {:<5} {} rows, {}\n", layer.layer_id, FormatCount(layer.row_count),
                    FormatBytes(static_cast<double>(layer.row_count) * model.row.row_size_bytes()));
    for (std::uint32_t order = 0; order < model.recipe.order_count(); ++order) {
      const auto first = layer.head_sizes.begin() + order * options.head_count;
      text += fmt::format("    {}-grams   {}\n", order + 2,
                          fmt::join(first, first + options.head_count, " "));
    }
  }
  const HitCurve curve = ReferenceCurve(options.kind);
  Result<PlanPoint> dram = PlanDram(model, curve);
  if (!dram.ok()) return std::move(dram).TakeStatus();
  const PlanPoint& point = dram.value();
  text += fmt::format("  NVMe        {} ({} B): {} rows of {} B, {}\n",
                      FormatBytes(static_cast<double>(model.table_bytes())),
                      FormatCount(model.table_bytes()), FormatCount(model.row_count()),
                      model.row.row_size_bytes(), Name(model.row.format));
  text += fmt::format("  DRAM        {}: {} of scales, {} of cache for {} n-grams\n",
                      FormatBinaryBytes(point.dram_bytes), FormatBinaryBytes(point.scale_bytes),
                      FormatBinaryBytes(point.cache_bytes), FormatCount(point.ngram_count));
  text += fmt::format("  HBM         {}: rows of {} tokens as bf16\n",
                      FormatBinaryBytes(DeviceBytes(model)), FormatCount(options.batch_tokens));
  text += fmt::format("  reads       {} rows a token; with {} of n-grams in DRAM {:.1f} reads\n",
                      model.rows_per_token(), FormatPercent(point.hit_rate, 1.0),
                      point.reads_per_token);
  text += "  hit rates   those that `tiercel plan` knows; with --trace it tells other texts'\n";
  return text;
}

Result<std::string> SizingJson(const SizedModel& model) {
  const SizingOptions& options = model.options;
  Json json = {{"model", options.name}};
  if (options.total_params) json["backbone"] = BackboneJson(model);
  json["engram_params"] = model.engram_params;
  json["slots"] = model.engram_slots;
  json["row_count"] = model.row_count();
  json["rows_per_token"] = model.rows_per_token();
  json["layers"] = Json::array();
  for (const LayerRecipe& layer : model.recipe.layers) {
    json["layers"].push_back({{"layer_id", layer.layer_id},
                              {"row_count", layer.row_count},
                              {"bytes", layer.row_count * model.row.row_size_bytes()},
                              {"head_sizes", layer.head_sizes}});
  }
  if (!model.recipe.layers.empty()) {
    const HitCurve curve = ReferenceCurve(options.kind);
    Result<PlanPoint> dram = PlanDram(model, curve);
    if (!dram.ok()) return std::move(dram).TakeStatus();
    const PlanPoint& point = dram.value();
    json["row_format"] = Name(model.row.format);
    json["row_bytes"] = model.row.row_size_bytes();
    json["nvme_bytes"] = model.table_bytes();
    json["dram_bytes"] = point.dram_bytes;
    json["resident_scale_bytes"] = point.scale_bytes;
    json["cache_bytes"] = point.cache_bytes;
    json["ngrams"] = point.ngram_count;
    json["hbm_bytes"] = DeviceBytes(model);
    json["batch_tokens"] = options.batch_tokens;
    json["hit_rate"] = point.hit_rate;
    json["reads_per_token"] = point.reads_per_token;
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace tiercel::tools
