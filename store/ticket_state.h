#ifndef TIERCEL_STORE_TICKET_STATE_H_
#define TIERCEL_STORE_TICKET_STATE_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/range_allocator.h"
#include "store/batch.h"
#include "store/credits.h"
#include "store/known_groups.h"
#include "store/probe.h"
#include "tiercel/prefetch.h"
#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel {

/// What a ticket is to fetch, and where it goes.
struct TicketWork {
  RowOutput format = RowOutput::kStored;
  std::span<const TokenRun> runs;  ///< Empty where there are `rows`.
  std::span<const RowId> rows;
  RunCursor cursor;                ///< Into `runs`.
  std::size_t row = 0;             ///< Into `rows`.
  std::uint64_t tokens_total = 0;  ///< Of `runs`.
  std::uint64_t row_count = 0;     ///< Of the output of each layer.
};

/// A ticket: its windows under way, its layers, and who waits for them.
///
/// A window is a batch of a part of the ticket's tokens. At most two are under way: while
/// the disk reads for one, the next is looked for. They are run by one thread at a time:
/// Start(), or the prefetch thread.
///
/// Invariants:
///  - `pending` of a layer is the number of windows under way that have waiters for it,
///    plus one until the last window was begun. Whoever takes it to 0 announces the layer.
///  - `announcers_` counts the (window, layer) pairs whose last waiter is not yet wholly
///    dealt with. While it is above 0 an I/O thread may be in this object; Cancel() waits
///    for 0, so nothing of the caller's is touched after it.
///  - run_mutex_ is held by whoever adds waiters to a window, promotes or withdraws them.
///    I/O threads never take it.
///  - store_ changes under cancel_mutex_ and run_mutex_ both, so that Cancel() can leave the
///    prefetcher's queue, whose lock comes before run_mutex_, while the store stays.
/// Order of locks: cancel_mutex_, run_mutex_, mutex_.
///
/// Threading: as Ticket says; the methods say who else calls them.
class Ticket::State {
 public:
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  // ---- Start(), the prefetch thread: start.cc ---------------------------------------

  /// Groups that a window of any ticket may have.
  [[nodiscard]] static std::size_t WindowGroupsMax(const Layout& layout) noexcept;

  /// Makes a free state a ticket of `store`.
  void Begin(Store::Impl& store, const PrefetchOptions& options, std::uint64_t start_ns);
  /// Adds a layer, checked; its rows are needed at place.deadline_ns.
  void AddLayer(const PrefetchLayer& layer, const BatchLayer& place);
  TicketWork work;             ///< Of the thread that runs windows.
  Range tokens;                ///< Lent by the table, in 4 B.
  Range staging;               ///< Lent by the table, in bytes.
  std::vector<TokenRun> runs;  ///< Copied ones: what work.runs points to.

  /// Runs the next window if there is one and a place for it. Returns whether the ticket
  /// needs the prefetch thread (again). Where it fails, the ticket is over.
  ///   groups_max  of the window.
  ///   credits     that were taken for it already, of urgent tickets. 0: takes them.
  ///   may_block   wait where the fetch table is full (see FetchOwner).
  [[nodiscard]] bool RunWindow(std::size_t groups_max, std::int64_t credits, bool may_block)
      TIERCEL_EXCLUDES(run_mutex_, mutex_);
  /// Whether RunWindow() would do something now. Any thread; a hint.
  [[nodiscard]] bool Ready(std::size_t groups_max) const noexcept;
  /// What RunWindow() failed with; OK if it did not.
  [[nodiscard]] Status Failure() const TIERCEL_EXCLUDES(mutex_);
  /// Tells the cache of some more groups that the ticket is going to read.
  void NoteSome() TIERCEL_EXCLUDES(run_mutex_);
  /// Whether NoteSome() would do something now. Any thread; a hint.
  [[nodiscard]] bool HasMoreToNote() const noexcept {
    return more_to_note_.load(std::memory_order_relaxed);
  }
  /// The ticket is going to wait: its groups are to be noted. Before it is queued.
  void NoteGroups() TIERCEL_EXCLUDES(run_mutex_);
  /// Groups of the next window, of a ticket that the prefetch thread runs.
  [[nodiscard]] std::size_t NextWindowGroups() const noexcept;
  /// Set by the prefetcher while the ticket is in its queue.
  std::atomic<bool> queued = false;
  /// For the order of the prefetch thread: kBackgroundDeadlineNs and more, or a time.
  [[nodiscard]] std::uint64_t deadline_ns() const noexcept {
    return deadline_ns_.load(std::memory_order_relaxed);
  }

  // ---- the ticket's owner: ticket.cc --------------------------------------------------

