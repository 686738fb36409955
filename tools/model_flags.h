#ifndef TIERCEL_TOOLS_MODEL_FLAGS_H_
#define TIERCEL_TOOLS_MODEL_FLAGS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>

#include "tiercel/hasher.h"
#include "tiercel/recipe.h"
#include "tiercel/status.h"
#include "tiercel/synthetic.h"
#include "tiercel/token_map.h"

namespace tiercel::tools {

/// How many bytes a model's rows have, and how they lie on disk.
struct RowSizes {
  std::uint32_t row_size_bytes = 0;
  /// Of those, bytes that a checkpoint keeps in a tensor of their own (DeepSeek-V4.1's
  /// scales), so that a row is read in two places unless they are in memory. Else 0.
  std::uint32_t scale_size_bytes = 0;
};

/// The sizes of the model's published rows: E4M3 with scales, bf16, float32.
[[nodiscard]] RowSizes RowSizesOf(const RecipeParameters& parameters);

/// The options that name a model where there is no table.
struct ModelFlags {
  std::string config;
  std::string like;
  std::string token_map;
  bool compressed = false;
  std::uint32_t row_size_bytes = 0;  ///< 0: RowSizesOf().

  /// Declares them in `app`. `this` must outlive the parsing.
  void AddTo(CLI::App& app);

  /// --config or --like, whichever is given. Throws CLI::ValidationError where neither is,
  /// or both are, or --like names no model.
  [[nodiscard]] Result<Recipe> LoadModel(const TokenMap* token_map) const;
  /// The map of --token-map; null without one.
  [[nodiscard]] Result<std::shared_ptr<const TokenMap>> LoadMap() const;
  /// RowSizesOf(), or what --row-bytes says.
  [[nodiscard]] RowSizes SizesOf(const RecipeParameters& parameters) const;
};

/// A hasher for raw ids (or, with --compressed, compressed ones) and their limit.
struct ModelHasher {
  Hasher hasher;
  std::uint64_t id_limit = 0;
};

/// Throws CLI::ValidationError where a map is needed and not given.
/// Errors: as LoadRecipe(), TokenMap::Load(), Hasher::Create().
[[nodiscard]] Result<ModelHasher> LoadModelHasher(const ModelFlags& flags);

/// Errors: kInvalidArgument; the message lists the models.
[[nodiscard]] Result<CheckpointModel> ParseModel(const std::string& name);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_MODEL_FLAGS_H_
