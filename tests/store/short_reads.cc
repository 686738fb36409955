#include "tests/store/short_reads.h"

#include <dlfcn.h>
#include <liburing.h>
#include <sys/syscall.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstddef>

#include "base/prng.h"

namespace tiercel::testing {
namespace {

std::atomic<double> probability{0};
std::atomic<std::uint32_t> unit_bytes{1};
std::atomic<std::uint64_t> pread_count{0};
std::atomic<std::uint64_t> uring_count{0};
std::atomic<std::uint64_t> thread_count{0};

/// What is left of a read of `size_bytes`: less than that, or all of it.
std::uint32_t Shorten(std::uint32_t size_bytes, std::atomic<std::uint64_t>& count) noexcept {
  thread_local Prng prng(thread_count.fetch_add(1));
  const std::uint32_t unit = unit_bytes.load(std::memory_order_relaxed);
  if (size_bytes <= unit || prng.Unit() >= probability.load(std::memory_order_relaxed)) {
    return size_bytes;
  }
  count.fetch_add(1, std::memory_order_relaxed);
  const std::uint32_t units = (size_bytes - 1) / unit;  // Of a part that is not the whole.
  return unit * static_cast<std::uint32_t>(1 + prng.Below(units));
}

/// A system call, as the kernel takes it.
long Call(long number, long a, long b, long c, long d, long e, long f) noexcept {
#if defined(__x86_64__)
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  long result = number;
  __asm__ volatile("syscall"
                   : "+a"(result)
                   : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
  const long result = x0;
#else
#error "no system call by hand for this machine"
#endif
  if (result >= 0) return result;
  errno = static_cast<int>(-result);
  return -1;
}

/// Rings by descriptor. One that is closed leaves its place to the next that gets it.
std::array<std::atomic<io_uring*>, 1024> rings{};

/// Shortens reads among the `count` entries that the kernel is about to take.
void ShortenEntries(const io_uring_sq& queue, std::uint32_t count) noexcept {
  const unsigned mask = *queue.kring_mask;
  const unsigned head = *queue.khead;
  for (unsigned i = 0; i < count; ++i) {
    io_uring_sqe& entry = queue.sqes[queue.array[(head + i) & mask]];
    if (entry.opcode != IORING_OP_READ && entry.opcode != IORING_OP_READ_FIXED) continue;
    entry.len = Shorten(entry.len, uring_count);
  }
}

}  // namespace

void SetShortReads(const ShortReadOptions& options) noexcept {
  unit_bytes.store(options.unit_bytes);
  probability.store(options.probability);
}

ShortReadCounts GetShortReadCounts() noexcept {
  return {.pread = pread_count.load(), .uring = uring_count.load()};
}

}  // namespace tiercel::testing

// In the place of the C library's and liburing's: the program's own come first.
extern "C" {

ssize_t pread(int file, void* bytes, size_t size_bytes, off_t offset_bytes) {
  namespace testing = tiercel::testing;
  const auto size = testing::Shorten(static_cast<std::uint32_t>(size_bytes), testing::pread_count);
  return testing::Call(SYS_pread64, file, reinterpret_cast<long>(bytes), size, offset_bytes, 0, 0);
}

int io_uring_queue_init_params(unsigned entry_count, io_uring* ring, io_uring_params* parameters) {
  namespace testing = tiercel::testing;
  using Function = int (*)(unsigned, io_uring*, io_uring_params*);
  static const auto real =
      reinterpret_cast<Function>(dlsym(RTLD_NEXT, "io_uring_queue_init_params"));
  const int rc = real(entry_count, ring, parameters);
  if (rc == 0 && static_cast<std::size_t>(ring->ring_fd) < testing::rings.size()) {
    testing::rings[static_cast<std::size_t>(ring->ring_fd)].store(ring);
  }
  return rc;
}

/// Takes six arguments however many there are, as the kernel does: nothing for ASan.
__attribute__((no_sanitize("address"))) long syscall(long number, ...) {
  namespace testing = tiercel::testing;
  std::va_list arguments;
  va_start(arguments, number);
  std::array<long, 6> a{};
  for (long& argument : a) argument = va_arg(arguments, long);
  va_end(arguments);
  const auto index = static_cast<std::size_t>(a[0]);  // Of io_uring_enter(ring, count, ...).
  if (number == SYS_io_uring_enter && index < testing::rings.size()) {
    const io_uring* const ring = testing::rings[index].load();
    if (ring != nullptr) testing::ShortenEntries(ring->sq, static_cast<std::uint32_t>(a[1]));
  }
  return testing::Call(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

}  // extern "C"