  /// Index of a layer.
  [[nodiscard]] std::optional<std::uint32_t> FindLayer(std::uint32_t layer_id) const noexcept;
  [[nodiscard]] std::size_t layer_count() const noexcept { return layer_count_; }
  [[nodiscard]] std::uint32_t LayerId(std::uint32_t slot) const noexcept {
    return layers_[slot].layer_id;
  }
  /// The layer's outcome if there is one.
  [[nodiscard]] std::optional<Status> Outcome(std::uint32_t slot) const;
  /// Looks for an outcome for as long as a thread takes to fall asleep and to wake up.
  void Spin(std::uint32_t slot) const noexcept;
  /// Sleeps until there is an outcome, or until `until` if that is given.
  void Sleep(std::uint32_t slot, std::optional<std::chrono::steady_clock::time_point> until)
      TIERCEL_EXCLUDES(mutex_);
  /// Makes the reads of layer `slot`, or, for a ticket of the background, of all, urgent.
  void Promote(std::optional<std::uint32_t> slot) TIERCEL_EXCLUDES(run_mutex_);
  /// See Ticket::Cancel(). With `forget`, the ticket has no store after it: what the
  /// store's destructor does.
  void Cancel(bool forget) noexcept TIERCEL_EXCLUDES(cancel_mutex_, run_mutex_, mutex_);
  [[nodiscard]] TicketRows Rows(std::uint32_t slot) const noexcept;
  [[nodiscard]] TicketStats Stats(std::uint32_t slot) const TIERCEL_EXCLUDES(mutex_);
  /// Lets go of functions and spans. REQUIRES: Cancel() was called.
  void End() noexcept;

 private:
  struct Window final : BatchObserver {
    void OnLayerInPlace(std::uint32_t layer_slot) noexcept override {
      ticket->OnWindowLayer(*this, layer_slot);
    }
    State* ticket = nullptr;
    Batch batch;
    Credits* credits = nullptr;  ///< Where credits_taken goes back to.
    std::int64_t credits_taken = 0;
    std::uint32_t layers_left = 0;  ///< That have waiters. Under mutex_.
    std::atomic<bool> under_way = false;
  };

  struct Layer {
    std::uint32_t layer_id = 0;
    std::uint64_t needed_after_ns = 0;
    BatchLayer place;
    TicketRows rows;
    std::atomic<std::uint32_t> pending = 0;
    std::atomic<std::uint64_t> failed_rows = 0;
    std::atomic<std::uint64_t> in_place_ns = 0;  ///< 0: it is not.
    bool promoted = false;                       ///< Under run_mutex_.
    LayerCounts counts;                          ///< Under mutex_.
  };

  [[nodiscard]] bool HasMoreWindows() const noexcept;
  [[nodiscard]] bool InBackground() const noexcept {
    return deadline_ns() >= kBackgroundDeadlineNs;
  }
  [[nodiscard]] Credits& CreditsOfClass() const noexcept;
  bool RunWindowLocked(std::size_t groups_max, std::int64_t credits, bool may_block)
      TIERCEL_REQUIRES(run_mutex_) TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] Status Probe(Batch& batch, std::size_t groups_max) TIERCEL_REQUIRES(run_mutex_);
  void LaunchWindow(Window& window, bool may_block) TIERCEL_REQUIRES(run_mutex_)
      TIERCEL_EXCLUDES(mutex_);
  void FinishLaunch(Window& window, bool may_block) TIERCEL_REQUIRES(run_mutex_)
      TIERCEL_EXCLUDES(mutex_);
  void OnWindowLayer(Window& window, std::uint32_t slot) noexcept TIERCEL_EXCLUDES(mutex_);
  void LetGo(std::uint32_t slot) noexcept TIERCEL_EXCLUDES(mutex_);
  void Announce(std::uint32_t slot) noexcept TIERCEL_EXCLUDES(mutex_);
  void EndAs(StatusCode code, std::string_view message) noexcept TIERCEL_EXCLUDES(mutex_);
  void WaitForAnnouncers() noexcept TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] Window* FreeWindow() noexcept;

  Mutex cancel_mutex_;
  Mutex run_mutex_;
  Store::Impl* store_ = nullptr;  ///< Null when the store is gone. Changes under run_mutex_.
  PrefetchOptions options_;
  std::uint64_t start_ns_ = 0;
  std::atomic<std::uint64_t> deadline_ns_ = 0;
  std::deque<Layer> layers_;  ///< Never shrinks.
  std::size_t layer_count_ = 0;
  std::array<Window, 2> windows_;
  KnownGroups known_ TIERCEL_GUARDED_BY(run_mutex_);
  std::atomic<bool> more_to_note_ = false;
  Window* unlaunched_ = nullptr;    ///< One that found the fetch table full. Runner's.
  std::size_t windows_begun_ = 0;   ///< Runner's.
  std::atomic<bool> over_ = false;  ///< Cancelled or failed: see failure_code_.

  mutable Mutex mutex_;
  CondVar changed_;
  std::uint32_t announcers_ TIERCEL_GUARDED_BY(mutex_) = 0;
  StatusCode failure_code_ TIERCEL_GUARDED_BY(mutex_) = StatusCode::kCancelled;
  std::string failure_message_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_TICKET_STATE_H_
