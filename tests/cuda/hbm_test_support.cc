#include "tests/cuda/hbm_test_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/prng.h"
#include "tiercel/row_format.h"

namespace tiercel::testing {
namespace {

constexpr std::byte kPoison{0xA5};

std::uint64_t RowBytes(const RowShape& shape, HbmFormat format) {
  switch (format) {
    case HbmFormat::kStored:
      return shape.row_size_bytes();
    case HbmFormat::kRowsAndScales:
      return shape.value_count;
    case HbmFormat::kBf16:
      break;
  }
  return std::uint64_t{shape.value_count} * 2;
}

}  // namespace

HbmOptions SmallHbm(const MadeCheckpoint& made, std::uint64_t slot_count) {
  const std::uint64_t group_size = std::uint64_t{made.info().layers[0].shape.row_size_bytes()} *
                                   made.info().recipe.parameters.head_count;
  HbmOptions options;
  options.hbm_budget_bytes = slot_count * ((group_size + 15) / 16 * 16);
  options.staging_bytes = std::uint64_t{4} << 20;
  options.tickets_max = 4;
  options.tokens_max = 64;
  options.format = HbmFormat::kStored;
  return options;
}

StoreOptions SmallStore() {
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{24} << 20;
  options.queue_depth = 16;
  options.log = [](std::string_view /*line*/) {};
  return options;
}

HbmRig OpenRig(const MadeCheckpoint& made, const HbmRigOptions& options,
               std::unique_ptr<Store> store) {
  HbmRig rig;
  if (store == nullptr) {
    Result<std::unique_ptr<Store>> opened = Store::Open(made.path(), SmallStore());
    TIERCEL_CHECK(opened.ok());
    store = std::move(opened).value();
  }
  rig.store = std::move(store);
  auto device = std::make_unique<FakeHbmDevice>(options.seed, options.thread_count);
  rig.device = device.get();
  rig.stream = device->CreateStream().value();
  Result<std::shared_ptr<HbmCache>> cache =
      HbmCache::Create(*rig.store, std::move(device), options.hbm);
  EXPECT_TRUE(cache.ok()) << cache.status().ToString();
  rig.cache = std::move(cache).value();
  return rig;
}

HbmBatch::HbmBatch(const HbmRig& rig, HbmFormat format, std::uint32_t token_capacity)
    : store_(*rig.store), format_(format) {
  const CheckpointInfo& info = store_.checkpoint();
  for (const LayerTable& layer : info.layers) {
    const std::uint64_t row_count =
        std::uint64_t{token_capacity} * store_.hasher().recipe().column_count();
    rows_.emplace_back(row_count * RowBytes(layer.shape, format));
    scales_.emplace_back(row_count * (layer.shape.value_count / 32));
    outputs_.push_back(
        {.layer_id = layer.layer_id,
         .rows = rows_.back().data(),
         .scales = format == HbmFormat::kRowsAndScales ? scales_.back().data() : nullptr});
  }
  Poison();
}

void HbmBatch::Poison() {
  for (auto& rows : rows_) std::ranges::fill(rows, kPoison);
  for (auto& scales : scales_) std::ranges::fill(scales, kPoison);
}

void HbmBatch::Draw(const MadeCheckpoint& made, std::uint64_t seed, std::size_t token_count) {
  Prng prng(seed);
  tokens_.clear();
  runs_.clear();
  token_count_ = token_count;
  const bool dead_allowed = store_.hasher().recipe().parameters.kind != RecipeKind::kEngramDemo;
  while (token_count > 0) {
    const std::size_t count = 1 + prng.Below(token_count);
    const std::size_t history = prng.Below(4);
    tokens_.push_back(made.RandomTokens(prng(), history + count));
    for (std::int32_t& token : tokens_.back()) {
      if (dead_allowed && prng.Below(12) == 0) token = kDeadToken;
    }
    const std::span<const std::int32_t> all = tokens_.back();
    runs_.push_back({.history = all.first(history), .tokens = all.subspan(history)});
    token_count -= count;
  }
}

bool HbmBatch::RowIs(std::size_t layer, std::size_t row, std::span<const std::byte> stored) const {
  const RowShape& shape = store_.checkpoint().layers[layer].shape;
  const std::uint64_t row_bytes = RowBytes(shape, format_);
  const auto found = std::span(rows_[layer]).subspan(row * row_bytes, row_bytes);
  if (format_ == HbmFormat::kStored) return std::ranges::equal(found, stored);
  if (format_ == HbmFormat::kBf16) {
    std::vector<std::uint16_t> values(shape.value_count);
    DequantizeToBf16(shape, stored, values);
    return std::ranges::equal(found, std::as_bytes(std::span(values)));
  }
  const std::uint32_t scale_count = shape.value_count / 32;
  return std::ranges::equal(found, stored.first(shape.value_count)) &&
         std::ranges::equal(std::span(scales_[layer]).subspan(row * scale_count, scale_count),
                            stored.subspan(shape.value_count));
}

std::vector<RowId> HbmBatch::Ids(std::size_t layer) const {
  std::vector<RowId> ids;
  for (const TokenRun& run : runs_) {
    const std::vector<RowId> some = RowIdsOf(store_, outputs_[layer].layer_id, run);
    ids.insert(ids.end(), some.begin(), some.end());
  }
  return ids;
}

std::span<const std::byte> HbmBatch::StoredRow(std::size_t layer, std::size_t row) const {
  const std::uint64_t row_bytes = RowBytes(store_.checkpoint().layers[layer].shape, format_);
  return std::span(rows_[layer]).subspan(row * row_bytes, row_bytes);
}

HbmBatch::Tally HbmBatch::Check(const MadeCheckpoint& made, const HbmTicket& ticket) const {
  Tally tally;
  const std::uint32_t columns = store_.hasher().recipe().column_count();
  for (std::size_t layer = 0; layer < outputs_.size(); ++layer) {
    const std::uint32_t layer_id = outputs_[layer].layer_id;
    const RowShape& shape = store_.checkpoint().layers[layer].shape;
    std::vector<RowStatus> statuses(token_count_ * columns, RowStatus::kCorruption);
    const Status told = ticket.RowStatuses(layer_id, statuses);
    EXPECT_TRUE(told.ok()) << told.ToString();
    const std::vector<std::byte> zeros(shape.row_size_bytes());
    std::size_t row = 0;
    for (const TokenRun& run : runs_) {
      for (const RowId id : RowIdsOf(store_, layer_id, run)) {
        if (statuses[row] == RowStatus::kOk) {
          ++(RowIs(layer, row, made.Row(layer_id, id)) ? tally.right : tally.wrong);
        } else if (!RowIs(layer, row, zeros)) {
          ++tally.wrong;
        } else {
          ++(statuses[row] == RowStatus::kDead ? tally.dead : tally.failed);
        }
        ++row;
      }
    }
    const auto rest = std::span(rows_[layer]).subspan(row * RowBytes(shape, format_));
    if (!std::ranges::all_of(rest, [](std::byte byte) { return byte == kPoison; })) ++tally.wrong;
  }
  return tally;
}

ProbedTokens FakeProbe::Probed() const {
  return {.places = reinterpret_cast<const std::uint32_t*>(places.data()),
          .token_count = token_count,
          .misses = misses};
}

FakeProbe ProbeNow(const HbmRig& rig, const HbmBatch& batch, std::size_t layer) {
  const Hasher& hasher = rig.store->hasher();
  const std::uint32_t orders = hasher.recipe().order_count();
  const auto recipe_index = *hasher.recipe().FindLayer(batch.outputs()[layer].layer_id);
  const auto mirror = rig.device->mirror();
  FakeProbe probe;
  for (const TokenRun& run : batch.runs()) {
    std::vector<std::uint64_t> mixes(run.tokens.size() * orders);
    std::vector<std::uint8_t> dead(run.tokens.size());
    EXPECT_TRUE(hasher.Mixes(recipe_index, run, mixes, dead).ok());
    for (std::size_t i = 0; i < mixes.size(); ++i) {
      const auto order = static_cast<std::uint32_t>(i % orders);
      GroupSource& place = probe.places.emplace_back();
      if (dead[i / orders] != 0) continue;
      const std::uint64_t key = hasher.GroupKey(recipe_index, order, mixes[i]);
      const auto found = mirror.find({static_cast<std::uint32_t>(layer) * orders + order, key});
      if (found != mirror.end()) {
        place.source = found->second;
        continue;
      }
      place.source = GroupSource::kStaged | static_cast<std::uint32_t>(probe.misses.size());
      probe.misses.push_back({.key = key, .mix = mixes[i], .order_index = order});
    }
  }
  probe.token_count = static_cast<std::uint32_t>(probe.places.size() / orders);
  return probe;
}

void ExpectNothingHeld(const HbmRig& rig) {
  const HbmStats stats = rig.cache->Stats();
  EXPECT_EQ(stats.slots_in_flight, 0U);
  EXPECT_EQ(stats.staging_used_bytes, 0U);
  EXPECT_EQ(stats.tickets, 0U);
}

}  // namespace tiercel::testing
