#ifndef TIERCEL_CUDA_DEQUANTIZE_VALUES_CUH_
#define TIERCEL_CUDA_DEQUANTIZE_VALUES_CUH_

#include <cstddef>
#include <cstdint>

#include "engram/float_formats.h"
#include "tiercel/row_format.h"

// Stored values to bf16, one or eight at a time, for the kernels that do so. Compiled
// without fast-math and without flushing to zero: subnormals must come out as they do on
// the host. Loads are plain ones: a gather reads what its warp has just written.

namespace tiercel {

inline constexpr std::uint32_t kValuesAtOnce = 8;

// Variables, not functions: nvcc lets device code read constants of the host.
template <RowFormat kFormat>
constexpr std::uint32_t kValueSizeBytes =
    kFormat == RowFormat::kFp32                                  ? 4
    : kFormat == RowFormat::kBf16 || kFormat == RowFormat::kFp16 ? 2
                                                                 : 1;
/// Bytes that a thread loads at once.
template <RowFormat kFormat>
constexpr std::uint32_t kLoadSizeBytes = kValueSizeBytes<kFormat> == 1 ? 8 : 16;

/// What the values of a row are multiplied by.
struct RowScales {
  std::uint32_t value_count = 0;
  float tensor_scale = 1.0F;
};

/// One stored value as bf16. `factor` is the block's or the table's scale.
template <RowFormat kFormat>
__device__ std::uint16_t Bf16FromStored(std::uint32_t stored, float factor) {
  if constexpr (kFormat == RowFormat::kE4M3Block32 || kFormat == RowFormat::kE4M3Tensor) {
    return Bf16FromFloat(FloatFromE4M3(static_cast<std::uint8_t>(stored)) * factor);
  } else if constexpr (kFormat == RowFormat::kBf16) {
    return static_cast<std::uint16_t>(stored);
  } else if constexpr (kFormat == RowFormat::kFp16) {
    return Bf16FromFloat(FloatFromFp16(static_cast<std::uint16_t>(stored)));
  } else {
    return Bf16FromFloat(FloatFromBits(stored));
  }
}

/// The scale that is stored for a value. Apart from FactorOf(), so that several loads are in
/// flight before the first is looked at.
template <RowFormat kFormat>
__device__ std::uint8_t LoadScale(const RowScales& scales, const std::byte* row,
                                  std::uint32_t column) {
  if constexpr (kFormat != RowFormat::kE4M3Block32) return 0;
  return static_cast<std::uint8_t>(row[scales.value_count + column / 32]);
}

template <RowFormat kFormat>
__device__ float FactorOf(const RowScales& scales, std::uint8_t stored) {
  if constexpr (kFormat == RowFormat::kE4M3Block32) {
    return FloatFromUe8m0(stored);
  } else if constexpr (kFormat == RowFormat::kE4M3Tensor) {
    return FloatFromBf16(Bf16FromFloat(scales.tensor_scale));
  } else {
    return 1.0F;
  }
}

template <RowFormat kFormat>
__device__ std::uint32_t LoadStored(const std::byte* row, std::uint32_t column) {
  constexpr std::uint32_t kSizeBytes = kValueSizeBytes<kFormat>;
  const std::byte* const at = row + std::uint64_t{column} * kSizeBytes;
  if constexpr (kSizeBytes == 1) return static_cast<std::uint8_t>(*at);
  if constexpr (kSizeBytes == 2) return *reinterpret_cast<const std::uint16_t*>(at);
  if constexpr (kSizeBytes == 4) return *reinterpret_cast<const std::uint32_t*>(at);
}

/// The words that hold eight stored values.
template <RowFormat kFormat>
struct EightValues {
  std::uint32_t words[2 * kValueSizeBytes<kFormat>];
};

/// From `column` on. REQUIRES: their address is a multiple of kLoadSizeBytes.
template <RowFormat kFormat>
__device__ EightValues<kFormat> LoadEight(const std::byte* row, std::uint32_t column) {
  constexpr std::uint32_t kSizeBytes = kValueSizeBytes<kFormat>;
  const std::byte* const at = row + std::uint64_t{column} * kSizeBytes;
  EightValues<kFormat> values;
  if constexpr (kSizeBytes == 1) {
    const uint2 loaded = *reinterpret_cast<const uint2*>(at);
    values.words[0] = loaded.x;
    values.words[1] = loaded.y;
  } else {
#pragma unroll
    for (std::uint32_t i = 0; i < kSizeBytes / 2; ++i) {
      const uint4 loaded = *(reinterpret_cast<const uint4*>(at) + i);
      values.words[4 * i] = loaded.x;
      values.words[4 * i + 1] = loaded.y;
      values.words[4 * i + 2] = loaded.z;
      values.words[4 * i + 3] = loaded.w;
    }
  }
  return values;
}

/// Two floats as bf16, the first one lower.
__device__ inline std::uint32_t PackBf16(float first, float second) {
#ifdef __CUDACC__
  std::uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(second), "f"(first));
  return packed;
#else
  return Bf16FromFloat(first) | std::uint32_t{Bf16FromFloat(second)} << 16;
#endif
}

