#include "bench/overlap_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstring>
#include <limits>
#include <thread>
#include <utility>

#include "tiercel/hbm.h"
#include "tiercel/synthetic.h"

namespace tiercel::bench {
namespace {

constexpr std::string_view kMadePrefix = "made:";
constexpr std::uint64_t kMadeSeed = 1;
constexpr std::uint64_t kLayerAlignment = 256;
/// What a thread takes at a time: large enough that huge pages have one owner.
constexpr std::uint64_t kFillBytes = std::uint64_t{8} << 20;

std::uint64_t AlignUp(std::uint64_t bytes) {
  return (bytes + kLayerAlignment - 1) / kLayerAlignment * kLayerAlignment;
}

/// Writes the part of `layer` that lies in [begin, begin + bytes.size()).
void FillLayer(const OverlapTableLayer& layer, std::uint64_t seed, std::uint64_t begin,
               std::span<std::byte> bytes) {
  const std::uint64_t row_size = layer.shape.row_size_bytes();
  const std::uint64_t end =
      std::min(begin + bytes.size(), layer.offset_bytes + layer.row_count * row_size);
  std::uint64_t at = std::max(begin, layer.offset_bytes);
  std::vector<std::byte> row_bytes(row_size);
  while (at < end) {
    const std::uint64_t row = (at - layer.offset_bytes) / row_size;
    const std::uint64_t skipped = (at - layer.offset_bytes) % row_size;
    const std::uint64_t count = std::min(row_size - skipped, end - at);
    std::byte* const target = bytes.data() + (at - begin);
    if (count == row_size) {
      SyntheticRow(seed, layer.layer_id, RowId{row}, layer.shape, {target, row_size});
    } else {  // Cut by the begin or the end.
      SyntheticRow(seed, layer.layer_id, RowId{row}, layer.shape, row_bytes);
      std::memcpy(target, row_bytes.data() + skipped, count);
    }
    at += count;
  }
}

}  // namespace

bool IsMadeTable(std::string_view name) noexcept {
  return name.starts_with(kMadePrefix);
}

Result<CheckpointInfo> InspectTable(const std::string& name) {
  if (!IsMadeTable(name)) return InspectCheckpoint(name);
  const std::string_view number = std::string_view(name).substr(kMadePrefix.size());
  std::uint64_t shrink = 0;
  const auto [end, error] = std::from_chars(number.begin(), number.end(), shrink);
  if (error != std::errc() || end != number.end() || shrink == 0) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("\"{}\": made:N wants a number from 1 on", name));
  }
  Result<RecipeParameters> parameters = ModelParameters(CheckpointModel::kDeepSeekV41Flash, shrink);
  if (!parameters.ok()) return std::move(parameters).TakeStatus();
  Result<Recipe> recipe = BuildRecipe(parameters.value());
  if (!recipe.ok()) return std::move(recipe).TakeStatus();
  CheckpointInfo info;
  info.path = name;
  info.layout = "deepseek-v4.1";
  info.recipe = std::move(recipe).value();
  info.synthetic_seed = kMadeSeed;
  for (const LayerRecipe& layer : info.recipe.layers) {
    const RowShape shape = {.format = RowFormat::kE4M3Block32,
                            .value_count = info.recipe.parameters.head_dim};
    info.layers.push_back(
        {.layer_id = layer.layer_id, .shape = shape, .row_count = layer.row_count, .parts = {}});
    info.table_bytes += layer.row_count * shape.row_size_bytes();
  }
  return info;
}

Result<OverlapTableLayout> LayOutTable(const CheckpointInfo& info) {
  if (!info.synthetic_seed.has_value()) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("{} was not made by make-checkpoint: its rows cannot be generated", info.path));
  }
  OverlapTableLayout layout;
  layout.seed = *info.synthetic_seed;
  for (const LayerTable& layer : info.layers) {
    if (layer.row_count >= std::numeric_limits<std::uint32_t>::max()) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("layer {} has {} rows: too many for one slab", layer.layer_id,
                                layer.row_count));
    }
    layout.layers.push_back({.layer_id = layer.layer_id,
                             .offset_bytes = layout.size_bytes,
                             .row_count = layer.row_count,
                             .shape = layer.shape});
    layout.size_bytes += AlignUp(layer.row_count * layer.shape.row_size_bytes());
  }
  return layout;
}

void FillTable(const OverlapTableLayout& layout, std::uint64_t begin, std::span<std::byte> bytes) {
  const std::uint64_t piece_count = (bytes.size() + kFillBytes - 1) / kFillBytes;
  std::atomic<std::uint64_t> next = 0;
  const auto work = [&] {
    for (std::uint64_t piece = next++; piece < piece_count; piece = next++) {
      const std::uint64_t first = piece * kFillBytes;
      const auto part = bytes.subspan(first, std::min(kFillBytes, bytes.size() - first));
      for (const OverlapTableLayer& layer : layout.layers) {
        FillLayer(layer, layout.seed, begin + first, part);
      }
    }
  };
  const std::uint64_t thread_count =
      std::min<std::uint64_t>(std::max(std::thread::hardware_concurrency(), 1U), piece_count);
  std::vector<std::thread> threads;
  for (std::uint64_t i = 1; i < thread_count; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
}

Status RowNumbers(const Hasher& hasher, std::uint32_t layer_index, std::span<const TokenRun> runs,
                  std::span<std::uint32_t> numbers) {
  const std::size_t columns = hasher.recipe().column_count();
  std::vector<RowId> rows;
  std::vector<std::uint8_t> dead;
  for (const TokenRun& run : runs) {
    rows.resize(run.tokens.size() * columns);
    dead.resize(run.tokens.size());
    if (Status status = hasher.RowIds(layer_index, run, rows, dead); !status.ok()) return status;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      numbers[i] =
          dead[i / columns] != 0 ? SlabGather::kNone : static_cast<std::uint32_t>(Index(rows[i]));
    }
    numbers = numbers.subspan(rows.size());
  }
  return {};
}

}  // namespace tiercel::bench
