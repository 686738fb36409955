#include "store/overlay.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "base/clock.h"
#include "engram/recipe_check.h"

namespace tiercel {
namespace {

/// Rows of a batch, at most: 2^20 of 264 B are 277 MB that RocksDB holds twice for a moment.
constexpr std::size_t kUpdateRowsMax = std::size_t{1} << 20;
/// Callers that share a write, by their rows.
constexpr std::size_t kCommitRowsMax = std::size_t{1} << 16;

constexpr std::uint64_t kLoadLogNs = 2'000'000'000;

RowStatus FailureOf(StatusCode code) noexcept {
  return code == StatusCode::kCorruption ? RowStatus::kCorruption : RowStatus::kIoError;
}

/// A thread's own gate, as good as: threads take turns.
std::size_t HomeGate(std::size_t gate_count) noexcept {
  static std::atomic<std::size_t> next{0};
  thread_local const std::size_t home = next.fetch_add(1, std::memory_order_relaxed);
  return home % gate_count;
}

Status NoMemoryToUpdate() {
  return Status(StatusCode::kResourceExhausted, "no memory to update rows");
}

}  // namespace

std::uint64_t Overlay::MemoryBytes(std::uint64_t row_count_max) noexcept {
  return sizeof(Overlay) + OverlaidRows::MemoryBytes(row_count_max);
}

Overlay::Overlay(const Context& context, std::unique_ptr<StateDb> db, bool writable,
                 std::uint64_t row_count_max)
    : context_(context),
      writable_(writable),
      row_count_max_(row_count_max),
      db_(std::move(db)),
      rows_(row_count_max),
      pending_(context.layout, context.recipe, context.hasher, rows_) {}

Overlay::~Overlay() = default;

Status Overlay::Load(const std::function<void(std::string_view)>& log) {
  view_.snapshot = db_->TakeSnapshot();
  Result<std::uint64_t> sequence = db_->GetNumber(kSequenceEntry);
  if (!sequence.ok()) return std::move(sequence).TakeStatus();
  view_.sequence = last_sequence_ = sequence.value();
  visible_sequence_.store(last_sequence_, std::memory_order_relaxed);
  std::uint64_t logged_ns = MonotonicNs();
  const auto take = [&](const StateRow& row) -> Status {
    const auto layer =
        std::ranges::find(context_.layout.layers, row.layer_id, &ServedLayer::layer_id);
    if (layer == context_.layout.layers.end()) return {};
    if (Index(row.row) >= layer->row_count || row.bytes.size() != layer->row_size_bytes) {
      return Status(StatusCode::kCorruption,
                    fmt::format("state {}: it has row {} of layer {} with {} B, but the table has "
                                "{} rows of {} B: restore the state from a backup",
                                db_->path(), Index(row.row), row.layer_id, row.bytes.size(),
                                layer->row_count, layer->row_size_bytes));
    }
    if (rows_.size() >= row_count_max_) {
      return Status(StatusCode::kResourceExhausted,
                    fmt::format("state {} has more updated rows than the {} that there is room "
                                "for: raise StoreOptions::overlay_rows_max (8 to 22 B a row) or "
                                "the DRAM budget, or fold them into the table",
                                db_->path(), row_count_max_));
    }
    const auto layer_index = static_cast<std::uint32_t>(layer - context_.layout.layers.begin());
    rows_.Mark(MakeOverlaidKey(layer_index, row.row), /*pending=*/false);
    if (MonotonicNs() - logged_ns > kLoadLogNs) {
      logged_ns = MonotonicNs();
      log(fmt::format("reading the updated rows of {}: {} so far", db_->path(), rows_.size()));
    }
    return {};
  };
  return db_->ForEachRow(*view_.snapshot, take);
}

// ---- deliveries ------------------------------------------------------------------------

Overlay::Delivery::Delivery(Overlay* overlay) noexcept : overlay_(overlay) {
  if (overlay_ == nullptr) return;
  gate_ = &overlay_->gates_[HomeGate(kGates)].mutex;
  gate_->lock();
}

Overlay::Delivery::~Delivery() {
  if (gate_ != nullptr) gate_->unlock();
}

bool Overlay::Delivery::Merge(const Space& space, std::span<const RowId> rows,
                              std::span<std::byte> bytes, std::span<RowStatus> statuses,
                              std::uint32_t& failed_rows) noexcept {
  if (overlay_ == nullptr || space.base_rows || overlay_->rows_.size() == 0) return true;
  const OverlaidRows& overlaid = overlay_->rows_;
  for (const RowId row : rows) overlaid.Prefetch(MakeOverlaidKey(space.layer_index, row));
  const std::uint32_t layer_id = overlay_->context_.layout.layers[space.layer_index].layer_id;
  const std::size_t row_size_bytes = space.size_bytes / space.row_count;
  bool may_cache = true;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const OverlaidRows::Found found = overlaid.Find(MakeOverlaidKey(space.layer_index, rows[i]));
    if (!found.there) continue;
    may_cache = may_cache && !found.pending;
    const Result<bool> got =
        overlay_->GetRow(layer_id, rows[i], bytes.subspan(i * row_size_bytes, row_size_bytes));
    const bool was_good = statuses[i] == RowStatus::kOk;
    if (!got.ok()) {
      statuses[i] = FailureOf(got.status().code());
      failed_rows += was_good ? 1 : 0;
    } else if (got.value()) {
      overlay_->rows_merged_.Add(1);
      statuses[i] = RowStatus::kOk;
      failed_rows -= was_good ? 0 : 1;
    }
  }
  return may_cache;
}

