#ifndef TIERCEL_PREFETCH_H_
#define TIERCEL_PREFETCH_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel {

/// When the reads of a ticket are made.
enum class Urgency : std::uint8_t {
  /// By earliest deadline, before everything that is in the background.
  kDeadline,
  /// With what the others leave of the disk, in the order of Start(): a prompt that is
  /// still queued. Wait() and Promote() turn it into kDeadline.
  kBackground,
};

/// Who looks for the groups of a ticket and copies those that are in DRAM.
enum class HitCopy : std::uint8_t {
  /// Start() itself, for a batch of at most PrefetchLimits::start_groups_max groups; the
  /// store's prefetch thread for a larger one.
  kInStart,
  /// The prefetch thread: Start() only notes the tokens.
  kDeferred,
};

/// What Start() does when a limit of PrefetchLimits is reached.
enum class WhenFull : std::uint8_t {
  kRefuse,  ///< Returns kResourceExhausted; the message names the limit.
  kBlock,   ///< Waits until other tickets have ended.
};

/// What the DRAM cache gets of the groups that a ticket has read from disk. Groups that are in
/// it already are served from it, and stay.
enum class CacheUse : std::uint8_t {
  kInsert,  ///< They are offered to it.
  /// They are not: for who keeps them elsewhere, such as in HBM. A read that somebody else
  /// waits for as well, with kInsert or in a lookup, is offered all the same.
  kKeepOut,
};

/// What all tickets of a store may take together. Memory is taken at Open(), out of
/// StoreOptions::dram_budget_bytes.
struct PrefetchLimits {
  /// Tickets that were started and are not dropped yet. In [1, 4096].
  std::uint32_t tickets_max = 256;
  /// Tokens of all tickets, history included: they are copied, 4 B each, so that the
  /// caller's may go; a row id counts as two. In [16, 2^28].
  std::uint64_t tokens_max = std::uint64_t{1} << 18;
  /// Store-owned destinations of all tickets. 0: every ticket brings its own.
  std::uint64_t staging_bytes = 0;
  /// Groups that tickets in the background, which wait their turn, are known to read: they
  /// are not evicted before those that nobody waits for (docs/cache-policy.md). 13 B each,
  /// out of the cache's memory. Nothing: a 128th of that. 0: the queue is not looked at.
  std::optional<std::uint64_t> expected_groups_max;
  /// Groups that Start() looks for itself; see HitCopy. In [1, 4096].
  std::uint32_t start_groups_max = 512;
  /// Reads in flight of tickets in the background while others are about, a thread. 0: a
  /// quarter of StoreOptions::queue_depth.
  std::uint32_t background_depth = 0;
};

/// Where the rows of one layer go, and when the model asks for them.
struct PrefetchLayer {
  std::uint32_t layer_id = 0;
  /// How long after Start() the rows are needed: what orders the reads of all tickets of
  /// Urgency::kDeadline. Equal ones are read in the order of the ticket's layers.
  std::chrono::nanoseconds needed_after{0};
  /// Shape [t, columns] of rows, `row_stride_bytes` from one to the next; the last one
  /// needs no more than its own bytes. Memory of the caller's at an address of the
  /// caller's choice: pinned, static, of any alignment that the row output allows. It must
  /// stay until the layer is in place or the ticket is cancelled or dropped. Empty: the
  /// store's staging (PrefetchLimits::staging_bytes), for as long as the ticket lives.
  std::span<std::byte> rows;
  std::size_t row_stride_bytes = 0;  ///< 0: rows touch. Staged rows always do.
  /// Shape [t, columns]; as `rows`. Empty: staged where the rows are, else not wanted.
  std::span<RowStatus> row_status;
};

struct PrefetchOptions {
  RowOutput format = RowOutput::kStored;
  Urgency urgency = Urgency::kDeadline;
  HitCopy hits = HitCopy::kInStart;
  WhenFull when_full = WhenFull::kRefuse;
  CacheUse cache = CacheUse::kInsert;
  /// Called once for each layer, when it is in place or failed, never after the ticket was
  /// cancelled or dropped. Comes from Start(), the prefetch thread or an I/O thread: it
  /// must be short, must not block and must not call the store or drop the ticket.
  /// `code` is what Wait() returns: kOk or kPartial.
  std::function<void(std::uint32_t layer_id, StatusCode code)> on_layer;
  /// An eventfd (see eventfd(2)) of the caller's, to which 1 is added for each layer, as
  /// for on_layer. -1: none.
  int event_fd = -1;
};

