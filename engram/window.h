#ifndef TIERCEL_ENGRAM_WINDOW_H_
#define TIERCEL_ENGRAM_WINDOW_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "tiercel/recipe.h"
#include "tiercel/types.h"

namespace tiercel {

/// What a window needs to know of a recipe; the same for all its layers.
struct WindowRules {
  /// Shape [id_end]: the compressed id of each token; null where ids are hashed as
  /// they come.
  const std::uint32_t* classes = nullptr;
  std::uint32_t id_end = 0;  ///< Ids known: [0, id_end).
  std::uint64_t fill = 0;    ///< Stands before the start: pad, or Qwen3.8's eos.
};

/// The last kOrder hashed ids of a sequence, [0] the newest, as the model sees them at
/// the position of the newest. Feeding the last kOrder - 1 ids of a history leaves the
/// same state as feeding all of it: older ids have left the window, and whatever they
/// blocked lies still further back.
///
///   DeepSeek-V4.1  A dead token blanks itself and, for the positions after it,
///                  everything before it: all of the window becomes pad.
///   Demo           No rule; negative ids are hashed as they are.
///   Qwen3.8        The token after an eos sees nothing of before. A masked position
///                  counts as an eos.
///
/// All constexpr: kernels run the same code.
template <RecipeKind kKind, std::size_t kOrder>
class Window {
 public:
  constexpr explicit Window(const WindowRules& rules) noexcept : rules_(rules), ids_{} {
    ids_.fill(rules.fill);
  }

  enum class Pushed : std::uint8_t { kLive, kDead, kUnknown };

  /// Moves on to the next token. kUnknown: the id is none; the window is unchanged.
  constexpr Pushed Push(std::int32_t token) noexcept {
    const bool negative_allowed = kKind == RecipeKind::kEngramDemo;
    const bool dead = kKind != RecipeKind::kEngramDemo && token == kDeadToken;
    std::uint64_t id = rules_.fill;
    if (negative_allowed && token < 0) {
      id = static_cast<std::uint64_t>(std::int64_t{token});
    } else if (!dead) {
      const auto index = static_cast<std::uint32_t>(token);
      if (index >= rules_.id_end) [[unlikely]]
        return Pushed::kUnknown;
      id =
          kKind != RecipeKind::kQwen38 && rules_.classes != nullptr ? rules_.classes[index] : index;
    }
    if constexpr (kKind == RecipeKind::kDeepSeekV41) {
      if (dead) {
        ids_.fill(rules_.fill);
        return Pushed::kDead;
      }
    }
    if constexpr (kKind == RecipeKind::kQwen38) {
      if (ids_[0] == rules_.fill) ids_.fill(rules_.fill);  // Past an eos, or at the start.
    }
    // Not std::copy_backward(): nvcc makes of it a memmove that overwrites what it still reads.
    for (std::size_t i = kOrder - 1; i > 0; --i) ids_[i] = ids_[i - 1];
    ids_[0] = id;
    return dead ? Pushed::kDead : Pushed::kLive;
  }

  [[nodiscard]] constexpr const std::array<std::uint64_t, kOrder>& ids() const noexcept {
    return ids_;
  }

 private:
  WindowRules rules_;
  std::array<std::uint64_t, kOrder> ids_;
};

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_WINDOW_H_
