#include "store/ticket_state.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <utility>

#include "base/clock.h"
#include "base/spin.h"
#include "store/store_impl.h"

namespace tiercel {
namespace {

/// Groups of the windows that the prefetch thread runs. The first is small, so that the
/// disk starts soon. One of 4,096 keeps a disk of 200,000 reads a second busy for 0.1 s,
/// and holds a more urgent ticket up for 1 ms at most.
constexpr std::size_t kFirstWindowGroups = 512;
constexpr std::size_t kWindowGroups = 4096;

}  // namespace

std::size_t Ticket::State::WindowGroupsMax(const Layout& layout) noexcept {
  return std::max<std::size_t>(kWindowGroups, kSliceTokensMin * layout.group_space_count);
}

void Ticket::State::Begin(Store::Impl& store, const PrefetchOptions& options,
                          std::uint64_t start_ns) {
  {
    MutexLock cancel(cancel_mutex_);
    MutexLock run(run_mutex_);
    store_ = &store;
  }
  options_ = options;
  start_ns_ = start_ns;
  layer_count_ = 0;
  unlaunched_ = nullptr;
  windows_begun_ = 0;
  more_to_note_.store(false, std::memory_order_relaxed);
  over_.store(false, std::memory_order_relaxed);
  const bool background = options.urgency == Urgency::kBackground;
  deadline_ns_.store(start_ns + (background ? kBackgroundDeadlineNs : 0),
                     std::memory_order_relaxed);
  for (Window& window : windows_) {
    window.ticket = this;
    window.batch.Reserve(store.layout.layers.size());
  }
}

void Ticket::State::AddLayer(const PrefetchLayer& wanted, const BatchLayer& place) {
  if (layers_.size() == layer_count_) layers_.emplace_back();
  Layer& layer = layers_[layer_count_];
  layer.layer_id = wanted.layer_id;
  const auto needed_after = std::max(wanted.needed_after, std::chrono::nanoseconds(0));
  // Layers that are needed at one time are read in their order.
  layer.needed_after_ns = static_cast<std::uint64_t>(needed_after.count()) + layer_count_;
  layer.place = place;
  layer.place.deadline_ns = deadline_ns() + layer.needed_after_ns;
  const std::size_t extent_bytes =
      work.row_count == 0
          ? 0
          : (work.row_count - 1) * place.row_stride_bytes + place.output_row_size_bytes;
  layer.rows = TicketRows{
      .rows = {place.rows, extent_bytes},
      .row_stride_bytes = place.row_stride_bytes,
      .row_status = {place.row_status, place.row_status == nullptr ? 0 : work.row_count}};
  layer.pending.store(1, std::memory_order_relaxed);
  layer.failed_rows.store(0, std::memory_order_relaxed);
  layer.in_place_ns.store(0, std::memory_order_relaxed);
  layer.promoted = false;
  {
    MutexLock lock(mutex_);
    layer.counts = {};
  }
  ++layer_count_;
}

// ---- windows ------------------------------------------------------------------------

bool Ticket::State::HasMoreWindows() const noexcept {
  if (!work.rows.empty()) return work.row < work.rows.size();
  return work.cursor.token_count < work.tokens_total;
}

Credits& Ticket::State::CreditsOfClass() const noexcept {
  return InBackground() ? store_->background_credits : store_->urgent_credits;
}

Ticket::State::Window* Ticket::State::FreeWindow() noexcept {
  for (Window& window : windows_) {
    if (!window.under_way.load(std::memory_order_acquire)) return &window;
  }
  return nullptr;
}

std::size_t Ticket::State::NextWindowGroups() const noexcept {
  const std::size_t groups_a_token = store_->layout.order_count * layer_count_;
  return std::max(windows_begun_ == 0 ? kFirstWindowGroups : kWindowGroups,
                  kSliceTokensMin * groups_a_token);
}

bool Ticket::State::Ready(std::size_t groups_max) const noexcept {
  if (over_.load(std::memory_order_seq_cst) || unlaunched_ != nullptr) return true;
  const bool free = std::ranges::any_of(windows_, [](const Window& window) {
    return !window.under_way.load(std::memory_order_seq_cst);
  });
  return free && CreditsOfClass().left() >= static_cast<std::int64_t>(groups_max);
}

bool Ticket::State::RunWindow(std::size_t groups_max, std::int64_t credits, bool may_block) {
  MutexLock run(run_mutex_);
  return RunWindowLocked(groups_max, credits, may_block);
}

bool Ticket::State::RunWindowLocked(std::size_t groups_max, std::int64_t credits, bool may_block) {
  if (over_.load(std::memory_order_relaxed)) return false;
  if (unlaunched_ != nullptr) {
    FinishLaunch(*unlaunched_, may_block);
  } else if (HasMoreWindows()) {
    Window* const window = FreeWindow();
    if (window == nullptr) return true;
    window->credits = &CreditsOfClass();
    const auto wanted = static_cast<std::int64_t>(groups_max);
    if (credits == 0 && !window->credits->TryTake(wanted)) return true;
    window->credits_taken = credits == 0 ? wanted : credits;
    ++windows_begun_;
    window->batch.Reset(store_->layout, work.format, store_->waiters, window);
    for (std::size_t slot = 0; slot < layer_count_; ++slot) {
      window->batch.AddLayer(layers_[slot].place);
    }
    if (const Status status = Probe(window->batch, groups_max); !status.ok()) {
      window->credits->Give(std::exchange(window->credits_taken, 0));
      window->batch.waiters().Clear();
      EndAs(status.code(), status.message());
      return false;  // What is noted still is released when the ticket is dropped.
    }
    known_.ReleaseUntil(*store_, work.cursor);
    more_to_note_.store(known_.more(), std::memory_order_relaxed);
    LaunchWindow(*window, may_block);
  } else {
    CreditsOfClass().Give(credits);  // No tokens: there is nothing to run.
  }
  if (unlaunched_ != nullptr || HasMoreWindows()) return true;
  for (std::uint32_t slot = 0; slot < layer_count_; ++slot) LetGo(slot);
  return false;
}

void Ticket::State::NoteGroups() {
  MutexLock run(run_mutex_);
  std::array<std::uint32_t, 256> layer_indices{};  // A recipe has no more layers.
  for (std::size_t slot = 0; slot < layer_count_; ++slot) {
    layer_indices[slot] = layers_[slot].place.layer_index;
  }
  known_.Begin(store_->layout, work.runs, work.tokens_total,
               std::span(layer_indices).first(layer_count_));
  more_to_note_.store(known_.more(), std::memory_order_relaxed);
}

void Ticket::State::NoteSome() {
  MutexLock run(run_mutex_);
  if (!over_.load(std::memory_order_relaxed)) known_.NoteSome(*store_);
  more_to_note_.store(!over_.load(std::memory_order_relaxed) && known_.more(),
                      std::memory_order_relaxed);
}

Status Ticket::State::Probe(Batch& batch, std::size_t groups_max) {
  try {
    const Lease<ProbeScratch> scratch(store_->scratches);
    if (!work.rows.empty()) {
      work.row +=
          ProbeRows(*store_, batch, *scratch, work.rows.subspan(work.row), work.row, groups_max);
      return {};
    }
    const std::size_t groups_a_token = store_->layout.order_count * layer_count_;
    const std::uint64_t first_token = work.cursor.token_count;
    FillWindow(work.runs, std::max(kSliceTokensMin, groups_max / groups_a_token), work.cursor,
               scratch->slices);
    return ProbeTokens(*store_, batch, *scratch, first_token);
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kResourceExhausted, "no memory for the scratch of a ticket");
  }
}

