#include "tests/store/row_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "tiercel/row_format.h"

namespace tiercel::testing {
namespace {

/// A row may have been read several times, so any of its wrong bits may be in it: 2^8
/// rows are tried at most.
constexpr std::size_t kWrongBitsMax = 8;

bool IsZero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

/// Whether `bytes` are the output of the stored row `stored`.
bool Same(const RowShape& shape, std::span<const std::byte> stored,
          std::span<const std::byte> bytes, RowOutput format) {
  if (format == RowOutput::kStored) return std::ranges::equal(stored, bytes);
  std::array<std::uint16_t, 4096> values;
  TIERCEL_CHECK(shape.value_count <= values.size());
  const auto used = std::span(values).first(shape.value_count);
  DequantizeToBf16(shape, stored, used);
  return std::ranges::equal(std::as_bytes(used), bytes);
}

}  // namespace

void RowTallies::Add(const RowTallies& other) {
  batches += other.batches;
  right += other.right;
  flipped += other.flipped;
  io_error += other.io_error;
  corruption += other.corruption;
  dead += other.dead;
  out_of_range += other.out_of_range;
  if (wrong == 0) first_wrong = other.first_wrong;
  wrong += other.wrong;
}

void RowTallies::Wrong(std::string what) {
  if (wrong++ == 0) first_wrong = std::move(what);
}

void RowModel::Judge(std::uint32_t layer_id, RowId row, RowStatus want, RowStatus status,
                     std::span<const std::byte> bytes, RowOutput format,
                     RowTallies& tallies) const {
  const char* wrong = nullptr;
  if (want != RowStatus::kOk) {
    if (status != want || !IsZero(bytes)) wrong = "is dead or out of range, and not marked so";
    ++(want == RowStatus::kDead ? tallies.dead : tallies.out_of_range);
  } else if (status == RowStatus::kOk) {
    wrong = JudgeBytes(layer_id, row, bytes, format, tallies);
  } else if (status == RowStatus::kIoError || status == RowStatus::kCorruption) {
    const Told told = ToldOf(layer_id, row);
    const bool io_error = status == RowStatus::kIoError;
    if (!IsZero(bytes)) wrong = "is marked, but not zero";
    if (!(io_error ? told.io_error : told.no_data)) wrong = "is marked for no reason";
    ++(io_error ? tallies.io_error : tallies.corruption);
  } else {
    wrong = "has a status that no rule gives it";
  }
  if (wrong == nullptr) return;
  tallies.Wrong(fmt::format("row {} of layer {} {} (status {})", Index(row), layer_id, wrong,
                            static_cast<int>(status)));
}

const LayerTable& RowModel::LayerOf(std::uint32_t layer_id) const {
  return made_.info().layers[*made_.info().recipe.FindLayer(layer_id)];
}

/// What the device said of the row's parts. Resident scales count as well: until they are
/// loaded they are read from the device.
RowModel::Told RowModel::ToldOf(std::uint32_t layer_id, RowId row) const {
  Told told;
  std::uint32_t done_bytes = 0;
  for (const RowPart& part : LayerOf(layer_id).parts) {
    const bool may_be_resident = done_bytes > 0 && scales_ == ScalePlacement::kResident;
    const auto extent = std::ranges::find_if(part.extents, [row](const RowExtent& candidate) {
      return Index(row) - candidate.first_row < candidate.row_count;
    });
    TIERCEL_CHECK(extent != part.extents.end());
    const std::uint64_t offset_bytes =
        extent->offset_bytes + (Index(row) - extent->first_row) * part.size_bytes;
    const WitnessLog::Told of_part = log_.At(extent->file_index, offset_bytes, part.size_bytes);
    told.io_error |= of_part.io_error;
    told.no_data |= of_part.no_data;
    for (const std::uint32_t bit : of_part.wrong_bits) {
      told.wrong_bits.push_back(done_bytes * 8 + bit);
    }
    for (const FaultOptions::BadRange& bad : faults_.bad_ranges) {
      told.bad_for_ever |= !may_be_resident && bad.file_index == extent->file_index &&
                           bad.offset_bytes < offset_bytes + part.size_bytes &&
                           offset_bytes < bad.offset_bytes + bad.size_bytes;
    }
    done_bytes += part.size_bytes;
  }
  return told;
}

/// Judges the bytes of a row that is marked kOk. Returns what is wrong with it, or null.
const char* RowModel::JudgeBytes(std::uint32_t layer_id, RowId row,
                                 std::span<const std::byte> bytes, RowOutput format,
                                 RowTallies& tallies) const {
  const RowShape& shape = LayerOf(layer_id).shape;
  const std::vector<std::byte> truth = made_.Row(layer_id, row);
  const bool right = Same(shape, truth, bytes, format);
  const Told told = ToldOf(layer_id, row);
  if (told.bad_for_ever) return "cannot be read, and is marked OK";
  if (right) {
    ++tallies.right;
    return nullptr;
  }
  if (told.wrong_bits.size() > kWrongBitsMax) return "has more wrong bits than can be tried";
  for (std::uint32_t subset = 1; subset < (1U << told.wrong_bits.size()); ++subset) {
    std::vector<std::byte> candidate = truth;
    for (std::size_t i = 0; i < told.wrong_bits.size(); ++i) {
      if ((subset >> i & 1U) == 0) continue;
      candidate[told.wrong_bits[i] / 8] ^= std::byte(1U << (told.wrong_bits[i] % 8));
    }
    if (Same(shape, candidate, bytes, format)) {
      ++tallies.flipped;
      return nullptr;
    }
  }
  return "differs where the device gave no wrong bit";
}

}  // namespace tiercel::testing
