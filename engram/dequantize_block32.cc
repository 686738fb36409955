#include "engram/dequantize_block32.h"

#include <algorithm>

#include "engram/float_formats.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace tiercel {
namespace {

constexpr std::uint32_t kBlockSize = 32;
constexpr std::uint8_t kNanScale = 255;
constexpr std::uint32_t kNanBits = 0x7FC00000U;

void FillNan(float* block) noexcept {
  std::fill_n(block, kBlockSize, FloatFromBits(kNanBits));
}
void FillNan(std::uint16_t* block) noexcept {
  std::fill_n(block, kBlockSize, static_cast<std::uint16_t>(kNanBits >> 16));
}

template <typename T>
void Plain(const std::byte* bytes, const std::byte* scales, std::uint32_t value_count,
           T* values) noexcept {
  for (std::uint32_t i = 0; i < value_count; i += kBlockSize) {
    const auto scale_byte = std::to_integer<std::uint8_t>(scales[i / kBlockSize]);
    if (scale_byte == kNanScale) {
      FillNan(values + i);  // Apart, so that every path gives the same NaN.
      continue;
    }
    const float scale = FloatFromUe8m0(scale_byte);
    for (std::uint32_t j = i; j < i + kBlockSize; ++j) {
      StoreFloat(FloatFromE4M3(std::to_integer<std::uint8_t>(bytes[j])) * scale, values[j]);
    }
  }
}

#if defined(__x86_64__)

/// Eight E4M3 bytes times `scale`, exactly.
///
/// Shifted into place, an E4M3 is the half of 2^-8 its value: half has the same form
/// with a bias of 15 for 7 (subnormals included) and ten fraction bits for three. So
/// the half is widened, multiplied by 2^8, which is exact, and by the scale. Only NaN
/// has no counterpart (0x7f would become 480) and is put in at the end.
__attribute__((target("avx2,f16c"))) inline __m256 EightScaled(const std::byte* bytes,
                                                               __m256 scale) noexcept {
  const __m128i loaded = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes));
  const __m128i words = _mm_cvtepu8_epi16(loaded);
  const __m128i magnitude = _mm_and_si128(words, _mm_set1_epi16(0x7F));
  const __m128i sign = _mm_slli_epi16(_mm_and_si128(words, _mm_set1_epi16(0x80)), 8);
  const __m128i half = _mm_or_si128(sign, _mm_slli_epi16(magnitude, 7));
  const __m256 widened = _mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(256.0F));
  const __m256 product = _mm256_mul_ps(widened, scale);
  const __m128i nan_words = _mm_cmpeq_epi16(magnitude, _mm_set1_epi16(0x7F));
  const __m256 is_nan = _mm256_castsi256_ps(_mm256_cvtepi16_epi32(nan_words));
  const __m256 sign_bit = _mm256_and_ps(widened, _mm256_set1_ps(-0.0F));
  const __m256 nan =
      _mm256_or_ps(sign_bit, _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(kNanBits))));
  return _mm256_blendv_ps(product, nan, is_nan);
}

/// Nearest, ties to even, in the low half of each word. A NaN of EightScaled() has
/// zeros in its low half and comes through unchanged.
__attribute__((target("avx2,f16c"))) inline __m256i Bf16Words(__m256 values) noexcept {
  const __m256i bits = _mm256_castps_si256(values);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
  return _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
}

__attribute__((target("avx2,f16c"))) inline void Sixteen(const std::byte* bytes, __m256 scale,
                                                         float* values) noexcept {
  _mm256_storeu_ps(values, EightScaled(bytes, scale));
  _mm256_storeu_ps(values + 8, EightScaled(bytes + 8, scale));
}

__attribute__((target("avx2,f16c"))) inline void Sixteen(const std::byte* bytes, __m256 scale,
                                                         std::uint16_t* values) noexcept {
  const __m256i low = Bf16Words(EightScaled(bytes, scale));
  const __m256i high = Bf16Words(EightScaled(bytes + 8, scale));
  // packus works within 128-bit lanes; the permutation puts the quarters in order.
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xD8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), packed);
}

/// Scales of whose products with E4M3 values none is subnormal or too large as bf16: from
/// 2^-9 * 2^-117 to 448 * 2^119. A bf16 holds the product of such a one exactly.
constexpr std::uint8_t kExactScaleMin = 127 - 117;
constexpr std::uint8_t kExactScaleMax = 127 + 119;

/// One of those scales, ready to be applied to E4M3 bytes without leaving 16-bit integers.
struct ExactScale {
  __m256i bias;        ///< What is added to the exponent and fraction of a normal value.
  __m256i subnormals;  ///< In each half: products of the 8 values without an exponent.
};

__attribute__((target("avx2"))) inline ExactScale MakeExactScale(std::uint8_t scale_byte) noexcept {
  const int exponent = scale_byte - 127;
  const __m256i shift = _mm256_set1_epi16(static_cast<short>(exponent * 128));
  // n * 2^-9 as bf16: 118 is the exponent field of 2^-9.
  const __m256i unscaled = _mm256_broadcastsi128_si256(
      _mm_setr_epi16(0, 118 << 7, 119 << 7, (119 << 7) | 0x40, 120 << 7, (120 << 7) | 0x20,
                     (120 << 7) | 0x40, (120 << 7) | 0x60));
  const __m256i is_zero = _mm256_cmpeq_epi16(unscaled, _mm256_setzero_si256());
  return {.bias = _mm256_set1_epi16(static_cast<short>((120 + exponent) * 128)),
          .subnormals = _mm256_add_epi16(unscaled, _mm256_andnot_si256(is_zero, shift))};
}

