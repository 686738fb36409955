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
