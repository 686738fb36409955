#ifndef TIERCEL_ENGRAM_GROUP_SPACE_H_
#define TIERCEL_ENGRAM_GROUP_SPACE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engram/key_rule.h"
#include "engram/reduce.h"
#include "tiercel/types.h"

namespace tiercel {

/// Whether mixes are 64-bit signed numbers (the demo lets negative ids through, and
/// their products are negative) or lie in [0, 2^63).
enum class MixRange : std::uint8_t { kUnsigned63, kSigned64 };

/// The heads of one (layer, order), and the way from their row ids back to the mix.
///
/// The mixes of the recipe form a range of 2^63 (or, signed, 2^64) numbers. Taken
/// modulo as many head sizes as it takes for their product to exceed that, a mix is
/// unique (Chinese remainder theorem: head sizes are distinct primes). Where all H
/// together do not, two mixes that agree modulo the product name the same rows, and
/// the key is the one of them in [0, product), or, signed and past 2^63, that minus the
/// product: always a mix that gives the same rows.
///
/// Threading: immutable once made.
class GroupSpace {
 public:
  /// `sizes` and `offsets`: shape [heads]; distinct primes below 2^40.
  GroupSpace(std::span<const std::uint64_t> sizes, std::span<const std::uint64_t> offsets,
             MixRange range);

  [[nodiscard]] std::span<const Head> heads() const noexcept { return heads_; }

  [[nodiscard]] RowId RowOfMix(std::uint64_t mix, std::size_t head) const noexcept {
    return RowId{Remainder(heads_[head], mix) + heads_[head].offset};
  }
  /// Shape of `rows`: [heads].
  void RowsOfMix(std::uint64_t mix, RowId* rows) const noexcept;
  [[nodiscard]] std::uint64_t KeyOfMix(std::uint64_t mix) const noexcept {
    return key_rule().KeyOf(mix);
  }
  [[nodiscard]] KeyRule key_rule() const noexcept {
    return {.product = reduced_ ? static_cast<std::uint64_t>(product_) : 0,  // Below 2^64.
            .is_signed = range_ == MixRange::kSigned64};
  }
  /// Nothing if no mix of the range gives exactly `rows`.
  [[nodiscard]] std::optional<std::uint64_t> KeyOfRows(std::span<const RowId> rows) const noexcept;

 private:
  __extension__ using Uint128 = unsigned __int128;

  /// A head that takes part in the reconstruction.
  struct Digit {
    std::uint64_t product_before = 1;  ///< Of the sizes of the heads before it.
    std::uint64_t inverse = 1;         ///< Of product_before modulo this size.
  };

  [[nodiscard]] std::uint64_t Remainder(const Head& head, std::uint64_t mix) const noexcept {
    return range_ == MixRange::kSigned64 ? head.size.FloorRemainder(mix) : head.size.Remainder(mix);
  }
  /// The number of the range that is congruent to `value` in [0, product_).
  [[nodiscard]] std::optional<std::uint64_t> Represent(Uint128 value) const noexcept;

  std::vector<Head> heads_;
  std::vector<Digit> digits_;  // One for each of the first heads, as many as it takes.
  Uint128 product_ = 1;        // Of the sizes of those. Below 2^64 * 2^40.
  MixRange range_;
  bool reduced_ = false;  // The product does not cover the range: keys are reduced by it.
};

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_GROUP_SPACE_H_