void Ticket::State::LaunchWindow(Window& window, bool may_block) {
  Batch& batch = window.batch;
  std::uint32_t layers_left = 0;
  for (std::uint32_t slot = 0; slot < layer_count_; ++slot) {
    Layer& layer = layers_[slot];
    if (batch.counts(slot).waiters > 0) {
      ++layers_left;
      layer.pending.fetch_add(1, std::memory_order_relaxed);
    } else {
      layer.failed_rows.fetch_add(batch.failed_row_count(slot), std::memory_order_relaxed);
    }
  }
  const auto used = static_cast<std::int64_t>(batch.waiters().size());
  window.credits->Give(std::exchange(window.credits_taken, used) - used);
  {
    MutexLock lock(mutex_);
    window.layers_left = layers_left;
    announcers_ += layers_left;
  }
  if (layers_left > 0) {
    window.under_way.store(true, std::memory_order_relaxed);
    batch.Publish();
  }
  FinishLaunch(window, may_block);
}

void Ticket::State::FinishLaunch(Window& window, bool may_block) {
  const bool launched = Launch(*store_, window.batch, FetchOwner::kTicket, may_block);
  unlaunched_ = launched ? nullptr : &window;
  if (!launched) return;
  MutexLock lock(mutex_);
  for (std::uint32_t slot = 0; slot < layer_count_; ++slot) {
    const LayerCounts& counts = window.batch.counts(slot);
    LayerCounts& total = layers_[slot].counts;
    total.groups += counts.groups;
    total.dram_hits += counts.dram_hits;
    total.joined += counts.joined;
    total.fetches += counts.fetches;
  }
}

