#include "cache/hot_set_coding.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/byte_order.h"
#include "base/check.h"
#include "base/checksum.h"

namespace tiercel {
namespace {

// ---- where things lie; docs/format.md has the same figures ------------------------

constexpr std::string_view kMagic = "TRCLHOT\n";
constexpr std::size_t kVersionAt = 8;
constexpr std::size_t kHeaderBytesAt = 12;
constexpr std::size_t kBlockBytesAt = 16;
constexpr std::size_t kFlagsAt = 20;
constexpr std::size_t kBlockCountAt = 24;
constexpr std::size_t kGroupCountAt = 32;
constexpr std::size_t kSaveIdAt = 40;
constexpr std::size_t kTableIdAt = 48;
constexpr std::size_t kContentIdAt = 56;
constexpr std::size_t kSavedAtAt = 64;
constexpr std::size_t kSpaceCountAt = 72;
constexpr std::size_t kShardRankAt = 76;
constexpr std::size_t kShardCountAt = 80;
constexpr std::size_t kSpacesAt = 1024;
constexpr std::size_t kSpaceBytes = 24;
constexpr std::size_t kHeaderChecksumAt = kHotSetHeaderBytes - 8;
static_assert(kSpacesAt + kHotSetSpacesMax * kSpaceBytes <= kHeaderChecksumAt);

constexpr std::uint32_t kFlagBytes = 1;

constexpr std::uint32_t kBlockMagic = 0x4B425348;  // "HSBK"
constexpr std::size_t kBlockMagicAt = 8;
constexpr std::size_t kBlockGroupsAt = 12;
constexpr std::size_t kBlockIndexAt = 16;

constexpr std::size_t kEntrySpaceAt = 8;
constexpr std::size_t kEntryUsesAt = 10;

std::uint32_t Load32(std::span<const std::byte> bytes, std::size_t at) noexcept {
  return LoadLittleEndian<std::uint32_t>(bytes.data() + at);
}
std::uint64_t Load64(std::span<const std::byte> bytes, std::size_t at) noexcept {
  return LoadLittleEndian<std::uint64_t>(bytes.data() + at);
}

bool AllZero(std::span<const std::byte> bytes) noexcept {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

std::uint64_t HeaderChecksum(std::span<const std::byte> header) noexcept {
  return Checksum64(header.first(kHeaderChecksumAt));
}

/// Of all but the checksum itself. The seed makes a block of another file, or of another
/// place in this one, as wrong as a damaged one.
std::uint64_t BlockChecksum(const HotSetHeader& header, std::uint64_t index,
                            std::span<const std::byte> block) noexcept {
  return Checksum64(block.subspan(8), header.save_id + index);
}

/// Why a header whose checksum holds cannot be used all the same; empty if it can.
std::string HeaderObjection(const HotSetHeader& header) {
  if (!std::has_single_bit(header.block_bytes) || header.block_bytes < kHotSetBlockBytesMin ||
      header.block_bytes > kHotSetBlockBytesMax) {
    return fmt::format("blocks of {} B", header.block_bytes);
  }
  if (header.shard.rank >= header.shard.count) {
    return fmt::format("head shard {}/{}", header.shard.rank, header.shard.count);
  }
  if (header.spaces.empty()) return "no spaces";
  for (const HotSetSpace& space : header.spaces) {
    if (space.group_size_bytes == 0) return fmt::format("layer {}: empty groups", space.layer_id);
    if (header.has_bytes &&
        space.group_size_bytes + kHotSetEntryBytes + kHotSetBlockHeadBytes > header.block_bytes) {
      return fmt::format("layer {}: groups of {} B in blocks of {} B", space.layer_id,
                         space.group_size_bytes, header.block_bytes);
    }
  }
  std::uint64_t group_count = 0;
  for (const HotSetSpace& space : header.spaces) {
    if (space.group_count > header.group_count - group_count) return "counts of groups";
    group_count += space.group_count;
  }
  if (group_count != header.group_count) return "counts of groups";
  if (header.block_count > (std::uint64_t{1} << 63) / kHotSetBlockBytesMax) {
    return fmt::format("{} blocks", header.block_count);
  }
  if (header.group_count < header.block_count ||
      header.group_count > header.block_count * (header.block_bytes / kHotSetEntryBytes)) {
    return fmt::format("{} groups in {} blocks", header.group_count, header.block_count);
  }
  return "";
}

}  // namespace

void SealHotSetHeader(std::span<std::byte> header) noexcept {
  StoreLittleEndian(header.data() + kHeaderChecksumAt, HeaderChecksum(header));
}

void SealHotSetBlock(const HotSetHeader& header, std::uint64_t index,
                     std::span<std::byte> block) noexcept {
  StoreLittleEndian(block.data(), BlockChecksum(header, index, block));
}

void EncodeHotSetHeader(const HotSetHeader& header, std::span<std::byte> target) {
  TIERCEL_CHECK(target.size() == kHotSetHeaderBytes);
  TIERCEL_CHECK(header.spaces.size() <= kHotSetSpacesMax && HeaderObjection(header).empty());
  std::fill(target.begin(), target.end(), std::byte{0});
  std::byte* const at = target.data();
  std::memcpy(at, kMagic.data(), kMagic.size());
  StoreLittleEndian(at + kVersionAt, kHotSetVersion);
  StoreLittleEndian(at + kHeaderBytesAt, kHotSetHeaderBytes);
  StoreLittleEndian(at + kBlockBytesAt, header.block_bytes);
  StoreLittleEndian(at + kFlagsAt, header.has_bytes ? kFlagBytes : std::uint32_t{0});
  StoreLittleEndian(at + kBlockCountAt, header.block_count);
  StoreLittleEndian(at + kGroupCountAt, header.group_count);
  StoreLittleEndian(at + kSaveIdAt, header.save_id);
  StoreLittleEndian(at + kTableIdAt, header.table_id);
  StoreLittleEndian(at + kContentIdAt, header.content_id);
  StoreLittleEndian(at + kSavedAtAt, header.saved_at_s);
  StoreLittleEndian(at + kSpaceCountAt, static_cast<std::uint32_t>(header.spaces.size()));
  // Zeros stand for all heads.
  StoreLittleEndian(at + kShardRankAt, header.shard.rank);
  StoreLittleEndian(at + kShardCountAt,
                    header.shard.count == 1 ? std::uint32_t{0} : header.shard.count);
  for (std::size_t i = 0; i < header.spaces.size(); ++i) {
    std::byte* const space = at + kSpacesAt + i * kSpaceBytes;
    StoreLittleEndian(space, header.spaces[i].layer_id);
    StoreLittleEndian(space + 4, header.spaces[i].order);
    StoreLittleEndian(space + 8, header.spaces[i].group_size_bytes);
    StoreLittleEndian(space + 16, header.spaces[i].group_count);
  }
  SealHotSetHeader(target);
}

Result<HotSetHeader> DecodeHotSetHeader(std::span<const std::byte> bytes,
                                        std::string_view source_name) {
  const auto damaged = [source_name](const std::string& what) {
    return Status(StatusCode::kCorruption,
                  fmt::format("{}: the header of the hot set is damaged ({}): remove the file and "
                              "save the hot set again",
                              source_name, what));
  };
  TIERCEL_CHECK(bytes.size() == kHotSetHeaderBytes);
  if (std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("{} is not a hot set: it does not begin with its magic number", source_name));
  }
  if (const std::uint32_t version = Load32(bytes, kVersionAt); version != kHotSetVersion) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} is a hot set of version {}, but this program reads version {}: "
                              "save it again with this one",
                              source_name, version, kHotSetVersion));
  }
  if (Load64(bytes, kHeaderChecksumAt) != HeaderChecksum(bytes)) return damaged("checksum");
  HotSetHeader header;
  header.block_bytes = Load32(bytes, kBlockBytesAt);
  header.has_bytes = (Load32(bytes, kFlagsAt) & kFlagBytes) != 0;
  header.block_count = Load64(bytes, kBlockCountAt);
  header.group_count = Load64(bytes, kGroupCountAt);
  header.save_id = Load64(bytes, kSaveIdAt);
  header.table_id = Load64(bytes, kTableIdAt);
  header.content_id = Load64(bytes, kContentIdAt);
  header.saved_at_s = Load64(bytes, kSavedAtAt);
  header.shard.rank = Load32(bytes, kShardRankAt);
  header.shard.count = std::max(Load32(bytes, kShardCountAt), 1U);
  const std::uint32_t space_count = Load32(bytes, kSpaceCountAt);
  if (Load32(bytes, kHeaderBytesAt) != kHotSetHeaderBytes) return damaged("its own size");
  if ((Load32(bytes, kFlagsAt) & ~kFlagBytes) != 0) return damaged("unknown flags");
  if (space_count > kHotSetSpacesMax) return damaged(fmt::format("{} spaces", space_count));
  for (std::size_t i = 0; i < space_count; ++i) {
    const std::size_t at = kSpacesAt + i * kSpaceBytes;
    header.spaces.push_back({.layer_id = Load32(bytes, at),
                             .order = Load32(bytes, at + 4),
                             .group_size_bytes = Load32(bytes, at + 8),
                             .group_count = Load64(bytes, at + 16)});
  }
  if (const std::string what = HeaderObjection(header); !what.empty()) return damaged(what);
  return header;
}

