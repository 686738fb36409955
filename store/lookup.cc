// The life of a batch, top to bottom, in the order in which things happen:
//
//   Lookup           keeps two windows of the batch under way
//     FillWindow       cuts a window off the token runs
//     ProbeTokens      hashes it: mixes, group keys
//     ServeFromCache   copies hits; what is missed becomes a waiter
//     Launch           queues a fetch for each missed group, or joins one
//       ... I/O threads (io_thread.cc) read rows, fill the cache, deliver ...
//     Finish           waits until every row is in place
//
// LookupRows is the same with row ids in place of tokens: ProbeRows finds the
// groups among them.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "store/store_impl.h"

namespace tiercel {
namespace {

/// Groups of the windows of a lookup. While one window is waited for, the next is
/// queued, so the disk never runs dry in between; 2 * 16,384 waiters of 72 B are
/// 2.3 MB for each Lookup() that runs. The first one is small, so that the disk starts
/// before all groups have been looked for: 512 take about 0.1 ms, 16,384 would take 4.
constexpr std::uint32_t kWindowGroupsFirst = 512;
constexpr std::uint32_t kWindowGroupsMax = 16384;
constexpr std::uint32_t kWindowGrowth = 4;

/// A slice of a run is at least this long, unless the run itself is shorter: then
/// the tokens before a slice are history enough for any order (order_max <= 8).
constexpr std::size_t kSliceTokensMin = 8;

/// Groups that are copied aside at a time to be dequantised: 64 * 2,112 B stay in
/// the second-level cache.
constexpr std::size_t kDequantizeGroups = 64;

/// A batch on loan from the pool. Given back when done with; cancelled first if it
/// was not waited for, so that no early return leaves a read writing to the caller.
class BatchLease {
 public:
  BatchLease(Store::Impl& store, RowOutput format)
      : store_(&store), batch_(store.batches.Acquire()) {
    batch_->Reset(store.layout, format);
  }
  BatchLease(BatchLease&& other) noexcept
      : store_(other.store_), batch_(std::exchange(other.batch_, nullptr)) {}
  BatchLease& operator=(BatchLease&& other) noexcept {
    std::swap(store_, other.store_);
    std::swap(batch_, other.batch_);
    return *this;
  }
  ~BatchLease() {
    if (batch_ == nullptr) return;
    batch_->Cancel(*store_->fetches);
    store_->batches.Release(batch_);
  }

  Batch& operator*() const noexcept { return *batch_; }
  Batch* operator->() const noexcept { return batch_; }

 private:
  Store::Impl* store_;
  Batch* batch_;
};

std::size_t NextWindowGroups(std::size_t window_groups) noexcept {
  return std::min<std::size_t>(window_groups * kWindowGrowth, kWindowGroupsMax);
}

// ---- 1. What the caller gave ------------------------------------------------------

/// Checks one output against `row_count` rows and says where its rows go.
Result<BatchLayer> CheckOutput(const Store::Impl& store, const LayerOutput& output,
                               std::uint64_t row_count, RowOutput format) {
  Result<std::uint32_t> layer_index = store.FindLayer(output.layer_id);
  if (!layer_index.ok()) return std::move(layer_index).TakeStatus();
  const ServedLayer& layer = store.layout.layers[layer_index.value()];
  const std::uint32_t row_size_bytes =
      format == RowOutput::kStored ? layer.row_size_bytes : layer.shape.value_count * 2;
  if (output.rows.size() != row_count * row_size_bytes) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("layer {}: the output has {} B, but {} rows of {} B take {} B", output.layer_id,
                    output.rows.size(), row_count, row_size_bytes, row_count * row_size_bytes));
  }
  if (output.row_status.size() != row_count) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("layer {}: row_status has {} entries for {} rows", output.layer_id,
                              output.row_status.size(), row_count));
  }
  if (format == RowOutput::kBf16 &&
      reinterpret_cast<std::uintptr_t>(output.rows.data()) % alignof(std::uint16_t) != 0) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("layer {}: the output of bf16 values is not 2-byte aligned", output.layer_id));
  }
  return BatchLayer{.layer_index = layer_index.value(),
                    .rows = output.rows,
                    .row_status = output.row_status,
                    .output_row_size_bytes = row_size_bytes};
}

