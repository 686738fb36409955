#ifndef TIERCEL_CUDA_COPY_GROUP_CUH_
#define TIERCEL_CUDA_COPY_GROUP_CUH_

#include <cstddef>
#include <cstdint>

// Copies by one warp, in the widest accesses that addresses and sizes allow, with several
// loads in flight before the first store. All threads of the warp take part.

namespace tiercel {

inline constexpr std::uint32_t kWarpThreads = 32;

/// `unit_count` units of a T each. Where the source is rows with something in between, unit
/// u lies in row u / units_per_row, `row_stride_bytes` from one row to the next. `also` gets
/// the same, unless it is null.
template <typename T, bool kRows>
__device__ void CopyUnits(std::byte* target, const std::byte* source, std::uint32_t unit_count,
                          std::uint32_t units_per_row, std::uint32_t row_stride_bytes,
                          std::uint32_t thread, std::byte* also = nullptr) {
  constexpr std::uint32_t kInFlight = kRows ? 4 : 5;  // 2,112 B are 4.1 times 32 units of 16.
  T* const out = reinterpret_cast<T*>(target);
  for (std::uint32_t first = thread; first < unit_count; first += kWarpThreads * kInFlight) {
    T loaded[kInFlight];
#pragma unroll
    for (std::uint32_t i = 0; i < kInFlight; ++i) {
      const std::uint32_t unit = first + i * kWarpThreads;
      if (unit >= unit_count) continue;
      const std::byte* at = source + std::uint64_t{unit} * sizeof(T);
      if constexpr (kRows) {
        const std::uint32_t row = unit / units_per_row;
        at = source + std::uint64_t{row} * row_stride_bytes +
             std::uint64_t{unit - row * units_per_row} * sizeof(T);
      }
      loaded[i] = *reinterpret_cast<const T*>(at);
    }
#pragma unroll
    for (std::uint32_t i = 0; i < kInFlight; ++i) {
      const std::uint32_t unit = first + i * kWarpThreads;
      if (unit >= unit_count) continue;
      out[unit] = loaded[i];
      if (also != nullptr) reinterpret_cast<T*>(also)[unit] = loaded[i];
    }
  }
}

/// An access of 2^n bytes needs its n lowest bits to be clear.
__device__ inline std::uint64_t AddressBits(const std::byte* target, const std::byte* source) {
  return reinterpret_cast<std::uintptr_t>(target) | reinterpret_cast<std::uintptr_t>(source);
}

/// Where accesses cannot be wide. Not inlined, lest it cost the wide ones registers.
inline __device__ __noinline__ void CopyNarrow(std::byte* target, const std::byte* source,
                                               std::uint32_t row_count, std::uint32_t size_bytes,
                                               std::uint32_t row_stride_bytes,
                                               std::uint32_t thread) {
  const std::uint64_t bits = AddressBits(target, source) | size_bytes | row_stride_bytes;
  if (bits % 4 == 0) {
    CopyUnits<std::uint32_t, true>(target, source, row_count * (size_bytes / 4), size_bytes / 4,
                                   row_stride_bytes, thread);
  } else {
    CopyUnits<std::uint8_t, true>(target, source, row_count * size_bytes, size_bytes,
                                  row_stride_bytes, thread);
  }
}

/// The first `size_bytes` of each of `row_count` rows, which come to lie side by side.
__device__ inline void CopyRows(std::byte* target, const std::byte* source, std::uint32_t row_count,
                                std::uint32_t size_bytes, std::uint32_t row_stride_bytes,
                                std::uint32_t thread) {
  const std::uint64_t bits = AddressBits(target, source) | size_bytes | row_stride_bytes;
  if (bits % 8 == 0) {
    // Every second V4.1 row begins at a multiple of 8 alone.
    CopyUnits<uint2, true>(target, source, row_count * (size_bytes / 8), size_bytes / 8,
                           row_stride_bytes, thread);
  } else {
    CopyNarrow(target, source, row_count, size_bytes, row_stride_bytes, thread);
  }
}

/// `size_bytes` side by side, to `target` and, unless it is null, to `also`.
__device__ inline void CopyBytes(std::byte* target, const std::byte* source,
                                 std::uint32_t size_bytes, std::uint32_t thread,
                                 std::byte* also = nullptr) {
  const std::uint64_t bits = AddressBits(target, source) | reinterpret_cast<std::uintptr_t>(also);
  if ((bits | size_bytes) % 16 == 0) {
    CopyUnits<uint4, false>(target, source, size_bytes / 16, 0, 0, thread, also);
    return;
  }
  CopyRows(target, source, 1, size_bytes, size_bytes, thread);
  if (also != nullptr) CopyRows(also, source, 1, size_bytes, size_bytes, thread);
}

__device__ inline void ZeroBytes(std::byte* target, std::uint32_t size_bytes,
                                 std::uint32_t thread) {
  const std::uint64_t bits = reinterpret_cast<std::uintptr_t>(target) | size_bytes;
  if (bits % 16 == 0) {
    for (std::uint32_t i = thread; i < size_bytes / 16; i += kWarpThreads) {
      reinterpret_cast<uint4*>(target)[i] = make_uint4(0, 0, 0, 0);
    }
  } else {
    for (std::uint32_t i = thread; i < size_bytes; i += kWarpThreads) target[i] = std::byte{0};
  }
}

}  // namespace tiercel

#endif  // TIERCEL_CUDA_COPY_GROUP_CUH_
