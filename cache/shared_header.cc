#include "cache/shared_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "base/byte_order.h"
#include "base/check.h"
#include "base/checksum.h"

namespace tiercel {
namespace {

// ---- where things lie ---------------------------------------------------------------

constexpr std::string_view kSharedMagic = "TRCLSHM\n";
constexpr std::size_t kSharedVersionAt = 8;
constexpr std::size_t kSharedHeaderBytesAt = 12;
constexpr std::size_t kSharedSizeAt = 16;
constexpr std::size_t kSharedTableIdAt = 24;
constexpr std::size_t kSharedContentIdAt = 32;
constexpr std::size_t kSharedShardRankAt = 40;
constexpr std::size_t kSharedShardCountAt = 44;
constexpr std::size_t kSharedFlagsAt = 48;
constexpr std::size_t kSharedPoolCountAt = 52;
constexpr std::size_t kSharedSpaceCountAt = 56;
constexpr std::size_t kSharedHeadEnd = 60;
constexpr std::size_t kSharedPoolsAt = 1024;
constexpr std::size_t kSharedPoolBytes = 24;
constexpr std::size_t kSharedSpacesAt = 7168;
constexpr std::size_t kSharedSpaceBytes = 16;
constexpr std::size_t kSharedChecksumAt = kSharedHeaderBytes - 72;
/// A line of its own, which the checksum does not cover.
constexpr std::size_t kSharedStateAt = kSharedHeaderBytes - 64;
static_assert(kSharedPoolsAt + kSharedSpacesMax * kSharedPoolBytes <= kSharedSpacesAt);
static_assert(kSharedSpacesAt + kSharedSpacesMax * kSharedSpaceBytes <= kSharedChecksumAt);

constexpr std::uint32_t kSharedFlagUpdates = 1;
constexpr std::uint32_t kSharedWriterClosed = 1;
/// Pools begin at a multiple of it.
constexpr std::uint64_t kSharedPoolAlignment = 4096;

std::uint32_t Shared32(std::span<const std::byte> bytes, std::size_t at) noexcept {
  return LoadLittleEndian<std::uint32_t>(bytes.data() + at);
}
std::uint64_t Shared64(std::span<const std::byte> bytes, std::size_t at) noexcept {
  return LoadLittleEndian<std::uint64_t>(bytes.data() + at);
}

bool IsUnused(std::span<const std::byte> bytes, std::size_t from, std::size_t to) noexcept {
  const auto rest = bytes.subspan(from, to - from);
  return std::all_of(rest.begin(), rest.end(), [](std::byte b) { return b == std::byte{0}; });
}

/// Reads the pools, whose layouts are computed; what the header says of them must agree.
/// Returns why it does not, or nothing.
std::string ReadPools(std::span<const std::byte> bytes, std::size_t pools_end,
                      SharedHeader& header) {
  for (std::size_t at = kSharedPoolsAt; at < pools_end; at += kSharedPoolBytes) {
    const std::uint32_t size_bytes = Shared32(bytes, at + 16);
    SharedPool pool = {.offset_bytes = Shared64(bytes, at), .layout = {}};
    if (size_bytes <= kSharedGroupSizeMax) {
      pool.layout = PoolLayout::Of(size_bytes, Shared32(bytes, at + 20), /*shared=*/true);
    }
    if (pool.layout.size_bytes != Shared64(bytes, at + 8)) {
      return fmt::format("pool of {} B for {} groups of {} B", Shared64(bytes, at + 8),
                         Shared32(bytes, at + 20), size_bytes);
    }
    header.pools.push_back(pool);
  }
  return "";
}

std::string PoolsObjection(const SharedHeader& header) {
  if (header.pools.empty()) return "no pools";
  std::uint64_t end_bytes = kSharedHeaderBytes;
  for (std::size_t i = 0; i < header.pools.size(); ++i) {
    const SharedPool& pool = header.pools[i];
    const std::uint32_t size_bytes = pool.layout.group_size_bytes;
    if (size_bytes == 0 || size_bytes > kSharedGroupSizeMax) {
      return fmt::format("pool {}: groups of {} B", i, size_bytes);
    }
    const std::uint32_t slot_count = pool.layout.slot_count;
    if (slot_count == 0 || slot_count == ~std::uint32_t{0} ||
        pool.layout != PoolLayout::Of(size_bytes, slot_count, /*shared=*/true)) {
      return fmt::format("pool {}: {} slots", i, slot_count);
    }
    if (pool.offset_bytes % kSharedPoolAlignment != 0 || pool.offset_bytes < end_bytes ||
        pool.offset_bytes > header.size_bytes ||
        pool.layout.size_bytes > header.size_bytes - pool.offset_bytes) {
      return fmt::format("pool {}: {} B at {}, in memory of {} B", i, pool.layout.size_bytes,
                         pool.offset_bytes, header.size_bytes);
    }
    end_bytes = pool.offset_bytes + pool.layout.size_bytes;
  }
  return "";
}

/// Why a header whose checksum holds cannot be used all the same; empty if it can.
std::string SharedObjection(const SharedHeader& header) {
  if (header.shard.rank >= header.shard.count) {
    return fmt::format("head shard {}/{}", header.shard.rank, header.shard.count);
  }
  if (std::string what = PoolsObjection(header); !what.empty()) return what;
  if (header.spaces.empty()) return "no spaces";
  for (std::size_t i = 0; i < header.spaces.size(); ++i) {
    const SharedSpace& space = header.spaces[i];
    if (space.pool >= header.pools.size() ||
        space.group_size_bytes != header.pools[space.pool].layout.group_size_bytes) {
      return fmt::format("space {}: groups of {} B in pool {}", i, space.group_size_bytes,
                         space.pool);
    }
  }
  return "";
}

}  // namespace

void SealSharedHeader(std::span<std::byte> header) noexcept {
  StoreLittleEndian(header.data() + kSharedChecksumAt, Checksum64(header.first(kSharedChecksumAt)));
}

void EncodeSharedHeader(const SharedHeader& header, std::span<std::byte> target) {
  TIERCEL_CHECK(target.size() == kSharedHeaderBytes);
  TIERCEL_CHECK(header.pools.size() <= kSharedSpacesMax &&
                header.spaces.size() <= kSharedSpacesMax && SharedObjection(header).empty());
  std::fill(target.begin(), target.end(), std::byte{0});
  std::byte* const at = target.data();
  std::memcpy(at, kSharedMagic.data(), kSharedMagic.size());
  StoreLittleEndian(at + kSharedVersionAt, kSharedVersion);
  StoreLittleEndian(at + kSharedHeaderBytesAt, kSharedHeaderBytes);
  StoreLittleEndian(at + kSharedSizeAt, header.size_bytes);
  StoreLittleEndian(at + kSharedTableIdAt, header.table_id);
  StoreLittleEndian(at + kSharedContentIdAt, header.content_id);
  StoreLittleEndian(at + kSharedShardRankAt, header.shard.rank);
  StoreLittleEndian(at + kSharedShardCountAt, header.shard.count);
  StoreLittleEndian(at + kSharedFlagsAt, header.has_updates ? kSharedFlagUpdates : 0U);
  StoreLittleEndian(at + kSharedPoolCountAt, static_cast<std::uint32_t>(header.pools.size()));
  StoreLittleEndian(at + kSharedSpaceCountAt, static_cast<std::uint32_t>(header.spaces.size()));
  for (std::size_t i = 0; i < header.pools.size(); ++i) {
    std::byte* const pool = at + kSharedPoolsAt + i * kSharedPoolBytes;
    StoreLittleEndian(pool, header.pools[i].offset_bytes);
    StoreLittleEndian(pool + 8, header.pools[i].layout.size_bytes);
    StoreLittleEndian(pool + 16, header.pools[i].layout.group_size_bytes);
    StoreLittleEndian(pool + 20, header.pools[i].layout.slot_count);
  }
  for (std::size_t i = 0; i < header.spaces.size(); ++i) {
    std::byte* const space = at + kSharedSpacesAt + i * kSharedSpaceBytes;
    StoreLittleEndian(space, header.spaces[i].layer_id);
    StoreLittleEndian(space + 4, header.spaces[i].order);
    StoreLittleEndian(space + 8, header.spaces[i].group_size_bytes);
    StoreLittleEndian(space + 12, header.spaces[i].pool);
  }
  SealSharedHeader(target);
}

Result<SharedHeader> DecodeSharedHeader(std::span<const std::byte> bytes,
                                        std::uint64_t memory_size_bytes,
                                        std::string_view source_name) {
  const auto damaged = [source_name](const std::string& what) {
    return Status(StatusCode::kCorruption,
                  fmt::format("{}: the header of the shared cache cannot be ({}): the store that "
                              "shares it is of another make, or its memory is damaged; open it "
                              "anew",
                              source_name, what));
  };
  TIERCEL_CHECK(bytes.size() == kSharedHeaderBytes);
  if (std::memcmp(bytes.data(), kSharedMagic.data(), kSharedMagic.size()) != 0) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} is not a shared cache: it does not begin with its magic number",
                              source_name));
  }
  if (const std::uint32_t version = Shared32(bytes, kSharedVersionAt); version != kSharedVersion) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} is a shared cache of version {}, but this program reads version "
                              "{}: run both processes with one version of the library",
                              source_name, version, kSharedVersion));
  }
  if (Shared64(bytes, kSharedChecksumAt) != Checksum64(bytes.first(kSharedChecksumAt))) {
    return damaged("checksum");
  }
  SharedHeader header;
  header.size_bytes = Shared64(bytes, kSharedSizeAt);
  header.table_id = Shared64(bytes, kSharedTableIdAt);
  header.content_id = Shared64(bytes, kSharedContentIdAt);
  header.shard = {.rank = Shared32(bytes, kSharedShardRankAt),
                  .count = Shared32(bytes, kSharedShardCountAt)};
  const std::uint32_t flags = Shared32(bytes, kSharedFlagsAt);
  header.has_updates = (flags & kSharedFlagUpdates) != 0;
  const std::uint32_t pool_count = Shared32(bytes, kSharedPoolCountAt);
  const std::uint32_t space_count = Shared32(bytes, kSharedSpaceCountAt);
  if (Shared32(bytes, kSharedHeaderBytesAt) != kSharedHeaderBytes) return damaged("its own size");
  if (header.size_bytes != memory_size_bytes) {
    return damaged(fmt::format("{} B, in {} B", header.size_bytes, memory_size_bytes));
  }
  if ((flags & ~kSharedFlagUpdates) != 0) return damaged("unknown flags");
  if (pool_count > kSharedSpacesMax) return damaged(fmt::format("{} pools", pool_count));
  if (space_count > kSharedSpacesMax) return damaged(fmt::format("{} spaces", space_count));
  const std::size_t pools_end = kSharedPoolsAt + pool_count * kSharedPoolBytes;
  const std::size_t spaces_end = kSharedSpacesAt + space_count * kSharedSpaceBytes;
  if (!IsUnused(bytes, kSharedHeadEnd, kSharedPoolsAt) ||
      !IsUnused(bytes, pools_end, kSharedSpacesAt) ||
      !IsUnused(bytes, spaces_end, kSharedChecksumAt)) {
    return damaged("bytes where there are none");
  }
  if (const std::string what = ReadPools(bytes, pools_end, header); !what.empty()) {
    return damaged(what);
  }
  for (std::size_t at = kSharedSpacesAt; at < spaces_end; at += kSharedSpaceBytes) {
    header.spaces.push_back({.layer_id = Shared32(bytes, at),
                             .order = Shared32(bytes, at + 4),
                             .group_size_bytes = Shared32(bytes, at + 8),
                             .pool = Shared32(bytes, at + 12)});
  }
  if (const std::string what = SharedObjection(header); !what.empty()) return damaged(what);
  return header;
}

void TellWriterClosed(std::span<std::byte> memory) noexcept {
  TIERCEL_CHECK(memory.size() >= kSharedHeaderBytes);
  __atomic_store_n(reinterpret_cast<std::uint32_t*>(memory.data() + kSharedStateAt),
                   kSharedWriterClosed, __ATOMIC_RELEASE);
}

bool IsWriterClosed(std::span<const std::byte> memory) noexcept {
  TIERCEL_CHECK(memory.size() >= kSharedHeaderBytes);
  return __atomic_load_n(reinterpret_cast<const std::uint32_t*>(memory.data() + kSharedStateAt),
                         __ATOMIC_ACQUIRE) == kSharedWriterClosed;
}

}  // namespace tiercel
