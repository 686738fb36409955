// GGUF headers that somebody else wrote: the reader must end in time, and whatever tensors and
// recipes it gives must lie within the file and hold together.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "engram/recipe_check.h"
#include "store/gguf.h"
#include "store/gguf_files.h"
#include "store/gguf_recipe.h"

namespace {

void CheckTensors(std::vector<tiercel::GgufTensor>& tensors, std::uint64_t data_offset_bytes,
                  std::uint64_t file_size_bytes) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return a.offset_bytes != b.offset_bytes ? a.offset_bytes < b.offset_bytes
                                            : a.size_bytes < b.size_bytes;
  });
  std::uint64_t end_bytes = data_offset_bytes;
  for (const tiercel::GgufTensor& tensor : tensors) {
    TIERCEL_CHECK(tensor.offset_bytes >= data_offset_bytes);
    if (tensor.size_bytes == 0) continue;
    TIERCEL_CHECK(tensor.offset_bytes >= end_bytes);
    TIERCEL_CHECK(tensor.offset_bytes <= file_size_bytes);
    TIERCEL_CHECK(tensor.size_bytes <= file_size_bytes - tensor.offset_bytes);
    end_bytes = tensor.offset_bytes + tensor.size_bytes;
  }
}

void CheckRecipeOf(const tiercel::GgufValues& values) {
  const tiercel::Result<tiercel::GgufRecipe> read = tiercel::ReadGgufRecipe(values, "fuzz.gguf");
  if (!read.ok()) {
    const tiercel::StatusCode code = read.status().code();
    TIERCEL_CHECK(code == tiercel::StatusCode::kInvalidArgument ||
                  code == tiercel::StatusCode::kNotFound);
    TIERCEL_CHECK(read.status().message().find("fuzz.gguf") != std::string_view::npos);
    return;
  }
  TIERCEL_CHECK(tiercel::CheckRecipe(read.value().recipe).ok());
  const tiercel::RecipeParameters& parameters = read.value().recipe.parameters;
  if (read.value().token_map != nullptr) {
    TIERCEL_CHECK(read.value().token_map->class_count() == parameters.compressed_vocab_size);
  }
}

void CheckFile(std::span<const std::byte> start, std::uint64_t file_size_bytes) {
  const tiercel::GgufFilter all{.key = [](std::string_view) { return true; },
                                .tensor = [](std::string_view) { return true; }};
  const tiercel::GgufFilter some{.key = tiercel::IsGgufRecipeKey,
                                 .tensor = [](std::string_view) { return false; }};
  tiercel::Result<tiercel::GgufHeader> header =
      tiercel::ParseGgufHeader(start, file_size_bytes, "fuzz.gguf", all);
  const tiercel::Result<tiercel::GgufHeader> picked =
      tiercel::ParseGgufHeader(start, file_size_bytes, "fuzz.gguf", some);
  if (!header.ok()) {
    const tiercel::StatusCode code = header.status().code();
    TIERCEL_CHECK(code == tiercel::StatusCode::kInvalidArgument ||
                  code == tiercel::StatusCode::kCorruption);
    TIERCEL_CHECK(header.status().message().find("fuzz.gguf") != std::string_view::npos);
  } else {
    // What is kept is held to more, never to less.
    TIERCEL_CHECK(picked.ok());
    TIERCEL_CHECK(header.value().tensors.size() == header.value().tensor_count);
    CheckTensors(header.value().tensors, header.value().data_offset_bytes, file_size_bytes);
  }
  if (picked.ok()) CheckRecipeOf(picked.value().values);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  CheckFile(bytes, size);
  // As the start of a larger file: tensors need not fit into the input.
  CheckFile(bytes, size + 65'536);

  const std::string_view name(reinterpret_cast<const char*>(data), size);
  if (const auto part = tiercel::ParseGgufPartName(name)) {
    TIERCEL_CHECK(part->part >= 1 && part->part <= part->count);
    TIERCEL_CHECK(tiercel::GgufPartPath(part->stem, part->part, part->count) == name);
  }
  return 0;
}