bool Overlay::Delivery::MergeGroup(std::uint32_t space_index, std::uint64_t key,
                                   std::span<std::byte> bytes) noexcept {
  if (overlay_ == nullptr || overlay_->rows_.size() == 0) return true;
  const Space& space = overlay_->context_.layout.spaces[space_index];
  std::array<RowId, kHeadCountMax> rows;
  std::array<RowStatus, kHeadCountMax> statuses{};
  std::uint32_t failed_rows = 0;
  const std::span group_rows = std::span(rows).first(space.row_count);
  overlay_->context_.hasher.RowsOfMix(
      overlay_->context_.layout.layers[space.layer_index].recipe_index, space.order_index, key,
      group_rows);
  return Merge(space, group_rows, bytes, std::span(statuses).first(space.row_count), failed_rows) &&
         failed_rows == 0;
}

bool Overlay::MayHaveRowOf(std::uint32_t space_index, std::uint64_t key) const noexcept {
  if (rows_.size() == 0) return false;
  const Space& space = context_.layout.spaces[space_index];
  std::array<RowId, kHeadCountMax> rows;
  const std::span group_rows = std::span(rows).first(space.row_count);
  context_.hasher.RowsOfMix(context_.layout.layers[space.layer_index].recipe_index,
                            space.order_index, key, group_rows);
  return std::ranges::any_of(group_rows,
                             [&](RowId row) { return MayHave(space.layer_index, row); });
}

/// A row as the view has it. REQUIRES: a gate is held.
Result<bool> Overlay::GetRow(std::uint32_t layer_id, RowId row, std::span<std::byte> bytes) const {
  if (view_.snapshot != nullptr) return db_->GetRow(*view_.snapshot, layer_id, row, bytes);
  return NoMemoryToUpdate();  // There was none even for a view.
}

Overlay::View Overlay::CurrentView() noexcept {
  const std::lock_guard lock(gates_[HomeGate(kGates)].mutex);
  return view_;
}

void Overlay::CloseGate() noexcept {
  for (Gate& gate : gates_) gate.mutex.lock();
}

void Overlay::OpenGate() noexcept {
  for (Gate& gate : gates_) gate.mutex.unlock();
}

// ---- updates -----------------------------------------------------------------------------

