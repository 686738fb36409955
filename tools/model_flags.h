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
#include "tools/row_sizes.h"

namespace tiercel::tools {

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
  /// The map of --token-map, or that of a GGUF file; null without one.
  [[nodiscard]] Result<std::shared_ptr<const TokenMap>> LoadMap() const;
  /// RowSizesOf(), or what --row-bytes says, or a GGUF file's first table has.
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
