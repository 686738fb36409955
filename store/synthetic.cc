#include "store/synthetic.h"

#include <cassert>
#include <cstring>

#include "base/byte_order.h"
#include "base/prng.h"
#include "engram/dequantize_ggml.h"
#include "tiercel/synthetic.h"

namespace tiercel {
namespace {

constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15U;

/// One round: half of SplitMix64's work, good enough for bytes that stand in for a
/// trained table. (One multiplication a word is what keeps a core above 3 GB/s.)
constexpr std::uint64_t Mix(std::uint64_t x) noexcept {
  x ^= x >> 32;
  x *= 0xD6E8FEB86659FD93U;
  return x ^ (x >> 32);
}

/// `byte` in each byte of a word.
constexpr std::uint64_t Bytes(std::uint64_t byte) noexcept {
  return byte * 0x0101010101010101U;
}
/// `half` in each 16 bits of a word.
constexpr std::uint64_t Halves(std::uint64_t half) noexcept {
  return half * 0x0001000100010001U;
}

/// Any E4M3 but NaN: adding 1 to the low 7 bits carries into bit 7 for 0x7f alone,
/// and that carry, moved down, turns the 0x7f into 0x7e (448).
struct E4M3Words {
  constexpr std::uint64_t operator()(std::uint64_t x) const noexcept {
    const std::uint64_t carry = ((x & Bytes(0x7f)) + Bytes(0x01)) & Bytes(0x80);
    return x ^ (carry >> 7);
  }
};
/// UE8M0 in [110, 125]: 2^-17 to 2^-2.
struct ScaleWords {
  constexpr std::uint64_t operator()(std::uint64_t x) const noexcept {
    return (x & Bytes(0x0f)) + Bytes(110);
  }
};
/// Sign and mantissa as they come, exponent in [112, 127]: 2^-15 to 2.
struct Bf16Words {
  constexpr std::uint64_t operator()(std::uint64_t x) const noexcept {
    return (x & Halves(0x87ff)) | Halves(0x3800);
  }
};
/// Exponent in [0, 15]: below 2, subnormals among them.
struct Fp16Words {
  constexpr std::uint64_t operator()(std::uint64_t x) const noexcept { return x & Halves(0xbfff); }
};
struct Fp32Words {
  constexpr std::uint64_t operator()(std::uint64_t x) const noexcept {
    return (x & 0x87ffffff87ffffffU) | 0x3800000038000000U;
  }
};

struct PlainWords {
  constexpr std::uint64_t operator()(std::uint64_t x) const noexcept { return x; }
};

/// Any bytes are a valid row of ggml's blocks but for their halves, which may not be
/// infinite or NaN: positive, 2^-7 to 2^-3.
void BendGgmlScales(RowFormat format, std::span<std::byte> rows) noexcept {
  const GgmlBlock block = GgmlBlockOf(format);
  for (std::size_t at = 0; at < rows.size(); at += block.size_bytes) {
    for (const std::uint32_t offset : {block.d_offset, block.dmin_offset}) {
      std::byte* const half = rows.data() + at + offset;
      const std::uint32_t bits = LoadLittleEndian<std::uint16_t>(half);
      StoreLittleEndian(half, static_cast<std::uint16_t>((bits & 0x0FFFU) | 0x2000U));
    }
  }
}

/// Rows of `row_bytes` bytes whose words count from `first_word` on.
template <typename Bend>
void FillRows(std::uint64_t table_key, std::uint64_t first_row, std::uint64_t row_count,
              std::uint64_t first_word, std::size_t row_bytes, std::byte* out) noexcept {
  const std::size_t word_count = row_bytes / 8;
  const std::size_t tail_bytes = row_bytes % 8;
  for (std::uint64_t row = first_row; row < first_row + row_count; ++row) {
    std::uint64_t counter = SplitMix64(table_key + row) + (first_word + 1) * kGolden;
    for (std::size_t i = 0; i < word_count; ++i) {
      const std::uint64_t word = Bend()(Mix(counter));
      std::memcpy(out + 8 * i, &word, 8);
      counter += kGolden;
    }
    if (tail_bytes != 0) {
      const std::uint64_t word = Bend()(Mix(counter));
      std::memcpy(out + 8 * word_count, &word, tail_bytes);
    }
    out += row_bytes;
  }
}

}  // namespace

std::uint32_t SyntheticPartCount(const RowShape& shape) noexcept {
  return shape.format == RowFormat::kE4M3Block32 ? 2 : 1;
}

std::uint32_t SyntheticPartSizeBytes(const RowShape& shape, std::uint32_t part) noexcept {
  assert(part < SyntheticPartCount(shape));
  if (shape.format != RowFormat::kE4M3Block32) return shape.row_size_bytes();
  return part == 0 ? shape.value_count : shape.value_count / 32;
}

void FillSyntheticPart(const SyntheticTable& table, std::uint32_t part, std::uint64_t first_row,
                       std::uint64_t row_count, std::span<std::byte> bytes) noexcept {
  const std::size_t row_bytes = SyntheticPartSizeBytes(table.shape, part);
  assert(bytes.size() == row_count * row_bytes);
  const std::uint64_t key = SplitMix64(table.seed ^ SplitMix64(table.layer_id));
  std::byte* const out = bytes.data();
  switch (table.shape.format) {
    case RowFormat::kE4M3Block32:
      if (part == 1) {
        // The scales' words follow those of the values, of which there are a multiple of 32.
        const std::uint64_t first_word = table.shape.value_count / 8;
        FillRows<ScaleWords>(key, first_row, row_count, first_word, row_bytes, out);
        return;
      }
      [[fallthrough]];
    case RowFormat::kE4M3Tensor:
      FillRows<E4M3Words>(key, first_row, row_count, 0, row_bytes, out);
      return;
    case RowFormat::kBf16:
      FillRows<Bf16Words>(key, first_row, row_count, 0, row_bytes, out);
      return;
    case RowFormat::kFp16:
      FillRows<Fp16Words>(key, first_row, row_count, 0, row_bytes, out);
      return;
    case RowFormat::kFp32:
      FillRows<Fp32Words>(key, first_row, row_count, 0, row_bytes, out);
      return;
    case RowFormat::kQ8_0:
    case RowFormat::kQ4_K:
    case RowFormat::kQ3_K:
    case RowFormat::kQ2_K:
      FillRows<PlainWords>(key, first_row, row_count, 0, row_bytes, out);
      BendGgmlScales(table.shape.format, bytes);
      return;
  }
}

void SyntheticRow(std::uint64_t seed, std::uint32_t layer_id, RowId row, const RowShape& shape,
                  std::span<std::byte> row_bytes) noexcept {
  assert(row_bytes.size() == shape.row_size_bytes());
  const SyntheticTable table{.seed = seed, .layer_id = layer_id, .shape = shape};
  std::size_t at = 0;
  for (std::uint32_t part = 0; part < SyntheticPartCount(shape); ++part) {
    const std::size_t size_bytes = SyntheticPartSizeBytes(shape, part);
    FillSyntheticPart(table, part, Index(row), 1, row_bytes.subspan(at, size_bytes));
    at += size_bytes;
  }
}

}  // namespace tiercel
