#include "tests/support/fake_hbm_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "tiercel/row_format.h"

namespace tiercel::testing {
namespace {

constexpr std::uint64_t kLineBytes = 128;

std::atomic_ref<std::uint32_t> Word(std::uint32_t* word) noexcept {
  return std::atomic_ref<std::uint32_t>(*word);
}

}  // namespace

struct FakeHbmDevice::Event {
  std::uint64_t recorded = 0;  ///< RecordEvent() calls.
  std::uint64_t ended = 0;     ///< The last one that has run.
  std::weak_ptr<Graph> graph;  ///< The last one was captured into.
};

struct FakeHbmDevice::Work {
  enum class Kind : std::uint8_t { kWaitFlag, kGather, kCopy, kApply, kRecordEvent, kWaitEvent };
  Kind kind = Kind::kWaitFlag;
  std::uint64_t order = 0;  ///< Of enqueueing, over all streams.
  std::uint32_t* flag = nullptr;
  GatherArguments gather{};
  std::vector<HbmCopy> copies;
  std::uint64_t size_bytes = 0;
  const DeviceChange* changes = nullptr;
  std::uint32_t change_count = 0;
  Event* event = nullptr;
  std::uint64_t generation = 0;
  Stream* stream = nullptr;  ///< Of a graph's: where it was captured.
  // Of a gather that is under way.
  bool begun = false;
  BatchHeader header{};
  std::vector<std::uint64_t> left;  ///< Groups that are not gathered yet.
};

struct FakeHbmDevice::Graph {
  Stream* root = nullptr;
  std::vector<Work> work;
  std::vector<Stream*> streams;  ///< That are being captured.
};

struct FakeHbmDevice::Stream {
  std::deque<Work> queue;
  bool busy = false;  ///< A thread runs its head.
  std::shared_ptr<Graph> capture;
};

FakeHbmDevice::FakeHbmDevice(std::uint64_t seed, std::uint32_t thread_count) : prng_(seed) {
  for (std::uint32_t i = 0; i < thread_count; ++i) {
    threads_.emplace_back([this] { RunThread(); });
  }
}

FakeHbmDevice::~FakeHbmDevice() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
  TIERCEL_CHECK(allocations_.empty());  // All was given back.
}

// ---- running --------------------------------------------------------------------

/// A stream whose head can run, any of them.
FakeHbmDevice::Stream* FakeHbmDevice::PickStream() {
  std::vector<Stream*> ready;
  std::uint64_t oldest = ~std::uint64_t{0};
  for (const auto& stream : streams_) {
    if (stream->busy || stream->queue.empty()) continue;
    const Work& head = stream->queue.front();
    oldest = std::min(oldest, head.order);
    if (head.kind == Work::Kind::kWaitFlag &&
        Word(head.flag).load(std::memory_order_acquire) == 0) {
      continue;
    }
    if (head.kind == Work::Kind::kGather && head.gather.flag != nullptr &&
        Word(const_cast<std::uint32_t*>(head.gather.flag)).load(std::memory_order_acquire) == 0) {
      continue;
    }
    if (head.kind == Work::Kind::kWaitEvent && head.event->ended < head.generation) continue;
    ready.push_back(stream.get());
  }
  if (ready.empty()) return nullptr;
  Stream* const picked = ready[prng_.Below(ready.size())];
  if (picked->queue.front().order > oldest) ++overtaken_;
  return picked;
}

bool FakeHbmDevice::RunOne() {
  Stream* stream = nullptr;
  Work* work = nullptr;
  std::uint64_t random = 0;
  {
    MutexLock lock(mutex_);
    stream = PickStream();
    if (stream == nullptr) return false;
    stream->busy = true;
    work = &stream->queue.front();  // Stays where it is while others are added.
    random = prng_();
  }
  const bool ended = RunPiece(*work, random);
  {
    MutexLock lock(mutex_);
    if (ended) {
      if (work->kind == Work::Kind::kRecordEvent) work->event->ended = work->generation;
      stream->queue.pop_front();
    }
    stream->busy = false;
  }
  changed_.NotifyAll();
  return true;
}

std::uint64_t FakeHbmDevice::Run(std::uint64_t steps) {
  std::uint64_t done = 0;
  while (done < steps && RunOne()) ++done;
  return done;
}

void FakeHbmDevice::RunThread() {
  while (true) {
    {
      MutexLock lock(mutex_);
      if (stopping_) return;
    }
    if (RunOne()) continue;
    MutexLock lock(mutex_);
    if (stopping_) return;
    // Flags change without a word: look again soon.
    (void)changed_.WaitUntil(mutex_,
                             std::chrono::steady_clock::now() + std::chrono::microseconds(200));
  }
}