HotSetBlockWriter::HotSetBlockWriter(const HotSetHeader& header,
                                     std::span<std::byte> block) noexcept
    : header_(header), block_(block) {
  TIERCEL_CHECK(block.size() == header.block_bytes);
}

bool HotSetBlockWriter::Add(const HotGroup& group) noexcept {
  TIERCEL_CHECK(group.id.space < header_.spaces.size());
  const std::span<const std::byte> bytes =
      header_.has_bytes ? group.bytes : std::span<const std::byte>();
  TIERCEL_CHECK(!header_.has_bytes ||
                bytes.size() == header_.spaces[group.id.space].group_size_bytes);
  if (block_.size() - used_bytes_ < kHotSetEntryBytes + bytes.size()) return false;
  std::byte* const entry = block_.data() + used_bytes_;
  std::memset(entry, 0, kHotSetEntryBytes);
  StoreLittleEndian(entry, group.id.key);
  StoreLittleEndian(entry + kEntrySpaceAt, static_cast<std::uint16_t>(group.id.space));
  StoreLittleEndian(entry + kEntryUsesAt, group.id.uses);
  if (!bytes.empty()) std::memcpy(entry + kHotSetEntryBytes, bytes.data(), bytes.size());
  used_bytes_ += kHotSetEntryBytes + bytes.size();
  ++group_count_;
  return true;
}

