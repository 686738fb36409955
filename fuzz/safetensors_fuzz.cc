// Safetensors headers and shard indices that somebody else wrote: the readers must end
// in time, and whatever tensors they give must lie within the file, apart from each other.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_order.h"
#include "base/check.h"
#include "store/checkpoint_match.h"
#include "store/checkpoint_shards.h"
#include "store/safetensors.h"

namespace {

using tiercel::RecipeKind;

constexpr RecipeKind kKinds[] = {RecipeKind::kDeepSeekV41, RecipeKind::kEngramDemo,
                                 RecipeKind::kQwen38};

bool IsTableTensor(std::string_view name) {
  return std::any_of(std::begin(kKinds), std::end(kKinds), [name](RecipeKind kind) {
    return tiercel::MatchTableTensor(kind, name).has_value();
  });
}

void CheckFile(std::span<const std::byte> start, std::uint64_t file_size_bytes) {
  tiercel::Result<tiercel::SafetensorsHeader> header = tiercel::ParseSafetensorsHeader(
      start, file_size_bytes, "fuzz.safetensors", [](std::string_view) { return true; });
  const tiercel::Result<tiercel::SafetensorsHeader> picked =
      tiercel::ParseSafetensorsHeader(start, file_size_bytes, "fuzz.safetensors", IsTableTensor);
  TIERCEL_CHECK(header.ok() == picked.ok());
  if (!header.ok()) {
    const tiercel::StatusCode code = header.status().code();
    TIERCEL_CHECK(code == tiercel::StatusCode::kInvalidArgument ||
                  code == tiercel::StatusCode::kCorruption);
    TIERCEL_CHECK(header.status().message().find("fuzz.safetensors") != std::string_view::npos);
    return;
  }
  std::vector<tiercel::TensorInfo>& tensors = header.value().tensors;
  TIERCEL_CHECK(tensors.size() == header.value().tensor_count);
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return a.offset_bytes != b.offset_bytes ? a.offset_bytes < b.offset_bytes
                                            : a.size_bytes < b.size_bytes;
  });
  std::uint64_t end_bytes = header.value().data_offset_bytes;
  for (const tiercel::TensorInfo& tensor : tensors) {
    TIERCEL_CHECK(tensor.offset_bytes == end_bytes);
    TIERCEL_CHECK(tensor.size_bytes <= file_size_bytes - end_bytes);
    end_bytes += tensor.size_bytes;
  }
  TIERCEL_CHECK(end_bytes == file_size_bytes);
}

void CheckIndex(std::string_view text) {
  const tiercel::Result<std::vector<tiercel::IndexEntry>> entries =
      tiercel::ParseIndexFile(text, "fuzz.index.json", IsTableTensor);
  if (!entries.ok()) {
    TIERCEL_CHECK(entries.status().code() == tiercel::StatusCode::kInvalidArgument);
    return;
  }
  for (const tiercel::IndexEntry& entry : entries.value()) {
    TIERCEL_CHECK(IsTableTensor(entry.tensor));
    TIERCEL_CHECK(!entry.shard.empty() && entry.shard.find('/') == std::string::npos);
    TIERCEL_CHECK(entry.shard != "." && entry.shard != "..");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // As a whole file, its length field included.
  CheckFile(std::as_bytes(std::span(data, size)), size);

  // As the text of a header with the right length before it and 24 bytes of data behind
  // it: a changed text would else hardly ever get past the length.
  std::vector<std::byte> file(8 + size);
  tiercel::StoreLittleEndian<std::uint64_t>(file.data(), size);
  if (size > 0) std::memcpy(file.data() + 8, data, size);
  CheckFile(file, file.size() + 24);

  CheckIndex({reinterpret_cast<const char*>(data), size});
  return 0;
}