void Ticket::State::OnWindowLayer(Window& window, std::uint32_t slot) noexcept {
  layers_[slot].failed_rows.fetch_add(window.batch.failed_row_count(slot),
                                      std::memory_order_relaxed);
  LetGo(slot);
  Prefetcher* const prefetcher = store_->prefetcher.get();
  bool window_over = false;
  {
    MutexLock lock(mutex_);
    window_over = --window.layers_left == 0;
    if (window_over) {
      window.credits->Give(std::exchange(window.credits_taken, 0));
      window.under_way.store(false, std::memory_order_seq_cst);
    }
    if (--announcers_ == 0) changed_.NotifyAll();
  }
  // The ticket may be another from here on.
  if (window_over) prefetcher->Poke();
}

void Ticket::State::LetGo(std::uint32_t slot) noexcept {
  // acq_rel: whoever announces has seen what every other window wrote.
  if (layers_[slot].pending.fetch_sub(1, std::memory_order_acq_rel) == 1) Announce(slot);
}

void Ticket::State::Announce(std::uint32_t slot) noexcept {
  if (over_.load(std::memory_order_acquire)) return;
  Layer& layer = layers_[slot];
  layer.in_place_ns.store(MonotonicNs(), std::memory_order_release);
  {
    MutexLock lock(mutex_);  // Whoever saw no outcome is asleep, or not yet locked.
    changed_.NotifyAll();
  }
  if (options_.on_layer) {
    const bool whole = layer.failed_rows.load(std::memory_order_relaxed) == 0;
    options_.on_layer(layer.layer_id, whole ? StatusCode::kOk : StatusCode::kPartial);
  }
  if (options_.event_fd >= 0) {
    const std::uint64_t one = 1;
    // Fails only where the caller's descriptor is no eventfd, or its count is full.
    [[maybe_unused]] const ssize_t written = write(options_.event_fd, &one, sizeof(one));
  }
}

// ---- the owner ------------------------------------------------------------------------

std::optional<std::uint32_t> Ticket::State::FindLayer(std::uint32_t layer_id) const noexcept {
  for (std::uint32_t slot = 0; slot < layer_count_; ++slot) {
    if (layers_[slot].layer_id == layer_id) return slot;
  }
  return std::nullopt;
}

std::optional<Status> Ticket::State::Outcome(std::uint32_t slot) const {
  const Layer& layer = layers_[slot];
  if (layer.in_place_ns.load(std::memory_order_acquire) != 0) {
    return tiercel::Outcome(layer.failed_rows.load(std::memory_order_relaxed), work.row_count);
  }
  if (over_.load(std::memory_order_acquire)) return Failure();
  return std::nullopt;
}

Status Ticket::State::Failure() const {
  if (!over_.load(std::memory_order_acquire)) return {};
  MutexLock lock(mutex_);
  return Status(failure_code_, failure_message_);
}

void Ticket::State::Spin(std::uint32_t slot) const noexcept {
  SpinUntil([&] {
    return layers_[slot].in_place_ns.load(std::memory_order_acquire) != 0 ||
           over_.load(std::memory_order_acquire);
  });
}

void Ticket::State::Sleep(std::uint32_t slot,
                          std::optional<std::chrono::steady_clock::time_point> until) {
  const Layer& layer = layers_[slot];
  MutexLock lock(mutex_);
  while (layer.in_place_ns.load(std::memory_order_acquire) == 0 &&
         !over_.load(std::memory_order_acquire)) {
    if (!until.has_value()) {
      changed_.Wait(mutex_);
    } else if (!changed_.WaitUntil(mutex_, *until)) {
      return;
    }
  }
}

