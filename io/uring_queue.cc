#include "io/uring_queue.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/check.h"
#include "base/errno_status.h"
#include "io/uring_errors.h"

namespace tiercel {
namespace {

using std::chrono::nanoseconds;

/// Tag of the eventfd's poll: no slot's, as slot indices are below 2^13.
constexpr std::uint64_t kPollTag = ~std::uint64_t{0};
constexpr nanoseconds kNoRoomPause = std::chrono::milliseconds(1);

std::uint64_t TagOf(std::uint32_t index, const ReadSlot& slot) noexcept {
  return (std::uint64_t{slot.generation} << 32) | index;
}

}  // namespace

UringQueue::UringQueue(const FileSet& files, const DeviceOptions& options, ReadSlots slots,
                       std::unique_ptr<UringRing> ring, FileDescriptor event, UringNotes& notes)
    : files_(files),
      options_(options),
      slots_(std::move(slots)),
      ring_(std::move(ring)),
      event_(std::move(event)),
      notes_(notes),
      depth_(options.depth) {
  refused_.reserve(slots_.count());
  parked_.reserve(slots_.count());
}

Result<std::unique_ptr<UringQueue>> UringQueue::Make(const FileSet& files,
                                                     const DeviceOptions& options,
                                                     std::uint32_t ring_flags, UringNotes& notes) {
  Result<ReadSlots> slots = ReadSlots::Make(options, files.limits);
  if (!slots.ok()) return std::move(slots).TakeStatus();
  FileDescriptor event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.valid()) return ErrnoStatus(errno, "eventfd of a read queue");
  Result<std::unique_ptr<UringRing>> ring =
      UringRing::Make(SubmissionEntries(options.depth), ring_flags);
  if (!ring.ok()) return std::move(ring).TakeStatus();
  std::unique_ptr<UringQueue> queue(new UringQueue(
      files, options, std::move(slots).value(), std::move(ring).value(), std::move(event), notes));
  if (Status status = queue->RegisterFiles(); !status.ok()) return status;
  queue->RegisterBuffers();
  return queue;
}

Status UringQueue::RegisterFiles() {
  std::vector<int> descriptors;
  descriptors.reserve(files_.files.size());
  for (const FileDescriptor& file : files_.files) descriptors.push_back(file.get());
  const int rc = io_uring_register_files(&ring_->raw(), descriptors.data(),
                                         static_cast<unsigned>(descriptors.size()));
  return rc == 0 ? Status() : UringStatus(UringCall::kRegister, -rc);
}

/// Pins the slab once instead of at every read. Without (ulimit -l), reads work too.
void UringQueue::RegisterBuffers() {
  constexpr std::uint64_t kBufferSizeMax = std::uint64_t{1} << 30;  // The kernel's limit.
  const std::uint64_t stride_bytes = slots_.stride_bytes();
  const auto per_buffer = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(kBufferSizeMax / stride_bytes, slots_.count()));
  std::vector<iovec> buffers;
  for (std::uint32_t first = 0; first < slots_.count(); first += per_buffer) {
    const std::uint32_t count = std::min(per_buffer, slots_.count() - first);
    buffers.push_back({.iov_base = slots_.Buffer(first), .iov_len = count * stride_bytes});
  }
  const int rc = io_uring_register_buffers(&ring_->raw(), buffers.data(),
                                           static_cast<unsigned>(buffers.size()));
  if (rc == 0) {
    slots_per_buffer_ = per_buffer;
  } else {
    notes_.buffers_unregistered.store(true, std::memory_order_relaxed);
  }
}

UringQueue::~UringQueue() {
  if (DrainKernel()) {
    // Now rather than when the kernel gets round to it, so that a next queue finds
    // the locked memory free again.
    if (slots_per_buffer_ != 0) io_uring_unregister_buffers(&ring_->raw());
    return;
  }
  // Destroyed by another thread than the one that used it (joined, say), reads under
  // way: they cannot be waited for. The kernel has pinned the pages of registered
  // buffers and of direct reads, so their memory is not reused before they end.
  // Buffered reads to plain addresses would write into whatever comes there next.
  if (slots_per_buffer_ == 0 && !files_.all_direct()) slots_.slab().Abandon();
}

/// Waits for all that the kernel has, dropping it. False if this thread may not.
bool UringQueue::DrainKernel() noexcept {
  if (in_kernel_ == 0) return true;
  eventfd_write(event_.get(), 1);  // Ends the poll.
  while (true) {
    while (ring_->ready() > 0) {
      static_cast<void>(ring_->TakeCompletion());
      --in_kernel_;
    }
    if (in_kernel_ == 0) return true;
    const int result = ring_->Enter({.submit = false, .wait_count = 1, .timeout = nanoseconds(-1)});
    if (result < 0 && result != -EINTR && result != -EBUSY && result != -EAGAIN) return false;
  }
}

