#include "store/make_checkpoint_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/prng.h"
#include "store/make_checkpoint_gguf.h"
#include "store/make_checkpoint_models.h"
#include "store/safetensors_text.h"
#include "tiercel/recipe.h"

namespace tiercel {
namespace {

using Json = nlohmann::ordered_json;

/// Orders the tensors as the reference implementation does (type, largest first,
/// then name) and adds what follows from that.
void FinishFile(PlannedFile& file) {
  std::sort(file.tensors.begin(), file.tensors.end(),
            [](const PlannedTensor& a, const PlannedTensor& b) {
              return a.type != b.type ? a.type > b.type : a.name < b.name;
            });
  std::vector<TensorHead> heads;
  for (const PlannedTensor& tensor : file.tensors) {
    heads.push_back({tensor.name, tensor.type, tensor.shape, tensor.size_bytes});
  }
  file.header = SafetensorsHeaderText(heads);
  file.size_bytes = file.header.size();
  for (const PlannedTensor& tensor : file.tensors) file.size_bytes += tensor.size_bytes;
}

std::string IndexText(const std::vector<PlannedFile>& files) {
  std::vector<IndexedTensor> tensors;
  for (const PlannedFile& file : files) {
    for (const PlannedTensor& tensor : file.tensors) {
      tensors.push_back({tensor.name, file.name, tensor.size_bytes});
    }
  }
  return SafetensorsIndexText(std::move(tensors));
}

std::string MarkerText(const MakeCheckpointOptions& options) {
  const Json json = {{"format", kSyntheticMarkerFormat},
                     {"version", kSyntheticMarkerVersion},
                     {"generator", kSyntheticGenerator},
                     {"seed", options.seed},
                     {"like", Name(options.like)},
                     {"shrink", options.shrink},
                     {"fp8", options.fp8},
                     {"tables_only", options.tables_only}};
  return json.dump(2) + "\n";
}

}  // namespace

Result<CheckpointPlan> PlanCheckpoint(const MakeCheckpointOptions& options) {
  if (options.format == CheckpointFormat::kGguf) return PlanGguf(options);
  Result<RecipeParameters> parameters = ModelParameters(options.like, options.shrink);
  if (!parameters.ok()) return std::move(parameters).TakeStatus();
  Result<Recipe> recipe = BuildRecipe(parameters.value());
  if (!recipe.ok()) return std::move(recipe).TakeStatus();
  if (options.fp8 && options.like != CheckpointModel::kQwen38FlashNext) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("fp8: {} comes in one format alone; leave fp8 off", Name(options.like)));
  }
  CheckpointPlan plan;
  plan.files = PlanModelFiles(options, recipe.value());
  for (PlannedFile& file : plan.files) {
    FinishFile(file);
    plan.size_bytes += file.size_bytes;
  }
  for (const LayerRecipe& layer : recipe.value().layers) plan.row_count += layer.row_count;
  plan.texts.push_back({"config.json", ModelConfigText(options, recipe.value())});
  if (plan.files.size() > 1) {
    plan.texts.push_back({"model.safetensors.index.json", IndexText(plan.files)});
  }
  plan.texts.push_back({std::string(kSyntheticMarkerName), MarkerText(options)});
  for (const PlannedText& text : plan.texts) plan.size_bytes += text.text.size();
  return plan;
}

PlannedFileStream::PlannedFileStream(const PlannedFile& file) : file_(file) {
  std::size_t row_bytes = 0;
  for (const PlannedTensor& tensor : file.tensors) {
    if (!tensor.literal.empty()) continue;
    row_bytes =
        std::max<std::size_t>(row_bytes, SyntheticPartSizeBytes(tensor.source.shape, tensor.part));
  }
  row_.resize(row_bytes);
}

void PlannedFileStream::Next(std::span<std::byte> bytes) noexcept {
  while (!bytes.empty()) {
    const std::uint64_t size_bytes =
        in_header_ ? file_.header.size() : file_.tensors[tensor_index_].size_bytes;
    const auto count =
        static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), size_bytes - offset_bytes_));
    if (in_header_) {
      std::memcpy(bytes.data(), file_.header.data() + offset_bytes_, count);
    } else {
      NextOfTensor(file_.tensors[tensor_index_], bytes.first(count));
    }
    bytes = bytes.subspan(count);
    offset_bytes_ += count;
    if (offset_bytes_ < size_bytes) continue;
    offset_bytes_ = 0;
    if (!std::exchange(in_header_, false)) ++tensor_index_;
  }
}

void PlannedFileStream::NextOfTensor(const PlannedTensor& tensor,
                                     std::span<std::byte> bytes) noexcept {
  if (!tensor.literal.empty()) {
    std::memcpy(bytes.data(), tensor.literal.data() + offset_bytes_, bytes.size());
    return;
  }
  const std::size_t row_bytes = SyntheticPartSizeBytes(tensor.source.shape, tensor.part);
  std::uint64_t row = tensor.first_row + offset_bytes_ / row_bytes;
  std::size_t skipped_bytes = offset_bytes_ % row_bytes;
  while (!bytes.empty()) {
    if (skipped_bytes == 0 && bytes.size() >= row_bytes) {
      const std::size_t rows = bytes.size() / row_bytes;
      FillSyntheticPart(tensor.source, tensor.part, row, rows, bytes.first(rows * row_bytes));
      row += rows;
      bytes = bytes.subspan(rows * row_bytes);
      continue;
    }
    const std::span<std::byte> whole = std::span(row_).first(row_bytes);
    FillSyntheticPart(tensor.source, tensor.part, row, 1, whole);
    const std::size_t count = std::min(row_bytes - skipped_bytes, bytes.size());
    std::memcpy(bytes.data(), whole.data() + skipped_bytes, count);
    bytes = bytes.subspan(count);
    skipped_bytes = 0;
    ++row;
  }
}

}  // namespace tiercel
