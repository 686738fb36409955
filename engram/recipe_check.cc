#include "engram/recipe_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "engram/primes.h"

namespace tiercel {
namespace {

Status Invalid(std::string message) {
  return Status(StatusCode::kInvalidArgument, std::move(message));
}

/// OK if `value` lies in [low, high].
Status CheckRange(std::string_view name, std::uint64_t value, std::uint64_t low,
                  std::uint64_t high) {
  if (value >= low && value <= high) return {};
  return Invalid(fmt::format("recipe: {} is {}; it must lie in [{}, {}]", name, value, low, high));
}

Status CheckTokens(const RecipeParameters& p) {
  // Token ids are int32, and the mixes need B > 2^32 only where they are derived.
  constexpr std::uint32_t kVocabMax = std::numeric_limits<std::int32_t>::max();
  if (p.kind == RecipeKind::kQwen38) {
    if (Status s = CheckRange("vocab_size", p.vocab_size, 1, kVocabMax); !s.ok()) return s;
    if (p.compressed_vocab_size != 0) {
      return Invalid(
          fmt::format("recipe: compressed_vocab_size is {}; qwen3.8 hashes raw ids, "
                      "it must be 0",
                      p.compressed_vocab_size));
    }
    if (p.eos_token < 0 || static_cast<std::uint32_t>(p.eos_token) >= p.vocab_size) {
      return Invalid(fmt::format("recipe: eos_token is {}; it must lie in [0, vocab_size = {})",
                                 p.eos_token, p.vocab_size));
    }
    return {};
  }
  if (Status s = CheckRange("compressed_vocab_size", p.compressed_vocab_size, 1, kVocabMax);
      !s.ok()) {
    return s;
  }
  if (p.vocab_size != 0 && (p.vocab_size < p.compressed_vocab_size || p.vocab_size > kVocabMax)) {
    return Invalid(
        fmt::format("recipe: vocab_size is {}; it must lie in "
                    "[compressed_vocab_size = {}, {}], or be 0 for unknown",
                    p.vocab_size, p.compressed_vocab_size, kVocabMax));
  }
  if (p.pad_token < 0 || static_cast<std::uint32_t>(p.pad_token) >= p.compressed_vocab_size) {
    return Invalid(
        fmt::format("recipe: pad_token is {}; it must lie in [0, compressed_vocab_size = {})",
                    p.pad_token, p.compressed_vocab_size));
  }
  return {};
}

Status CheckLayerIds(const RecipeParameters& p) {
  if (Status s = CheckRange("the number of layers", p.layer_ids.size(), 1, kLayerCountMax);
      !s.ok()) {
    return s;
  }
  const std::size_t columns = std::size_t{p.order_max - 1} * p.head_count;
  if (p.layer_ids.size() * columns > kColumnCountMax) {
    return Invalid(fmt::format("recipe: {} layers of {} columns; all layers together may have {}",
                               p.layer_ids.size(), columns, kColumnCountMax));
  }
  std::unordered_set<std::uint32_t> seen;
  for (const std::uint32_t id : p.layer_ids) {
    if (!seen.insert(id).second) {
      return Invalid(fmt::format("recipe: layer id {} stands twice in layer_ids", id));
    }
  }
  return {};
}

Status CheckBases(const RecipeParameters& p) {
  if (p.head_size_bases.size() != p.order_max - 1) {
    return Invalid(fmt::format("recipe: {} head_size_bases; order_max {} needs {}",
                               p.head_size_bases.size(), p.order_max, p.order_max - 1));
  }
  for (const std::uint64_t base : p.head_size_bases) {
    if (Status s = CheckRange("a head size base", base, 2, kHeadSizeEnd - 1); !s.ok()) return s;
    if (p.kind == RecipeKind::kQwen38 && base != p.head_size_bases.front()) {
      return Invalid("recipe: qwen3.8 counts its head sizes from one base; head_size_bases differ");
    }
  }
  return {};
}

Status CheckMultipliers(const LayerRecipe& layer, const RecipeParameters& p) {
  if (layer.multipliers.size() != p.order_max) {
    return Invalid(fmt::format("recipe: layer {} has {} multipliers; order_max is {}",
                               layer.layer_id, layer.multipliers.size(), p.order_max));
  }
  // Ids are below V: the largest product is (V - 1) * m, and must stay below 2^63.
  const std::uint64_t id_max = std::max(HashedVocabSize(p) - 1, 1U);
  const std::uint64_t multiplier_max =
      static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / id_max;
  for (const std::uint64_t multiplier : layer.multipliers) {
    if (multiplier % 2 == 0 || multiplier > multiplier_max) {
      return Invalid(fmt::format("recipe: multiplier {} of layer {} must be odd and at most {}",
                                 multiplier, layer.layer_id, multiplier_max));
    }
  }
  return {};
}

/// `seen` holds the head sizes of the layers before this one.
Status CheckHeadSizes(const LayerRecipe& layer, std::size_t columns,
                      std::unordered_set<std::uint64_t>& seen) {
  if (layer.head_sizes.size() != columns) {
    return Invalid(fmt::format("recipe: layer {} has {} head sizes; it has {} columns",
                               layer.layer_id, layer.head_sizes.size(), columns));
  }
  for (const std::uint64_t size : layer.head_sizes) {
    if (size >= kHeadSizeEnd || !IsPrime(size)) {
      return Invalid(fmt::format("recipe: head size {} of layer {} is not a prime below {}", size,
                                 layer.layer_id, kHeadSizeEnd));
    }
    if (!seen.insert(size).second) {
      return Invalid(fmt::format("recipe: head size {} of layer {} stands twice in the model", size,
                                 layer.layer_id));
    }
  }
  return {};
}

/// All of a recipe but its offsets and row counts.
Status CheckNumbers(const RecipeParameters& p, const std::vector<LayerRecipe>& layers) {
  if (Status s = CheckParameters(p); !s.ok()) return s;
  if (layers.size() != p.layer_ids.size()) {
    return Invalid(fmt::format("recipe: {} layers are given; layer_ids names {}", layers.size(),
                               p.layer_ids.size()));
  }
  const std::size_t columns = std::size_t{p.order_max - 1} * p.head_count;
  std::unordered_set<std::uint64_t> seen;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].layer_id != p.layer_ids[i]) {
      return Invalid(fmt::format("recipe: layer {} stands where layer_ids names {}",
                                 layers[i].layer_id, p.layer_ids[i]));
    }
    if (Status s = CheckMultipliers(layers[i], p); !s.ok()) return s;
    if (Status s = CheckHeadSizes(layers[i], columns, seen); !s.ok()) return s;
  }
  return {};
}

