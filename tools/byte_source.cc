#include "tools/byte_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace tiercel::tools {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{256} << 10;
constexpr std::array<unsigned char, 4> kZstdMagic = {0x28, 0xB5, 0x2F, 0xFD};

}  // namespace

Status FileError(int os_error, const std::string& action, const std::string& path) {
  StatusCode code = StatusCode::kIoError;
  switch (os_error) {
    case ENOENT:
    case ENOTDIR:
      code = StatusCode::kNotFound;
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      code = StatusCode::kPermissionDenied;
      break;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      code = StatusCode::kResourceExhausted;
      break;
    default:
      break;
  }
  return Status(code, fmt::format("{}: {}: {}", action, path, std::strerror(os_error)), os_error);
}

Result<ByteSource> ByteSource::Open(const std::string& path) {
  ByteSource source;
  source.name_ = path == "-" ? "stdin" : path;
  source.file_.reset(path == "-" ? stdin : std::fopen(path.c_str(), "rbe"));
  if (source.file_ == nullptr) return FileError(errno, "open", path);
  source.buffer_.resize(kBufferBytes);
  if (Status status = source.Refill(); !status.ok()) return status;
  const bool magic = source.buffer_end_ >= kZstdMagic.size() &&
                     std::memcmp(source.buffer_.data(), kZstdMagic.data(), kZstdMagic.size()) == 0;
  if (magic || path.ends_with(".zst")) {
    source.decoder_.reset(ZSTD_createDCtx());
    if (source.decoder_ == nullptr) {
      return Status(StatusCode::kResourceExhausted, "no memory to unpack " + source.name_);
    }
    // A file of no bytes at all holds no frame: it was cut off.
    source.inside_frame_ = true;
  }
  return source;
}

Status ByteSource::Refill() {
  buffer_begin_ = 0;
  // Reads of a FILE go on until the buffer is full or the input ends.
  buffer_end_ = std::fread(buffer_.data(), 1, buffer_.size(), file_.get());
  raw_bytes_ += buffer_end_;
  if (buffer_end_ < buffer_.size()) {
    if (std::ferror(file_.get()) != 0) return FileError(errno, "read", name_);
    at_end_ = true;
  }
  return Status();
}

Result<std::size_t> ByteSource::Read(std::span<std::byte> target) {
  if (decoder_ != nullptr) return ReadCompressed(target);
  std::size_t done = 0;
  while (done < target.size()) {
    if (buffer_begin_ == buffer_end_) {
      if (at_end_) break;
      if (Status status = Refill(); !status.ok()) return status;
      continue;
    }
    const std::size_t count = std::min(target.size() - done, buffer_end_ - buffer_begin_);
    std::memcpy(target.data() + done, buffer_.data() + buffer_begin_, count);
    buffer_begin_ += count;
    done += count;
  }
  return done;
}

Result<std::size_t> ByteSource::ReadCompressed(std::span<std::byte> target) {
  ZSTD_outBuffer output = {target.data(), target.size(), 0};
  while (output.pos < output.size) {
    if (buffer_begin_ == buffer_end_ && !at_end_) {
      if (Status status = Refill(); !status.ok()) return status;
    }
    ZSTD_inBuffer input = {buffer_.data(), buffer_end_, buffer_begin_};
    const std::size_t output_before = output.pos;
    // Called without input as well: the decoder may hold bytes back.
    if (input.pos == input.size && at_end_ && !inside_frame_) break;
    const std::size_t hint = ZSTD_decompressStream(decoder_.get(), &output, &input);
    if (ZSTD_isError(hint) != 0) {
      return Status(StatusCode::kCorruption,
                    fmt::format("{}: zstd data is damaged within {} compressed bytes of the start: "
                                "{}",
                                name_, raw_bytes_, ZSTD_getErrorName(hint)));
    }
    const bool moved = input.pos != buffer_begin_ || output.pos != output_before;
    buffer_begin_ = input.pos;
    inside_frame_ = hint != 0;
    if (!moved && at_end_ && inside_frame_) {
      return Status(StatusCode::kCorruption,
                    fmt::format("{}: zstd data ends in the middle of a frame, after {} compressed "
                                "bytes: the file was cut off; fetch it again",
                                name_, raw_bytes_));
    }
  }
  return output.pos;
}

}  // namespace tiercel::tools
