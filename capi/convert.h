#ifndef TIERCEL_CAPI_CONVERT_H_
#define TIERCEL_CAPI_CONVERT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "tiercel/status.h"
#include "tiercel/store.h"
#include "tiercel/tiercel.h"
#include "tiercel/types.h"

namespace tiercel::capi {

/// `count` default values: on the stack up to `inline_max` of them, so that a usual batch
/// allocates nothing.
template <typename T, std::size_t inline_max>
class SmallArray {
 public:
  explicit SmallArray(std::size_t count)
      : heap_(count > inline_max ? std::make_unique<T[]>(count) : nullptr), count_(count) {}

  [[nodiscard]] T& operator[](std::size_t index) noexcept { return data()[index]; }
  [[nodiscard]] std::span<const T> span() noexcept { return {data(), count_}; }

 private:
  [[nodiscard]] T* data() noexcept { return heap_ ? heap_.get() : inline_.data(); }

  std::array<T, inline_max> inline_{};
  std::unique_ptr<T[]> heap_;
  std::size_t count_;
};

using Runs = SmallArray<TokenRun, 32>;

/// Errors (here and below): kInvalidArgument; the message names the member and its value.
[[nodiscard]] Status ToFlag(std::uint32_t value, const char* name, bool* flag);
/// `last`: the constant with the highest number.
[[nodiscard]] Status CheckChoice(std::uint32_t value, std::uint32_t last, const char* name);
template <typename Enum>
[[nodiscard]] Status ToEnum(std::uint32_t value, Enum last, const char* name, Enum* result) {
  Status status = CheckChoice(value, static_cast<std::uint32_t>(last), name);
  if (status.ok()) *result = static_cast<Enum>(value);
  return status;
}
[[nodiscard]] Status ToRowOutput(std::uint32_t output, RowOutput* format);
/// A pointer that may be NULL only where `count` is 0.
[[nodiscard]] Status CheckArray(const void* pointer, std::size_t count, const char* name);
/// A `reserved` member, which must be 0.
[[nodiscard]] Status CheckReserved(std::uint32_t reserved, const char* name);

[[nodiscard]] Status ToRun(const tiercel_token_run& run, TokenRun* result);
/// `result` has `run_count` entries.
[[nodiscard]] Status ToRuns(const tiercel_token_run* runs, std::size_t run_count, Runs* result);
[[nodiscard]] Status ToOutput(const tiercel_layer_output& output, LayerOutput* result);
[[nodiscard]] Status ToPrefetchLayer(const tiercel_prefetch_layer& layer, PrefetchLayer* result);
[[nodiscard]] Status ToRowUpdate(const tiercel_row_update& update, RowUpdate* result);
/// Row ids are numbers in C.
[[nodiscard]] inline std::span<const RowId> ToRowIds(const std::uint64_t* rows,
                                                     std::size_t count) noexcept {
  return {reinterpret_cast<const RowId*>(rows), count};
}

/// A copy of `text` for tiercel_string_free(). `length` may be NULL.
[[nodiscard]] Status GiveString(std::string_view text, char** copy, std::size_t* length);

}  // namespace tiercel::capi

#endif  // TIERCEL_CAPI_CONVERT_H_