void UringQueue::Submit(const ReadRequest& request) noexcept {
  TIERCEL_CHECK(in_flight_ < depth_);
  TIERCEL_CHECK(request.file_index < files_.files.size());
  TIERCEL_CHECK(request.size_bytes > 0 && request.size_bytes <= options_.read_size_bytes_max);
  const std::uint32_t index = slots_.Take(request);
  ++in_flight_;
  if (slots_[index].os_error != 0) [[unlikely]] {
    refused_.push_back(index);
  } else {
    PrepareRead(index);
  }
}

void UringQueue::PrepareRead(std::uint32_t index) noexcept {
  ReadSlot& slot = slots_[index];
  io_uring_sqe* const sqe = ring_->NextSubmission();
  std::byte* const target = slots_.Buffer(index) + slot.done_bytes;
  const std::uint32_t size_bytes = slot.blocks.size_bytes - slot.done_bytes;
  const std::uint64_t offset_bytes = slot.blocks.offset_bytes + slot.done_bytes;
  const auto file_index = static_cast<int>(slot.request.file_index);
  if (slots_per_buffer_ != 0) {
    io_uring_prep_read_fixed(sqe, file_index, target, size_bytes, offset_bytes,
                             static_cast<int>(index / slots_per_buffer_));
  } else {
    io_uring_prep_read(sqe, file_index, target, size_bytes, offset_bytes);
  }
  sqe->flags |= IOSQE_FIXED_FILE;
  sqe->user_data = TagOf(index, slot);
  slot.in_kernel = true;
}

void UringQueue::PreparePoll() noexcept {
  io_uring_sqe* const sqe = ring_->NextSubmission();
  io_uring_prep_poll_add(sqe, event_.get(), POLLIN);
  sqe->user_data = kPollTag;
  poll_prepared_ = true;
}

void UringQueue::Flush() noexcept {
  ring_->Enable();
  if (hold_ || ring_->unsubmitted() == 0) return;
  TakeEnterResult(ring_->Enter({.submit = true}));
}

void UringQueue::Run(ReadSink& sink, nanoseconds timeout) noexcept {
  ring_->Enable();
  if (!poll_prepared_ && !ring_->io_poll()) PreparePoll();
  reported_in_run_ = 0;
  woken_in_run_ = false;
  timed_out_ = timeout <= nanoseconds::zero();
  timeout = std::clamp(timeout, nanoseconds::zero(), kRunTimeoutMax);
  // Reads that OnRead() submits and that are refused too wait for the next Run().
  for (std::size_t left = refused_.size(); left > 0; --left) {
    const std::uint32_t index = refused_.front();
    refused_.erase(refused_.begin());
    Report(sink, index);
  }
  const Clock::time_point deadline = timed_out_ ? Clock::time_point() : Clock::now() + timeout;
  for (bool first = true;; first = false) {
    if (!first) {
      timeout = std::max(nanoseconds::zero(), nanoseconds(deadline - Clock::now()));
      if (timeout == nanoseconds::zero()) timed_out_ = true;
    }
    if (!parked_.empty() || hold_) ResumeParked();
    Enter(reported_in_run_ > 0 || timed_out_ ? nanoseconds::zero() : timeout);
    Reap(sink);
    if (reported_in_run_ > 0 || woken_in_run_ || timed_out_) return;
  }
}

void UringQueue::Wake() noexcept {
  // Someone who set the flag before us has looked, or will look, at owner_waits_.
  if (wake_pending_.exchange(true)) return;
  if (owner_waits_.load()) eventfd_write(event_.get(), 1);
}

/// One system call: hands over what is unsubmitted, and waits for up to `wait`.
void UringQueue::Enter(nanoseconds wait) noexcept {
  const bool submit = !hold_ && ring_->unsubmitted() > 0;
  if (!submit && ring_->ready() > 0) return;  // No need to ask the kernel.
  if (hold_) wait = std::min(wait, kNoRoomPause);
  if (wait > nanoseconds::zero()) {
    owner_waits_.store(true);
    if (wake_pending_.exchange(false)) {
      woken_in_run_ = true;
      wait = nanoseconds::zero();
    }
  } else if (!submit && in_kernel_ == 0) {
    return;
  }
  const bool waits = wait > nanoseconds::zero();
  int result = 0;
  if (waits && ring_->io_poll() && !submit && in_kernel_ == 0) {
    WaitForEvent(wait);
  } else {
    result = ring_->Enter({.submit = submit, .wait_count = waits ? 1U : 0U, .timeout = wait});
  }
  if (waits) {
    owner_waits_.store(false);
    if (wake_pending_.exchange(false)) woken_in_run_ = true;
  } else {
    owner_waits_.store(false, std::memory_order_relaxed);
  }
  TakeEnterResult(result);
}

