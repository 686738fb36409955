#ifndef TIERCEL_CAPI_STRUCTS_H_
#define TIERCEL_CAPI_STRUCTS_H_

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <type_traits>

#include "capi/errors.h"
#include "tiercel/status.h"

namespace tiercel::capi {

// How structs that begin with `struct_size` cross between a caller and a library that were
// compiled at different times: see tiercel/tiercel_types.h.

/// More than any version has: what is larger was never initialised.
inline constexpr std::size_t kStructSizeMax = 4096;

/// Errors: kInvalidArgument (no version of a struct is so large; the message names `name`).
[[nodiscard]] Status CheckStructSize(std::size_t struct_size, const char* name);

/// Checks that bytes [known_size, given_size) of `given` are zero.
/// Errors: kInvalidArgument (the message names `name` and the first byte that is not).
[[nodiscard]] Status CheckTail(const void* given, std::size_t known_size, std::size_t given_size,
                               const char* name);

/// What holds for every struct that may grow.
template <typename T>
constexpr bool IsSized() noexcept {
  return std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T> && alignof(T) == 8 &&
         sizeof(T) <= kStructSizeMax && offsetof(T, struct_size) == 0;
}

/// Copies what `given` has over `*value`, which holds the defaults on entry. `given` NULL:
/// the defaults. Errors: as CheckStructSize() and CheckTail().
template <typename T>
[[nodiscard]] Status ReadStruct(const T* given, const char* name, T* value) {
  static_assert(IsSized<T>());
  if (given == nullptr) return {};
  const std::size_t size = given->struct_size;
  Status status = CheckStructSize(size, name);
  if (status.ok()) status = CheckTail(given, sizeof(T), size, name);
  if (!status.ok()) return status;
  std::memcpy(value, given, std::min(size, sizeof(T)));
  value->struct_size = sizeof(T);
  return {};
}

/// Writes the first out->struct_size bytes of `value`, with zeros beyond it, and keeps
/// out->struct_size. Errors: as CheckStructSize(); kInvalidArgument (`out` is NULL).
template <typename T>
[[nodiscard]] Status WriteStruct(const T& value, const char* name, T* out) {
  static_assert(IsSized<T>());
  if (out == nullptr) return IsNull(name);
  const std::size_t size = out->struct_size;
  Status status = CheckStructSize(size, name);
  if (!status.ok()) return status;
  if (size > sizeof(T)) std::memset(reinterpret_cast<char*>(out) + sizeof(T), 0, size - sizeof(T));
  std::memcpy(static_cast<void*>(out), &value, std::min(size, sizeof(T)));
  out->struct_size = size;
  return {};
}

/// Makes *out, of `struct_size` bytes whatever they hold, what `defaults` are.
/// Errors: as WriteStruct().
template <typename T>
[[nodiscard]] Status InitStruct(const T& defaults, std::size_t struct_size, T* out) {
  if (out == nullptr) return IsNull("value");
  Status status = CheckStructSize(struct_size, "value");
  if (!status.ok()) return status;
  out->struct_size = struct_size;
  return WriteStruct(defaults, "value", out);
}

/// Element `index` of an array whose elements are first->struct_size bytes each.
template <typename T>
[[nodiscard]] T* ElementAt(T* first, std::size_t index) noexcept {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  return reinterpret_cast<T*>(reinterpret_cast<Byte*>(first) + index * first->struct_size);
}

}  // namespace tiercel::capi

#endif  // TIERCEL_CAPI_STRUCTS_H_
