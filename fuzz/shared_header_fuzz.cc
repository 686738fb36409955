// Memory of a cache that another process wrote: the header's decoder must refuse what it does
// not like with a name, and what it accepts must lie within the memory; lookups in whatever
// lies there must end, and look at nothing else.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string_view>

#include "base/check.h"
#include "cache/group_reader.h"
#include "cache/shared_header.h"

namespace {

using tiercel::FoundSlot;
using tiercel::GroupReader;
using tiercel::GroupTarget;
using tiercel::SharedHeader;
using tiercel::SharedPool;
using tiercel::StatusCode;

constexpr std::string_view kName = "descriptor 3";
constexpr std::size_t kPoolBytes = 64 << 10;
constexpr std::size_t kMemoryBytes = tiercel::kSharedHeaderBytes + kPoolBytes;

/// Of kMemoryBytes to the byte, so that ASan sees what goes beyond.
std::span<std::byte> Memory() {
  static auto* const memory = static_cast<std::byte*>(std::aligned_alloc(4096, kMemoryBytes));
  return {memory, kMemoryBytes};
}

void CheckPools(const SharedHeader& header) {
  std::uint64_t end = tiercel::kSharedHeaderBytes;
  TIERCEL_CHECK(header.size_bytes == kMemoryBytes && !header.pools.empty());
  for (const SharedPool& pool : header.pools) {
    TIERCEL_CHECK(pool.offset_bytes >= end && pool.offset_bytes <= kMemoryBytes);
    TIERCEL_CHECK(pool.layout.size_bytes <= kMemoryBytes - pool.offset_bytes);
    end = pool.offset_bytes + pool.layout.size_bytes;
  }
  for (const tiercel::SharedSpace& space : header.spaces) {
    TIERCEL_CHECK(space.pool < header.pools.size());
  }
}

/// Looks a few keys up in memory that says anything.
void LookUp(const SharedHeader& header, std::uint64_t seed) {
  const GroupReader reader(header, Memory());
  static std::array<std::byte, tiercel::kSharedGroupSizeMax> output;
  for (std::uint64_t i = 0; i < 16; ++i) {
    const auto space = static_cast<std::uint32_t>((seed + i) % header.spaces.size());
    const GroupTarget target = {.key = seed % 64 + i, .destination = output.data()};
    std::uint8_t hit = 9;
    (void)reader.Lookup({&space, 1}, {&target, 1}, {&hit, 1});
    TIERCEL_CHECK(hit <= 1);
    const FoundSlot found = reader.Find(space, target.key);
    const tiercel::PoolLayout& layout = header.pools[header.spaces[space].pool].layout;
    TIERCEL_CHECK(found.slot == tiercel::GroupIndex::kNoSlot || found.slot < layout.slot_count);
    (void)reader.IsUnchanged(space, {.slot = static_cast<std::uint32_t>(seed), .version = seed});
  }
}

/// A header that is accepted, for inputs that are all about what comes after it.
SharedHeader SomeHeader(std::uint64_t seed) {
  const auto size_bytes = static_cast<std::uint32_t>(1 + seed % 700);
  std::uint32_t slot_count = 16;
  while (tiercel::PoolLayout::Of(size_bytes, slot_count + 1, true).size_bytes <= kPoolBytes) {
    ++slot_count;
  }
  SharedHeader header{.size_bytes = kMemoryBytes};
  header.pools.push_back({.offset_bytes = tiercel::kSharedHeaderBytes,
                          .layout = tiercel::PoolLayout::Of(size_bytes, slot_count, true)});
  header.spaces.resize(3, {.group_size_bytes = size_bytes});
  return header;
}

/// A good header, and in it bytes that the input names by their places: three of it each.
void Edit(const SharedHeader& header, std::span<const std::byte> edits, std::span<std::byte> head) {
  tiercel::EncodeSharedHeader(header, head);
  for (; edits.size() >= 3; edits = edits.subspan(3)) {
    const auto place =
        std::to_integer<std::size_t>(edits[0]) << 8 | std::to_integer<std::size_t>(edits[1]);
    head[place % head.size()] = edits[2];
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const std::span<std::byte> memory = Memory();
  const auto head = memory.first(tiercel::kSharedHeaderBytes);
  std::uint64_t seed = 0;
  for (const std::uint8_t byte : std::span(data, std::min<std::size_t>(size, 16))) {
    seed = seed * 131 + byte;
  }
  std::fill(memory.begin(), memory.end(), std::byte{0});
  if (seed % 2 == 0) {
    std::copy_n(bytes.begin(), std::min(size, head.size()), head.begin());
  } else {
    Edit(SomeHeader(seed), bytes.subspan(std::min<std::size_t>(size, 16)), head);
  }
  // As it is, and with its checksum put right: a changed header would else get nowhere.
  (void)tiercel::DecodeSharedHeader(head, kMemoryBytes, kName);
  tiercel::SealSharedHeader(head);
  const tiercel::Result<SharedHeader> decoded =
      tiercel::DecodeSharedHeader(head, kMemoryBytes, kName);
  SharedHeader header;
  std::size_t skip = 0;
  if (decoded.ok()) {
    header = decoded.value();
    CheckPools(header);
    skip = std::min(size, head.size());
  } else {
    TIERCEL_CHECK(decoded.status().code() == StatusCode::kInvalidArgument ||
                  decoded.status().code() == StatusCode::kCorruption);
    TIERCEL_CHECK(decoded.status().message().find(kName) != std::string_view::npos);
    header = SomeHeader(seed);
  }
  // The rest of the input, over and over, is records, versions and buckets.
  const std::span<const std::byte> rest = bytes.subspan(skip);
  if (!rest.empty()) {
    for (std::size_t i = head.size(); i < memory.size(); ++i) {
      memory[i] = rest[(i - head.size()) % rest.size()];
    }
  }
  LookUp(header, seed);
  return 0;
}
