#include "store/hot_rows.h"

#include <algorithm>
#include <cstring>
#include <future>
#include <string>
#include <thread>
#include <utility>

namespace tiercel {
namespace {

/// Reads in flight, of all readers. Thirty-two reads of 256 KiB keep a disk of 3 GB/s busy for
/// 2.8 ms, in which a core copies the rows of a few of them; sparse rows are read by as many
/// small reads.
constexpr std::uint32_t kDepth = 32;

constexpr std::uint32_t kReadersMax = 4;

}  // namespace

HotRows::HotRows(const HotSetContext& context, HotSetCounts& counts, const std::atomic<bool>& stop)
    : context_(context), counts_(counts), stop_(stop), reader_(context, counts, stop, chunk_) {}

Status HotRows::Open() {
  reader_count_ = std::min(
      {std::max(std::thread::hardware_concurrency(), 1U), kReadersMax, context_.layout.head_count});
  std::vector<std::string> paths;
  for (const TableFile& file : context_.checkpoint.files) paths.push_back(file.path);
  Result<OpenedDevice> opened = context_.open(
      paths, {.depth = kDepth / reader_count_, .read_size_bytes_max = HotColumnReader::kReadBytes});
  if (!opened.ok()) return std::move(opened).TakeStatus();
  device_ = std::move(opened).value();
  return reader_.Open(*device_.device);
}

void HotRows::Load(std::uint32_t space, HotSlot& chain) {
  chunk_.space = space;
  while (!chain.bytes.empty()) {
    try {
      TakeChunk(chain);
      LoadColumns();
    } catch (...) {  // No memory: the slots go back, whatever is in them.
      for (HotChunk::Group& group : chunk_.groups) group.failed = true;
      Publish();
      throw;
    }
    Publish();
  }
}

/// Takes the notes of at most HotChunk::kGroupsMax groups off the chain.
void HotRows::TakeChunk(HotSlot& chain) {
  chunk_.groups.clear();
  while (!chain.bytes.empty() && chunk_.groups.size() < HotChunk::kGroupsMax) {
    HotKeyNote note;
    std::memcpy(&note, chain.bytes.data(), sizeof(note));
    chunk_.groups.push_back({.key = note.key,
                             .slot = chain.slot,
                             .uses = note.uses,
                             .pin = note.pin != 0,
                             .failed = false});
    chain = note.next_slot == HotSlot{}.slot
                ? HotSlot{}
                : context_.cache.HotSlotAt(chunk_.space, note.next_slot);
  }
}

/// Each reader takes the next column that none has taken. The others have their queues for one
/// chunk: a queue belongs to one thread.
void HotRows::LoadColumns() {
  const std::uint32_t head_count = context_.layout.head_count;
  std::atomic<std::uint32_t> next_head{0};
  const auto load = [&](HotColumnReader& reader) {
    try {
      while (!stop_.load(std::memory_order_relaxed)) {
        const std::uint32_t head = next_head.fetch_add(1, std::memory_order_relaxed);
        if (head >= head_count) return;
        reader.Load(head);
      }
    } catch (...) {  // The chunk is lost: the others need not go on.
      next_head.store(head_count, std::memory_order_relaxed);
      throw;
    }
  };
  const auto help = [&]() -> Status {
    if (next_head.load(std::memory_order_relaxed) >= head_count) return {};
    HotColumnReader reader(context_, counts_, stop_, chunk_);
    if (!reader.Open(*device_.device).ok()) return {};  // One fewer.
    load(reader);
    return reader.TakeFailure();
  };
  std::vector<std::future<Status>> helpers;  // Waits for them, however this ends.
  helpers.reserve(reader_count_);
  while (helpers.size() + 1 < reader_count_) {
    // Deferred, so when all is done, where no thread can be had.
    helpers.push_back(std::async(std::launch::async | std::launch::deferred, help));
  }
  load(reader_);
  Keep(reader_.TakeFailure());
  for (std::future<Status>& helper : helpers) Keep(helper.get());
}

void HotRows::Keep(Status failure) {
  if (failure_.ok()) failure_ = std::move(failure);
}

/// Makes the chunk's groups resident; gives back the slots of those that are not whole.
void HotRows::Publish() {
  const bool stopped = stop_.load(std::memory_order_relaxed);
  for (const HotChunk::Group& group : chunk_.groups) {
    const HotSlot slot = context_.cache.HotSlotAt(chunk_.space, group.slot);
    HotOutcome outcome = HotOutcome::kNoRoom;
    Overlay::Delivery delivery(context_.overlay);
    if (stopped || group.failed || !delivery.MergeGroup(chunk_.space, group.key, slot.bytes)) {
      context_.cache.AbandonHot(slot, chunk_.space);
    } else {
      outcome = context_.cache.FinishHot(
          slot, {.key = group.key, .space = chunk_.space, .uses = group.uses}, group.pin);
    }
    std::atomic<std::uint64_t>& count = outcome == HotOutcome::kLoaded    ? counts_.loaded
                                        : outcome == HotOutcome::kPresent ? counts_.present
                                                                          : counts_.left_out;
    count.fetch_add(1, std::memory_order_relaxed);
  }
  chunk_.groups.clear();
}

}  // namespace tiercel
