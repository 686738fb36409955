#ifndef TIERCEL_TESTS_IO_DEVICE_TEST_SUPPORT_H_
#define TIERCEL_TESTS_IO_DEVICE_TEST_SUPPORT_H_

#include <time.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <random>
#include <span>
#include <vector>

#include "base/prng.h"

namespace tiercel::testing {

/// TIERCEL_TEST_SEED, or a fresh seed, the same for the whole process.
inline std::uint64_t TestSeed() {
  static const std::uint64_t seed = [] {
    const char* const text = std::getenv("TIERCEL_TEST_SEED");
    return text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device()();
  }();
  return seed;
}

/// The byte of a test file: a function of where it is, so that a read of the wrong
/// place or the wrong file shows.
inline std::byte PatternByte(std::uint32_t file, std::uint64_t offset_bytes) noexcept {
  const std::uint64_t word = SplitMix64((std::uint64_t{file} << 48) ^ (offset_bytes / 8));
  return static_cast<std::byte>(word >> (8 * (offset_bytes % 8)));
}

inline std::vector<std::byte> PatternBytes(std::uint32_t file, std::uint64_t offset_bytes,
                                           std::uint64_t size_bytes) {
  std::vector<std::byte> bytes(size_bytes);
  for (std::uint64_t i = 0; i < size_bytes; ++i) bytes[i] = PatternByte(file, offset_bytes + i);
  return bytes;
}

inline bool IsPattern(std::uint32_t file, std::uint64_t offset_bytes,
                      std::span<const std::byte> bytes) noexcept {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != PatternByte(file, offset_bytes + i)) return false;
  }
  return true;
}

/// Descriptors that this process has open.
inline std::ptrdiff_t OpenDescriptors() {
  const std::filesystem::directory_iterator files("/proc/self/fd");
  return std::distance(begin(files), end(files));
}

/// CPU time of the calling thread.
inline std::chrono::nanoseconds ThreadCpuTime() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_IO_DEVICE_TEST_SUPPORT_H_
