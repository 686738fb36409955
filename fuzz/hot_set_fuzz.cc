// Hot set files that somebody else wrote: the decoder must end in time, refuse what it
// does not like with the file's name, and give out only what lies within its block.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "cache/hot_set_coding.h"

namespace {

using tiercel::HotGroup;
using tiercel::HotSetHeader;
using tiercel::StatusCode;

constexpr std::string_view kName = "fuzz.hot";

void CheckGroups(const HotSetHeader& header, std::span<const std::byte> block,
                 const std::vector<HotGroup>& groups) {
  const std::byte* end = block.data() + tiercel::kHotSetBlockHeadBytes;
  TIERCEL_CHECK(!groups.empty());
  for (const HotGroup& group : groups) {
    TIERCEL_CHECK(group.id.space < header.spaces.size());
    TIERCEL_CHECK(group.bytes.size() ==
                  (header.has_bytes ? header.spaces[group.id.space].group_size_bytes : 0));
    if (group.bytes.empty()) continue;
    TIERCEL_CHECK(group.bytes.data() >= end);
    end = group.bytes.data() + group.bytes.size();
    TIERCEL_CHECK(end <= block.data() + block.size());
  }
}

void CheckBlock(const HotSetHeader& header, std::uint64_t index, std::span<const std::byte> block) {
  std::vector<HotGroup> groups;
  const tiercel::Status status = tiercel::DecodeHotSetBlock(header, index, block, kName, groups);
  if (status.ok()) {
    CheckGroups(header, block, groups);
  } else {
    TIERCEL_CHECK(status.code() == StatusCode::kCorruption && groups.empty());
    TIERCEL_CHECK(status.message().find(kName) != std::string_view::npos);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  std::vector<std::byte> head(tiercel::kHotSetHeaderBytes);
  std::copy_n(bytes.begin(), std::min(bytes.size(), head.size()), head.begin());
  // As it is, and with its checksum put right: a changed header would else get nowhere.
  (void)tiercel::DecodeHotSetHeader(head, kName);
  tiercel::SealHotSetHeader(head);
  const tiercel::Result<HotSetHeader> decoded = tiercel::DecodeHotSetHeader(head, kName);
  HotSetHeader header;
  if (decoded.ok()) {
    header = decoded.value();
    std::vector<std::byte> again(head.size());
    tiercel::EncodeHotSetHeader(header, again);
    const tiercel::Result<HotSetHeader> same = tiercel::DecodeHotSetHeader(again, kName);
    TIERCEL_CHECK(same.ok() && same.value().group_count == header.group_count);
  } else {
    TIERCEL_CHECK(decoded.status().code() == StatusCode::kInvalidArgument ||
                  decoded.status().code() == StatusCode::kCorruption);
    header = {.block_bytes = 4096,
              .has_bytes = size % 2 == 0,
              .block_count = 8,
              .spaces = {{.layer_id = 1, .order = 2, .group_size_bytes = 64},
                         {.layer_id = 1, .order = 3, .group_size_bytes = 500}}};
  }
  // The input's end, or all of it, as a block, again with and without a good checksum.
  const std::size_t skip = decoded.ok() ? std::min(size, head.size()) : 0;
  std::vector<std::byte> block(header.block_bytes);
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(skip),
              std::min(size - skip, block.size()), block.begin());
  CheckBlock(header, 0, block);
  tiercel::SealHotSetBlock(header, 3, block);
  CheckBlock(header, 3, block);
  return 0;
}
