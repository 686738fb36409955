#include "store/probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "store/store_impl.h"

namespace tiercel {
namespace {

/// Groups that are copied aside at a time to be dequantised or spread over strided rows:
/// 64 * 2,112 B stay in the second-level cache.
constexpr std::size_t kAsideGroups = 64;

/// Adds `probes` and which of them hit to the counters of their spaces and of the batch,
/// run by run: probes of one space stand side by side.
void CountProbes(Store::Impl& store, Batch& batch, std::span<const Batch::Probe> probes,
                 std::span<const std::uint8_t> hits) {
  for (std::size_t first = 0; first < probes.size();) {
    const std::uint32_t space = probes[first].space;
    std::uint64_t hit_count = 0;
    std::size_t end = first;
    for (; end < probes.size() && probes[end].space == space; ++end) hit_count += hits[end];
    store.counters.spaces[space].lookups.Add(end - first);
    store.counters.spaces[space].dram_hits.Add(hit_count);
    LayerCounts& layer = batch.counts(probes[first].layer_slot);
    layer.groups += end - first;
    layer.dram_hits += hit_count;
    first = end;
  }
}

/// Whether a group can be copied to its rows as it lies in the cache.
bool CopiesStraight(const Batch& batch) {
  if (batch.format() != RowOutput::kStored) return false;
  return std::ranges::all_of(batch.layers(),
                             [](const BatchLayer& layer) { return layer.rows_touch(); });
}

/// Serves scratch.probes from the cache, all in one call so that their memory
/// latencies overlap; notes a waiter for each group that is not there.
void ServeFromCache(Store::Impl& store, Batch& batch, ProbeScratch& scratch) {
  const Layout& layout = store.layout;
  const std::size_t count = scratch.probes.size();
  const bool straight = CopiesStraight(batch);
  const std::size_t step = straight ? std::max<std::size_t>(count, 1) : kAsideGroups;
  const std::size_t aside_bytes = layout.space_size_bytes_max;
  if (!straight) scratch.groups.resize(kAsideGroups * aside_bytes);
  // What is copied aside is read at once. Dequantising is slower than the stores of its
  // results: past the cache they took a tenth longer (lookup_bench, bf16).
  const CopyStores stores = straight ? batch.stores() : CopyStores::kCached;
  scratch.hits.resize(count);

  for (std::size_t first = 0; first < count; first += step) {
    const auto probes = std::span(scratch.probes).subspan(first, std::min(step, count - first));
    const auto hits = std::span(scratch.hits).subspan(first, probes.size());
    scratch.spaces.clear();
    scratch.targets.clear();
    for (std::size_t i = 0; i < probes.size(); ++i) {
      const BatchLayer& layer = batch.layers()[probes[i].layer_slot];
      std::byte* const destination =
          straight ? layer.Row(probes[i].row_index) : scratch.groups.data() + i * aside_bytes;
      scratch.spaces.push_back(probes[i].space);
      scratch.targets.push_back({.key = probes[i].key, .destination = destination});
    }
    store.cache->Lookup(scratch.spaces, scratch.targets, hits, stores);
    for (std::size_t i = 0; i < probes.size(); ++i) {
      const Batch::Probe& probe = probes[i];
      const Space& space = layout.spaces[probe.space];
      if (hits[i] == 0) {
        batch.AddWaiter(probe);
      } else if (straight) {
        batch.MarkOk(probe.layer_slot, probe.row_index, space.row_count);
      } else {
        batch.Write(probe.layer_slot, space, probe.row_index,
                    std::span(scratch.groups).subspan(i * aside_bytes, space.size_bytes));
      }
    }
  }
  CountProbes(store, batch, scratch.probes, scratch.hits);
}

/// Adds the groups of one layer to scratch.probes: mixes and dead tokens are hashed.
void ProbeLayer(const Store::Impl& store, Batch& batch, ProbeScratch& scratch,
                std::uint32_t layer_slot, std::uint64_t first_token) {
  const Layout& layout = store.layout;
  const ServedLayer& layer = layout.layers[batch.layers()[layer_slot].layer_index];
  const std::size_t token_count = scratch.dead.size();
  for (std::size_t token = 0; token < token_count; ++token) {
    if (scratch.dead[token] == 0) continue;
    batch.WriteFailed(layer_slot, (first_token + token) * layout.column_count, layout.column_count,
                      RowStatus::kDead);
  }
  for (std::uint32_t order = 0; order < layout.order_count; ++order) {
    for (std::size_t token = 0; token < token_count; ++token) {
      if (scratch.dead[token] != 0) continue;
      const std::uint64_t mix = scratch.mixes[token * layout.order_count + order];
      scratch.probes.push_back({.space = layer.first_space + order,
                                .layer_slot = layer_slot,
                                .key = store.hasher.GroupKey(layer.recipe_index, order, mix),
                                .row_index = (first_token + token) * layout.column_count +
                                             std::uint64_t{order} * layout.head_count});
    }
  }
}

/// Hashes scratch.slices for one served layer: scratch.mixes and scratch.dead, token by
/// token.
Status HashSlices(const Store::Impl& store, std::uint32_t layer_index, ProbeScratch& scratch) {
  const std::size_t order_count = store.layout.order_count;
  std::size_t token_count = 0;
  for (const TokenRun& slice : scratch.slices) token_count += slice.tokens.size();
  scratch.mixes.resize(token_count * order_count);
  scratch.dead.resize(token_count);
  std::size_t hashed = 0;
  for (const TokenRun& slice : scratch.slices) {
    const std::size_t count = slice.tokens.size();
    Status status = store.hasher.Mixes(
        store.layout.layers[layer_index].recipe_index, slice,
        std::span(scratch.mixes).subspan(hashed * order_count, count * order_count),
        std::span(scratch.dead).subspan(hashed, count));
    if (!status.ok()) return status;
    hashed += count;
  }
  return {};
}

/// The order whose H columns `rows` may be: its first id lies in that order's
/// column 0. Nothing if there is none, or fewer than H ids.
std::optional<std::uint32_t> OrderOfRows(const Store::Impl& store, const ServedLayer& layer,
                                         std::span<const RowId> rows) {
  const LayerRecipe& recipe = store.checkpoint.recipe.layers[layer.recipe_index];
  const std::uint32_t head_count = store.layout.head_count;
  if (rows.size() < head_count) return std::nullopt;
  for (std::uint32_t order = 0; order < store.layout.order_count; ++order) {
    const std::uint32_t column = order * head_count;
    const std::uint64_t offset = recipe.offsets[column];
    if (Index(rows[0]) >= offset && Index(rows[0]) - offset < recipe.head_sizes[column]) {
      return order;
    }
  }
  return std::nullopt;
}

/// Counts what became of waiters that stand in the fetch table.
void CountLaunched(Store::Impl& store, Batch& batch, std::span<const Waiter> waiters) {
  for (const Waiter& waiter : waiters) {
    SpaceCounters& counters = store.counters.spaces[waiter.space];
    (waiter.joined ? counters.joined : counters.fetches).Add(1);
    LayerCounts& layer = batch.counts(waiter.layer_slot);
    ++(waiter.joined ? layer.joined : layer.fetches);
  }
}

Status BadOutput(std::uint32_t layer_id, std::string what) {
  return Status(StatusCode::kInvalidArgument, fmt::format("layer {}: {}", layer_id, what));
}

}  // namespace

Result<BatchLayer> CheckOutput(const Store::Impl& store, const OutputPlace& output,
                               std::uint64_t row_count, RowOutput format) {
  Result<std::uint32_t> layer_index = store.FindLayer(output.layer_id);
  if (!layer_index.ok()) return std::move(layer_index).TakeStatus();
  const std::uint32_t row_bytes = store.OutputRowSizeBytes(layer_index.value(), format);
  const std::size_t stride_bytes =
      output.row_stride_bytes == 0 ? row_bytes : output.row_stride_bytes;
  if (stride_bytes < row_bytes) {
    return BadOutput(output.layer_id,
                     fmt::format("rows of {} B cannot lie {} B apart", row_bytes, stride_bytes));
  }
  if (row_count > std::numeric_limits<std::uint64_t>::max() / stride_bytes) {
    return BadOutput(output.layer_id, fmt::format("{} rows {} B apart are more than memory has",
                                                  row_count, stride_bytes));
  }
  const std::uint64_t need_bytes = row_count == 0 ? 0 : (row_count - 1) * stride_bytes + row_bytes;
  const bool strided = output.row_stride_bytes != 0;
  if (strided ? output.rows.size() < need_bytes : output.rows.size() != need_bytes) {
    return BadOutput(
        output.layer_id,
        fmt::format("the output has {} B, but {} rows of {} B, {} B apart, take {} B",
                    output.rows.size(), row_count, row_bytes, stride_bytes, need_bytes));
  }
  if (output.row_status.size() != row_count &&
      (output.status_wanted || !output.row_status.empty())) {
    return BadOutput(output.layer_id, fmt::format("row_status has {} entries for {} rows",
                                                  output.row_status.size(), row_count));
  }
  if (format == RowOutput::kBf16 &&
      (reinterpret_cast<std::uintptr_t>(output.rows.data()) % alignof(std::uint16_t) != 0 ||
       stride_bytes % alignof(std::uint16_t) != 0)) {
    return BadOutput(output.layer_id, "the output of bf16 values is not 2-byte aligned");
  }
  return BatchLayer{.layer_index = layer_index.value(),
                    .rows = output.rows.data(),
                    .row_status = output.row_status.empty() ? nullptr : output.row_status.data(),
                    .output_row_size_bytes = row_bytes,
                    .row_stride_bytes = stride_bytes,
                    .output_bytes = row_count * row_bytes};
}

void FillWindow(std::span<const TokenRun> runs, std::size_t tokens_max, RunCursor& cursor,
                std::vector<TokenRun>& slices) {
  slices.clear();
  std::size_t room = tokens_max;
  while (cursor.run < runs.size() && room > 0) {
    const TokenRun& whole = runs[cursor.run];
    const std::size_t rest = whole.tokens.size() - cursor.token;
    if (rest > room && room < kSliceTokensMin) break;
    const std::size_t count = std::min(rest, room);
    if (count > 0) {
      slices.push_back(
          {.history = cursor.token == 0 ? whole.history : whole.tokens.first(cursor.token),
           .tokens = whole.tokens.subspan(cursor.token, count)});
    }
    room -= count;
    cursor.token += count;
    if (cursor.token == whole.tokens.size()) {
      ++cursor.run;
      cursor.token = 0;
    }
  }
  cursor.token_count += tokens_max - room;
}

Status ProbeTokens(Store::Impl& store, Batch& batch, ProbeScratch& scratch,
                   std::uint64_t first_token) {
  scratch.probes.clear();
  for (std::uint32_t slot = 0; slot < batch.layers().size(); ++slot) {
    Status status = HashSlices(store, batch.layers()[slot].layer_index, scratch);
    if (!status.ok()) return status;
    ProbeLayer(store, batch, scratch, slot, first_token);
  }
  ServeFromCache(store, batch, scratch);
  return {};
}

std::size_t ProbeRows(Store::Impl& store, Batch& batch, ProbeScratch& scratch,
                      std::span<const RowId> rows, std::uint64_t row_index,
                      std::size_t groups_max) {
  const Layout& layout = store.layout;
  const ServedLayer& layer = layout.layers[batch.layers()[0].layer_index];
  scratch.probes.clear();
  std::size_t done = 0;
  while (done < rows.size() && scratch.probes.size() + batch.waiters().size() < groups_max) {
    const std::span<const RowId> rest = rows.subspan(done);
    const std::uint64_t output_row = row_index + done;
    if (const auto order = OrderOfRows(store, layer, rest); order.has_value()) {
      const auto key =
          store.hasher.GroupKeyOfRows(layer.recipe_index, *order, rest.first(layout.head_count));
      if (key.has_value()) {
        scratch.probes.push_back({.space = layer.first_space + *order,
                                  .layer_slot = 0,
                                  .key = *key,
                                  .row_index = output_row});
        done += layout.head_count;
        continue;
      }
    }
    if (Index(rest[0]) >= layer.row_count ||
        !store.locator.Holds(batch.layers()[0].layer_index, rest[0])) {
      batch.WriteFailed(0, output_row, 1, RowStatus::kOutOfRange);
    } else {
      store.counters.spaces[layer.single_space].lookups.Add(1);
      ++batch.counts(0).groups;
      batch.AddWaiter({.space = layer.single_space,
                       .layer_slot = 0,
                       .key = Index(rest[0]),
                       .row_index = output_row});
    }
    ++done;
  }
  ServeFromCache(store, batch, scratch);
  return done;
}

bool Launch(Store::Impl& store, Batch& batch, FetchOwner owner, bool may_block) {
  // Who starts a ticket goes on computing; who looks up is about to sleep.
  const bool caller_goes_on = owner == FetchOwner::kTicket && !may_block;
  const auto wake = [&store, caller_goes_on](std::size_t count) {
    for (std::size_t i = 0; i < std::min(count, store.io_threads.size()); ++i) {
      if (caller_goes_on) store.io_threads[i]->KeepOffCallersCore();
      store.io_threads[i]->Wake();
    }
  };
  batch.waiters().ForEachSpan(batch.launched, [&](std::span<Waiter> waiters) {
    std::size_t added = waiters.size();
    if (may_block) {
      store.fetches->Add(waiters, owner, wake);
    } else {
      added = store.fetches->TryAdd(waiters, owner, wake);
    }
    CountLaunched(store, batch, waiters.first(added));
    batch.launched += added;
    return added == waiters.size();
  });
  return batch.launched == batch.waiters().size();
}

Status Outcome(std::uint64_t failed_row_count, std::uint64_t row_count) {
  if (failed_row_count == 0) return {};
  return Status(StatusCode::kPartial,
                fmt::format("{} of {} rows could not be delivered; row_status says which and why",
                            failed_row_count, row_count));
}

}  // namespace tiercel