/// Sleeps without the ring, which has nothing to wait for.
void UringQueue::WaitForEvent(nanoseconds wait) noexcept {
  pollfd event{.fd = event_.get(), .events = POLLIN, .revents = 0};
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(wait);
  const timespec timeout{.tv_sec = seconds.count(), .tv_nsec = (wait - seconds).count()};
  if (ppoll(&event, 1, &timeout, nullptr) <= 0) return;
  eventfd_t count = 0;
  eventfd_read(event_.get(), &count);
  woken_in_run_ = true;
}

void UringQueue::TakeEnterResult(int result) noexcept {
  if (result >= 0) {
    in_kernel_ += static_cast<std::uint32_t>(result);
    return;
  }
  switch (-result) {
    case EINTR:
    case ETIME:  // Run() looks at the clock itself.
    case EBUSY:  // Completions first: Reap() follows.
      return;
    case EAGAIN:
    case ENOMEM:
      NoteNoRoom();
      return;
    default:
      // A programmer error, or a seccomp profile that came after the ring. Reads may
      // be under way, so going on is not safe.
      std::fprintf(stderr, "tiercel: io_uring_enter: %s: %s\n", ErrnoName(-result).c_str(),
                   UringSentence(UringCall::kEnter, -result).c_str());
      TIERCEL_CHECK(false && "io_uring_enter failed in a way that it cannot");
  }
}

void UringQueue::Reap(ReadSink& sink) noexcept {
  // Those that are there now: more may come in meanwhile, for the next Run().
  for (std::uint32_t left = ring_->ready(); left > 0; --left) {
    const io_uring_cqe cqe = ring_->TakeCompletion();
    TIERCEL_CHECK(in_kernel_ > 0);
    --in_kernel_;
    if (cqe.user_data == kPollTag) {
      eventfd_t count = 0;
      eventfd_read(event_.get(), &count);
      if (cqe.res >= 0) woken_in_run_ = true;
      PreparePoll();
      continue;
    }
    const auto index = static_cast<std::uint32_t>(cqe.user_data);
    TIERCEL_CHECK(index < slots_.count());
    TIERCEL_CHECK(slots_[index].in_kernel && cqe.user_data == TagOf(index, slots_[index]));
    slots_[index].in_kernel = false;
    TakeReadResult(sink, index, cqe.res);
  }
}

void UringQueue::TakeReadResult(ReadSink& sink, std::uint32_t index, int result) noexcept {
  switch (slots_[index].Advance(result, slots_.limits().offset_alignment_bytes)) {
    case SlotStep::kDone:
      Report(sink, index);
      return;
    case SlotStep::kAgain:
      PrepareRead(index);
      return;
    case SlotStep::kNoRoom:
      parked_.push_back(index);
      NoteNoRoom();
      return;
  }
}

void UringQueue::Report(ReadSink& sink, std::uint32_t index) noexcept {
  --in_flight_;
  ++reported_in_run_;
  sink.OnRead(slots_.Completion(index));
  slots_.GiveBack(index);
}

/// Less depth and a pause: the kernel could not take what it was given.
void UringQueue::NoteNoRoom() noexcept {
  const auto now = Clock::now();
  // Once a pause, however many reads were refused: a quarter less each time.
  if (!hold_ && depth_ > 1) {
    depth_ = std::max(1U, depth_ - std::max(1U, depth_ / 4));
    std::uint32_t seen = notes_.depth_min.load(std::memory_order_relaxed);
    while (depth_ < seen && !notes_.depth_min.compare_exchange_weak(seen, depth_)) {
    }
  }
  hold_ = true;
  hold_until_ = now + kNoRoomPause;
}

void UringQueue::ResumeParked() noexcept {
  if (Clock::now() < hold_until_) return;
  hold_ = false;
  // Up to the shrunken depth; the rest when those are through.
  std::uint32_t started =
      in_flight_ - std::min(in_flight_, static_cast<std::uint32_t>(parked_.size()));
  while (!parked_.empty() && (started < depth_ || started == 0)) {
    PrepareRead(parked_.back());
    parked_.pop_back();
    ++started;
  }
}

}  // namespace tiercel
