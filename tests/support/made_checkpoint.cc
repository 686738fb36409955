#include "tests/support/made_checkpoint.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/prng.h"
#include "tiercel/row_format.h"

namespace tiercel::testing {

MadeCheckpoint::MadeCheckpoint(const Options& options) : path_(scratch_.File("checkpoint")) {
  MakeCheckpointOptions make;
  make.like = options.like;
  make.shrink = options.shrink;
  make.seed = options.seed;
  make.out_dir = path_;
  make.fp8 = options.fp8;
  make.tables_only = options.tables_only;
  if (options.gguf) {
    make.format = CheckpointFormat::kGguf;
    make.gguf_row_format = *options.gguf;
    make.gguf_split_count = options.split_count;
  }
  TIERCEL_CHECK(MakeCheckpoint(make).ok());
  Result<CheckpointInfo> info = InspectCheckpoint(path_);
  TIERCEL_CHECK(info.ok());
  info_ = std::move(info).value();
}

std::vector<std::int32_t> MadeCheckpoint::RandomTokens(std::uint64_t seed,
                                                       std::size_t count) const {
  const RecipeParameters& parameters = info_.recipe.parameters;
  const std::uint32_t classes = parameters.compressed_vocab_size != 0
                                    ? parameters.compressed_vocab_size
                                    : parameters.vocab_size;
  Prng prng(seed);
  std::vector<std::int32_t> tokens(count);
  for (std::int32_t& token : tokens) {
    // Half of them from few tokens, so that groups repeat as they do in text.
    const std::uint64_t bound = prng() % 2 == 0 ? 40 : classes;
    token = static_cast<std::int32_t>(prng.Below(bound));
  }
  return tokens;
}

std::vector<std::byte> MadeCheckpoint::Row(std::uint32_t layer_id, RowId row) const {
  const std::uint32_t layer = *info_.recipe.FindLayer(layer_id);
  const RowShape& shape = info_.layers[layer].shape;
  std::vector<std::byte> bytes(shape.row_size_bytes());
  SyntheticRow(*info_.synthetic_seed, layer_id, row, shape, bytes);
  return bytes;
}

std::vector<std::byte> MadeCheckpoint::Output(std::uint32_t layer_id, RowId row,
                                              RowOutput format) const {
  std::vector<std::byte> stored = Row(layer_id, row);
  if (format == RowOutput::kStored) return stored;
  const RowShape& shape = info_.layers[*info_.recipe.FindLayer(layer_id)].shape;
  std::vector<std::uint16_t> values(shape.value_count);
  DequantizeToBf16(shape, stored, values);
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

LayerBuffers::LayerBuffers(const Store& store, std::uint32_t layer, std::size_t row_count,
                           RowOutput format)
    : layer_id(layer),
      row_size_bytes(store.OutputRowSizeBytes(layer, format).value()),
      rows(row_count * row_size_bytes, std::byte{0xAA}),
      row_status(row_count, RowStatus{0x7F}) {}

std::vector<std::byte> LayerBuffers::Row(std::size_t index) const {
  const auto first = rows.begin() + static_cast<std::ptrdiff_t>(index * row_size_bytes);
  return {first, first + static_cast<std::ptrdiff_t>(row_size_bytes)};
}

RowTally CheckRows(const MadeCheckpoint& made, const LayerBuffers& buffers,
                   const std::vector<RowId>& ids, RowOutput format) {
  RowTally tally;
  const std::vector<std::byte> zero(buffers.row_size_bytes);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const bool ok = buffers.row_status[i] == RowStatus::kOk;
    const bool known = buffers.row_status[i] <= RowStatus::kCorruption;
    const std::vector<std::byte> want = ok ? made.Output(buffers.layer_id, ids[i], format) : zero;
    if (!known || buffers.Row(i) != want) {
      ++tally.wrong;
    } else {
      ++(ok ? tally.right : tally.marked);
    }
  }
  return tally;
}

std::vector<RowId> RowIdsOf(const Store& store, std::uint32_t layer_id, const TokenRun& run) {
  const Recipe& recipe = store.hasher().recipe();
  std::vector<RowId> ids(run.tokens.size() * recipe.column_count());
  TIERCEL_CHECK(store.hasher().RowIds(*recipe.FindLayer(layer_id), run, ids, {}).ok());
  return ids;
}

}  // namespace tiercel::testing
