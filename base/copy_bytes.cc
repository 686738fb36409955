#include "base/copy_bytes.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <string>

#include "base/file.h"

namespace tiercel {

std::uint64_t ReadLargestCacheBytes(const std::string& cpu_root) {
  constexpr int kLevelsMax = 8;  // index0 to index3, everywhere so far.
  std::uint64_t largest_bytes = 0;
  for (int index = 0; index < kLevelsMax; ++index) {
    const std::string text = ReadKernelFile(cpu_root + "/index" + std::to_string(index) + "/size");
    std::uint64_t kibibytes = 0;
    const char* const text_end = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data(), text_end, kibibytes);
    if (error != std::errc() || end == text_end || *end != 'K') continue;  // "8192K".
    largest_bytes = std::max(largest_bytes, kibibytes << 10);
  }
  return largest_bytes == 0 ? std::numeric_limits<std::uint64_t>::max() : largest_bytes;
}

CopyStores StoresForOutput(std::uint64_t output_bytes) noexcept {
  static const std::uint64_t cache_bytes = ReadLargestCacheBytes();
  return output_bytes < cache_bytes ? CopyStores::kCached : CopyStores::kNonTemporal;
}

}  // namespace tiercel
