#ifndef TIERCEL_CUDA_NGRAM_HASH_H_
#define TIERCEL_CUDA_NGRAM_HASH_H_

#include <cstdint>

#include "engram/window.h"
#include "tiercel/recipe.h"

namespace tiercel {

/// One n-gram's hash.
struct NgramHash {
  std::uint64_t mix = 0;
  bool dead = false;     ///< Its position is a dead token, or an unknown one.
  bool unknown = false;  ///< A token of its window is none of the recipe's.
};

/// The hash of the n-gram of `order_index` + 2 tokens that ends at ids[at]: what one thread of
/// the hash kernel does. Constexpr and free of CUDA, so that it is tested on the host too.
///
///   ids          tokens; those of the run are [start, at] and beyond.
///   start        where the run, its history included, begins. <= at.
///   order_max    of the recipe.
///   multipliers  shape [order_max].
///
/// A window of the longest order serves all recipes: what lies past order_max is not looked
/// at, and the ids that matter are the same whatever lies behind them.
template <RecipeKind kKind>
[[nodiscard]] constexpr NgramHash HashNgram(const WindowRules& rules, const std::int32_t* ids,
                                            std::uint32_t start, std::uint32_t at,
                                            std::uint32_t order_max, std::uint32_t order_index,
                                            const std::uint64_t* multipliers) noexcept {
  constexpr std::uint32_t kLongest = 8;  // Of any recipe.
  using TokenWindow = Window<kKind, kLongest>;
  TokenWindow window(rules);
  typename TokenWindow::Pushed pushed = TokenWindow::Pushed::kLive;
  NgramHash hash;
  const std::uint32_t look_back = order_max - 1;
  for (std::uint32_t i = at - start < look_back ? start : at - look_back; i <= at; ++i) {
    pushed = window.Push(ids[i]);
    hash.unknown = hash.unknown || pushed == TokenWindow::Pushed::kUnknown;
  }
  hash.dead = hash.unknown || pushed == TokenWindow::Pushed::kDead;
  hash.mix = window.ids()[0] * multipliers[0];
  for (std::uint32_t k = 1; k < kLongest; ++k) {  // A fixed number: the window stays in registers.
    if (k <= order_index + 1) hash.mix ^= window.ids()[k] * multipliers[k];
  }
  return hash;
}

}  // namespace tiercel

#endif  // TIERCEL_CUDA_NGRAM_HASH_H_
