#include "tiercel/hasher.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <string_view>
#include <utility>
#include <vector>

#include "engram/group_space.h"
#include "engram/recipe_check.h"
#include "engram/window.h"

namespace tiercel {
namespace {

struct HashLayer {
  std::array<std::uint64_t, kOrderMax> multipliers{};  // Look-back 0, 1, ...
  std::vector<GroupSpace> orders;                      // Order 2 first.
};

Status UnknownToken(std::string_view where, std::size_t position, std::int32_t token,
                    const WindowRules& rules) {
  return Status(
      StatusCode::kInvalidArgument,
      fmt::format("{} {} is {}; ids lie in [0, {}), by the {}", where, position, token,
                  rules.id_end, rules.classes != nullptr ? "token map" : "recipe's vocabulary"));
}

/// Hashes one run: calls emit(position, order index, mix) for each mix. The one loop
/// of this file. V4.1: 5 ns a token and layer for the mixes, 35 ns with the 24 row ids
/// (bench/hasher_bench.cc, one core of a 2-core cloud machine).
template <RecipeKind kKind, std::size_t kOrder, typename Emit>
Status HashRun(const HashLayer& layer, const WindowRules& rules, const TokenRun& run,
               std::uint8_t* dead, const Emit& emit) {
  using Window = Window<kKind, kOrder>;
  Window window(rules);
  const std::size_t history_start = run.history.size() - std::min(run.history.size(), kOrder - 1);
  for (std::size_t i = history_start; i < run.history.size(); ++i) {
    if (window.Push(run.history[i]) == Window::Pushed::kUnknown) {
      return UnknownToken("history token", i, run.history[i], rules);
    }
  }
  std::array<std::uint64_t, kOrder> multipliers{};
  std::copy_n(layer.multipliers.begin(), kOrder, multipliers.begin());
  for (std::size_t i = 0; i < run.tokens.size(); ++i) {
    const typename Window::Pushed pushed = window.Push(run.tokens[i]);
    if (pushed == Window::Pushed::kUnknown) [[unlikely]] {
      return UnknownToken("token", i, run.tokens[i], rules);
    }
    if (dead != nullptr) dead[i] = pushed == Window::Pushed::kDead ? 1 : 0;
    // Products wrap modulo 2^64 for the demo's negative ids, as numpy's int64 does; all
    // others stay below 2^63.
    std::uint64_t mix = window.ids()[0] * multipliers[0];
    for (std::size_t k = 1; k < kOrder; ++k) {
      mix ^= window.ids()[k] * multipliers[k];
      emit(i, k - 1, mix);
    }
  }
  return {};
}

template <RecipeKind kKind, typename Emit>
Status HashRunOfKind(std::uint32_t order_max, const HashLayer& layer, const WindowRules& rules,
                     const TokenRun& run, std::uint8_t* dead, const Emit& emit) {
  static_assert(kOrderMax == 8);
  switch (order_max) {
    case 2:
      return HashRun<kKind, 2>(layer, rules, run, dead, emit);
    case 3:
      return HashRun<kKind, 3>(layer, rules, run, dead, emit);
    case 4:
      return HashRun<kKind, 4>(layer, rules, run, dead, emit);
    case 5:
      return HashRun<kKind, 5>(layer, rules, run, dead, emit);
    case 6:
      return HashRun<kKind, 6>(layer, rules, run, dead, emit);
    case 7:
      return HashRun<kKind, 7>(layer, rules, run, dead, emit);
    default:
      assert(order_max == 8);
      return HashRun<kKind, 8>(layer, rules, run, dead, emit);
  }
}

HashLayer MakeHashLayer(const Recipe& recipe, const LayerRecipe& layer) {
  HashLayer result;
  std::copy(layer.multipliers.begin(), layer.multipliers.end(), result.multipliers.begin());
  const std::size_t heads = recipe.parameters.head_count;
  const MixRange range = recipe.parameters.kind == RecipeKind::kEngramDemo ? MixRange::kSigned64
                                                                           : MixRange::kUnsigned63;
  for (std::size_t order = 0; order < recipe.order_count(); ++order) {
    result.orders.emplace_back(std::span(layer.head_sizes).subspan(order * heads, heads),
                               std::span(layer.offsets).subspan(order * heads, heads), range);
  }
  return result;
}

}  // namespace

struct Hasher::Impl {
  Recipe recipe;
  std::shared_ptr<const TokenMap> token_map;  // Keeps rules.classes alive.
  WindowRules rules;
  std::vector<HashLayer> layers;

  [[nodiscard]] const GroupSpace& Space(std::uint32_t layer_index,
                                        std::uint32_t order_index) const noexcept {
    assert(layer_index < layers.size() && order_index < layers[layer_index].orders.size());
    return layers[layer_index].orders[order_index];
  }

