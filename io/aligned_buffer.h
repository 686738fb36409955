#ifndef TIERCEL_IO_ALIGNED_BUFFER_H_
#define TIERCEL_IO_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "tiercel/status.h"

namespace tiercel {

/// Zeroed memory of whole pages, for O_DIRECT. It is a mapping of its own, so a
/// page that the kernel has pinned for a read is never handed to anyone else, even
/// when the mapping goes before the read ends.
///
/// Threading: one thread at a time. Move-only.
class AlignedBuffer {
 public:
  AlignedBuffer() noexcept = default;
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_bytes_(std::exchange(other.size_bytes_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  ~AlignedBuffer();

  /// Takes `size_bytes`, rounded up to whole pages, and touches them all.
  /// Errors: kResourceExhausted (the message names `what` and the size).
  [[nodiscard]] static Result<AlignedBuffer> Make(std::uint64_t size_bytes, std::string_view what);

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_; }

  /// Leaves the memory mapped for the rest of the process: for a buffer into which
  /// the kernel may still write.
  void Abandon() noexcept { data_ = nullptr; }

 private:
  AlignedBuffer(std::byte* data, std::uint64_t size_bytes) noexcept
      : data_(data), size_bytes_(size_bytes) {}

  std::byte* data_ = nullptr;
  std::uint64_t size_bytes_ = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_IO_ALIGNED_BUFFER_H_
