#ifndef TIERCEL_HASHER_H_
#define TIERCEL_HASHER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "tiercel/recipe.h"
#include "tiercel/status.h"
#include "tiercel/token_map.h"
#include "tiercel/types.h"

namespace tiercel {

/// Turns token runs into mixes and row ids, bit for bit as the model does.
///
/// An order's H row ids all come from one integer, the *mix*:
/// row = mix mod head_size + offset. The mix (see GroupKey) therefore names the
/// whole group of H rows. A mix lies in [0, 2^63); only the demo, which hashes
/// negative ids as they come, has mixes that are signed: the bits of an int64, taken
/// modulo as numpy does (never negative).
///
/// Stateless: a run carries its own history.
/// Threading: immutable once made; all methods may run concurrently.
/// No method blocks or allocates on success.
class Hasher {
 public:
  /// `token_map` turns raw ids into compressed ones; null means that runs hold
  /// compressed ids already (or, Qwen3.8, raw ones: that recipe has no map and
  /// ignores a given one).
  ///
  /// Errors: kInvalidArgument (the map has more classes than the recipe's
  /// compressed vocabulary: it belongs to another tokenizer; a recipe put together by
  /// hand whose parts do not fit).
  [[nodiscard]] static Result<Hasher> Create(Recipe recipe,
                                             std::shared_ptr<const TokenMap> token_map = nullptr);

  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  ~Hasher();

  [[nodiscard]] const Recipe& recipe() const noexcept;

  /// Computes the mix of every order at every token of `run`, for one layer.
  ///
  ///   run    t = run.tokens.size() new tokens; any history length.
  ///   mixes  shape [t, order_count], row-major; order 2 first.
  ///   dead   shape [t], or empty when not wanted. 1 where the position is a dead
  ///          token: its mixes are valid, but the model multiplies them by zero.
  ///          (The demo has no dead tokens: always 0. Qwen3.8: kDeadToken is a
  ///          masked padding position, hashed as eos.)
  ///
  /// Errors: kInvalidArgument (a span of the wrong length, a layer index out of
  /// range, or a token id the map or vocabulary does not know; the message names
  /// the position). The outputs are then unspecified.
  [[nodiscard]] Status Mixes(std::uint32_t layer_index, const TokenRun& run,
                             std::span<std::uint64_t> mixes, std::span<std::uint8_t> dead) const;

  /// Row ids of every column at every token of `run`, for one layer.
  ///
  ///   rows   shape [t, column_count], row-major, columns order-major.
  ///   dead   as for Mixes().
  ///
  /// Errors: as Mixes().
  [[nodiscard]] Status RowIds(std::uint32_t layer_index, const TokenRun& run, std::span<RowId> rows,
                              std::span<std::uint8_t> dead) const;

  /// The H row ids that `mix` (or its group key) stands for in one order.
  ///
  ///   order_index  n - 2 for the n-gram. REQUIRES: < order_count().
  ///   rows         shape [head_count].
  void RowsOfMix(std::uint32_t layer_index, std::uint32_t order_index, std::uint64_t mix,
                 std::span<RowId> rows) const noexcept;

  /// The one of these ids that is in the order's column `head`.
  /// REQUIRES: head < head_count.
  [[nodiscard]] RowId RowOfMix(std::uint32_t layer_index, std::uint32_t order_index,
                               std::uint64_t mix, std::uint32_t head) const noexcept;

  /// The exact identity of a group within its (layer, order): the mix itself, or,
  /// where the product of all H head sizes is below 2^63, the mix modulo that
  /// product, which names the same rows. (The demo: below 2^64; from 2^63 on, the
  /// signed number that is congruent to it.)
  [[nodiscard]] std::uint64_t GroupKey(std::uint32_t layer_index, std::uint32_t order_index,
                                       std::uint64_t mix) const noexcept;

  /// The group key that these H row ids come from, by the Chinese remainder
  /// theorem; nothing if no mix of the recipe gives exactly these ids.
  ///
  ///   rows  shape [head_count]: the ids of one order's columns, in column order.
  [[nodiscard]] std::optional<std::uint64_t> GroupKeyOfRows(
      std::uint32_t layer_index, std::uint32_t order_index,
      std::span<const RowId> rows) const noexcept;

 private:
  struct Impl;
  explicit Hasher(std::unique_ptr<const Impl> impl) noexcept;
  std::unique_ptr<const Impl> impl_;
};

}  // namespace tiercel

#endif  // TIERCEL_HASHER_H_
