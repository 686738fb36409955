#include "tools/model_sizing.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <utility>

namespace tiercel::tools {
namespace {

Status BadSizing(std::string what) {
  return Status(StatusCode::kInvalidArgument, std::move(what));
}

double ExpertParams(const SizingOptions& options) {
  return 3.0 * options.dim * options.expert_dim;
}

/// The slots of a head that come nearest to `params` in all tables.
std::uint64_t SlotsFor(const SizingOptions& options, double params) {
  const double step = options.vocab_size / 2.0;
  const double slots =
      params / (static_cast<double>(options.layer_ids.size()) * options.memory_dim);
  return static_cast<std::uint64_t>(std::llround(slots / step) * std::llround(step));
}

Status ShareOut(SizedModel& model) {
  const SizingOptions& options = model.options;
  if (options.dense_block_count >= options.block_count) {
    return BadSizing(fmt::format("{} dense blocks of {} leave none with experts",
                                 options.dense_block_count, options.block_count));
  }
  model.expert_params = ExpertParams(options);
  model.embedding_params = static_cast<double>(options.vocab_size) * options.dim;
  model.active_params = options.active_params.value_or(EstimateActive(options));
  model.sparse_params = *options.total_params - model.active_params - model.embedding_params;
  if (model.sparse_params <= 0.0) {
    return BadSizing(fmt::format(
        "{:.2f} B parameters do not hold what every token needs, {:.2f} B "
        "active ones and {:.2f} B of input embedding",
        *options.total_params / 1e9, model.active_params / 1e9, model.embedding_params / 1e9));
  }
  if (!options.engram_slots && !options.layer_ids.empty()) {
    model.engram_slots = SlotsFor(options, options.ratio * model.sparse_params);
  }
  model.engram_params = static_cast<double>(model.engram_slots) * options.memory_dim *
                        static_cast<double>(options.layer_ids.size());
  const double moe_blocks = options.block_count - options.dense_block_count;
  const double inactive =
      (model.sparse_params - model.engram_params) / (moe_blocks * model.expert_params);
  if (inactive < -0.5) {
    return BadSizing(
        fmt::format("tables of {:.2f} B parameters are more than the {:.2f} B that "
                    "are sparse",
                    model.engram_params / 1e9, model.sparse_params / 1e9));
  }
  model.routed_expert_count = options.active_expert_count +
                              static_cast<std::uint64_t>(std::llround(std::max(inactive, 0.0)));
  return {};
}

}  // namespace

Result<SizingOptions> PublishedSizing(std::string_view name) {
  SizingOptions options{.name = std::string(name)};
  options.active_params = 3.8e9;
  if (name == "engram-27b") {
    options.total_params = 26.7e9;
    options.ratio = 0.257;
  } else if (name == "engram-40b") {
    options.total_params = 39.5e9;
    options.ratio = 0.524;
  } else if (name == "moe-27b") {
    options.total_params = 26.7e9;
    options.ratio = 0.0;
  } else if (name == "deepseek-v4.1-flash") {
    options.kind = RecipeKind::kDeepSeekV41;
    options.active_params.reset();
    options.dim = 5120;
    options.block_count = 40;
    options.order_max = 4;
    options.memory_dim = 6144;
    options.compressed_vocab_size = 99092;
    options.engram_slots = 16'000'000;
    options.row_format = RowFormat::kE4M3Block32;
  } else {
    return BadSizing(
        fmt::format("'{}' is not a published model; there are engram-27b, engram-40b, "
                    "moe-27b and deepseek-v4.1-flash",
                    name));
  }
  return options;
}

double EstimateActive(const SizingOptions& options) {
  const double dim = options.dim;
  const double experts = options.active_expert_count + options.shared_expert_count;
  return options.vocab_size * dim +
         options.block_count * (4.0 * dim * dim + experts * ExpertParams(options));
}

std::uint64_t SizedModel::row_count() const noexcept {
  std::uint64_t rows = 0;
  for (const LayerRecipe& layer : recipe.layers) rows += layer.row_count;
  return rows;
}

std::uint64_t SizedModel::table_bytes() const noexcept {
  return row_count() * row.row_size_bytes();
}

std::uint32_t SizedModel::rows_per_token() const noexcept {
  return recipe.layers.empty()
             ? 0
             : recipe.column_count() * static_cast<std::uint32_t>(recipe.layers.size());
}

Result<SizedModel> SizeModel(const SizingOptions& options) {
  SizedModel model{.options = options};
  if (!options.total_params && !options.engram_slots) {
    return BadSizing("give the total parameters, or the slots of a head");
  }
  if (!(options.ratio >= 0.0 && options.ratio <= 1.0)) {
    return BadSizing(fmt::format("a ratio of {} is not in [0, 1]", options.ratio));
  }
  if (options.dim == 0 || options.expert_dim == 0 || options.vocab_size < 2) {
    return BadSizing("dim and expert_dim must be above 0, vocab_size above 1");
  }
  model.engram_slots = options.engram_slots.value_or(0);
  model.engram_params = static_cast<double>(model.engram_slots) * options.memory_dim *
                        static_cast<double>(options.layer_ids.size());
  if (options.total_params) {
    if (Status status = ShareOut(model); !status.ok()) return status;
  }
  if (model.engram_slots == 0 || options.layer_ids.empty()) return model;
  for (const std::uint32_t id : options.layer_ids) {
    if (id >= options.block_count) {
      return BadSizing(fmt::format("layer {} is not one of {} blocks", id, options.block_count));
    }
  }
  const std::uint32_t columns =
      options.order_max < 2 ? 0 : (options.order_max - 1) * options.head_count;
  if (columns == 0 || options.memory_dim % columns != 0) {
    return BadSizing(fmt::format("{} values do not divide among {} orders of {} heads",
                                 options.memory_dim, options.order_max - 1, options.head_count));
  }
  RecipeParameters parameters{.kind = options.kind,
                              .layer_ids = options.layer_ids,
                              .order_max = options.order_max,
                              .head_count = options.head_count,
                              .head_dim = options.memory_dim / columns,
                              .vocab_size = options.vocab_size,
                              .compressed_vocab_size = options.compressed_vocab_size,
                              .pad_token = 2};
  parameters.head_size_bases.assign(options.order_max - 1, model.engram_slots);
  Result<Recipe> recipe = BuildRecipe(parameters);
  if (!recipe.ok()) return std::move(recipe).TakeStatus();
  model.recipe = std::move(recipe).value();
  model.row = {.format = options.row_format, .value_count = parameters.head_dim};
  if (options.row_format == RowFormat::kE4M3Block32 && parameters.head_dim % 32 != 0) {
    return BadSizing(fmt::format("rows of {} values have no scales of 32 each: another row format",
                                 parameters.head_dim));
  }
  return model;
}

Result<double> ParseParams(std::string_view text) {
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string_view unit(end, text.data() + text.size());
  double factor = 1.0;
  if (unit == "K" || unit == "k") factor = 1e3;
  if (unit == "M" || unit == "m") factor = 1e6;
  if (unit == "B" || unit == "b" || unit == "G") factor = 1e9;
  if (unit == "T" || unit == "t") factor = 1e12;
  const double params = value * factor;
  if (error != std::errc() || (factor == 1.0 && !unit.empty()) || !(params > 0.0) ||
      !(params < 1e18)) {
    return BadSizing(
        fmt::format("'{}' is not a number of parameters, such as 26.7B or 950M", text));
  }
  return params;
}

}  // namespace tiercel::tools
