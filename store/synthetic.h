#ifndef TIERCEL_STORE_SYNTHETIC_H_
#define TIERCEL_STORE_SYNTHETIC_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "tiercel/row_format.h"

namespace tiercel {

/// The file that marks a made checkpoint, and what stands in it.
inline constexpr std::string_view kSyntheticMarkerName = "tiercel_synthetic.json";
inline constexpr std::string_view kSyntheticMarkerFormat = "tiercel-synthetic";
inline constexpr std::uint64_t kSyntheticMarkerVersion = 1;
/// Goes up whenever SyntheticRow gives other bytes for the same arguments.
inline constexpr std::uint64_t kSyntheticGenerator = 1;

/// Rows whose bytes are made from nothing.
///
/// A row is a stream of 64-bit words: word j is Mix(key + (j + 1) * golden ratio),
/// where the key is SplitMix64 of seed, layer and row id, and Mix is one round of
/// multiply and shift. Words of values and words of scales are then bent into finite
/// values of moderate size. Every part of a row can be made apart from the others.
struct SyntheticTable {
  std::uint64_t seed = 0;
  std::uint32_t layer_id = 0;
  RowShape shape;
};

/// Parts that a row of this shape is stored in: 2 for kE4M3Block32, else 1.
[[nodiscard]] std::uint32_t SyntheticPartCount(const RowShape& shape) noexcept;
/// Bytes of one row in that part. REQUIRES: part < SyntheticPartCount(shape).
[[nodiscard]] std::uint32_t SyntheticPartSizeBytes(const RowShape& shape,
                                                   std::uint32_t part) noexcept;

/// One part of `row_count` rows from `first_row` on, one after another. Values: about
/// 5 GB/s on one core; scales, one word a row, half of that. Never blocks or allocates.
///
///   bytes  shape [row_count, SyntheticPartSizeBytes(table.shape, part)].
void FillSyntheticPart(const SyntheticTable& table, std::uint32_t part, std::uint64_t first_row,
                       std::uint64_t row_count, std::span<std::byte> bytes) noexcept;

}  // namespace tiercel

#endif  // TIERCEL_STORE_SYNTHETIC_H_
