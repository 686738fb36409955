#ifndef TIERCEL_ENGRAM_PRODUCT_H_
#define TIERCEL_ENGRAM_PRODUCT_H_

#include <cstddef>
#include <span>

// Products of the reference layer, for float and double.
//
// No BLAS: there the bits of an output depend on how many rows a product has, on threads and
// on alignment, and a prompt would differ from its tokens one by one. Here each output is
// one Dot(), whose order of summation follows from its length alone.

namespace tiercel {

/// The sum of a[i] * b[i]: 64 bytes of partial sums, element i in sum i mod (64 / sizeof(T)),
/// folded in halves at the end.
template <typename T>
[[nodiscard]] T Dot(const T* a, const T* b, std::size_t count) noexcept;

/// y = x * w^T, each output one Dot().
///
///   x  shape [t, in_count]; t is whatever fits.
///   w  shape [out_count, in_count].
///   y  shape [t, out_count]; must not overlap the others.
template <typename T>
void Product(std::span<const T> x, std::span<const T> w, std::size_t in_count,
             std::span<T> y) noexcept;

/// dx += dy * w: what Product() does to the gradient by its input.
///   dy  shape [t, out_count].    w  shape [out_count, in_count].    dx  shape [t, in_count].
template <typename T>
void AddInputGradient(std::span<const T> dy, std::span<const T> w, std::size_t in_count,
                      std::span<T> dx) noexcept;

/// dw += dy^T * x: what Product() does to the gradient by its weights.
///   dy  shape [t, out_count].    x  shape [t, in_count].    dw  shape [out_count, in_count].
template <typename T>
void AddWeightGradient(std::span<const T> dy, std::span<const T> x, std::size_t in_count,
                       std::span<T> dw) noexcept;

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_PRODUCT_H_
