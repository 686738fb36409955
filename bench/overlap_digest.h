#ifndef TIERCEL_BENCH_OVERLAP_DIGEST_H_
#define TIERCEL_BENCH_OVERLAP_DIGEST_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace tiercel::bench {

/// What one word of rows adds to their digest. `index` is its place, so that words that
/// changed places are seen; a sum of these, modulo 2^64, comes out the same in whatever order
/// it is taken, by a host thread or by many threads of a GPU. One multiplication a word: the
/// digest is time that a layer is said to have taken.
[[nodiscard]] constexpr std::uint64_t DigestTerm(std::uint64_t word, std::uint64_t index) noexcept {
  std::uint64_t term = word ^ (index * 0x9E3779B97F4A7C15U);
  term ^= term >> 32;
  term *= 0xD6E8FEB86659FD93U;
  return term ^ (term >> 32);
}

/// Of a layer's rows of one step: its place is the layer's number times this and its own.
inline constexpr std::uint64_t kDigestLayerWords = std::uint64_t{1} << 40;

/// Sum of the terms of all words of `rows`, whose size is a multiple of 8 bytes.
[[nodiscard]] inline std::uint64_t DigestOf(std::span<const std::byte> rows,
                                            std::uint64_t first_index) noexcept {
  std::uint64_t sum = 0;
  for (std::size_t at = 0; at + 8 <= rows.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, rows.data() + at, 8);
    sum += DigestTerm(word, first_index + at / 8);
  }
  return sum;
}

}  // namespace tiercel::bench

#endif  // TIERCEL_BENCH_OVERLAP_DIGEST_H_
