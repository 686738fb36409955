#include "engram/product.h"

#include <cstring>

namespace tiercel {

template <typename T>
T Dot(const T* a, const T* b, std::size_t count) noexcept {
  // A vector of the compiler's, which every instruction set has some form of: the partial
  // sums, and so the bits, are the same with all of them.
  typedef T Lanes __attribute__((vector_size(64)));
  constexpr std::size_t kLanes = sizeof(Lanes) / sizeof(T);
  Lanes sums = {};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Lanes left;
    Lanes right;
    std::memcpy(&left, a + i, sizeof(Lanes));
    std::memcpy(&right, b + i, sizeof(Lanes));
    sums += left * right;
  }
  T lanes[kLanes];
  std::memcpy(lanes, &sums, sizeof(Lanes));
  for (std::size_t lane = 0; i + lane < count; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

template <typename T>
void Product(std::span<const T> x, std::span<const T> w, std::size_t in_count,
             std::span<T> y) noexcept {
  const std::size_t token_count = x.size() / in_count;
  const std::size_t out_count = w.size() / in_count;
  // Outputs outside: a row of weights is read once and serves all tokens from the L1 cache.
  for (std::size_t out = 0; out < out_count; ++out) {
    for (std::size_t token = 0; token < token_count; ++token) {
      y[token * out_count + out] =
          Dot(x.data() + token * in_count, w.data() + out * in_count, in_count);
    }
  }
}

template <typename T>
void AddInputGradient(std::span<const T> dy, std::span<const T> w, std::size_t in_count,
                      std::span<T> dx) noexcept {
  const std::size_t token_count = dx.size() / in_count;
  const std::size_t out_count = w.size() / in_count;
  for (std::size_t token = 0; token < token_count; ++token) {
    for (std::size_t out = 0; out < out_count; ++out) {
      const T factor = dy[token * out_count + out];
      for (std::size_t in = 0; in < in_count; ++in) {
        dx[token * in_count + in] += factor * w[out * in_count + in];
      }
    }
  }
}

template <typename T>
void AddWeightGradient(std::span<const T> dy, std::span<const T> x, std::size_t in_count,
                       std::span<T> dw) noexcept {
  const std::size_t token_count = x.size() / in_count;
  const std::size_t out_count = dw.size() / in_count;
  for (std::size_t out = 0; out < out_count; ++out) {
    for (std::size_t token = 0; token < token_count; ++token) {
      const T factor = dy[token * out_count + out];
      for (std::size_t in = 0; in < in_count; ++in) {
        dw[out * in_count + in] += factor * x[token * in_count + in];
      }
    }
  }
}

template float Dot<float>(const float*, const float*, std::size_t) noexcept;
template double Dot<double>(const double*, const double*, std::size_t) noexcept;
template void Product<float>(std::span<const float>, std::span<const float>, std::size_t,
                             std::span<float>) noexcept;
template void Product<double>(std::span<const double>, std::span<const double>, std::size_t,
                              std::span<double>) noexcept;
template void AddInputGradient<float>(std::span<const float>, std::span<const float>, std::size_t,
                                      std::span<float>) noexcept;
template void AddInputGradient<double>(std::span<const double>, std::span<const double>,
                                       std::size_t, std::span<double>) noexcept;
template void AddWeightGradient<float>(std::span<const float>, std::span<const float>, std::size_t,
                                       std::span<float>) noexcept;
template void AddWeightGradient<double>(std::span<const double>, std::span<const double>,
                                        std::size_t, std::span<double>) noexcept;

}  // namespace tiercel