  [[nodiscard]] Status CheckSpans(std::uint32_t layer_index, const TokenRun& run,
                                  std::size_t output_size, std::size_t width,
                                  std::size_t dead_size) const {
    if (layer_index >= layers.size()) {
      return Status(
          StatusCode::kInvalidArgument,
          fmt::format("layer index {}; the recipe has {} layers", layer_index, layers.size()));
    }
    if (output_size != run.tokens.size() * width) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("the output has {} entries; {} tokens of {} each need {}",
                                output_size, run.tokens.size(), width, run.tokens.size() * width));
    }
    if (dead_size != 0 && dead_size != run.tokens.size()) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("`dead` has {} entries; the run has {} tokens (or leave it empty)",
                                dead_size, run.tokens.size()));
    }
    return {};
  }

  template <typename Emit>
  Status Hash(std::uint32_t layer_index, const TokenRun& run, std::span<std::uint8_t> dead,
              const Emit& emit) const {
    const HashLayer& layer = layers[layer_index];
    const std::uint32_t order_max = recipe.parameters.order_max;
    std::uint8_t* const flags = dead.empty() ? nullptr : dead.data();
    switch (recipe.parameters.kind) {
      case RecipeKind::kDeepSeekV41:
        return HashRunOfKind<RecipeKind::kDeepSeekV41>(order_max, layer, rules, run, flags, emit);
      case RecipeKind::kEngramDemo:
        return HashRunOfKind<RecipeKind::kEngramDemo>(order_max, layer, rules, run, flags, emit);
      case RecipeKind::kQwen38:
        break;
    }
    return HashRunOfKind<RecipeKind::kQwen38>(order_max, layer, rules, run, flags, emit);
  }
};

Hasher::Hasher(std::unique_ptr<const Impl> impl) noexcept : impl_(std::move(impl)) {}
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;
Hasher::~Hasher() = default;

Result<Hasher> Hasher::Create(Recipe recipe, std::shared_ptr<const TokenMap> token_map) {
  if (Status s = CheckRecipe(recipe); !s.ok()) return s;
  auto impl = std::make_unique<Impl>();
  const RecipeParameters& p = recipe.parameters;
  const bool raw_ids = p.kind == RecipeKind::kQwen38;
  impl->rules.fill = static_cast<std::uint64_t>(raw_ids ? p.eos_token : p.pad_token);
  impl->rules.id_end = HashedVocabSize(p);
  if (token_map != nullptr && !raw_ids) {
    if (token_map->class_count() > p.compressed_vocab_size) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("the token map has {} classes, the recipe's compressed vocabulary "
                                "{}: the map belongs to another tokenizer",
                                token_map->class_count(), p.compressed_vocab_size));
    }
    impl->rules.classes = token_map->classes().data();
    impl->rules.id_end = static_cast<std::uint32_t>(token_map->entry_count());
    impl->token_map = std::move(token_map);
  }
  for (const LayerRecipe& layer : recipe.layers) {
    impl->layers.push_back(MakeHashLayer(recipe, layer));
  }
  impl->recipe = std::move(recipe);
  return Hasher(std::move(impl));
}

const Recipe& Hasher::recipe() const noexcept {
  return impl_->recipe;
}

Status Hasher::Mixes(std::uint32_t layer_index, const TokenRun& run, std::span<std::uint64_t> mixes,
                     std::span<std::uint8_t> dead) const {
  const std::size_t width = impl_->recipe.order_count();
  if (Status s = impl_->CheckSpans(layer_index, run, mixes.size(), width, dead.size()); !s.ok()) {
    return s;
  }
  return impl_->Hash(layer_index, run, dead,
                     [&](std::size_t position, std::size_t order_index, std::uint64_t mix) {
                       mixes[position * width + order_index] = mix;
                     });
}

Status Hasher::RowIds(std::uint32_t layer_index, const TokenRun& run, std::span<RowId> rows,
                      std::span<std::uint8_t> dead) const {
  const std::size_t width = impl_->recipe.column_count();
  if (Status s = impl_->CheckSpans(layer_index, run, rows.size(), width, dead.size()); !s.ok()) {
    return s;
  }
  const std::size_t heads = impl_->recipe.parameters.head_count;
  const GroupSpace* const orders = impl_->layers[layer_index].orders.data();
  return impl_->Hash(layer_index, run, dead,
                     [&](std::size_t position, std::size_t order_index, std::uint64_t mix) {
                       orders[order_index].RowsOfMix(
                           mix, rows.data() + position * width + order_index * heads);
                     });
}

void Hasher::RowsOfMix(std::uint32_t layer_index, std::uint32_t order_index, std::uint64_t mix,
                       std::span<RowId> rows) const noexcept {
  const GroupSpace& space = impl_->Space(layer_index, order_index);
  assert(rows.size() == space.heads().size());
  space.RowsOfMix(mix, rows.data());
}

RowId Hasher::RowOfMix(std::uint32_t layer_index, std::uint32_t order_index, std::uint64_t mix,
                       std::uint32_t head) const noexcept {
  const GroupSpace& space = impl_->Space(layer_index, order_index);
  assert(head < space.heads().size());
  return space.RowOfMix(mix, head);
}

std::uint64_t Hasher::GroupKey(std::uint32_t layer_index, std::uint32_t order_index,
                               std::uint64_t mix) const noexcept {
  return impl_->Space(layer_index, order_index).KeyOfMix(mix);
}

std::optional<std::uint64_t> Hasher::GroupKeyOfRows(std::uint32_t layer_index,
                                                    std::uint32_t order_index,
                                                    std::span<const RowId> rows) const noexcept {
  return impl_->Space(layer_index, order_index).KeyOfRows(rows);
}

}  // namespace tiercel