/// Checks all outputs and makes them the layers of `batch`.
Status AddLayers(const Store::Impl& store, Batch& batch, std::span<const LayerOutput> outputs,
                 std::uint64_t row_count, RowOutput format) {
  for (const LayerOutput& output : outputs) {
    Result<BatchLayer> layer = CheckOutput(store, output, row_count, format);
    if (!layer.ok()) return std::move(layer).TakeStatus();
    batch.AddLayer(layer.value());
  }
  return {};
}

/// Cuts the next window of at most `tokens_max` tokens off `runs`, going on at
/// (`run`, `token`). Returns its tokens: more than 0 while there are any.
std::size_t FillWindow(std::span<const TokenRun> runs, std::size_t tokens_max, std::size_t& run,
                       std::size_t& token, std::vector<TokenRun>& slices) {
  slices.clear();
  std::size_t room = tokens_max;
  while (run < runs.size() && room > 0) {
    const TokenRun& whole = runs[run];
    const std::size_t rest = whole.tokens.size() - token;
    if (rest > room && room < kSliceTokensMin) break;
    const std::size_t count = std::min(rest, room);
    if (count > 0) {
      slices.push_back({.history = token == 0 ? whole.history : whole.tokens.first(token),
                        .tokens = whole.tokens.subspan(token, count)});
    }
    room -= count;
    token += count;
    if (token == whole.tokens.size()) {
      ++run;
      token = 0;
    }
  }
  return tokens_max - room;
}

// ---- 2. Hits ----------------------------------------------------------------------

/// Adds `probes` and which of them hit to the counters of their spaces, run by run:
/// probes of one space stand side by side.
void CountProbes(Store::Impl& store, std::span<const Batch::Probe> probes,
                 std::span<const std::uint8_t> hits) {
  for (std::size_t first = 0; first < probes.size();) {
    const std::uint32_t space = probes[first].space;
    std::uint64_t hit_count = 0;
    std::size_t end = first;
    for (; end < probes.size() && probes[end].space == space; ++end) hit_count += hits[end];
    store.counters.spaces[space].lookups.Add(end - first);
    store.counters.spaces[space].dram_hits.Add(hit_count);
    first = end;
  }
}

/// Serves scratch.probes from the cache, all in one call so that their memory
/// latencies overlap; notes a waiter for each group that is not there.
void ServeFromCache(Store::Impl& store, Batch& batch, RowOutput format) {
  Batch::Scratch& scratch = batch.scratch();
  const Layout& layout = store.layout;
  const std::size_t count = scratch.probes.size();
  const bool stored = format == RowOutput::kStored;
  const std::size_t step = stored ? std::max<std::size_t>(count, 1) : kDequantizeGroups;
  const std::size_t aside_bytes = layout.space_size_bytes_max;
  if (!stored) scratch.groups.resize(kDequantizeGroups * aside_bytes);
  scratch.hits.resize(count);

  for (std::size_t first = 0; first < count; first += step) {
    const auto probes = std::span(scratch.probes).subspan(first, std::min(step, count - first));
    const auto hits = std::span(scratch.hits).subspan(first, probes.size());
    scratch.spaces.clear();
    scratch.targets.clear();
    for (std::size_t i = 0; i < probes.size(); ++i) {
      const BatchLayer& layer = batch.layers()[probes[i].layer_slot];
      std::byte* const destination =
          stored ? layer.rows.data() + probes[i].row_index * layer.output_row_size_bytes
                 : scratch.groups.data() + i * aside_bytes;
      scratch.spaces.push_back(probes[i].space);
      scratch.targets.push_back({.key = probes[i].key, .destination = destination});
    }
    store.cache->Lookup(scratch.spaces, scratch.targets, hits);
    for (std::size_t i = 0; i < probes.size(); ++i) {
      const Batch::Probe& probe = probes[i];
      const Space& space = layout.spaces[probe.space];
      if (hits[i] == 0) {
        batch.AddWaiter(probe);
      } else if (stored) {
        batch.MarkOk(probe.layer_slot, probe.row_index, space.row_count);
      } else {
        batch.Write(probe.layer_slot, space, probe.row_index,
                    std::span(scratch.groups).subspan(i * aside_bytes, space.size_bytes));
      }
    }
  }
  CountProbes(store, scratch.probes, scratch.hits);
}

