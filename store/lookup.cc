// The life of a batch, top to bottom, in the order in which things happen:
//
//   Lookup           keeps two windows of the batch under way
//     FillWindow       cuts a window off the token runs
//     ProbeTokens      hashes it: mixes, group keys; copies hits; what is missed becomes
//                      a waiter
//     Launch           queues a fetch for each missed group, or joins one
//       ... I/O threads (io_thread.cc) read rows, fill the cache, deliver ...
//     Finish           waits until every row is in place
//
// The steps are in probe.cc, since tickets (start.cc) take the same. LookupRows is the
// same with row ids in place of tokens: ProbeRows finds the groups among them.

#include <algorithm>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "store/probe.h"
#include "store/store_impl.h"

namespace tiercel {
namespace {

/// Groups of the windows of a lookup. While one window is waited for, the next is
/// queued, so the disk never runs dry in between; 2 * 16,384 waiters of 80 B are
/// 2.6 MB for each Lookup() that runs. The first one is small, so that the disk starts
/// before all groups have been looked for: 512 take about 0.1 ms, 16,384 would take 4.
constexpr std::uint32_t kWindowGroupsFirst = 512;
constexpr std::uint32_t kWindowGroupsMax = 16384;
constexpr std::uint32_t kWindowGrowth = 4;

std::size_t NextWindowGroups(std::size_t window_groups) noexcept {
  return std::min<std::size_t>(window_groups * kWindowGrowth, kWindowGroupsMax);
}

/// A window of a lookup. Cancelled if it was not waited for, so that no early return
/// leaves a read writing to the caller.
class Window {
 public:
  /// Takes memory for all that the window may wait for at once: how much is free later does
  /// not hang on how many of its groups are hits.
  Window(Store::Impl& store, RowOutput format, std::uint64_t groups_max) : Window(store) {
    // Where memory is short from here on, the destructor gives the batch back.
    batch_->Reset(store.layout, format, store.waiters);
    batch_->Reserve(store.layout.layers.size());
    store.waiters.Reserve(groups_max / WaiterChunk::kCapacity + 1);
  }
  Window(Window&& other) noexcept
      : store_(other.store_), batch_(std::exchange(other.batch_, nullptr)) {}
  Window& operator=(Window&& other) noexcept {
    std::swap(store_, other.store_);
    std::swap(batch_, other.batch_);
    return *this;
  }
  ~Window() {
    if (batch_ == nullptr) return;
    batch_->Cancel(*store_->fetches);
    batch_->waiters().Clear();
    store_->batches.Release(batch_);
  }

  Batch& operator*() const noexcept { return *batch_; }
  Batch* operator->() const noexcept { return batch_; }

  /// Waits for it. Returns its failed rows.
  std::uint64_t Finish() const {
    batch_->WaitAll();
    return batch_->failed_row_count();
  }

 private:
  explicit Window(Store::Impl& store) : store_(&store), batch_(store.batches.Acquire()) {}

  Store::Impl* store_;
  Batch* batch_;
};

/// Checks all outputs and makes them the layers of `batch`. All are needed now, in
/// their order.
Status AddLayers(const Store::Impl& store, Batch& batch, std::span<const LayerOutput> outputs,
                 std::uint64_t row_count, RowOutput format) {
  std::uint64_t deadline_ns = MonotonicNs();
  for (const LayerOutput& output : outputs) {
    Result<BatchLayer> layer = CheckOutput(
        store, {.layer_id = output.layer_id, .rows = output.rows, .row_status = output.row_status},
        row_count, format);
    if (!layer.ok()) return std::move(layer).TakeStatus();
    layer.value().deadline_ns = deadline_ns++;
    batch.AddLayer(layer.value());
  }
  return {};
}

}  // namespace

Status Store::Impl::Lookup(std::span<const TokenRun> runs, std::span<const LayerOutput> outputs,
                           RowOutput format) {
  std::uint64_t token_count = 0;
  for (const TokenRun& run : runs) token_count += run.tokens.size();
  const std::uint64_t row_count = token_count * layout.column_count;
  if (outputs.empty()) return {};
  const std::size_t groups_a_token = layout.order_count * outputs.size();
  const Lease<ProbeScratch> scratch(scratches);
  std::size_t window_groups = kWindowGroupsFirst;
  std::optional<Window> previous;  // Launched, not yet waited for.
  std::uint64_t failed_row_count = 0;
  RunCursor cursor;
  do {
    const std::uint64_t first_token = cursor.token_count;
    const std::uint64_t tokens_max = std::min<std::uint64_t>(
        std::max(kSliceTokensMin, window_groups / groups_a_token), token_count - first_token);
    Window current(*this, format, tokens_max * groups_a_token);
    Status status = AddLayers(*this, *current, outputs, row_count, format);
    if (!status.ok()) return status;
    FillWindow(runs, tokens_max, cursor, scratch->slices);
    status = ProbeTokens(*this, *current, *scratch, first_token);
    if (!status.ok()) return status;
    current->Publish();
    Launch(*this, *current, FetchOwner::kLookup, /*may_block=*/true);
    if (previous.has_value()) failed_row_count += previous->Finish();
    previous = std::move(current);
    window_groups = NextWindowGroups(window_groups);
  } while (cursor.token_count < token_count);
  if (previous.has_value()) failed_row_count += previous->Finish();
  return Outcome(failed_row_count, row_count * outputs.size());
}

Status Store::Impl::LookupRows(std::span<const RowId> rows, const LayerOutput& output,
                               RowOutput format) {
  const Lease<ProbeScratch> scratch(scratches);
  std::optional<Window> previous;
  std::uint64_t failed_row_count = 0;
  std::size_t done = 0;
  std::size_t window_groups = kWindowGroupsFirst;
  do {
    Window current(*this, format, std::min(rows.size() - done, window_groups));
    Status status = AddLayers(*this, *current, {&output, 1}, rows.size(), format);
    if (!status.ok()) return status;
    done += ProbeRows(*this, *current, *scratch, rows.subspan(done), done, window_groups);
    current->Publish();
    Launch(*this, *current, FetchOwner::kLookup, /*may_block=*/true);
    if (previous.has_value()) failed_row_count += previous->Finish();
    previous = std::move(current);
    window_groups = NextWindowGroups(window_groups);
  } while (done < rows.size());
  if (previous.has_value()) failed_row_count += previous->Finish();
  return Outcome(failed_row_count, rows.size());
}

}  // namespace tiercel
