#ifndef TIERCEL_TOOLS_MODEL_SIZING_H_
#define TIERCEL_TOOLS_MODEL_SIZING_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/recipe.h"
#include "tiercel/row_format.h"
#include "tiercel/status.h"

namespace tiercel::tools {

/// A model to be sized. The defaults are Table 5 of the Engram paper (arXiv 2601.07372).
struct SizingOptions {
  std::string name = "a model";
  RecipeKind kind = RecipeKind::kEngramDemo;
  // The backbone. Without total_params it is left out, and engram_slots must be given.
  std::optional<double> total_params;
  std::optional<double> active_params;  ///< Of a token. None: as EstimateActive().
  double ratio = 0.25;                  ///< Share of the sparse parameters for Engram. In [0, 1].
  std::uint32_t dim = 2560;
  std::uint32_t block_count = 30;
  std::uint32_t dense_block_count = 1;
  std::uint32_t active_expert_count = 6;
  std::uint32_t shared_expert_count = 2;
  /// Inner width of an expert. The paper does not say; with 1536 its three models come out.
  std::uint32_t expert_dim = 1536;
  std::uint32_t vocab_size = 129280;
  // The tables.
  std::vector<std::uint32_t> layer_ids = {1, 14};  ///< 0-based blocks.
  std::uint32_t order_max = 3;
  std::uint32_t head_count = 8;
  std::uint32_t memory_dim = 1280;  ///< Values that a token gets of a table, d_mem.
  std::uint32_t compressed_vocab_size = 98627;
  /// Rows of a head, about: where the search for its prime begins. None: by the ratio.
  std::optional<std::uint64_t> engram_slots;
  RowFormat row_format = RowFormat::kBf16;
  // The machine.
  std::uint64_t dram_bytes = std::uint64_t{4} << 30;
  std::uint32_t batch_tokens = 2048;  ///< Tokens whose rows are on the device at a time.
};

/// "engram-27b", "engram-40b", "moe-27b" or "deepseek-v4.1-flash".
/// Errors: kInvalidArgument; the message lists them.
[[nodiscard]] Result<SizingOptions> PublishedSizing(std::string_view name);

/// Parameters that work on every token: head, attention of 4 dim^2 a block, the active and
/// shared experts, dense blocks as wide as these. Input embeddings and tables are left out.
[[nodiscard]] double EstimateActive(const SizingOptions& options);

/// How a model's parameters are shared out.
struct SizedModel {
  SizingOptions options;
  double active_params = 0.0;
  double embedding_params = 0.0;  ///< Of the input; a token reads one row.
  /// What a token does not work with, to be shared by experts and tables: total less active
  /// less input embedding.
  double sparse_params = 0.0;
  double expert_params = 0.0;  ///< Of one expert in one block.
  std::uint64_t routed_expert_count = 0;
  std::uint64_t engram_slots = 0;
  double engram_params = 0.0;  ///< slots * memory_dim * tables.
  Recipe recipe;               ///< With the head sizes. No layers where Engram gets nothing.
  RowShape row;

  [[nodiscard]] std::uint64_t row_count() const noexcept;    ///< Of all tables.
  [[nodiscard]] std::uint64_t table_bytes() const noexcept;  ///< Of all tables.
  [[nodiscard]] std::uint32_t rows_per_token() const noexcept;
};

/// Shares the sparse parameters of a budget between experts and tables, as section 3 of the
/// paper does. The slots of a head are rounded to halves of a vocabulary, as both published
/// sizes are (17.5 and 56 of them); experts to whole ones.
///
/// Errors: kInvalidArgument (a budget below what every token needs, widths that do not
/// divide, tables out of the ranges of BuildRecipe()).
[[nodiscard]] Result<SizedModel> SizeModel(const SizingOptions& options);

/// For people: parameters, head sizes, rows, bytes of each tier, reads a token.
[[nodiscard]] Result<std::string> SizingText(const SizedModel& model);
/// One JSON object on one line.
[[nodiscard]] Result<std::string> SizingJson(const SizedModel& model);

/// Reads a number of parameters: "26.7B", "100M", "1000", units K, M, B, T of powers of 1000.
/// Errors: kInvalidArgument.
[[nodiscard]] Result<double> ParseParams(std::string_view text);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_MODEL_SIZING_H_