/// The rows of one layer of a ticket: what Wait() waited for.
struct TicketRows {
  std::span<const std::byte> rows;        ///< As PrefetchLayer::rows, or the staging.
  std::size_t row_stride_bytes = 0;       ///< Never 0.
  std::span<const RowStatus> row_status;  ///< Empty where it is not wanted.
};

/// What a layer of a ticket took. Final when the layer is in place.
struct TicketStats {
  std::uint64_t groups = 0;     ///< Groups asked for, dead positions left out.
  std::uint64_t dram_hits = 0;  ///< Served from DRAM.
  std::uint64_t joined = 0;     ///< Waited for a read that was under way for another.
  std::uint64_t fetches = 0;    ///< Read from disk.
  /// From Start() until the layer was in place. 0 before.
  std::chrono::nanoseconds in_place_after{0};
};

/// Rows on their way: what Store::Start() returns. Move-only.
///
/// The bytes of a layer are those that Store::Lookup() would write, whatever else the
/// store does. They may be written until the layer is in place, the ticket is cancelled
/// or it is dropped (destroyed, or assigned to), in that thread's view; never after.
///
/// Threading: Wait(), WaitFor(), TryWait(), Promote(), Rows() and Stats() may run
/// concurrently; Cancel(), moving and the destructor must not run beside another method.
/// Tickets may outlive the store: its destructor cancels them. Start() must not run beside
/// the store's destructor.
class Ticket {
 public:
  Ticket() noexcept = default;  ///< Of no batch: waits return kInvalidArgument.
  Ticket(Ticket&& other) noexcept;
  Ticket& operator=(Ticket&& other) noexcept;
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;
  /// Cancels what is not in place yet; gives back the staging.
  ~Ticket();

  /// Whether there is a batch behind it.
  [[nodiscard]] bool valid() const noexcept { return state_ != nullptr; }

  /// Blocks until the rows of the layer are in place, and has them read at once: before
  /// all that has a later deadline. Costs an atomic load where they are in place.
  ///
  /// Errors: kPartial (some row_status is neither kOk nor kDead: those rows are zero, all
  /// others are good), kCancelled (outputs are unspecified), kNotFound (not a layer of the
  /// ticket), kInvalidArgument (the ticket is not valid; or a token out of range in a batch
  /// that Start() left to the prefetch thread: outputs are unspecified).
  [[nodiscard]] Status Wait(std::uint32_t layer_id);
  /// All layers, in their order. Errors: as Wait(): the first.
  [[nodiscard]] Status WaitAll();
  /// As Wait(), for at most `timeout`. Nothing: not in place yet.
  [[nodiscard]] std::optional<Status> WaitFor(std::uint32_t layer_id,
                                              std::chrono::nanoseconds timeout);
  /// As Wait(), but never blocks and promotes nothing. Nothing: not in place yet.
  [[nodiscard]] std::optional<Status> TryWait(std::uint32_t layer_id);

  /// Turns Urgency::kBackground into kDeadline, as of now. Does not block.
  void Promote() noexcept;

  /// Ends the ticket: queued reads that nobody else waits for are not made, those under
  /// way are let go. Returns when nothing writes to the outputs any more: at most a
  /// delivery of one group, or a window of the prefetch thread (some ms), later. Layers that are in
  /// place stay so; the others are kCancelled. Again, or of an invalid ticket: does nothing.
  void Cancel() noexcept;

  /// The destination of a layer. Its bytes are good once Wait() says so.
  /// Errors: kNotFound, kInvalidArgument, as Wait().
  [[nodiscard]] Result<TicketRows> Rows(std::uint32_t layer_id) const;
  /// Errors: kNotFound, kInvalidArgument, as Wait().
  [[nodiscard]] Result<TicketStats> Stats(std::uint32_t layer_id) const;

  class State;  ///< The library's own.
  class Table;  ///< The library's own.
  Ticket(std::shared_ptr<Table> table, State* state) noexcept;

 private:
  void Drop() noexcept;

  std::shared_ptr<Table> table_;  ///< Keeps the memory of `state_`.
  State* state_ = nullptr;
};

}  // namespace tiercel

#endif  // TIERCEL_PREFETCH_H_