Status Overlay::Check(std::span<const RowUpdate> rows) const {
  if (!writable_) {
    return Status(StatusCode::kUnavailable,
                  fmt::format("state {} is open for reading alone: open the store with "
                              "StoreOptions::updates = Updates::kReadWrite",
                              db_->path()));
  }
  const auto refuse = [](StatusCode code, std::size_t i, const std::string& what) {
    return Status(code, fmt::format("update {}: {}", i, what));
  };
  if (rows.size() > kUpdateRowsMax) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("a batch of {} rows is more than the {} that are updated as one: "
                              "split it",
                              rows.size(), kUpdateRowsMax));
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const RowUpdate& update = rows[i];
    const auto layer =
        std::ranges::find(context_.layout.layers, update.layer_id, &ServedLayer::layer_id);
    if (layer == context_.layout.layers.end()) {
      return refuse(StatusCode::kNotFound, i,
                    fmt::format("layer {} is not served by this store", update.layer_id));
    }
    if (Index(update.row) >= layer->row_count) {
      return refuse(StatusCode::kInvalidArgument, i,
                    fmt::format("row {} is beyond the {} rows of layer {}", Index(update.row),
                                layer->row_count, update.layer_id));
    }
    if (update.bytes.size() != layer->row_size_bytes) {
      return refuse(
          StatusCode::kInvalidArgument, i,
          fmt::format("row {} of layer {} is given {} B, but its rows have {} B", Index(update.row),
                      update.layer_id, update.bytes.size(), layer->row_size_bytes));
    }
  }
  return {};
}

OverlaidKey Overlay::KeyOf(const RowUpdate& update) const noexcept {
  const auto layer =
      std::ranges::find(context_.layout.layers, update.layer_id, &ServedLayer::layer_id);
  return MakeOverlaidKey(static_cast<std::uint32_t>(layer - context_.layout.layers.begin()),
                         update.row);
}

Status Overlay::Update(std::span<const RowUpdate> rows) {
  if (Status status = Check(rows); !status.ok()) return status;
  if (rows.empty()) return {};
  Pending own{.rows = rows, .status = {}};
  Pending* last = &own;
  {
    MutexLock lock(mutex_);
    (queue_last_ == nullptr ? queue_first_ : queue_last_->next) = &own;
    queue_last_ = &own;
    while (!own.done && queue_first_ != &own) changed_.Wait(mutex_);
    if (own.done) return std::move(own.status);
    // This caller leads: it writes for those that have queued up behind it, too.
    std::size_t row_count = rows.size();
    while (last->next != nullptr && row_count + last->next->rows.size() <= kCommitRowsMax) {
      last = last->next;
      row_count += last->rows.size();
    }
  }
  Commit(&own, last);
  MutexLock lock(mutex_);
  for (Pending* each = &own; each != last; each = each->next) each->done = true;
  last->done = true;
  queue_first_ = last->next;
  if (queue_first_ == nullptr) queue_last_ = nullptr;
  changed_.NotifyAll();
  return std::move(own.status);
}

/// Writes the batches of the queue from `first` to `last` and shows them. Sets their statuses.
void Overlay::Commit(Pending* first, Pending* last) noexcept {
  Status status;
  try {
    status = Write(first, last);
    if (status.ok()) status = Show(/*reopen=*/false);
  } catch (const std::bad_alloc&) {
    status = NoMemoryToUpdate();
  }
  if (status.ok()) return;
  for (Pending* each = first;; each = each->next) {
    if (each->status.ok()) {
      each->status = Status(status.code(), std::string(status.message()), status.os_error());
    }
    if (each == last) break;
  }
}

Status Overlay::Admit(std::span<const RowUpdate> rows, std::uint64_t& room) const {
  std::uint64_t new_rows = 0;
  for (const RowUpdate& row : rows) new_rows += rows_.Has(KeyOf(row)) ? 0 : 1;
  if (new_rows <= room) {
    room -= new_rows;
    return {};
  }
  return Status(StatusCode::kResourceExhausted,
                fmt::format("the overlay has {} rows, and room for {}: {} more do not fit; raise "
                            "StoreOptions::overlay_rows_max or the DRAM budget, or fold the "
                            "updated rows into the table",
                            rows_.size(), row_count_max_, new_rows));
}

Status Overlay::Write(Pending* first, Pending* last) {
  if (db_->must_reopen()) {
    if (Status status = Show(/*reopen=*/true); !status.ok()) return status;
  }
  std::vector<StateBatch> batches;
  const std::size_t unshown_before = unshown_.size();
  std::uint64_t room = row_count_max_ - std::min(row_count_max_, rows_.size());
  for (Pending* each = first;; each = each->next) {
    each->status = Admit(each->rows, room);
    if (each->status.ok()) {
      batches.push_back({.rows = each->rows, .sequence = last_sequence_ + batches.size() + 1});
      for (const RowUpdate& row : each->rows) unshown_.push_back(KeyOf(row));
    }
    if (each == last) break;
  }
  if (batches.empty()) return {};
  // After an error, what was to be written stays in unshown_: it may come to light.
  if (Status status = db_->Write(batches); !status.ok()) return status;
  last_sequence_ += batches.size();
  batches_.Add(batches.size());
  commits_.Add(1);
  rows_written_.Add(unshown_.size() - unshown_before);
  return {};
}

