#ifndef TIERCEL_TOOLS_BYTE_SOURCE_H_
#define TIERCEL_TOOLS_BYTE_SOURCE_H_

#include <zstd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tiercel/status.h"

namespace tiercel::tools {

/// The Status of a failed system call on `path`, by errno.
[[nodiscard]] Status FileError(int os_error, const std::string& action, const std::string& path);

/// Bytes of a file or of stdin, one after another, unpacked on the way where they
/// are compressed with zstd.
///
/// Threading: one thread at a time.
class ByteSource {
 public:
  /// "-" is stdin. Compressed is what starts with zstd's magic number or has a name
  /// that ends in ".zst".
  ///
  /// Errors: kNotFound, kPermissionDenied, kIoError.
  [[nodiscard]] static Result<ByteSource> Open(const std::string& path);

  ByteSource(ByteSource&&) noexcept = default;
  ByteSource& operator=(ByteSource&&) noexcept = default;

  /// Fills `target` as far as there are bytes, and returns how many there were;
  /// fewer than target.size() only at the end.
  ///
  /// Errors: kIoError, kCorruption (compressed data that is damaged or ends in the
  /// middle of a frame).
  [[nodiscard]] Result<std::size_t> Read(std::span<std::byte> target);

  /// For messages: the path, or "stdin".
  [[nodiscard]] const std::string& name() const noexcept { return name_; }

 private:
  struct FileCloser {
    void operator()(std::FILE* file) const noexcept {
      if (file != stdin) std::fclose(file);
    }
  };
  struct DecoderFreer {
    void operator()(ZSTD_DCtx* decoder) const noexcept { ZSTD_freeDCtx(decoder); }
  };

  ByteSource() = default;
  [[nodiscard]] Status Refill();
  [[nodiscard]] Result<std::size_t> ReadCompressed(std::span<std::byte> target);

  std::string name_;
  std::unique_ptr<std::FILE, FileCloser> file_;
  std::unique_ptr<ZSTD_DCtx, DecoderFreer> decoder_;  ///< Null: the bytes are plain.
  std::vector<std::byte> buffer_;                     ///< Bytes as they lie in the file.
  std::size_t buffer_begin_ = 0;
  std::size_t buffer_end_ = 0;
  std::uint64_t raw_bytes_ = 0;  ///< Read from the file so far.
  bool at_end_ = false;
  bool inside_frame_ = false;
};

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_BYTE_SOURCE_H_
