#include "engram/group_space.h"

#include <cassert>

namespace tiercel {
namespace {

__extension__ using WideMix = unsigned __int128;

constexpr std::uint64_t kTwo63 = std::uint64_t{1} << 63;

/// a * b mod d for a, b < d < 2^40.
std::uint64_t MultiplyModulo(std::uint64_t a, std::uint64_t b, const Divisor& d) noexcept {
  if (d.value() <= std::uint64_t{1} << 32) return d.Remainder(a * b);
  return static_cast<std::uint64_t>(WideMix{a} * b % d.value());
}

/// a^-1 mod d for a prime d that does not divide a: a^(d-2), by Fermat.
std::uint64_t Inverse(std::uint64_t a, const Divisor& d) noexcept {
  std::uint64_t inverse = 1;
  std::uint64_t power = d.Remainder(a);
  for (std::uint64_t exponent = d.value() - 2; exponent != 0; exponent >>= 1) {
    if ((exponent & 1) != 0) inverse = MultiplyModulo(inverse, power, d);
    power = MultiplyModulo(power, power, d);
  }
  return inverse;
}

}  // namespace

GroupSpace::GroupSpace(std::span<const std::uint64_t> sizes, std::span<const std::uint64_t> offsets,
                       MixRange range)
    : range_(range) {
  assert(sizes.size() == offsets.size());
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    heads_.push_back({Divisor(sizes[i]), offsets[i]});
  }
  const WideMix range_size = WideMix{1} << (range == MixRange::kSigned64 ? 64 : 63);
  for (const Head& head : heads_) {
    if (product_ >= range_size) break;
    const auto before = static_cast<std::uint64_t>(product_);
    digits_.push_back({before, Inverse(before, head.size)});
    product_ *= head.size.value();
  }
  reduced_ = product_ < range_size;
}

void GroupSpace::RowsOfMix(std::uint64_t mix, RowId* rows) const noexcept {
  for (std::size_t i = 0; i < heads_.size(); ++i) {
    rows[i] = RowOfMix(mix, i);
  }
}

std::optional<std::uint64_t> GroupSpace::Represent(WideMix value) const noexcept {
  if (value < kTwo63) return static_cast<std::uint64_t>(value);
  if (range_ == MixRange::kUnsigned63 || product_ - value > kTwo63) return std::nullopt;
  // value - product, in [-2^63, 0). Unambiguous: were the product below 2^64, every
  // value has one number of the range chosen here; above, only one exists.
  return static_cast<std::uint64_t>(value - product_);
}

std::optional<std::uint64_t> GroupSpace::KeyOfRows(std::span<const RowId> rows) const noexcept {
  assert(rows.size() == heads_.size());
  // Garner's mixed-radix form: value = v_0 + v_1 p_0 + v_2 p_0 p_1 + ... All but the last
  // partial sums are below a product that is below 2^64; the last is below 2^104.
  WideMix value = 0;
  for (std::size_t i = 0; i < digits_.size(); ++i) {
    const Divisor& size = heads_[i].size;
    const std::uint64_t remainder = Index(rows[i]) - heads_[i].offset;
    if (remainder >= size.value()) return std::nullopt;  // Also where it wrapped.
    const std::uint64_t known = size.Remainder(static_cast<std::uint64_t>(value));
    const std::uint64_t missing =
        remainder >= known ? remainder - known : remainder + size.value() - known;
    const std::uint64_t digit = MultiplyModulo(missing, digits_[i].inverse, size);
    value += WideMix{digit} * digits_[i].product_before;
  }
  const std::optional<std::uint64_t> key = Represent(value);
  if (!key) return std::nullopt;
  for (std::size_t i = digits_.size(); i < heads_.size(); ++i) {
    if (Index(rows[i]) != Remainder(heads_[i], *key) + heads_[i].offset) return std::nullopt;
  }
  return key;
}

}  // namespace tiercel
