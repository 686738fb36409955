#ifndef TIERCEL_STORE_GGUF_CURSOR_H_
#define TIERCEL_STORE_GGUF_CURSOR_H_

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "tiercel/status.h"

namespace tiercel {

/// Reads bytes of a file at an offset, all of them or an error.
using ReadBytes = std::function<Status(std::uint64_t offset_bytes, std::span<std::byte> target)>;

/// Walks over the start of a GGUF file, through a window of 256 KiB. The first error sticks:
/// what is read after it is zero, so that a loop has to look at ok() but not each line.
///
/// Threading: one thread at a time.
class GgufCursor {
 public:
  /// `source_name` must outlive the cursor.
  GgufCursor(ReadBytes read, std::uint64_t file_size_bytes, std::string_view source_name)
      : read_(std::move(read)), file_size_bytes_(file_size_bytes), source_name_(source_name) {}

  [[nodiscard]] bool ok() const noexcept { return status_.ok(); }
  [[nodiscard]] Status TakeStatus() { return std::move(status_); }
  [[nodiscard]] std::uint64_t offset_bytes() const noexcept { return offset_bytes_; }
  [[nodiscard]] std::string_view source_name() const noexcept { return source_name_; }

  /// Keeps `status` unless there is an error already.
  void Fail(Status status);

  /// True if `count` items of `item_bytes` and more can follow in a header of that file; else
  /// false, and an error. Asked before anything is allocated for them.
  [[nodiscard]] bool Need(std::uint64_t count, std::uint64_t item_bytes);

  /// The next bytes; zeros after an error.
  void Take(std::span<std::byte> target);
  /// Passes over bytes without reading them.
  void Skip(std::uint64_t count);

  /// A little-endian number.
  template <std::unsigned_integral T>
  [[nodiscard]] T Number() {
    T value = 0;
    Take(std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

 private:
  ReadBytes read_;
  std::uint64_t file_size_bytes_;
  std::string_view source_name_;
  std::uint64_t offset_bytes_ = 0;
  std::uint64_t window_begin_ = 0;
  std::vector<std::byte> window_;
  Status status_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_GGUF_CURSOR_H_