/// Hashes the window's slices for every layer of the batch and serves what is
/// cached. The rows of the window's first token go to output token `first_token`.
Status ProbeTokens(Store::Impl& store, Batch& batch, std::uint64_t first_token, RowOutput format) {
  const Layout& layout = store.layout;
  Batch::Scratch& scratch = batch.scratch();
  std::size_t token_count = 0;
  for (const TokenRun& slice : scratch.slices) token_count += slice.tokens.size();
  scratch.mixes.resize(token_count * layout.order_count);
  scratch.dead.resize(token_count);
  scratch.probes.clear();
  for (std::uint32_t slot = 0; slot < batch.layers().size(); ++slot) {
    const ServedLayer& layer = layout.layers[batch.layers()[slot].layer_index];
    std::size_t hashed = 0;
    for (const TokenRun& slice : scratch.slices) {
      const std::size_t count = slice.tokens.size();
      Status status = store.hasher.Mixes(
          layer.recipe_index, slice,
          std::span(scratch.mixes).subspan(hashed * layout.order_count, count * layout.order_count),
          std::span(scratch.dead).subspan(hashed, count));
      if (!status.ok()) return status;
      hashed += count;
    }
    for (std::size_t token = 0; token < token_count; ++token) {
      if (scratch.dead[token] == 0) continue;
      batch.WriteFailed(slot, (first_token + token) * layout.column_count, layout.column_count,
                        RowStatus::kDead);
    }
    for (std::uint32_t order = 0; order < layout.order_count; ++order) {
      for (std::size_t token = 0; token < token_count; ++token) {
        if (scratch.dead[token] != 0) continue;
        const std::uint64_t mix = scratch.mixes[token * layout.order_count + order];
        scratch.probes.push_back({.space = layer.first_space + order,
                                  .layer_slot = slot,
                                  .key = store.hasher.GroupKey(layer.recipe_index, order, mix),
                                  .row_index = (first_token + token) * layout.column_count +
                                               std::uint64_t{order} * layout.head_count});
      }
    }
  }
  ServeFromCache(store, batch, format);
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

/// Finds the groups among `rows`, serves what is cached and notes waiters for the
/// rest; rows outside of a group wait one by one. Stops at `window_groups` of both:
/// returns how many rows it took.
std::size_t ProbeRows(Store::Impl& store, Batch& batch, std::span<const RowId> rows,
                      std::uint64_t row_index, std::size_t window_groups, RowOutput format) {
  const Layout& layout = store.layout;
  Batch::Scratch& scratch = batch.scratch();
  const ServedLayer& layer = layout.layers[batch.layers()[0].layer_index];
  scratch.probes.clear();
  std::size_t done = 0;
  while (done < rows.size() && scratch.probes.size() + batch.waiters().size() < window_groups) {
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
    if (Index(rest[0]) >= layer.row_count) {
      batch.WriteFailed(0, output_row, 1, RowStatus::kOutOfRange);
    } else {
      store.counters.spaces[layer.single_space].lookups.Add(1);
      batch.AddWaiter({.space = layer.single_space,
                       .layer_slot = 0,
                       .key = Index(rest[0]),
                       .row_index = output_row});
    }
    ++done;
  }
  ServeFromCache(store, batch, format);
  return done;
}

// ---- 3. Misses --------------------------------------------------------------------

/// Queues a fetch for every waiter of the batch. Blocks only while the fetch table
/// is full.
void Launch(Store::Impl& store, Batch& batch) {
  const std::span<Waiter> waiters = batch.waiters();
  if (waiters.empty()) return;
  batch.Publish();
  store.fetches->Add(waiters, MonotonicNs(), [&store](std::size_t count) {
    for (std::size_t i = 0; i < std::min(count, store.io_threads.size()); ++i) {
      store.io_threads[i]->Wake();
    }
  });
  for (const Waiter& waiter : waiters) {
    SpaceCounters& counters = store.counters.spaces[waiter.space];
    (waiter.joined ? counters.joined : counters.fetches).Add(1);
  }
}

/// Waits for the batch. Returns its failed rows.
std::uint64_t Finish(const BatchLease& batch) {
  batch->WaitAll();
  return batch->failed_row_count();
}

Status Outcome(std::uint64_t failed_row_count, std::uint64_t row_count) {
  if (failed_row_count == 0) return {};
  return Status(StatusCode::kPartial,
                fmt::format("{} of {} rows could not be delivered; row_status says which and why",
                            failed_row_count, row_count));
}

}  // namespace

