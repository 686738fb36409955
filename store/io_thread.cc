#include "store/io_thread.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/check.h"
#include "base/errno_status.h"
#include "store/batch.h"

namespace tiercel {
namespace {

/// How long an idle thread sleeps when nobody wakes it: for ever, as good as.
constexpr std::chrono::nanoseconds kIdleWait = std::chrono::hours(1);

/// Whether another try may help. ENODATA (the file ends too early) and EINVAL or
/// EBADF (our mistake) stay as they are.
bool Retryable(int os_error) noexcept {
  return os_error == EIO || os_error == EAGAIN || os_error == ENOMEM || os_error == EINTR ||
         os_error == ETIMEDOUT || os_error == EREMOTEIO || os_error == ENOBUFS;
}

}  // namespace

IoThread::IoThread(const IoContext& context, std::unique_ptr<ReadQueue> queue)
    : context_(context),
      queue_(std::move(queue)),
      groups_(queue_->depth() + 1),
      reads_(queue_->depth()),
      bytes_(groups_.size() * context.layout.space_size_bytes_max),
      rows_(groups_.size() * context.layout.head_count),
      statuses_(groups_.size() * context.layout.head_count) {
  retries_.reserve(reads_.size());
  free_groups_.reserve(groups_.size());
  for (std::uint32_t i = 0; i < groups_.size(); ++i) free_groups_.push_back(i);
  free_reads_.reserve(reads_.size());
  for (std::uint32_t i = 0; i < reads_.size(); ++i) free_reads_.push_back(i);
  thread_ = std::thread([this] { Loop(); });
}

IoThread::~IoThread() {
  stop_.store(true, std::memory_order_relaxed);
  queue_->Wake();
  thread_.join();
}

std::uint64_t IoThread::MemoryBytes(const Layout& layout, std::uint32_t queue_depth) noexcept {
  const std::uint64_t group_bytes = layout.space_size_bytes_max +
                                    layout.head_count * (sizeof(RowId) + sizeof(RowStatus)) +
                                    sizeof(Group) + sizeof(std::uint32_t);
  return (std::uint64_t{queue_depth} + 1) * group_bytes +
         std::uint64_t{queue_depth} * (sizeof(Read) + 2 * sizeof(std::uint32_t));
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
  while (!stop_.load(std::memory_order_relaxed)) {
    Refill();
    queue_->Run(*this, kIdleWait);
  }
  // A ring with a single issuer can only be drained by it: not by the destructor.
  while (queue_->in_flight() > 0) queue_->Run(*this, kIdleWait);
}

/// Submits until the queue is full or there is nothing to read.
void IoThread::Refill() noexcept {
  while (!retries_.empty() && queue_->in_flight() < queue_->depth()) {
    const std::uint32_t read_index = retries_.back();
    retries_.pop_back();
    SubmitRead(read_index);
  }
  while (queue_->in_flight() < queue_->depth() && !free_reads_.empty()) {
    if (current_group_ == kNone && !BeginGroup()) return;
    const std::uint32_t group_index = current_group_;
    SubmitReads(group_index);
    if (!AllSubmitted(groups_[group_index])) return;  // The queue is full.
    current_group_ = kNone;
    FinishIfDone(group_index);  // Every part may have been in DRAM.
  }
}

bool IoThread::BeginGroup() noexcept {
  Fetch* const fetch = context_.fetches.Take();
  if (fetch == nullptr) return false;
  TIERCEL_CHECK(!free_groups_.empty());
  const std::uint32_t group_index = free_groups_.back();
  free_groups_.pop_back();
  groups_[group_index] = Group{.fetch = fetch};
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
    if (free_reads_.empty() || queue_->in_flight() >= queue_->depth()) return;
    const RowId row = rows[group.next_row];
    const std::uint32_t part = group.next_part;
    const std::span<std::byte> row_bytes =
        BytesOf(group_index).subspan(std::size_t{group.next_row} * row_size_bytes, row_size_bytes);
    if (!context_.locator.CopyResident(space.layer_index, part, row, row_bytes)) {
      const RowRead place = context_.locator.Locate(space.layer_index, part, row);
      const std::uint32_t read_index = free_reads_.back();
      free_reads_.pop_back();
      reads_[read_index] = Read{.request = {.file_index = place.file_index,
                                            .size_bytes = place.size_bytes,
                                            .offset_bytes = place.offset_bytes,
                                            .tag = read_index},
                                .group = group_index,
                                .row = group.next_row,
                                .row_offset_bytes = place.row_offset_bytes};
      ++group.reads_pending;
      SubmitRead(read_index);
    }
    if (++group.next_part == part_count) {
      group.next_part = 0;
      ++group.next_row;
    }
  }
}