/// Makes the rows visible that were written: steps 2 to 4 of the class's comment. With
/// `reopen`, of a state that has to be opened anew.
Status Overlay::Show(bool reopen) {
  if (unshown_.empty() && !reopen) return {};
  MutexLock lock(observers_mutex_);
  View next;
  // May throw: what was written is then shown with the next update.
  if (!reopen) next = {.snapshot = db_->TakeSnapshot(), .sequence = last_sequence_};
  for (const OverlaidKey key : unshown_) {
    rows_.Mark(key, /*pending=*/true);
    pending_.Add(key);
  }
  CloseGate();
  OpenGate();
  observers_told_ = true;
  for (UpdateObserver* const observer : observers_) {
    if (observer != nullptr) observer->OnUpdateBegins(pending_);
  }
  groups_removed_.Add(cache_->RemoveIf([this](std::uint32_t space, std::uint64_t group_key) {
    return pending_.IsIn(space, group_key);
  }));
  Status status;
  CloseGate();
  if (reopen) {
    status = ReopenAtClosedGate();
  } else {
    std::swap(view_, next);
  }
  if (status.ok()) {
    for (const OverlaidKey key : unshown_) rows_.Mark(key, /*pending=*/false);
    unshown_.clear();
    visible_sequence_.store(view_.sequence, std::memory_order_relaxed);
  }
  OpenGate();
  if (!status.ok()) return status;  // The rows stay pending: the next update shows them.
  for (UpdateObserver* const observer : observers_) {
    if (observer != nullptr) observer->OnUpdateEnds();
  }
  observers_told_ = false;
  pending_.Clear();
  return {};
}

Status Overlay::AddObserver(UpdateObserver& observer) {
  MutexLock lock(observers_mutex_);
  const auto free = std::ranges::find(observers_, nullptr);
  if (free == observers_.end()) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("{} observers of updates are there already", kObserversMax));
  }
  *free = &observer;
  if (observers_told_) observer.OnUpdateBegins(pending_);
  return {};
}

void Overlay::RemoveObserver(UpdateObserver& observer) noexcept {
  MutexLock lock(observers_mutex_);
  std::ranges::replace(observers_, &observer, nullptr);
}

/// Opens the state anew and makes what it has the view. On an error the view is the old one,
/// or that of a state which can only be read.
Status Overlay::ReopenAtClosedGate() noexcept {
  if (view_.snapshot.use_count() > 1 || db_->snapshot_count() > 1) {
    return Status(StatusCode::kUnavailable,
                  fmt::format("state {} has to be opened anew, since an earlier update failed to "
                              "be written: drop the snapshots that are about, then update again",
                              db_->path()));
  }
  try {
    view_.snapshot.reset();
    Status status = db_->Reopen();
    view_.snapshot = db_->TakeSnapshot();
    if (!status.ok()) return status;
    const Result<std::uint64_t> sequence = db_->GetNumber(kSequenceEntry);
    if (!sequence.ok()) {
      return Status(sequence.status().code(), std::string(sequence.status().message()));
    }
    view_.sequence = last_sequence_ = sequence.value();
    return {};
  } catch (const std::bad_alloc&) {
    return NoMemoryToUpdate();
  }
}

OverlayStats Overlay::Stats() const {
  return {.state_path = db_->path(),
          .writable = writable_,
          .rows = rows_.size(),
          .rows_max = row_count_max_,
          .sequence = visible_sequence_.load(std::memory_order_relaxed),
          .batches = batches_.Get(),
          .commits = commits_.Get(),
          .rows_written = rows_written_.Get(),
          .rows_merged = rows_merged_.Get(),
          .groups_removed = groups_removed_.Get(),
          .memory_bytes = 0,  // The plan knows.
          .state_bytes = db_->SizeBytes()};
}

}  // namespace tiercel