void Ticket::State::Promote(std::optional<std::uint32_t> slot) {
  MutexLock run(run_mutex_);
  if (store_ == nullptr || over_.load(std::memory_order_relaxed)) return;
  const bool background = InBackground();
  if (slot.has_value() ? std::exchange(layers_[*slot].promoted, true) : !background) return;
  const std::uint64_t now_ns = MonotonicNs();
  if (background) {
    for (std::size_t i = 0; i < layer_count_; ++i) {
      layers_[i].place.deadline_ns = now_ns + layers_[i].needed_after_ns;
    }
  }
  if (slot.has_value()) {
    std::uint64_t& deadline_ns = layers_[*slot].place.deadline_ns;
    deadline_ns = std::min(deadline_ns, now_ns);
  }
  deadline_ns_.store(std::min(deadline_ns(), now_ns), std::memory_order_seq_cst);
  for (Window& window : windows_) {
    if (!window.under_way.load(std::memory_order_acquire)) continue;
    window.batch.waiters().ForEachSpan(0, [&](std::span<Waiter> waiters) {
      while (!waiters.empty()) {
        const std::uint32_t layer_slot = waiters[0].layer_slot;
        std::size_t count = 1;
        while (count < waiters.size() && waiters[count].layer_slot == layer_slot) ++count;
        if (background || layer_slot == slot) {
          store_->fetches->Promote(waiters.first(count), layers_[layer_slot].place.deadline_ns);
        }
        waiters = waiters.subspan(count);
      }
      return true;
    });
  }
  if (background) {  // I/O threads may hold it back.
    for (const auto& thread : store_->io_threads) thread->Wake();
  }
  store_->prefetcher->Poke();
}

void Ticket::State::EndAs(StatusCode code, std::string_view message) noexcept {
  MutexLock lock(mutex_);
  if (over_.load(std::memory_order_relaxed)) return;
  failure_code_ = code;
  failure_message_.assign(message);
  over_.store(true, std::memory_order_seq_cst);
  changed_.NotifyAll();
}

void Ticket::State::WaitForAnnouncers() noexcept {
  MutexLock lock(mutex_);
  while (announcers_ != 0) changed_.Wait(mutex_);
}

void Ticket::State::Cancel(bool forget) noexcept {
  MutexLock cancel(cancel_mutex_);
  {
    MutexLock run(run_mutex_);
    if (store_ == nullptr) return;
    const bool all_in_place = std::all_of(
        layers_.begin(), layers_.begin() + static_cast<std::ptrdiff_t>(layer_count_),
        [](const Layer& layer) { return layer.in_place_ns.load(std::memory_order_acquire) != 0; });
    if (!all_in_place) {
      EndAs(StatusCode::kCancelled, forget ? "the store was closed" : "the ticket was cancelled");
      for (Window& window : windows_) {
        if (window.under_way.load(std::memory_order_acquire)) {
          window.batch.Cancel(*store_->fetches);
        }
      }
    }
    known_.ReleaseUntil(*store_, known_.noted());
    known_.Clear();
    WaitForAnnouncers();
    for (Window& window : windows_) window.batch.waiters().Clear();
  }
  // The prefetch thread may be waiting for run_mutex_; it sees that the ticket is over.
  if (queued.load(std::memory_order_seq_cst)) store_->prefetcher->Remove(*this);
  if (!forget) return;
  MutexLock run(run_mutex_);
  store_ = nullptr;
}

TicketRows Ticket::State::Rows(std::uint32_t slot) const noexcept {
  return layers_[slot].rows;
}

TicketStats Ticket::State::Stats(std::uint32_t slot) const {
  const Layer& layer = layers_[slot];
  const std::uint64_t in_place_ns = layer.in_place_ns.load(std::memory_order_acquire);
  MutexLock lock(mutex_);
  return TicketStats{
      .groups = layer.counts.groups,
      .dram_hits = layer.counts.dram_hits,
      .joined = layer.counts.joined,
      .fetches = layer.counts.fetches,
      .in_place_after = std::chrono::nanoseconds(in_place_ns == 0 ? 0 : in_place_ns - start_ns_)};
}

void Ticket::State::End() noexcept {
  options_ = {};
  work = {};
  runs.clear();
  layer_count_ = 0;
}

}  // namespace tiercel
