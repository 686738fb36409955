#include "store/gguf_cursor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace tiercel {
namespace {

constexpr std::size_t kGgufWindowBytes = std::size_t{256} << 10;
/// A tokenizer's strings take about 10 MB.
constexpr std::uint64_t kGgufHeaderBytesMax = std::uint64_t{1} << 30;

}  // namespace

void GgufCursor::Fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

bool GgufCursor::Need(std::uint64_t count, std::uint64_t item_bytes) {
  if (!ok()) return false;
  if (count > (file_size_bytes_ - offset_bytes_) / item_bytes) {
    Fail(Status(StatusCode::kCorruption,
                fmt::format("{}: {} x {} B are to follow at byte {}, but the file ends at {}: it "
                            "is cut short or damaged; fetch it again",
                            source_name_, count, item_bytes, offset_bytes_, file_size_bytes_)));
    return false;
  }
  if (offset_bytes_ + count * item_bytes > kGgufHeaderBytesMax) {
    Fail(Status(StatusCode::kInvalidArgument,
                fmt::format("{}: a header of more than {} B: this is no model's file", source_name_,
                            kGgufHeaderBytesMax)));
    return false;
  }
  return true;
}

void GgufCursor::Take(std::span<std::byte> target) {
  if (Need(target.size(), 1)) {
    while (ok() && !target.empty()) {
      if (offset_bytes_ < window_begin_ || offset_bytes_ >= window_begin_ + window_.size()) {
        window_begin_ = offset_bytes_;
        window_.resize(std::min<std::uint64_t>(kGgufWindowBytes, file_size_bytes_ - window_begin_));
        Fail(read_(window_begin_, window_));
        continue;
      }
      const std::size_t at = offset_bytes_ - window_begin_;
      const std::size_t count = std::min(target.size(), window_.size() - at);
      std::memcpy(target.data(), window_.data() + at, count);
      target = target.subspan(count);
      offset_bytes_ += count;
    }
  }
  if (!target.empty()) std::memset(target.data(), 0, target.size());
}

void GgufCursor::Skip(std::uint64_t count) {
  if (Need(count, 1)) offset_bytes_ += count;
}

}  // namespace tiercel