/// Whether one of four E4M3 bytes is NaN: adding 1 to its seven low bits then carries.
__device__ inline bool HasE4M3Nan(std::uint32_t word) {
  return (((word & 0x7F7F7F7FU) + 0x01010101U) & 0x80808080U) != 0;
}

/// FloatFromE4M3() of byte `i` of a word without a branch: the bits where a float has them
/// are the value times 2^-120, subnormals too. Not for NaN.
__device__ inline float FloatOfE4M3(std::uint32_t word, std::uint32_t i) {
  const std::uint32_t byte = word >> (8 * i);
  return FloatFromBits((byte & 0x80U) << 24 | (byte & 0x7FU) << 20) * 0x1p120F;
}

/// Eight values as bf16, each by the functions that the host has.
template <RowFormat kFormat>
__device__ uint4 PackSlowly(const EightValues<kFormat>& values, float factor) {
  constexpr std::uint32_t kSizeBytes = kValueSizeBytes<kFormat>;
  constexpr std::uint32_t kPerWord = 4 / kSizeBytes;
  std::uint32_t packed[4];
#pragma unroll
  for (std::uint32_t i = 0; i < kValuesAtOnce; i += 2) {
    std::uint32_t pair = 0;
#pragma unroll
    for (std::uint32_t j = 0; j < 2; ++j) {
      const std::uint32_t word = values.words[(i + j) / kPerWord];
      const std::uint32_t shifted = word >> (8 * kSizeBytes * ((i + j) % kPerWord));
      const std::uint32_t stored =
          kSizeBytes == 4 ? word : shifted & ((1U << (8 * kSizeBytes)) - 1);
      pair |= std::uint32_t{Bf16FromStored<kFormat>(stored, factor)} << (16 * j);
    }
    packed[i / 2] = pair;
  }
  return make_uint4(packed[0], packed[1], packed[2], packed[3]);
}

/// For E4M3 with a NaN among values and scale. Out of line: rare, and long.
template <RowFormat kFormat>
__device__ __noinline__ uint4 PackNan(std::uint32_t first, std::uint32_t second, float factor) {
  EightValues<kFormat> values;
  values.words[0] = first;
  values.words[1] = second;
  return PackSlowly<kFormat>(values, factor);
}

/// Eight values as bf16.
template <RowFormat kFormat>
__device__ uint4 PackEight(const EightValues<kFormat>& values, float factor) {
  if constexpr (kValueSizeBytes<kFormat> != 1) {
    return PackSlowly<kFormat>(values, factor);
  } else {
    const std::uint32_t low = values.words[0];
    const std::uint32_t high = values.words[1];
    // Of NaN the instruction would choose other bits than the host.
    if (HasE4M3Nan(low) || HasE4M3Nan(high) || factor != factor) {
      return PackNan<kFormat>(low, high, factor);
    }
    return make_uint4(PackBf16(FloatOfE4M3(low, 0) * factor, FloatOfE4M3(low, 1) * factor),
                      PackBf16(FloatOfE4M3(low, 2) * factor, FloatOfE4M3(low, 3) * factor),
                      PackBf16(FloatOfE4M3(high, 0) * factor, FloatOfE4M3(high, 1) * factor),
                      PackBf16(FloatOfE4M3(high, 2) * factor, FloatOfE4M3(high, 3) * factor));
  }
}

/// Eight values as bf16, to `target`. REQUIRES: it is a multiple of 16 bytes.
template <RowFormat kFormat>
__device__ void StoreEight(const EightValues<kFormat>& values, float factor,
                           std::uint16_t* target) {
  // By name, for a plain assignment is compiled to four stores.
  __stwb(reinterpret_cast<uint4*>(target), PackEight<kFormat>(values, factor));
}

}  // namespace tiercel

#endif  // TIERCEL_CUDA_DEQUANTIZE_VALUES_CUH_
