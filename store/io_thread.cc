#include "store/io_thread.h"

#include <fmt/format.h>

#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/numa.h"
#include "base/spin.h"
#include "io/read_errors.h"
#include "store/batch.h"

namespace tiercel {
namespace {

/// How long an idle thread sleeps when nobody wakes it: for ever, as good as.
constexpr std::chrono::nanoseconds kIdleWait = std::chrono::hours(1);

/// For so long after a read that was not of the background, the next one is expected: a
/// step of a slow decode loop takes 80 ms.
constexpr std::uint64_t kUrgentMemoryNs = 250'000'000;

/// The background is held back no longer than this before others are due.
constexpr std::uint64_t kLeadNsMax = 3'000'000;

/// A read for each group would do if all groups were single rows that share nothing;
/// a quarter more keeps the queue full while some ride along with others.
std::uint32_t GroupCount(std::uint32_t queue_depth) noexcept {
  return queue_depth + queue_depth / 4 + 1;
}

std::uint32_t PieceCount(const Layout& layout, std::uint32_t part_count_max,
                         std::uint32_t queue_depth) noexcept {
  return GroupCount(queue_depth) * layout.head_count * part_count_max;
}

RowStatus StatusOf(ReadErrorKind kind) noexcept {
  return kind == ReadErrorKind::kDamaged ? RowStatus::kCorruption : RowStatus::kIoError;
}

}  // namespace

IoThread::IoThread(const IoContext& context, std::unique_ptr<ReadQueue> queue)
    : context_(context),
      queue_(std::move(queue)),
      groups_(GroupCount(queue_->depth())),
      reads_(context.device, queue_->depth(),
             PieceCount(context.layout, context.locator.part_count_max(), queue_->depth())),
      bytes_(groups_.size() * context.layout.space_size_bytes_max),
      rows_(groups_.size() * context.layout.head_count),
      statuses_(groups_.size() * context.layout.head_count) {
  retries_.reserve(queue_->depth());
  finished_.reserve(groups_.size());
  free_groups_.reserve(groups_.size());
  for (std::uint32_t i = 0; i < groups_.size(); ++i) free_groups_.push_back(i);
  thread_ = std::thread([this] { Loop(); });
}

IoThread::~IoThread() {
  stop_.store(true, std::memory_order_relaxed);
  queue_->Wake();
  thread_.join();
}

std::uint64_t IoThread::MemoryBytes(const Layout& layout, std::uint32_t part_count_max,
                                    std::uint32_t queue_depth) noexcept {
  const std::uint64_t group_bytes = layout.space_size_bytes_max +
                                    layout.head_count * (sizeof(RowId) + sizeof(RowStatus)) +
                                    sizeof(Group) + sizeof(std::uint32_t);
  return sizeof(IoThread) + GroupCount(queue_depth) * group_bytes +
         (queue_depth + GroupCount(queue_depth)) * sizeof(std::uint32_t) +
         ReadTable::MemoryBytes(queue_depth, PieceCount(layout, part_count_max, queue_depth));
}

void IoThread::MergeReadLatency(Histogram& latency_ns) const {
  MutexLock lock(latency_mutex_);
  latency_ns.Merge(read_latency_ns_);
}

std::span<std::byte> IoThread::BytesOf(std::uint32_t group_index) noexcept {
  const std::size_t stride_bytes = context_.layout.space_size_bytes_max;
  const Space& space = context_.layout.spaces[groups_[group_index].fetch->space];
  return {bytes_.data() + group_index * stride_bytes, space.size_bytes};
}

std::span<RowId> IoThread::RowsOf(std::uint32_t group_index) noexcept {
  const std::size_t stride = context_.layout.head_count;
  return {rows_.data() + group_index * stride, stride};
}

std::span<RowStatus> IoThread::StatusesOf(std::uint32_t group_index) noexcept {
  const std::size_t stride = context_.layout.head_count;
  return {statuses_.data() + group_index * stride, stride};
}

void IoThread::Loop() noexcept {
  if (const Status status = BindThread(context_.memory); !status.ok()) {
    context_.log(status.ToString());
  }
  pthread_getaffinity_np(pthread_self(), sizeof(cores_), &cores_);
  while (!stop_.load(std::memory_order_relaxed)) {
    Refill();
    if (!finished_.empty()) {
      // The disk first: it reads on while groups are delivered.
      queue_->Flush();
      DeliverFinished();
      Refill();  // Groups may have been what was short.
    }
    if (queue_->in_flight() == 0) {
      WaitIdle();
    } else {
      queue_->Run(*this, kIdleWait);
    }
  }
  // A ring with a single issuer can only be drained by it: not by the destructor.
  while (queue_->in_flight() > 0) queue_->Run(*this, kIdleWait);
}

void IoThread::KeepOffCallersCore() noexcept {
  const int core = sched_getcpu();
  if (core < 0 || slept_on_.load(std::memory_order_acquire) != core) return;
  cpu_set_t others = cores_;
  CPU_CLR(core, &others);
  if (CPU_COUNT(&others) == 0) return;
  slept_on_.store(-1, std::memory_order_relaxed);
  pthread_setaffinity_np(thread_.native_handle(), sizeof(others), &others);
}

/// Until something more urgent than `than` is queued.
void IoThread::LookForFetches(FetchTable::Front than, std::uint64_t until_ns) const noexcept {
  while (context_.fetches.front() <= than && MonotonicNs() < until_ns &&
         !stop_.load(std::memory_order_relaxed)) {
  }
}

void IoThread::SleepUntil(std::uint64_t until_ns) noexcept {
  const std::uint64_t now_ns = MonotonicNs();
  if (until_ns <= now_ns) return;
  slept_on_.store(sched_getcpu(), std::memory_order_release);
  queue_->Run(*this, std::chrono::nanoseconds(until_ns - now_ns));
}

/// Waits for fetches while nothing is being read. Returns now and then for nothing.
void IoThread::WaitIdle() noexcept {
  using Front = FetchTable::Front;
  const Front front = context_.fetches.front();
  if (front == Front::kUrgent) return;
  if (context_.may_spin && front == Front::kNothing) {
    LookForFetches(front, delivered_ns_ + kSpinNs);
  }
  const std::uint64_t now_ns = MonotonicNs();
  const Beat::Window due = beat_.Next(now_ns);
  if (due.end_ns == 0) {
    // The background is not held back without a beat: if it is queued, it came just now.
    if (front == Front::kNothing)
      SleepUntil(now_ns + static_cast<std::uint64_t>(kIdleWait.count()));
  } else if (now_ns < due.begin_ns) {
    SleepUntil(due.begin_ns);  // Or until woken: what came meanwhile has done so already.
  } else if (context_.may_spin) {
    LookForFetches(front, due.end_ns);
  } else {
    SleepUntil(due.end_ns);
  }
}

/// Submits until the queue is full or there is nothing to read.
void IoThread::Refill() noexcept {
  while (!retries_.empty() && queue_->in_flight() < queue_->depth()) {
    const std::uint32_t read_index = retries_.back();
    retries_.pop_back();
    SubmitRead(read_index);
  }
  while (queue_->in_flight() < queue_->depth() && reads_.has_room()) {
    if (current_group_ == kNone && !BeginGroup()) return;
    const std::uint32_t group_index = current_group_;
    SubmitReads(group_index);
    if (!AllSubmitted(groups_[group_index])) return;  // No room for more.
    current_group_ = kNone;
    FinishIfDone(group_index);  // Every part may have been in DRAM.
  }
}

bool IoThread::BeginGroup() noexcept {
  if (free_groups_.empty()) return false;
  // The rule costs a look at the clock; it is asked for only where it matters.
  const bool background_first = context_.fetches.front() == FetchTable::Front::kBackground;
  Fetch* const fetch = context_.fetches.Take(!background_first || BackgroundMayRead());
  if (fetch == nullptr) return false;
  const bool background = fetch->deadline_ns >= kBackgroundDeadlineNs;
  if (!background) {
    urgent_taken_ns_ = MonotonicNs();
    if (urgent_reads_ == 0) beat_.Came(urgent_taken_ns_);
  }
  const std::uint32_t group_index = free_groups_.back();
  free_groups_.pop_back();
  groups_[group_index] = Group{.fetch = fetch, .background = background};
  const Space& space = context_.layout.spaces[fetch->space];
  const std::span<RowId> rows = RowsOf(group_index).first(space.row_count);
  if (space.single_rows()) {
    rows[0] = RowId{fetch->key};
  } else {
    const ServedLayer& layer = context_.layout.layers[space.layer_index];
    context_.hasher.RowsOfMix(layer.recipe_index, space.order_index, fetch->key, rows);
  }
  std::ranges::fill(StatusesOf(group_index), RowStatus::kOk);
  current_group_ = group_index;
  return true;
}

/// Whether reads of the background that began now would be in the way of others.
bool IoThread::OthersAreDue(std::uint64_t now_ns) const noexcept {
  const Beat::Window due = beat_.Next(now_ns);
  const std::uint64_t lead_ns = std::min(background_latency_ns_, kLeadNsMax);
  return due.end_ns != 0 && now_ns + lead_ns >= due.begin_ns;
}

bool IoThread::BackgroundMayRead() const noexcept {
  if (urgent_reads_ > 0) {
    return background_reads_ < std::max(context_.background_depth / 4, std::uint32_t{1});
  }
  const std::uint64_t now_ns = MonotonicNs();
  if (now_ns - urgent_taken_ns_ > kUrgentMemoryNs) return true;
  return background_reads_ < context_.background_depth && !OthersAreDue(now_ns);
}

bool IoThread::AllSubmitted(const Group& group) const noexcept {
  return group.next_row == context_.layout.spaces[group.fetch->space].row_count;
}

void IoThread::SubmitReads(std::uint32_t group_index) noexcept {
  Group& group = groups_[group_index];
  const Space& space = context_.layout.spaces[group.fetch->space];
  const std::uint32_t row_size_bytes = space.size_bytes / space.row_count;
  const std::uint32_t part_count = context_.locator.PartCount(space.layer_index);
  const std::span<RowId> rows = RowsOf(group_index);
  while (group.next_row < space.row_count) {
    if (!reads_.has_room() || queue_->in_flight() >= queue_->depth()) return;
    const RowId row = rows[group.next_row];
    const std::uint32_t part = group.next_part;
    const std::span<std::byte> row_bytes =
        BytesOf(group_index).subspan(std::size_t{group.next_row} * row_size_bytes, row_size_bytes);
    if (!context_.locator.CopyResident(space.layer_index, part, row, row_bytes)) {
      const std::uint32_t read_index =
          reads_.Add({.place = context_.locator.Locate(space.layer_index, part, row),
                      .group = group_index,
                      .row = group.next_row,
                      .part = part});
      ++group.pieces_pending;
      if (read_index == ReadTable::kNone) {
        context_.counters.device_reads_shared.Add(1);
      } else {
        reads_[read_index].background = group.background;
        ++(group.background ? background_reads_ : urgent_reads_);
        SubmitRead(read_index);
      }
    }
    if (++group.next_part == part_count) {
      group.next_part = 0;
      ++group.next_row;
    }
  }
}

void IoThread::SubmitRead(std::uint32_t read_index) noexcept {
  ReadTable::Read& read = reads_[read_index];
  ++read.attempts;
  read.begun_ns = MonotonicNs();
  context_.counters.device_reads.Add(1);
  context_.counters.device_read_bytes.Add(read.blocks.size_bytes);
  queue_->Submit(read.request);
}

void IoThread::OnRead(const ReadCompletion& completion) noexcept {
  const auto read_index = static_cast<std::uint32_t>(completion.tag);
  const ReadTable::Read& read = reads_[read_index];
  const bool background = read.background;
  bool over = true;
  if (completion.os_error == 0) {
    const std::uint64_t latency_ns = MonotonicNs() - read.begun_ns;
    if (background) background_latency_ns_ = (background_latency_ns_ * 15 + latency_ns) / 16;
    {
      MutexLock lock(latency_mutex_);
      read_latency_ns_.Add(latency_ns);
    }
    const std::uint32_t attempts = read.attempts;
    over = reads_.Serve(read_index, completion.blocks, [&](const RowPiece& piece, auto bytes) {
      TakePiece(piece, bytes, attempts);
    });
  } else if (DescribeReadError(completion.os_error).kind == ReadErrorKind::kPassing &&
             read.attempts < context_.read_attempts_max) {
    context_.counters.device_read_retries.Add(1);
    over = false;
  } else {
    const std::uint32_t attempts = read.attempts;
    const RowPiece piece = reads_.Fail(read_index, over);
    FailRow(piece, attempts, completion.os_error);
    --groups_[piece.group].pieces_pending;
    FinishIfDone(piece.group);
  }
  if (!over) {
    retries_.push_back(read_index);
  } else {
    --(background ? background_reads_ : urgent_reads_);
  }
}

/// Puts what was read for a piece into its group, if it is what was once written.
void IoThread::TakePiece(const RowPiece& piece, std::span<const std::byte> read,
                         std::uint32_t attempts) noexcept {
  const Space& space = context_.layout.spaces[groups_[piece.group].fetch->space];
  const std::size_t row_size_bytes = space.size_bytes / space.row_count;
  const RowRead& place = piece.place;
  if (context_.locator.Intact(space.layer_index, piece.part, RowsOf(piece.group)[piece.row], place,
                              read)) {
    std::memcpy(BytesOf(piece.group).data() + piece.row * row_size_bytes + place.row_offset_bytes,
                read.data() + place.skip_bytes, place.part_size_bytes);
  } else {
    FailRow(piece, attempts, EBADMSG);
  }
  --groups_[piece.group].pieces_pending;
  FinishIfDone(piece.group);
}

void IoThread::FailRow(const RowPiece& piece, std::uint32_t attempts, int os_error) noexcept {
  context_.counters.device_read_failures.Add(1);
  const ReadError error = DescribeReadError(os_error);
  RowStatus& status = StatusesOf(piece.group)[piece.row];
  if (status == RowStatus::kOk) ++groups_[piece.group].failed_rows;
  status = StatusOf(error.kind);
  if (failure_logged_) return;
  failure_logged_ = true;  // One line, not one a row: a dead disk has many.
  context_.log(fmt::format(
      "row {} cannot be read: {} B at {} of {}: {}: {} ({} attempts); later "
      "failures are only counted",
      Index(RowsOf(piece.group)[piece.row]), piece.place.size_bytes, piece.place.offset_bytes,
      context_.files[piece.place.file_index].path, ErrnoName(os_error), error.sentence, attempts));
}

void IoThread::FinishIfDone(std::uint32_t group_index) noexcept {
  const Group& group = groups_[group_index];
  if (group.pieces_pending == 0 && AllSubmitted(group)) finished_.push_back(group_index);
}

void IoThread::DeliverFinished() noexcept {
  for (const std::uint32_t group_index : finished_) Deliver(group_index);
  finished_.clear();
  delivered_ns_ = MonotonicNs();
}

void IoThread::Deliver(std::uint32_t group_index) noexcept {
  Group& group = groups_[group_index];
  Fetch* const fetch = group.fetch;
  const Space& space = context_.layout.spaces[fetch->space];
  const std::span<std::byte> bytes = BytesOf(group_index);
  const std::span<RowStatus> statuses = StatusesOf(group_index).first(space.row_count);
  std::optional<Waiter*> waiters;
  {
    Overlay::Delivery delivery(context_.overlay);
    const bool may_cache = delivery.Merge(space, RowsOf(group_index).first(space.row_count), bytes,
                                          statuses, group.failed_rows);
    if (group.failed_rows > 0) context_.counters.spaces[fetch->space].failed.Add(1);
    if (fetch->made_kept_out) waiters = context_.fetches.FinishKeptOut(fetch);
    if (!waiters.has_value()) {
      if (group.failed_rows == 0 && may_cache && !space.single_rows()) {
        // Before Finish(): whoever comes later finds the group here or there.
        context_.cache.Insert(fetch->space, fetch->key, bytes);
      }
      waiters = context_.fetches.Finish(fetch);
    }
  }
  Waiter* waiter = *waiters;
  while (waiter != nullptr) {
    Waiter* const next = waiter->next;  // The batch may end with this delivery.
    waiter->batch->Deliver(*waiter, space, bytes, statuses);
    waiter = next;
  }
  group.fetch = nullptr;
  free_groups_.push_back(group_index);
}

}  // namespace tiercel
