#ifndef TIERCEL_ENGRAM_LAYER_MATH_H_
#define TIERCEL_ENGRAM_LAYER_MATH_H_

#include <cmath>
#include <cstddef>
#include <span>

#include "engram/product.h"

namespace tiercel {

template <typename T>
[[nodiscard]] T Sigmoid(T x) noexcept {
  return T{1} / (T{1} + std::exp(-x));
}

template <typename T>
[[nodiscard]] T Silu(T x) noexcept {
  return x * Sigmoid(x);
}

/// 1 / sqrt(mean(x^2) + epsilon).
template <typename T>
[[nodiscard]] T InverseRms(std::span<const T> x, T epsilon) noexcept {
  return T{1} / std::sqrt(Dot(x.data(), x.data(), x.size()) / static_cast<T>(x.size()) + epsilon);
}

/// y = w * x / sqrt(mean(x^2) + epsilon). `y` may be `x`.
template <typename T>
void RmsNorm(std::span<const T> x, std::span<const T> w, T epsilon, std::span<T> y) noexcept {
  const T inverse = InverseRms(x, epsilon);
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] * inverse * w[i];
}

/// The gradients of RmsNorm(): dx and dw are added to.
///
/// With r the inverse RMS, y_i = w_i x_i r and dr/dx_j = -r^3 x_j / n, hence
/// dx_j = w_j r dy_j - x_j r^3 / n * sum_i dy_i w_i x_i.
template <typename T>
void AddRmsNormGradients(std::span<const T> x, std::span<const T> w, T epsilon,
                         std::span<const T> dy, std::span<T> dx, std::span<T> dw) noexcept {
  const T inverse = InverseRms(x, epsilon);
  T sum{0};
  for (std::size_t i = 0; i < x.size(); ++i) sum += dy[i] * w[i] * x[i];
  const T shared = sum * inverse * inverse * inverse / static_cast<T>(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    dx[i] += w[i] * inverse * dy[i] - x[i] * shared;
    dw[i] += dy[i] * x[i] * inverse;
  }
}

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_LAYER_MATH_H_
