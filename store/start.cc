// The life of a ticket, top to bottom:
//
//   Start            takes a free ticket, its staging, and room for its tokens
//     CheckOutput      says where the rows of each layer go
//     RunWindow        (ticket_state.cc) looks for groups, copies hits, queues reads: here
//                      for a batch of a few tokens, in the prefetch thread for others,
//                      window by window
//       ... I/O threads (io_thread.cc) read rows, fill the cache, deliver ...
//     Announce         the last row of a layer is in place: whoever waits goes on
//
// Wait, Cancel and the rest are in ticket.cc.

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "store/probe.h"
#include "store/store_impl.h"

namespace tiercel {
namespace {

/// Where the staged rows of one layer begin: at a cache line.
std::uint64_t Aligned(std::uint64_t bytes) noexcept {
  return (bytes + 63) / 64 * 64;
}

/// What the caller asks for, sized.
struct Wanted {
  std::span<const TokenRun> runs;
  std::span<const RowId> rows;
  std::span<const PrefetchLayer> layers;
  std::uint64_t token_count = 0;
  std::uint64_t row_count = 0;
  std::uint64_t groups_max = 0;  ///< Groups and single rows, at most.
  bool in_start = false;         ///< Start() looks for them all itself.
};

Status CheckLayers(std::span<const PrefetchLayer> layers) {
  if (layers.empty()) {
    return Status(StatusCode::kInvalidArgument, "a ticket needs a layer at least");
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (layers[i].layer_id != layers[j].layer_id) continue;
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("layer {} is named twice", layers[i].layer_id));
    }
  }
  return {};
}

/// Staging that the layers without rows of their own need.
Result<std::uint64_t> StagingBytes(const Store::Impl& store, const Wanted& wanted,
                                   RowOutput format) {
  std::uint64_t total = 0;
  for (const PrefetchLayer& layer : wanted.layers) {
    if (!layer.rows.empty() || wanted.row_count == 0) continue;
    Result<std::uint32_t> layer_index = store.FindLayer(layer.layer_id);
    if (!layer_index.ok()) return std::move(layer_index).TakeStatus();
    total += Aligned(wanted.row_count * store.OutputRowSizeBytes(layer_index.value(), format)) +
             Aligned(wanted.row_count);
  }
  return total;
}

/// Adds the layers to the ticket, each with its place: the caller's, or in `staging`.
Status AddLayers(const Store::Impl& store, Ticket::State& ticket, const Wanted& wanted,
                 RowOutput format, std::span<std::byte> staging) {
  for (const PrefetchLayer& layer : wanted.layers) {
    OutputPlace output{.layer_id = layer.layer_id,
                       .rows = layer.rows,
                       .row_stride_bytes = layer.row_stride_bytes,
                       .row_status = layer.row_status,
                       .status_wanted = false};
    if (layer.rows.empty() && wanted.row_count > 0) {
      const Result<std::uint32_t> layer_index = store.FindLayer(layer.layer_id);
      const std::uint64_t rows_bytes =
          wanted.row_count * store.OutputRowSizeBytes(layer_index.value(), format);
      output.rows = staging.first(rows_bytes);
      output.row_stride_bytes = 0;
      staging = staging.subspan(Aligned(rows_bytes));
      if (layer.row_status.empty()) {
        output.row_status = {reinterpret_cast<RowStatus*>(staging.data()), wanted.row_count};
      }
      staging = staging.subspan(Aligned(wanted.row_count));
    }
    const Result<BatchLayer> place = CheckOutput(store, output, wanted.row_count, format);
    if (!place.ok()) {
      return Status(place.status().code(), std::string(place.status().message()));
    }
    ticket.AddLayer(layer, place.value());
  }
  return {};
}

std::span<const std::int32_t> UsefulHistory(const TokenRun& run, std::size_t order_max) {
  return run.history.last(std::min(run.history.size(), order_max - 1));
}

/// Room that copies of the tokens or row ids take, in 4 B.
std::uint64_t TokensToCopy(const Wanted& wanted, std::size_t order_max) {
  if (wanted.in_start) return 0;
  std::uint64_t count = wanted.rows.size() * 2;
  for (const TokenRun& run : wanted.runs) {
    count += UsefulHistory(run, order_max).size() + run.tokens.size();
  }
  return count;
}