/// Offsets and row count as they follow from the head sizes of a whole layer.
void Lay(std::uint32_t row_count_multiple, LayerRecipe& layer) {
  layer.offsets.clear();
  layer.row_count = 0;
  for (const std::uint64_t size : layer.head_sizes) {
    layer.offsets.push_back(layer.row_count);
    layer.row_count += size;
  }
  const std::uint64_t multiple = row_count_multiple;
  layer.row_count = (layer.row_count + multiple - 1) / multiple * multiple;
}

/// Whether the columns of a shard lie in the table one after another. That the gaps are
/// those of the other ranks' heads only the whole recipe could tell.
Status CheckShardOffsets(const LayerRecipe& layer) {
  if (layer.offsets.size() != layer.head_sizes.size() || layer.row_count > kRowCountMax) {
    return Invalid(fmt::format("recipe: layer {} has {} offsets for {} columns, and {} rows",
                               layer.layer_id, layer.offsets.size(), layer.head_sizes.size(),
                               layer.row_count));
  }
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < layer.offsets.size(); ++i) {
    const std::uint64_t offset = layer.offsets[i];
    if (offset < end || offset > layer.row_count ||
        layer.row_count - offset < layer.head_sizes[i]) {
      return Invalid(
          fmt::format("recipe: column {} of layer {} begins at row {}; it must lie "
                      "behind row {}, and its {} rows within the table's {}",
                      i, layer.layer_id, offset, end, layer.head_sizes[i], layer.row_count));
    }
    end = offset + layer.head_sizes[i];
  }
  return {};
}

}  // namespace

