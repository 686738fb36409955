#include "store/hot_column.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "base/errno_status.h"
#include "base/keep_prefetch.h"
#include "io/read_errors.h"

namespace tiercel {
namespace {

/// Between two rows that are read as one. A read more takes a disk of 200,000 reads/s
/// 5 us, in which it moves 7 to 15 KB more at 1.5 to 3 GB/s.
constexpr std::uint64_t kGapBytes = 12 << 10;

/// A row of 264 B takes some 50 ns to copy, and memory some 200 ns to answer.
constexpr std::size_t kPrefetchRows = 6;

constexpr std::uint32_t kIndexBits = 20;
static_assert(HotChunk::kGroupsMax == 1U << kIndexBits);

/// Set in an entry whose row lacks a part after the first. Rows are below 2^40.
constexpr std::uint64_t kIncomplete = std::uint64_t{1} << 63;

constexpr std::uint32_t IndexOf(std::uint64_t entry) noexcept {
  return static_cast<std::uint32_t>(entry & ((std::uint64_t{1} << kIndexBits) - 1));
}

}  // namespace

HotColumnReader::HotColumnReader(const HotSetContext& context, HotSetCounts& counts,
                                 const std::atomic<bool>& stop, HotChunk& chunk)
    : context_(context), counts_(counts), stop_(stop), chunk_(chunk) {}

Status HotColumnReader::Open(Device& device) {
  Result<std::unique_ptr<ReadQueue>> queue = device.NewQueue();
  if (!queue.ok()) return std::move(queue).TakeStatus();
  queue_ = std::move(queue).value();
  runs_.resize(queue_->depth() + std::size_t{1});  // One more: see OnRead().
  for (std::uint32_t i = 0; i < runs_.size(); ++i) free_runs_.push_back(i);
  retries_.reserve(runs_.size());
  return {};
}

/// Lists the chunk's rows in the column, in the order in which they lie there.
void HotColumnReader::Sort() {
  const Space& space = context_.layout.spaces[chunk_.space];
  const ServedLayer& layer = context_.layout.layers[layer_index_];
  order_.clear();
  order_.reserve(chunk_.groups.size());
  for (std::uint32_t i = 0; i < chunk_.groups.size(); ++i) {
    const RowId row = context_.hasher.RowOfMix(layer.recipe_index, space.order_index,
                                               chunk_.groups[i].key, head_);
    order_.push_back((Index(row) - first_row_) << kIndexBits | i);
  }
  std::sort(order_.begin(), order_.end());
}

/// Reads the first part of its rows, which is never held in DRAM. The others (scales) are copied
/// then if they are, while the row's place in the cache is at hand; of rows that lack one they
/// are read in sweeps of their own.
void HotColumnReader::Load(std::uint32_t head) {
  const Space& space = context_.layout.spaces[chunk_.space];
  layer_index_ = space.layer_index;
  head_ = head;
  first_row_ = context_.checkpoint.recipe.layers[context_.layout.layers[layer_index_].recipe_index]
                   .offsets[std::size_t{space.order_index} * context_.layout.head_count + head];
  const std::uint32_t part_count = context_.locator.PartCount(layer_index_);
  Sort();
  part_ = 0;
  pending_ = order_;
  LoadPart();
  std::erase_if(order_, [](std::uint64_t entry) { return (entry & kIncomplete) == 0; });
  for (std::uint64_t& entry : order_) entry &= ~kIncomplete;
  for (part_ = 1; part_ < part_count; ++part_) {
    pending_ = order_;
    LoadPart();
  }
}

RowId HotColumnReader::RowOf(std::uint64_t entry) const noexcept {
  return RowId{first_row_ + (entry >> kIndexBits)};
}

std::span<std::byte> HotColumnReader::RowBytes(std::uint64_t entry) const noexcept {
  const Space& space = context_.layout.spaces[chunk_.space];
  const std::uint32_t row_size_bytes = space.size_bytes / space.row_count;
  return context_.cache.HotSlotAt(chunk_.space, chunk_.groups[IndexOf(entry)].slot)
      .bytes.subspan(std::size_t{head_} * row_size_bytes, row_size_bytes);
}

/// Asks for the memory that rows from `first` of `entries` on are soon copied to: their slots
/// lie anywhere. Which slot it is, is in memory too: asked for earlier.
void HotColumnReader::PrefetchSlots(std::span<const std::uint64_t> entries,
                                    std::size_t first) const noexcept {
  TIERCEL_KEEP_PREFETCH(entries.data());
  if (first + 2 * kPrefetchRows < entries.size()) {
    __builtin_prefetch(&chunk_.groups[IndexOf(entries[first + 2 * kPrefetchRows])]);
  }
  if (first + kPrefetchRows >= entries.size()) return;
  const std::span<const std::byte> bytes = RowBytes(entries[first + kPrefetchRows]);
  for (std::size_t at = 0; at < bytes.size(); at += 64) __builtin_prefetch(&bytes[at], 1);
}

/// Copies the parts after the first that are in DRAM by now; marks the entry where one is not.
void HotColumnReader::CopyRest(std::uint64_t& entry) const noexcept {
  const RowId row = RowOf(entry);
  const std::span<std::byte> bytes = RowBytes(entry);
  for (std::uint32_t part = 1; part < context_.locator.PartCount(layer_index_); ++part) {
    if (!context_.locator.CopyResident(layer_index_, part, row, bytes)) entry |= kIncomplete;
  }
}

void HotColumnReader::LoadPart() {
  next_ = 0;
  do {
    Refill();
    if (queue_->in_flight() > 0) queue_->Run(*this, std::chrono::seconds(1));
  } while (!stop_.load(std::memory_order_relaxed) &&
           (next_ < pending_.size() || !retries_.empty() || queue_->in_flight() > 0));
  while (queue_->in_flight() > 0) queue_->Run(*this, std::chrono::seconds(1));
  for (const std::uint32_t run_index : retries_) free_runs_.push_back(run_index);  // Stopped.
  retries_.clear();
}

/// Submits as many reads as the queue takes.
void HotColumnReader::Refill() {
  if (stop_.load(std::memory_order_relaxed)) return;
  while (!retries_.empty() && queue_->in_flight() < queue_->depth()) {
    const std::uint32_t run_index = retries_.back();
    retries_.pop_back();
    Submit(run_index);
  }
  while (next_ < pending_.size() && !free_runs_.empty() && queue_->in_flight() < queue_->depth()) {
    const std::uint32_t run_index = free_runs_.back();
    free_runs_.pop_back();
    next_ = NextRun(next_, runs_[run_index]);
    Submit(run_index);
  }
}

/// Cuts the run that begins with row `first` of pending_; returns the row after it.
std::size_t HotColumnReader::NextRun(std::size_t first, Run& run) const {
  RowRead place = context_.locator.Locate(layer_index_, part_, RowOf(pending_[first]));
  run = {.first = first,
         .count = 1,
         .offset_bytes = place.offset_bytes,
         .size_bytes = place.size_bytes,
         .file_index = place.file_index};
  std::size_t next = first + 1;
  for (; next < pending_.size(); ++next, ++run.count) {
    place = context_.locator.Locate(layer_index_, part_, RowOf(pending_[next]));
    const std::uint64_t end_bytes = run.offset_bytes + run.size_bytes;
    if (place.file_index != run.file_index || place.offset_bytes < run.offset_bytes ||
        place.offset_bytes > end_bytes + kGapBytes ||
        place.offset_bytes + place.size_bytes - run.offset_bytes > kReadBytes) {
      break;
    }
    run.size_bytes = static_cast<std::uint32_t>(
        std::max(end_bytes, place.offset_bytes + place.size_bytes) - run.offset_bytes);
  }
  return next;
}

void HotColumnReader::Submit(std::uint32_t run_index) {
  Run& run = runs_[run_index];
  ++run.attempts;
  queue_->Submit({.file_index = run.file_index,
                  .size_bytes = run.size_bytes,
                  .offset_bytes = run.offset_bytes,
                  .tag = run_index});
}

void HotColumnReader::OnRead(const ReadCompletion& completion) noexcept {
  const auto run_index = static_cast<std::uint32_t>(completion.tag);
  const Run& run = runs_[run_index];
  if (completion.os_error != 0 &&
      DescribeReadError(completion.os_error).kind == ReadErrorKind::kPassing &&
      run.attempts < context_.read_attempts_max) {
    retries_.push_back(run_index);
    return;
  }
  // The disk has the next read before the rows of this one are copied: of 32 that come back
  // together, copying takes longer than reading.
  Refill();
  queue_->Flush();
  free_runs_.push_back(run_index);
  if (completion.os_error != 0) {
    Fail(run, completion.os_error);
    return;
  }
  const std::span<const std::uint64_t> entries = pending_.first(run.first + run.count);
  for (std::size_t i = run.first; i < run.first + run.count; ++i) {
    PrefetchSlots(entries, i);
    const RowRead place = context_.locator.Locate(layer_index_, part_, RowOf(pending_[i]));
    const std::span<const std::byte> read =
        completion.bytes.subspan(place.offset_bytes - run.offset_bytes, place.size_bytes);
    if (!context_.locator.Intact(layer_index_, part_, RowOf(pending_[i]), place, read)) {
      Fail({.first = i,
            .count = 1,
            .offset_bytes = place.offset_bytes,
            .size_bytes = place.size_bytes,
            .file_index = run.file_index,
            .attempts = run.attempts},
           EBADMSG);
      continue;
    }
    std::memcpy(RowBytes(pending_[i]).data() + place.row_offset_bytes,
                read.data() + place.skip_bytes, place.part_size_bytes);
    if (part_ == 0) CopyRest(pending_[i]);
  }
  counts_.read_bytes.fetch_add(completion.blocks.size(), std::memory_order_relaxed);
}

void HotColumnReader::Fail(const Run& run, int os_error) {
  for (std::size_t i = run.first; i < run.first + run.count; ++i) {
    chunk_.Fail(IndexOf(pending_[i]));
  }
  if (!failure_.ok()) return;
  failure_ = Status(
      StatusCode::kIoError,
      fmt::format("rows of saved keys cannot be read: {} B at {} of {}: {}: {} ({} "
                  "attempts); the groups of such rows were left out",
                  run.size_bytes, run.offset_bytes, context_.checkpoint.files[run.file_index].path,
                  ErrnoName(os_error), DescribeReadError(os_error).sentence, run.attempts),
      os_error);
}

}  // namespace tiercel
