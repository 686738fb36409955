#include "tiercel/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "base/prng.h"
#include "engram/pcg64.h"
#include "engram/primes.h"
#include "engram/recipe_check.h"

namespace tiercel {
namespace {

/// A prime that the models' authors chose to keep the seeds of their layers apart.
constexpr std::uint64_t kLayerSeedStep = 10007;

/// Indices of the layers in the order in which the model numbers them and hands out
/// primes: Qwen3.8 by ascending id, the others as the config lists them.
std::vector<std::size_t> DerivationOrder(const RecipeParameters& parameters) {
  std::vector<std::size_t> order(parameters.layer_ids.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (parameters.kind == RecipeKind::kQwen38) {
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return parameters.layer_ids[a] < parameters.layer_ids[b];
    });
  }
  return order;
}

/// Draws are uniform in [0, this), multipliers are 2 * draw + 1: odd, and small
/// enough that id * multiplier stays below 2^63 for every id of the vocabulary.
std::uint64_t DrawBound(const RecipeParameters& parameters) noexcept {
  const std::uint64_t product_max = std::numeric_limits<std::int64_t>::max();
  return product_max / HashedVocabSize(parameters) / 2;
}

/// `rank` is the layer's place in DerivationOrder().
std::vector<std::uint64_t> DeriveMultipliers(const RecipeParameters& parameters,
                                             std::uint32_t layer_id, std::uint64_t rank) {
  const std::uint64_t bound = DrawBound(parameters);
  std::vector<std::uint64_t> multipliers;
  if (parameters.kind == RecipeKind::kQwen38) {
    constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15U;  // SplitMix64's own step.
    const std::uint64_t base = parameters.seed + kLayerSeedStep * rank;
    for (std::uint64_t k = 0; k < parameters.order_max; ++k) {
      multipliers.push_back(2 * (SplitMix64(base + kGolden * (k + 1)) % bound) + 1);
    }
    return multipliers;
  }
  Pcg64 generator(SeedSequence(parameters.seed + kLayerSeedStep * layer_id));
  for (std::uint32_t k = 0; k < parameters.order_max; ++k) {
    multipliers.push_back(2 * generator.Below(bound) + 1);
  }
  return multipliers;
}

Status CheckDerivable(const RecipeParameters& parameters) {
  if (const std::uint64_t bound = DrawBound(parameters); bound <= std::uint64_t{1} << 32) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("recipe: a vocabulary of {} gives the multiplier bound {}; at or "
                              "below 2^32 numpy's stream differs, pin the multipliers",
                              HashedVocabSize(parameters), bound));
  }
  const std::uint64_t seed_max = std::numeric_limits<std::uint64_t>::max() -
                                 kLayerSeedStep * std::numeric_limits<std::uint32_t>::max();
  if (parameters.kind != RecipeKind::kQwen38 && parameters.seed > seed_max) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("recipe: seed is {}; seed + 10007 * layer id must stay below 2^64",
                              parameters.seed));
  }
  return {};
}

}  // namespace

std::string_view Name(RecipeKind kind) noexcept {
  switch (kind) {
    case RecipeKind::kDeepSeekV41:
      return "deepseek-v4.1";
    case RecipeKind::kEngramDemo:
      return "engram-demo";
    case RecipeKind::kQwen38:
      return "qwen3.8";
  }
  return "unknown";
}

std::optional<std::uint32_t> Recipe::FindLayer(std::uint32_t layer_id) const noexcept {
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].layer_id == layer_id) return static_cast<std::uint32_t>(i);
  }
  return std::nullopt;
}

Result<Recipe> BuildRecipe(const RecipeParameters& parameters) {
  if (Status s = CheckParameters(parameters); !s.ok()) return s;
  if (Status s = CheckDerivable(parameters); !s.ok()) return s;

  std::vector<LayerRecipe> layers(parameters.layer_ids.size());
  PrimeSupply primes;  // Shared: head sizes are distinct over the whole model.
  std::uint64_t rank = 0;
  for (const std::size_t i : DerivationOrder(parameters)) {
    LayerRecipe& layer = layers[i];
    layer.layer_id = parameters.layer_ids[i];
    layer.multipliers = DeriveMultipliers(parameters, layer.layer_id, rank++);
    // The search starts anew at the base for each order. Qwen3.8 counts on instead;
    // with its one base, and no prime given twice, that is the same.
    for (const std::uint64_t base : parameters.head_size_bases) {
      for (std::uint32_t head = 0; head < parameters.head_count; ++head) {
        layer.head_sizes.push_back(primes.Take(base));
      }
    }
  }
  return PinRecipe(parameters, std::move(layers));
}

Result<Recipe> ShardRecipe(const Recipe& recipe, HeadShard shard) {
  if (Status s = CheckRecipe(recipe); !s.ok()) return s;
  if (recipe.shard != HeadShard{}) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("head shard {}/{} of a recipe that is shard {}/{} already: take it "
                              "of the whole recipe",
                              shard.rank, shard.count, recipe.shard.rank, recipe.shard.count));
  }
  const std::uint32_t head_count = recipe.parameters.head_count;
  if (Status s = CheckShard(shard, head_count); !s.ok()) return s;
  Recipe local = recipe;
  local.shard = shard;
  local.parameters.head_count = (head_count - shard.rank + shard.count - 1) / shard.count;
  for (std::size_t i = 0; i < local.layers.size(); ++i) {
    LayerRecipe& layer = local.layers[i];
    layer.head_sizes.clear();
    layer.offsets.clear();
    for (std::uint32_t order = 0; order < recipe.order_count(); ++order) {
      for (std::uint32_t head = shard.rank; head < head_count; head += shard.count) {
        const std::size_t column = std::size_t{order} * head_count + head;
        layer.head_sizes.push_back(recipe.layers[i].head_sizes[column]);
        layer.offsets.push_back(recipe.layers[i].offsets[column]);
      }
    }
  }
  return local;
}

}  // namespace tiercel
