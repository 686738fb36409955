#include "store/hot_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <future>
#include <utility>

#include "base/errno_status.h"
#include "io/read_errors.h"

namespace tiercel {
namespace {

/// Thirty-two reads of 256 KiB keep a disk of 3 GB/s busy for 2.8 ms, in which one thread
/// copies the rows of a few of them; sparse rows are read by as many small reads.
constexpr std::uint32_t kDepth = 32;
constexpr std::uint32_t kReadBytes = 256 << 10;
/// Between two rows that are read as one. A read more takes a disk of 200,000 reads/s
/// 5 us, in which it moves 7 to 15 KB more at 1.5 to 3 GB/s.
constexpr std::uint64_t kGapBytes = 12 << 10;

/// A row of 264 B takes some 50 ns to copy, and memory some 200 ns to answer.
constexpr std::size_t kPrefetchRows = 6;

constexpr std::uint32_t kIndexBits = 20;
static_assert(HotRows::kGroupsAtOnce == 1U << kIndexBits);

constexpr std::uint32_t IndexOf(std::uint64_t entry) noexcept {
  return static_cast<std::uint32_t>(entry & ((std::uint64_t{1} << kIndexBits) - 1));
}

}  // namespace

HotRows::HotRows(const HotSetContext& context, HotSetCounts& counts, const std::atomic<bool>& stop)
    : context_(context), counts_(counts), stop_(stop) {}

HotRows::~HotRows() = default;

Status HotRows::Open() {
  std::vector<std::string> paths;
  for (const TableFile& file : context_.checkpoint.files) paths.push_back(file.path);
  Result<OpenedDevice> opened =
      context_.open(paths, {.depth = kDepth, .read_size_bytes_max = kReadBytes});
  if (!opened.ok()) return std::move(opened).TakeStatus();
  device_ = std::move(opened).value();
  Result<std::unique_ptr<ReadQueue>> queue = device_.device->NewQueue();
  if (!queue.ok()) return std::move(queue).TakeStatus();
  queue_ = std::move(queue).value();
  runs_.resize(queue_->depth() + std::size_t{1});  // One more: see OnRead().
  for (std::uint32_t i = 0; i < runs_.size(); ++i) free_runs_.push_back(i);
  retries_.reserve(runs_.size());
  return {};
}

void HotRows::Load(std::uint32_t space, HotSlot& chain) {
  space_ = space;
  while (!chain.bytes.empty()) {
    try {
      TakeChunk(chain);
      LoadColumns();
    } catch (...) {  // No memory: the slots go back, whatever is in them.
      for (Group& group : groups_) group.failed = true;
      Publish();
      throw;
    }
    Publish();
  }
}

/// Takes the notes of at most kGroupsAtOnce groups off the chain.
void HotRows::TakeChunk(HotSlot& chain) {
  groups_.clear();
  while (!chain.bytes.empty() && groups_.size() < kGroupsAtOnce) {
    HotKeyNote note;
    std::memcpy(&note, chain.bytes.data(), sizeof(note));
    groups_.push_back({.key = note.key,
                       .slot = chain.slot,
                       .uses = note.uses,
                       .pin = note.pin != 0,
                       .failed = false});
    chain = note.next_slot == HotSlot{}.slot ? HotSlot{}
                                             : context_.cache.HotSlotAt(space_, note.next_slot);
  }
}

std::uint64_t HotRows::FirstRowOf(std::uint32_t head) const noexcept {
  const Space& space = context_.layout.spaces[space_];
  const ServedLayer& layer = context_.layout.layers[space.layer_index];
  return context_.checkpoint.recipe.layers[layer.recipe_index]
      .offsets[std::size_t{space.order_index} * context_.layout.head_count + head];
}

/// The chunk's rows in a column, in the order in which they lie there.
void HotRows::SortColumn(std::uint32_t head, std::vector<std::uint64_t>& order) const {
  const Space& space = context_.layout.spaces[space_];
  const ServedLayer& layer = context_.layout.layers[space.layer_index];
  const std::uint64_t first_row = FirstRowOf(head);
  std::vector<RowId> rows(context_.layout.head_count);
  order.clear();
  for (std::uint32_t i = 0; i < groups_.size(); ++i) {
    context_.hasher.RowsOfMix(layer.recipe_index, space.order_index, groups_[i].key, rows);
    order.push_back((Index(rows[head]) - first_row) << kIndexBits | i);
  }
  std::sort(order.begin(), order.end());
}

/// Loads column after column. While the disk reads one, another thread sorts the next.
void HotRows::LoadColumns() {
  const std::uint32_t head_count = context_.layout.head_count;
  const auto stopped = [this] { return stop_.load(std::memory_order_relaxed); };
  SortColumn(0, order_);
  for (std::uint32_t head = 0; head < head_count && !stopped(); ++head) {
    std::future<void> next;
    if (head + 1 < head_count) {
      // Deferred, so by this thread when it asks for it, where no thread can be had.
      next = std::async(std::launch::async | std::launch::deferred,
                        [this, head] { SortColumn(head + 1, next_order_); });
    }
    LoadColumn(head);
    if (!next.valid()) continue;
    next.get();
    order_.swap(next_order_);
  }
}

void HotRows::LoadColumn(std::uint32_t head) {
  head_ = head;
  first_row_ = FirstRowOf(head);
  const std::uint32_t layer_index = context_.layout.spaces[space_].layer_index;
  for (part_ = 0; part_ < context_.locator.PartCount(layer_index); ++part_) {
    CopyResident();
    LoadPart();
  }
}

RowId HotRows::RowOf(std::uint64_t entry) const noexcept {
  return RowId{first_row_ + (entry >> kIndexBits)};
}

std::span<std::byte> HotRows::RowBytes(std::uint64_t entry) const noexcept {
  const Space& space = context_.layout.spaces[space_];
  const std::uint32_t row_size_bytes = space.size_bytes / space.row_count;
  return context_.cache.HotSlotAt(space_, groups_[IndexOf(entry)].slot)
      .bytes.subspan(std::size_t{head_} * row_size_bytes, row_size_bytes);
}

/// Asks for the memory that rows from `first` of `entries` on are soon copied to: their slots
/// lie anywhere. Which slot it is, is in memory too: asked for earlier.
void HotRows::PrefetchSlots(std::span<const std::uint64_t> entries,
                            std::size_t first) const noexcept {
  if (first + 2 * kPrefetchRows < entries.size()) {
    __builtin_prefetch(&groups_[IndexOf(entries[first + 2 * kPrefetchRows])]);
  }
  if (first + kPrefetchRows >= entries.size()) return;
  const std::span<const std::byte> bytes = RowBytes(entries[first + kPrefetchRows]);
  for (std::size_t at = 0; at < bytes.size(); at += 64) __builtin_prefetch(&bytes[at], 1);
}

/// Copies what is in DRAM of this part already; the rest is pending.
void HotRows::CopyResident() {
  const std::uint32_t layer_index = context_.layout.spaces[space_].layer_index;
  pending_.clear();
  for (std::size_t i = 0; i < order_.size(); ++i) {
    const std::uint64_t entry = order_[i];
    PrefetchSlots(order_, i);
    if (!context_.locator.CopyResident(layer_index, part_, RowOf(entry), RowBytes(entry))) {
      pending_.push_back(entry);
    }
  }
}

void HotRows::LoadPart() {
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
void HotRows::Refill() {
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
std::size_t HotRows::NextRun(std::size_t first, Run& run) const {
  const std::uint32_t layer_index = context_.layout.spaces[space_].layer_index;
  RowRead place = context_.locator.Locate(layer_index, part_, RowOf(pending_[first]));
  run = {.first = first,
         .count = 1,
         .offset_bytes = place.offset_bytes,
         .size_bytes = place.size_bytes,
         .file_index = place.file_index};
  std::size_t next = first + 1;
  for (; next < pending_.size(); ++next, ++run.count) {
    place = context_.locator.Locate(layer_index, part_, RowOf(pending_[next]));
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

void HotRows::Submit(std::uint32_t run_index) {
  Run& run = runs_[run_index];
  ++run.attempts;
  queue_->Submit({.file_index = run.file_index,
                  .size_bytes = run.size_bytes,
                  .offset_bytes = run.offset_bytes,
                  .tag = run_index});
}

void HotRows::OnRead(const ReadCompletion& completion) noexcept {
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
  const std::uint32_t layer_index = context_.layout.spaces[space_].layer_index;
  const std::span<const std::uint64_t> entries =
      std::span<const std::uint64_t>(pending_).first(run.first + run.count);
  for (std::size_t i = run.first; i < run.first + run.count; ++i) {
    PrefetchSlots(entries, i);
    const RowRead place = context_.locator.Locate(layer_index, part_, RowOf(pending_[i]));
    const std::span<const std::byte> read =
        completion.bytes.subspan(place.offset_bytes - run.offset_bytes, place.size_bytes);
    if (!context_.locator.Intact(layer_index, part_, RowOf(pending_[i]), place, read)) {
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
  }
  counts_.read_bytes.fetch_add(completion.blocks.size(), std::memory_order_relaxed);
}

void HotRows::Fail(const Run& run, int os_error) {
  for (std::size_t i = run.first; i < run.first + run.count; ++i) {
    groups_[IndexOf(pending_[i])].failed = true;
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

/// Makes the chunk's groups resident; gives back the slots of those that are not whole.
void HotRows::Publish() {
  const bool stopped = stop_.load(std::memory_order_relaxed);
  for (const Group& group : groups_) {
    const HotSlot slot = context_.cache.HotSlotAt(space_, group.slot);
    HotOutcome outcome = HotOutcome::kNoRoom;
    Overlay::Delivery delivery(context_.overlay);
    if (stopped || group.failed || !delivery.MergeGroup(space_, group.key, slot.bytes)) {
      context_.cache.AbandonHot(slot, space_);
    } else {
      outcome = context_.cache.FinishHot(
          slot, {.key = group.key, .space = space_, .uses = group.uses}, group.pin);
    }
    std::atomic<std::uint64_t>& count = outcome == HotOutcome::kLoaded    ? counts_.loaded
                                        : outcome == HotOutcome::kPresent ? counts_.present
                                                                          : counts_.left_out;
    count.fetch_add(1, std::memory_order_relaxed);
  }
  groups_.clear();
}

}  // namespace tiercel