/// Copies tokens or row ids, so that the caller's may go.
void CopyInput(Ticket::State& ticket, const Wanted& wanted, std::size_t order_max,
               std::span<std::int32_t> room) {
  static_assert(sizeof(RowId) == 2 * sizeof(std::int32_t));
  if (!wanted.rows.empty()) {
    std::memcpy(room.data(), wanted.rows.data(), wanted.rows.size_bytes());
    ticket.work.rows = {reinterpret_cast<const RowId*>(room.data()), wanted.rows.size()};
    return;
  }
  const auto copy = [&room](std::span<const std::int32_t> tokens) {
    const auto copied = room.first(tokens.size());
    std::ranges::copy(tokens, copied.begin());
    room = room.subspan(tokens.size());
    return std::span<const std::int32_t>(copied);
  };
  for (const TokenRun& run : wanted.runs) {
    const auto history = copy(UsefulHistory(run, order_max));
    ticket.runs.push_back({.history = history, .tokens = copy(run.tokens)});
  }
  ticket.work.runs = ticket.runs;
}

/// Credits that Start() takes for a ticket that it runs itself.
class StartCredits {
 public:
  explicit StartCredits(Credits& credits) noexcept : credits_(credits) {}
  StartCredits(const StartCredits&) = delete;
  StartCredits& operator=(const StartCredits&) = delete;
  ~StartCredits() { credits_.Give(taken_); }

  [[nodiscard]] bool TryTake(std::int64_t count) noexcept {
    if (!credits_.TryTake(count)) return false;
    taken_ = count;
    return true;
  }
  /// They are another's to give back.
  [[nodiscard]] std::int64_t HandOver() noexcept { return std::exchange(taken_, 0); }

 private:
  Credits& credits_;
  std::int64_t taken_ = 0;
};

Wanted Size(const Store::Impl& store, std::span<const TokenRun> runs, std::span<const RowId> rows,
            std::span<const PrefetchLayer> layers) {
  Wanted wanted{.runs = runs, .rows = rows, .layers = layers};
  for (const TokenRun& run : runs) wanted.token_count += run.tokens.size();
  wanted.row_count = rows.empty() ? wanted.token_count * store.layout.column_count : rows.size();
  // A window has 8 tokens at least: see kSliceTokensMin.
  wanted.groups_max = rows.empty() ? std::max<std::uint64_t>(wanted.token_count, kSliceTokensMin) *
                                         store.layout.order_count * layers.size()
                                   : rows.size();
  return wanted;
}

}  // namespace

Result<Ticket> Store::Impl::Start(std::span<const TokenRun> runs, std::span<const RowId> rows,
                                  std::span<const PrefetchLayer> layers,
                                  const PrefetchOptions& options) {
  const std::uint64_t start_ns = MonotonicNs();
  if (Status status = CheckLayers(layers); !status.ok()) return status;
  Wanted wanted = Size(*this, runs, rows, layers);
  const std::size_t order_max = layout.order_count + 1;
  StartCredits credits(options.urgency == Urgency::kBackground ? background_credits
                                                               : urgent_credits);
  wanted.in_start = options.hits == HitCopy::kInStart &&
                    wanted.groups_max <= prefetch_limits.start_groups_max &&
                    credits.TryTake(static_cast<std::int64_t>(wanted.groups_max));
  const Result<std::uint64_t> staging_bytes = StagingBytes(*this, wanted, options.format);
  if (!staging_bytes.ok()) {
    return Status(staging_bytes.status().code(), std::string(staging_bytes.status().message()));
  }
  Result<Ticket::State*> acquired = tickets->Acquire(
      {.tokens = TokensToCopy(wanted, order_max), .staging_bytes = staging_bytes.value()},
      options.when_full);
  if (!acquired.ok()) return std::move(acquired).TakeStatus();
  Ticket::State& state = *acquired.value();
  Ticket ticket(tickets, &state);  // Gives it back, whatever happens.
  state.Begin(*this, options, start_ns);
  state.work = {.format = options.format,
                .runs = runs,
                .rows = rows,
                .tokens_total = wanted.token_count,
                .row_count = wanted.row_count};
  if (Status status =
          AddLayers(*this, state, wanted, options.format, tickets->Staging(state.staging));
      !status.ok()) {
    return status;
  }
  bool more = true;
  if (wanted.in_start) {
    more = state.RunWindow(wanted.groups_max, credits.HandOver(), /*may_block=*/false);
    if (Status status = state.Failure(); !status.ok()) return status;
  } else {
    CopyInput(state, wanted, order_max, tickets->Tokens(state.tokens));
    if (options.urgency == Urgency::kBackground && !runs.empty()) state.NoteGroups();
  }
  if (more) prefetcher->Add(state);
  return ticket;
}

}  // namespace tiercel
