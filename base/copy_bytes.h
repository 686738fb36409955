#ifndef TIERCEL_BASE_COPY_BYTES_H_
#define TIERCEL_BASE_COPY_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace tiercel {

/// How copied bytes reach memory.
enum class CopyStores : std::uint8_t {
  kCached,       ///< Through the caches, where whoever reads them next finds them.
  kNonTemporal,  ///< Past them: no line is read to be overwritten, none is pushed out.
};

/// Bytes of the largest cache of the processors, as the kernel tells; 2^64 - 1 where it does
/// not. The processor's own word for it, sysconf()'s source, is the host's in a virtual
/// machine: 64 MiB where there are 8.
///
///   cpu_root  "/sys/devices/system/cpu/cpu0/cache", but in tests.
[[nodiscard]] std::uint64_t ReadLargestCacheBytes(
    const std::string& cpu_root = "/sys/devices/system/cpu/cpu0/cache");

/// What suits an output of so many bytes, written once in no order and read afterwards. One
/// that a cache holds is read from there. A larger one has left the cache before it is read:
/// ordinary stores then move each line three times, in, out, and in again (cache_bench,
/// raw_group_copy, compares both at 26 MB).
[[nodiscard]] CopyStores StoresForOutput(std::uint64_t output_bytes) noexcept;

/// memcpy() with a choice. After non-temporal stores EndCopies() must come before anybody is
/// told of them: a release store does not keep their order.
///
///   destination  shape [size_bytes]. Lines of 64 B that it has in part are written through
///                the cache.
inline void CopyBytes(std::byte* destination, const std::byte* source, std::size_t size_bytes,
                      [[maybe_unused]] CopyStores stores) noexcept {
#if defined(__SSE2__)
  constexpr std::size_t kLineBytes = 64;
  const std::size_t head_bytes = -reinterpret_cast<std::uintptr_t>(destination) % kLineBytes;
  if (stores == CopyStores::kNonTemporal && size_bytes >= head_bytes + kLineBytes) {
    std::memcpy(destination, source, head_bytes);
    std::size_t done = head_bytes;
    for (; size_bytes - done >= kLineBytes; done += kLineBytes) {
      const auto* const from = reinterpret_cast<const __m128i*>(source + done);
      auto* const to = reinterpret_cast<__m128i*>(destination + done);
      const __m128i first = _mm_loadu_si128(from);
      const __m128i second = _mm_loadu_si128(from + 1);
      const __m128i third = _mm_loadu_si128(from + 2);
      const __m128i fourth = _mm_loadu_si128(from + 3);
      _mm_stream_si128(to, first);
      _mm_stream_si128(to + 1, second);
      _mm_stream_si128(to + 2, third);
      _mm_stream_si128(to + 3, fourth);
    }
    std::memcpy(destination + done, source + done, size_bytes - done);
    return;
  }
#endif
  std::memcpy(destination, source, size_bytes);
}

/// Makes what CopyBytes() stored visible before whatever this thread stores next.
inline void EndCopies([[maybe_unused]] CopyStores stores) noexcept {
#if defined(__SSE2__)
  if (stores == CopyStores::kNonTemporal) _mm_sfence();
#endif
}

}  // namespace tiercel

#endif  // TIERCEL_BASE_COPY_BYTES_H_