/// Sixteen products as bf16. Where an E4M3 has an exponent, it and the three fraction bits
/// move to their place, and the bias goes from 7 to 127 plus the scale's exponent; the other
/// eight magnitudes are looked up.
__attribute__((target("avx2"))) inline __m256i SixteenExact(const std::byte* bytes,
                                                            const ExactScale& scale) noexcept {
  const __m256i words =
      _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
  const __m256i magnitude = _mm256_and_si256(words, _mm256_set1_epi16(0x7F));
  const __m256i sign = _mm256_slli_epi16(_mm256_xor_si256(words, magnitude), 8);
  const __m256i normal = _mm256_add_epi16(_mm256_slli_epi16(magnitude, 4), scale.bias);
  // Bytes 2n and 2n + 1 of the table.
  const __m256i twice =
      _mm256_shuffle_epi8(_mm256_add_epi16(magnitude, magnitude),
                          _mm256_set_epi64x(0x0E0E0C0C0A0A0808, 0x0606040402020000,
                                            0x0E0E0C0C0A0A0808, 0x0606040402020000));
  const __m256i subnormal =
      _mm256_shuffle_epi8(scale.subnormals, _mm256_add_epi16(twice, _mm256_set1_epi16(0x0100)));
  const __m256i has_exponent = _mm256_cmpgt_epi16(magnitude, _mm256_set1_epi16(7));
  const __m256i value = _mm256_blendv_epi8(subnormal, normal, has_exponent);
  const __m256i is_nan = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7F));
  const __m256i nan = _mm256_set1_epi16(static_cast<short>(kNanBits >> 16));
  return _mm256_or_si256(_mm256_blendv_epi8(value, nan, is_nan), sign);
}

__attribute__((target("avx2"))) inline void SixteenExact(const std::byte* bytes,
                                                         const ExactScale& scale,
                                                         std::uint16_t* values) noexcept {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), SixteenExact(bytes, scale));
}

__attribute__((target("avx2"))) inline void SixteenExact(const std::byte* bytes,
                                                         const ExactScale& scale,
                                                         float* values) noexcept {
  const __m256i words = SixteenExact(bytes, scale);
  const __m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(words));
  const __m256i high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(words, 1));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), _mm256_slli_epi32(low, 16));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + 8), _mm256_slli_epi32(high, 16));
}

template <typename T>
__attribute__((target("avx2,f16c"))) void Vectorised(const std::byte* bytes,
                                                     const std::byte* scales,
                                                     std::uint32_t value_count,
                                                     T* values) noexcept {
  for (std::uint32_t i = 0; i < value_count; i += kBlockSize) {
    const auto scale_byte = std::to_integer<std::uint8_t>(scales[i / kBlockSize]);
    if (scale_byte == kNanScale) {
      FillNan(values + i);
      continue;
    }
    if (scale_byte >= kExactScaleMin && scale_byte <= kExactScaleMax) [[likely]] {
      const ExactScale scale = MakeExactScale(scale_byte);
      SixteenExact(bytes + i, scale, values + i);
      SixteenExact(bytes + i + 16, scale, values + i + 16);
      continue;
    }
    const __m256 scale = _mm256_set1_ps(FloatFromUe8m0(scale_byte));
    Sixteen(bytes + i, scale, values + i);
    Sixteen(bytes + i + 16, scale, values + i + 16);
  }
}

bool HasF16c() noexcept {  // clang 14 does not know __builtin_cpu_supports("f16c").
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

const bool kHasAvx2 = __builtin_cpu_supports("avx2") != 0 && HasF16c();

#endif

template <typename T>
void Choose(const std::byte* bytes, const std::byte* scales, std::uint32_t value_count,
            T* values) noexcept {
#if defined(__x86_64__)
  if (kHasAvx2) {
    Vectorised(bytes, scales, value_count, values);
    return;
  }
#endif
  Plain(bytes, scales, value_count, values);
}

}  // namespace

void DequantizeBlock32(const std::byte* bytes, const std::byte* scales, std::uint32_t value_count,
                       float* values) noexcept {
  Choose(bytes, scales, value_count, values);
}
void DequantizeBlock32(const std::byte* bytes, const std::byte* scales, std::uint32_t value_count,
                       std::uint16_t* values) noexcept {
  Choose(bytes, scales, value_count, values);
}
void DequantizeBlock32Plain(const std::byte* bytes, const std::byte* scales,
                            std::uint32_t value_count, float* values) noexcept {
  Plain(bytes, scales, value_count, values);
}
void DequantizeBlock32Plain(const std::byte* bytes, const std::byte* scales,
                            std::uint32_t value_count, std::uint16_t* values) noexcept {
  Plain(bytes, scales, value_count, values);
}

}  // namespace tiercel