/// Returns whether the work has ended.
bool FakeHbmDevice::RunPiece(Work& work, std::uint64_t random) {
  Prng prng(random);
  if (work.kind == Work::Kind::kCopy) {
    std::shuffle(work.copies.begin(), work.copies.end(), prng);
    for (const HbmCopy& copy : work.copies) {
      CheckInside(copy.source, work.size_bytes);
      CheckInside(copy.target, work.size_bytes);
      std::memcpy(copy.target, copy.source, work.size_bytes);
    }
    return true;
  }
  if (work.kind == Work::Kind::kApply) {
    MutexLock lock(mutex_);
    for (std::uint32_t added = 0; added < 2; ++added) {
      for (std::uint32_t i = 0; i < work.change_count; ++i) {
        const DeviceChange& change = work.changes[i];
        if (change.added != added) continue;
        const std::pair<std::uint32_t, std::uint64_t> group{change.space, change.key};
        if (added == 0) mirror_.erase(group);
        if (added == 1) TIERCEL_CHECK(mirror_.emplace(group, change.slot).second);
      }
    }
    return true;
  }
  if (work.kind != Work::Kind::kGather) return true;
  const GatherArguments& arguments = work.gather;
  if (!work.begun) {
    work.begun = true;
    work.header = arguments.FirstHeader();
    TIERCEL_CHECK(work.header.token_count <= arguments.token_capacity);
    work.left.resize(std::uint64_t{work.header.token_count} * arguments.order_count);
    std::iota(work.left.begin(), work.left.end(), 0);
    std::shuffle(work.left.begin(), work.left.end(), prng);
  }
  std::uint64_t count = std::min<std::uint64_t>(work.left.size(), 1 + prng.Below(64));
  for (; count > 0; --count) {
    GatherGroup(work, work.left.back());
    work.left.pop_back();
  }
  if (!work.left.empty()) return false;
  Word(arguments.done).store(work.header.sequence, std::memory_order_release);
  return true;
}

void FakeHbmDevice::GatherGroup(const Work& work, std::uint64_t index) {
  const GatherArguments& arguments = work.gather;
  const std::uint32_t row_size = arguments.shape.row_size_bytes();
  const std::uint32_t value_count = arguments.shape.value_count;
  const std::uint64_t group_size = std::uint64_t{row_size} * arguments.rows_per_group;
  const GroupSource place = arguments.groups[index];
  std::vector<std::byte> group(group_size);  // Of zeros.
  if (place.source != GroupSource::kNone) {
    const bool staged = (place.source & GroupSource::kStaged) != 0;
    const std::byte* const source =
        staged ? arguments.staging + work.header.staging_offset_bytes +
                     (place.source & ~GroupSource::kStaged) * group_size
               : arguments.slots + std::uint64_t{place.source} * arguments.slot_size_bytes;
    CheckInside(source, group_size);
    std::memcpy(group.data(), source, group_size);
  }
  if (place.fill_slot != GroupSource::kNone) {
    std::byte* const slot =
        arguments.slots + std::uint64_t{place.fill_slot} * arguments.slot_size_bytes;
    CheckInside(slot, group_size);
    std::memcpy(slot, group.data(), group_size);
  }
  for (std::uint32_t i = 0; i < arguments.rows_per_group; ++i) {
    const std::span<const std::byte> row = std::span(group).subspan(i * row_size, row_size);
    const std::uint64_t row_index = index * arguments.rows_per_group + i;
    switch (arguments.format) {
      case HbmFormat::kStored:
        std::memcpy(work.header.rows + row_index * row_size, row.data(), row_size);
        break;
      case HbmFormat::kRowsAndScales:
        std::memcpy(work.header.rows + row_index * value_count, row.data(), value_count);
        std::memcpy(work.header.scales + row_index * (value_count / 32), row.data() + value_count,
                    value_count / 32);
        break;
      case HbmFormat::kBf16:
        DequantizeToBf16(
            arguments.shape, row,
            {reinterpret_cast<std::uint16_t*>(work.header.rows) + row_index * value_count,
             value_count});
        break;
    }
  }
}

// ---- the test's side --------------------------------------------------------------

void FakeHbmDevice::FailNth(FakeCall call, std::uint64_t nth) {
  MutexLock lock(mutex_);
  fail_in_[static_cast<std::size_t>(call)] = nth + 1;
}

Status FakeHbmDevice::CheckCall(FakeCall call) {
  const auto index = static_cast<std::size_t>(call);
  ++calls_[index];
  if (fail_in_[index] > 0 && --fail_in_[index] == 0) {
    return Status(StatusCode::kIoError, fmt::format("call {} was told to fail", index));
  }
  return {};
}