Status Store::Impl::Lookup(std::span<const TokenRun> runs, std::span<const LayerOutput> outputs,
                           RowOutput format) {
  std::uint64_t token_count = 0;
  for (const TokenRun& run : runs) token_count += run.tokens.size();
  const std::uint64_t row_count = token_count * layout.column_count;
  if (outputs.empty()) return {};
  const std::size_t groups_a_token = layout.order_count * outputs.size();
  std::size_t window_groups = kWindowGroupsFirst;
  std::optional<BatchLease> previous;  // Launched, not yet waited for.
  std::uint64_t failed_row_count = 0;
  std::size_t run = 0;
  std::size_t token = 0;  // Of that run.
  std::uint64_t first_token = 0;
  do {
    BatchLease current(*this, format);
    Status status = AddLayers(*this, *current, outputs, row_count, format);
    if (!status.ok()) return status;
    const std::size_t window_tokens =
        FillWindow(runs, std::max(kSliceTokensMin, window_groups / groups_a_token), run, token,
                   current->scratch().slices);
    status = ProbeTokens(*this, *current, first_token, format);
    if (!status.ok()) return status;
    Launch(*this, *current);
    if (previous.has_value()) failed_row_count += Finish(*previous);
    previous = std::move(current);
    first_token += window_tokens;
    window_groups = NextWindowGroups(window_groups);
  } while (first_token < token_count);
  if (previous.has_value()) failed_row_count += Finish(*previous);
  return Outcome(failed_row_count, row_count * outputs.size());
}

Status Store::Impl::LookupRows(std::span<const RowId> rows, const LayerOutput& output,
                               RowOutput format) {
  std::optional<BatchLease> previous;
  std::uint64_t failed_row_count = 0;
  std::size_t done = 0;
  std::size_t window_groups = kWindowGroupsFirst;
  do {
    BatchLease current(*this, format);
    Status status = AddLayers(*this, *current, {&output, 1}, rows.size(), format);
    if (!status.ok()) return status;
    done += ProbeRows(*this, *current, rows.subspan(done), done, window_groups, format);
    Launch(*this, *current);
    if (previous.has_value()) failed_row_count += Finish(*previous);
    previous = std::move(current);
    window_groups = NextWindowGroups(window_groups);
  } while (done < rows.size());
  if (previous.has_value()) failed_row_count += Finish(*previous);
  return Outcome(failed_row_count, rows.size());
}

}  // namespace tiercel
