#ifndef TIERCEL_TESTS_CACHE_GROUP_CACHE_TEST_SUPPORT_H_
#define TIERCEL_TESTS_CACHE_GROUP_CACHE_TEST_SUPPORT_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "cache/group_cache.h"
#include "tests/support/sanitized.h"

namespace tiercel::testing {

/// Byte `i` of the group: of its key, its space and `i`, so that neither another
/// group's bytes nor the right ones in the wrong place pass.
inline std::byte GroupByte(std::uint32_t space, std::uint64_t key, std::size_t i) {
  const std::uint64_t word = SplitMix64(SplitMix64(key + space) + i / 8);
  return static_cast<std::byte>(word >> (i % 8 * 8));
}

inline void FillGroup(std::uint32_t space, std::uint64_t key, std::span<std::byte> bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = GroupByte(space, key, i);
}

/// Index of the first byte that is not the group's, or -1.
inline std::ptrdiff_t WrongByte(std::uint32_t space, std::uint64_t key,
                                std::span<const std::byte> bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != GroupByte(space, key, i)) return static_cast<std::ptrdiff_t>(i);
  }
  return -1;
}

/// Null, and a failure of the test, if it cannot be made.
inline std::unique_ptr<GroupCache> MakeCache(std::uint64_t budget_bytes,
                                             std::vector<std::uint32_t> group_size_bytes) {
  Result<std::unique_ptr<GroupCache>> cache = GroupCache::Create(
      {.budget_bytes = budget_bytes, .group_size_bytes = std::move(group_size_bytes)});
  if (!cache.ok()) {
    ADD_FAILURE() << cache.status().ToString();
    return nullptr;
  }
  return std::move(cache).value();
}

inline bool InsertGroup(GroupCache& cache, std::uint32_t space, std::uint64_t key,
                        std::uint32_t size_bytes) {
  thread_local std::vector<std::byte> bytes;
  bytes.resize(size_bytes);
  FillGroup(space, key, bytes);
  return cache.Insert(space, key, bytes);
}

inline constexpr int kMiss = 0;
inline constexpr int kGood = 1;
inline constexpr int kWrong = 2;  ///< A hit with bytes that are not the group's.

inline int LookUpGroup(GroupCache& cache, std::uint32_t space, std::uint64_t key,
                       std::uint32_t size_bytes) {
  thread_local std::vector<std::byte> bytes;
  bytes.assign(size_bytes, std::byte{0xAA});
  const GroupTarget target{.key = key, .destination = bytes.data()};
  std::uint8_t hit = 9;
  const std::uint32_t count = cache.Lookup(space, std::span(&target, 1), std::span(&hit, 1));
  if (count != hit || hit > 1) return kWrong;
  if (hit == 0) return kMiss;
  return WrongByte(space, key, bytes) == -1 ? kGood : kWrong;
}

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_CACHE_GROUP_CACHE_TEST_SUPPORT_H_