const std::byte* FakeHbmDevice::SlotBytes(std::uint32_t slot) {
  MutexLock lock(mutex_);
  TIERCEL_CHECK(slots_ != nullptr);
  return slots_ + std::uint64_t{slot} * slot_size_bytes_;
}

std::size_t FakeHbmDevice::allocation_count() {
  MutexLock lock(mutex_);
  return allocations_.size();
}

std::size_t FakeHbmDevice::pending_count() {
  MutexLock lock(mutex_);
  std::size_t count = 0;
  for (const auto& stream : streams_) count += stream->queue.size();
  return count;
}

void FakeHbmDevice::BeginCapture(HbmStream stream) {
  MutexLock lock(mutex_);
  auto graph = std::make_shared<Graph>();
  graph->root = static_cast<Stream*>(stream.handle);
  graph->streams.push_back(graph->root);
  graph->root->capture = std::move(graph);
}

std::shared_ptr<FakeHbmDevice::Graph> FakeHbmDevice::EndCapture(HbmStream stream) {
  MutexLock lock(mutex_);
  std::shared_ptr<Graph> graph = static_cast<Stream*>(stream.handle)->capture;
  // As in CUDA, what was forked must have been joined: its last word is an event that the root
  // waits for, itself or by way of others.
  for (Stream* const member : graph->streams) {
    const auto last = std::find_if(graph->work.rbegin(), graph->work.rend(),
                                   [&](const Work& work) { return work.stream == member; });
    TIERCEL_CHECK(member == graph->root || last->kind == Work::Kind::kRecordEvent);
    member->capture = nullptr;
  }
  graph->streams.clear();
  return graph;
}

void FakeHbmDevice::Launch(const std::shared_ptr<Graph>& graph, HbmStream stream) {
  MutexLock lock(mutex_);
  for (const Work& work : graph->work) {
    Enqueue(work.stream == graph->root ? stream : HbmStream{work.stream}, work);
  }
}

void FakeHbmDevice::Enqueue(HbmStream stream, Work work) {
  auto& target = *static_cast<Stream*>(stream.handle);
  if (target.capture == nullptr && work.kind == Work::Kind::kWaitEvent) {
    // Who waits for an event of a capture is captured too.
    const std::shared_ptr<Graph> graph = work.event->graph.lock();
    if (graph != nullptr && !graph->streams.empty()) {
      target.capture = graph;
      graph->streams.push_back(&target);
    }
  }
  if (target.capture != nullptr) {
    work.stream = &target;
    if (work.kind == Work::Kind::kRecordEvent) work.event->graph = target.capture;
    target.capture->work.push_back(std::move(work));
    return;
  }
  if (work.kind == Work::Kind::kRecordEvent) work.generation = ++work.event->recorded;
  if (work.kind == Work::Kind::kWaitEvent) work.generation = work.event->recorded;
  work.order = ++order_;
  target.queue.push_back(std::move(work));
  changed_.NotifyAll();
}

// ---- HbmDevice ----------------------------------------------------------------------

std::byte* FakeHbmDevice::Allocate(std::uint64_t size_bytes) {
  std::vector<std::byte> memory(size_bytes + kLineBytes);
  std::byte* const aligned =
      memory.data() +
      (kLineBytes - reinterpret_cast<std::uintptr_t>(memory.data()) % kLineBytes) % kLineBytes;
  allocations_.emplace(aligned, std::move(memory));
  return aligned;
}

void FakeHbmDevice::Free(std::byte* memory) noexcept {
  MutexLock lock(mutex_);
  TIERCEL_CHECK(allocations_.erase(memory) == 1);
}

void FakeHbmDevice::CheckInside(const std::byte* memory, std::uint64_t size_bytes) {
  MutexLock lock(mutex_);
  auto found = allocations_.upper_bound(const_cast<std::byte*>(memory));
  TIERCEL_CHECK(found != allocations_.begin());
  --found;
  const std::byte* const end = found->second.data() + found->second.size();
  TIERCEL_CHECK(memory + size_bytes <= end);
}

Result<std::byte*> FakeHbmDevice::AllocateDevice(std::uint64_t size_bytes) {
  MutexLock lock(mutex_);
  if (Status status = CheckCall(FakeCall::kAllocateDevice); !status.ok()) return status;
  return Allocate(size_bytes);
}

void FakeHbmDevice::FreeDevice(std::byte* memory) noexcept {
  Free(memory);
}

Result<MappedMemory> FakeHbmDevice::AllocateMapped(std::uint64_t size_bytes) {
  MutexLock lock(mutex_);
  if (Status status = CheckCall(FakeCall::kAllocateMapped); !status.ok()) return status;
  std::byte* const memory = Allocate(size_bytes);
  return MappedMemory{.host = memory, .device = memory, .size_bytes = size_bytes};
}