std::uint32_t HashedVocabSize(const RecipeParameters& parameters) noexcept {
  return parameters.kind == RecipeKind::kQwen38 ? parameters.vocab_size
                                                : parameters.compressed_vocab_size;
}

Status CheckParameters(const RecipeParameters& p) {
  if (p.kind > RecipeKind::kQwen38) {
    return Invalid(fmt::format("recipe: unknown kind {}", static_cast<unsigned>(p.kind)));
  }
  if (Status s = CheckRange("order_max", p.order_max, 2, kOrderMax); !s.ok()) return s;
  if (Status s = CheckRange("head_count", p.head_count, 1, kHeadCountMax); !s.ok()) return s;
  if (Status s = CheckRange("head_dim", p.head_dim, 1, kHeadDimMax); !s.ok()) return s;
  if (Status s = CheckLayerIds(p); !s.ok()) return s;
  if (Status s = CheckBases(p); !s.ok()) return s;
  if (Status s = CheckTokens(p); !s.ok()) return s;
  if (p.kind == RecipeKind::kDeepSeekV41 && p.seed != 0) {
    return Invalid(fmt::format("recipe: seed is {}; deepseek-v4.1 has none (0)", p.seed));
  }
  const std::uint64_t multiple_max = p.kind == RecipeKind::kQwen38 ? kRowCountMultipleMax : 1;
  return CheckRange("row_count_multiple", p.row_count_multiple, 1, multiple_max);
}

Status CheckShard(HeadShard shard, std::uint32_t head_count) {
  if (shard.count < 1 || shard.count > head_count) {
    return Invalid(fmt::format("head shard {}/{}: {} heads of an order are shared by 1 to {} ranks",
                               shard.rank, shard.count, head_count, head_count));
  }
  if (shard.rank >= shard.count) {
    return Invalid(fmt::format("head shard {}/{}: ranks count from 0, the last of them is {}",
                               shard.rank, shard.count, shard.count - 1));
  }
  return {};
}

Result<Recipe> PinRecipe(const RecipeParameters& parameters, std::vector<LayerRecipe> layers) {
  if (Status s = CheckNumbers(parameters, layers); !s.ok()) return s;
  for (LayerRecipe& layer : layers) Lay(parameters.row_count_multiple, layer);
  return Recipe{.parameters = parameters, .layers = std::move(layers), .shard = {}};
}

Status CheckRecipe(const Recipe& recipe) {
  if (Status s = CheckNumbers(recipe.parameters, recipe.layers); !s.ok()) return s;
  if (recipe.shard != HeadShard{}) {
    // How many heads the whole recipe has is not known here, but the most that it can.
    if (Status s = CheckShard(recipe.shard, kHeadCountMax); !s.ok()) return s;
    for (const LayerRecipe& layer : recipe.layers) {
      if (Status s = CheckShardOffsets(layer); !s.ok()) return s;
    }
    return {};
  }
  for (const LayerRecipe& layer : recipe.layers) {
    LayerRecipe expected = layer;
    Lay(recipe.parameters.row_count_multiple, expected);
    if (layer.offsets != expected.offsets || layer.row_count != expected.row_count) {
      return Invalid(
          fmt::format("recipe: offsets or row count of layer {} do not follow from its "
                      "head sizes ({} rows, {} expected)",
                      layer.layer_id, layer.row_count, expected.row_count));
    }
  }
  return {};
}

}  // namespace tiercel