void IoThread::SubmitRead(std::uint32_t read_index) noexcept {
  Read& read = reads_[read_index];
  ++read.attempts;
  context_.counters.device_reads.Add(1);
  context_.counters.device_read_bytes.Add(context_.device.Blocks(read.request).size_bytes);
  queue_->Submit(read.request);
}

void IoThread::OnRead(const ReadCompletion& completion) noexcept {
  const auto read_index = static_cast<std::uint32_t>(completion.tag);
  Read& read = reads_[read_index];
  const std::uint32_t group_index = read.group;
  if (completion.os_error == 0) {
    const Space& space = context_.layout.spaces[groups_[group_index].fetch->space];
    const std::size_t row_size_bytes = space.size_bytes / space.row_count;
    TIERCEL_CHECK(completion.bytes.size() == read.request.size_bytes);
    std::memcpy(BytesOf(group_index).data() + read.row * row_size_bytes + read.row_offset_bytes,
                completion.bytes.data(), completion.bytes.size());
  } else if (Retryable(completion.os_error) && read.attempts < context_.read_attempts_max) {
    context_.counters.device_read_retries.Add(1);
    retries_.push_back(read_index);
    return;
  } else {
    FailRow(group_index, read.row, read, completion.os_error);
  }
  free_reads_.push_back(read_index);
  --groups_[group_index].reads_pending;
  FinishIfDone(group_index);
}

void IoThread::FailRow(std::uint32_t group_index, std::uint32_t row, const Read& read,
                       int os_error) noexcept {
  context_.counters.device_read_failures.Add(1);
  const std::span<RowStatus> statuses = StatusesOf(group_index);
  if (statuses[row] == RowStatus::kOk) ++groups_[group_index].failed_rows;
  statuses[row] = os_error == ENODATA ? RowStatus::kCorruption : RowStatus::kIoError;
  if (failure_logged_) return;
  failure_logged_ = true;  // One line, not one a row: a dead disk has many.
  const std::string cause = os_error == ENODATA ? "the file ends before it (truncated?)"
                                                : ErrnoName(os_error) + " from the device";
  context_.log(fmt::format(
      "row {} cannot be read: {} B at {} of {}: {}, {} attempts; "
      "later failures are only counted",
      Index(RowsOf(group_index)[row]), read.request.size_bytes, read.request.offset_bytes,
      context_.files[read.request.file_index].path, cause, read.attempts));
}

void IoThread::FinishIfDone(std::uint32_t group_index) noexcept {
  Group& group = groups_[group_index];
  if (group.reads_pending > 0 || !AllSubmitted(group)) return;
  Fetch* const fetch = group.fetch;
  const Space& space = context_.layout.spaces[fetch->space];
  const std::span<std::byte> bytes = BytesOf(group_index);
  const std::span<const RowStatus> statuses = StatusesOf(group_index).first(space.row_count);
  if (group.failed_rows > 0) {
    context_.counters.spaces[fetch->space].failed.Add(1);
  } else if (!space.single_rows()) {
    // Before Finish(): whoever comes later finds the group here or there.
    context_.cache.Insert(fetch->space, fetch->key, bytes);
  }
  Waiter* waiter = context_.fetches.Finish(fetch);
  while (waiter != nullptr) {
    Waiter* const next = waiter->next;  // The batch may end with this delivery.
    waiter->batch->Deliver(*waiter, space, bytes, statuses);
    waiter = next;
  }
  group.fetch = nullptr;
  free_groups_.push_back(group_index);
}

}  // namespace tiercel