void FakeHbmDevice::FreeMapped(const MappedMemory& memory) noexcept {
  Free(memory.host);
}

Result<HbmStream> FakeHbmDevice::CreateStream() {
  MutexLock lock(mutex_);
  if (Status status = CheckCall(FakeCall::kCreateStream); !status.ok()) return status;
  streams_.push_back(std::make_unique<Stream>());
  return HbmStream{streams_.back().get()};
}

void FakeHbmDevice::DestroyStream(HbmStream stream) noexcept {
  MutexLock lock(mutex_);
  TIERCEL_CHECK(static_cast<Stream*>(stream.handle)->queue.empty());
}

Result<HbmEvent> FakeHbmDevice::CreateEvent() {
  MutexLock lock(mutex_);
  if (Status status = CheckCall(FakeCall::kCreateEvent); !status.ok()) return status;
  events_.push_back(std::make_unique<Event>());
  return HbmEvent{events_.back().get()};
}

void FakeHbmDevice::DestroyEvent(HbmEvent) noexcept {}

Status FakeHbmDevice::WaitFlag(Mapped<std::uint32_t> flag, HbmStream stream) {
  MutexLock lock(mutex_);
  if (Status status = CheckCall(FakeCall::kWaitFlag); !status.ok()) return status;
  Enqueue(stream, {.kind = Work::Kind::kWaitFlag, .flag = flag.device});
  return {};
}

Status FakeHbmDevice::Gather(std::span<const GatherArguments> layers, HbmStream stream) {
  MutexLock lock(mutex_);
  if (Status status = CheckCall(FakeCall::kGather); !status.ok()) return status;
  TIERCEL_CHECK(!layers.empty() && layers.size() <= kGatherLayersMax);
  std::vector<GatherArguments> shuffled(layers.begin(), layers.end());
  std::shuffle(shuffled.begin(), shuffled.end(), prng_);  // Of one launch, any may end first.
  for (const GatherArguments& arguments : shuffled) {
    TIERCEL_CHECK(arguments.shape.format == layers[0].shape.format);
    slots_ = arguments.slots;
    slot_size_bytes_ = arguments.slot_size_bytes;
    Enqueue(stream, {.kind = Work::Kind::kGather, .gather = arguments});
  }
  return {};
}

Status FakeHbmDevice::Copy(std::span<const HbmCopy> copies, std::uint64_t size_bytes,
                           HbmStream stream) {
  MutexLock lock(mutex_);
  Status status = CheckCall(FakeCall::kCopy);
  // One that fails has begun: half of the copies are on their way.
  if (!status.ok()) copies = copies.first(copies.size() / 2);
  Enqueue(stream, {.kind = Work::Kind::kCopy,
                   .copies = {copies.begin(), copies.end()},
                   .size_bytes = size_bytes});
  return status;
}

Status FakeHbmDevice::ApplyChanges(const MirrorTable&, const DeviceChange* changes,
                                   std::uint32_t change_count, HbmStream stream) {
  MutexLock lock(mutex_);
  Enqueue(stream, {.kind = Work::Kind::kApply, .changes = changes, .change_count = change_count});
  return {};
}

std::map<std::pair<std::uint32_t, std::uint64_t>, std::uint32_t> FakeHbmDevice::mirror() {
  MutexLock lock(mutex_);
  return mirror_;
}

Status FakeHbmDevice::RecordEvent(HbmEvent event, HbmStream stream) {
  MutexLock lock(mutex_);
  if (Status status = CheckCall(FakeCall::kRecordEvent); !status.ok()) return status;
  Enqueue(stream, {.kind = Work::Kind::kRecordEvent, .event = static_cast<Event*>(event.handle)});
  return {};
}

Status FakeHbmDevice::WaitEvent(HbmEvent event, HbmStream stream) {
  MutexLock lock(mutex_);
  if (Status status = CheckCall(FakeCall::kWaitEvent); !status.ok()) return status;
  Enqueue(stream, {.kind = Work::Kind::kWaitEvent, .event = static_cast<Event*>(event.handle)});
  return {};
}

Result<bool> FakeHbmDevice::QueryEvent(HbmEvent event) {
  MutexLock lock(mutex_);
  const Event& known = *static_cast<Event*>(event.handle);
  return known.ended == known.recorded;
}

Status FakeHbmDevice::Health() {
  if (healthy_) return {};
  return Status(StatusCode::kIoError, "the fake GPU was told to be broken");
}

Status FakeHbmDevice::Synchronize() {
  while (pending_count() > 0) {
    if (!RunOne()) std::this_thread::yield();
  }
  return Health();
}

}  // namespace tiercel::testing