void HotSetBlockWriter::Finish(std::uint64_t index) noexcept {
  std::byte* const at = block_.data();
  std::memset(at, 0, kHotSetBlockHeadBytes);
  std::memset(at + used_bytes_, 0, block_.size() - used_bytes_);
  StoreLittleEndian(at + kBlockMagicAt, kBlockMagic);
  StoreLittleEndian(at + kBlockGroupsAt, group_count_);
  StoreLittleEndian(at + kBlockIndexAt, index);
  SealHotSetBlock(header_, index, block_);
  used_bytes_ = kHotSetBlockHeadBytes;
  group_count_ = 0;
}

Status DecodeHotSetBlock(const HotSetHeader& header, std::uint64_t index,
                         std::span<const std::byte> block, std::string_view source_name,
                         std::vector<HotGroup>& groups) {
  groups.clear();
  const auto damaged = [&](const std::string& what) {
    groups.clear();
    return Status(StatusCode::kCorruption,
                  fmt::format("{}: block {} of {}, {} B at {}, is damaged ({}): save the hot set "
                              "again",
                              source_name, index, header.block_count, header.block_bytes,
                              header.BlockOffset(index), what));
  };
  if (block.size() != header.block_bytes) return damaged("cut short");
  if (Load64(block, 0) != BlockChecksum(header, index, block)) return damaged("checksum");
  if (Load32(block, kBlockMagicAt) != kBlockMagic) return damaged("no block");
  if (Load64(block, kBlockIndexAt) != index) return damaged("of another place");
  const std::uint32_t group_count = Load32(block, kBlockGroupsAt);
  if (group_count == 0 || group_count > block.size() / kHotSetEntryBytes) {
    return damaged(fmt::format("{} groups", group_count));
  }
  groups.reserve(group_count);
  std::span<const std::byte> rest = block.subspan(kHotSetBlockHeadBytes);
  for (std::uint32_t i = 0; i < group_count; ++i) {
    if (rest.size() < kHotSetEntryBytes) return damaged(fmt::format("group {} is cut", i));
    HotGroup group;
    group.id.key = Load64(rest, 0);
    group.id.space = LoadLittleEndian<std::uint16_t>(rest.data() + kEntrySpaceAt);
    group.id.uses = LoadLittleEndian<std::uint8_t>(rest.data() + kEntryUsesAt);
    if (group.id.space >= header.spaces.size() ||
        !AllZero(rest.subspan(kEntryUsesAt + 1, kHotSetEntryBytes - kEntryUsesAt - 1))) {
      return damaged(fmt::format("group {}", i));
    }
    rest = rest.subspan(kHotSetEntryBytes);
    if (header.has_bytes) {
      const std::uint32_t size_bytes = header.spaces[group.id.space].group_size_bytes;
      if (rest.size() < size_bytes) return damaged(fmt::format("group {} is cut", i));
      group.bytes = rest.first(size_bytes);
      rest = rest.subspan(size_bytes);
    }
    groups.push_back(group);
  }
  if (!AllZero(rest)) return damaged("more than its groups");
  return {};
}

}  // namespace tiercel
