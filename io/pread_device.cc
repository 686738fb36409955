#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/mutex.h"
#include "io/device.h"
#include "io/file_set.h"
#include "io/read_slots.h"

namespace tiercel {
namespace {

/// See PreadQueue::WaitForDone(). Some times what a read takes.
constexpr auto kGatherTime = std::chrono::microseconds(500);

/// Threads of a queue: a quarter fewer than its depth, so that whoever is done finds a
/// next read there while the owner takes the last ones in, instead of being put to sleep
/// and woken for each. Beyond 64 the wake-ups cost more than the disk gains.
std::uint32_t ThreadCount(const DeviceOptions& options) noexcept {
  return std::min(options.depth - options.depth / 4, 64U);
}

/// Slot indices in order of arrival. Holds at most `capacity`, by construction: each
/// slot is in one ring at a time.
///
/// Threading: one thread at a time.
class IndexRing {
 public:
  explicit IndexRing(std::uint32_t capacity) : ring_(capacity) {}

  [[nodiscard]] std::uint32_t count() const noexcept { return count_; }
  void Push(std::uint32_t index) noexcept {
    assert(count_ < ring_.size());
    ring_[(first_ + count_) % ring_.size()] = index;
    ++count_;
  }
  [[nodiscard]] std::uint32_t Pop() noexcept {
    assert(count_ > 0);
    const std::uint32_t index = ring_[first_];
    first_ = (first_ + 1) % static_cast<std::uint32_t>(ring_.size());
    --count_;
    return index;
  }
  void Clear() noexcept { count_ = 0; }

 private:
  std::vector<std::uint32_t> ring_;
  std::uint32_t first_ = 0;
  std::uint32_t count_ = 0;
};

/// A pool of threads that pread. A slot goes: submitted_ (owner's) -> waiting_ ->
/// one worker -> done_ -> reported_ (owner's) -> free. It changes hands under
/// mutex_, whole batches at a time, so its contents need no lock.
///
/// Threading: as ReadQueue.
class PreadQueue final : public ReadQueue {
 public:
  PreadQueue(const FileSet& files, const DeviceOptions& options, ReadSlots slots)
      : files_(files),
        options_(options),
        slots_(std::move(slots)),
        submitted_(slots_.count()),
        reported_(slots_.count()),
        waiting_(slots_.count()),
        done_(slots_.count()) {}

  ~PreadQueue() override {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
      waiting_.Clear();
      work_condition_.NotifyAll();
    }
    for (std::thread& worker : workers_) worker.join();
  }

  /// Errors: kResourceExhausted (the system has no more threads).
  [[nodiscard]] Status StartWorkers() {
    const std::uint32_t thread_count = ThreadCount(options_);
    workers_.reserve(thread_count);
    // Signals are the application's: workers are born with all of them blocked.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    Status status;
    try {
      while (workers_.size() < thread_count) workers_.emplace_back([this] { Work(); });
    } catch (const std::system_error& error) {
      status = Status(StatusCode::kResourceExhausted,
                      fmt::format("thread {} of {} for a pread queue: {}; raise 'ulimit -u', the "
                                  "container's pids limit, or lower the depth",
                                  workers_.size() + 1, thread_count, error.what()),
                      error.code().value());
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return status;
  }

  [[nodiscard]] std::uint32_t depth() const noexcept override { return options_.depth; }
  [[nodiscard]] std::uint32_t in_flight() const noexcept override { return in_flight_; }

  void Submit(const ReadRequest& request) noexcept override {
    TIERCEL_CHECK(in_flight_ < options_.depth);
    TIERCEL_CHECK(request.file_index < files_.files.size());
    TIERCEL_CHECK(request.size_bytes > 0 && request.size_bytes <= options_.read_size_bytes_max);
    submitted_.Push(slots_.Take(request));
    ++in_flight_;
  }

  void Flush() noexcept override TIERCEL_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    HandOver();
  }

  void Run(ReadSink& sink, std::chrono::nanoseconds timeout) noexcept override {
    TakeDone(timeout);
    // Only what is there now: reads that OnRead() submits wait for the next Run().
    while (reported_.count() > 0) {
      const std::uint32_t index = reported_.Pop();
      --in_flight_;
      sink.OnRead(slots_.Completion(index));
      slots_.GiveBack(index);
    }
  }

  void Wake() noexcept override {
    MutexLock lock(mutex_);
    woken_ = true;
    if (owner_waits_) done_condition_.NotifyOne();
  }

 private:
  /// Hands submitted_ to the workers.
  void HandOver() noexcept TIERCEL_REQUIRES(mutex_) {
    const std::uint32_t new_count = submitted_.count();
    while (submitted_.count() > 0) waiting_.Push(submitted_.Pop());
    if (new_count >= idle_workers_) {
      if (new_count > 0) work_condition_.NotifyAll();
    } else {
      for (std::uint32_t i = 0; i < new_count; ++i) work_condition_.NotifyOne();
    }
  }

  /// Hands over submitted_, waits as Run() says, and moves done_ to reported_.
  void TakeDone(std::chrono::nanoseconds timeout) noexcept TIERCEL_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    HandOver();
    if (done_.count() == 0) WaitForDone(std::min(timeout, kRunTimeoutMax));
    while (done_.count() > 0) reported_.Push(done_.Pop());
  }

  /// Waits for a quarter of what is in flight, not for the first: a switch to the owner
  /// and one back to a worker cost as much as the read itself. The others go on
  /// meanwhile, so the disk keeps three quarters of its queue. One that is done does not
  /// wait for the quarter for longer than kGatherTime.
  void WaitForDone(std::chrono::nanoseconds timeout) noexcept TIERCEL_REQUIRES(mutex_) {
    auto now = std::chrono::steady_clock::now();
    const auto deadline = now + timeout;
    wake_at_ = std::max(1U, in_flight_ / 4);
    owner_waits_ = true;
    while (done_.count() < wake_at_ && !woken_ && now < deadline) {
      const auto until = in_flight_ > 1 ? std::min(deadline, now + kGatherTime) : deadline;
      const bool notified = done_condition_.WaitUntil(mutex_, until);
      if (!notified && done_.count() > 0) break;
      now = std::chrono::steady_clock::now();
    }
    owner_waits_ = false;
    woken_ = false;
  }

  void Work() noexcept TIERCEL_EXCLUDES(mutex_) {
    mutex_.Lock();
    while (true) {
      ++idle_workers_;
      while (waiting_.count() == 0 && !stopping_) work_condition_.Wait(mutex_);
      --idle_workers_;
      if (stopping_) break;
      const std::uint32_t index = waiting_.Pop();
      mutex_.Unlock();
      Read(index);
      mutex_.Lock();
      done_.Push(index);
      // The owner takes along what comes in until it runs.
      if (owner_waits_ && done_.count() == wake_at_) done_condition_.NotifyOne();
    }
    mutex_.Unlock();
  }

  void Read(std::uint32_t index) noexcept {
    ReadSlot& slot = slots_[index];
    if (slot.os_error != 0) return;  // Refused by Take().
    const int fd = files_.files[slot.request.file_index].get();
    while (true) {
      const ssize_t got = pread(fd, slots_.Buffer(index) + slot.done_bytes,
                                slot.blocks.size_bytes - slot.done_bytes,
                                static_cast<off_t>(slot.blocks.offset_bytes + slot.done_bytes));
      switch (slot.Advance(got < 0 ? -errno : got, slots_.limits().offset_alignment_bytes)) {
        case SlotStep::kDone:
          return;
        case SlotStep::kAgain:
          break;
        case SlotStep::kNoRoom: {
          const timespec pause{.tv_sec = 0, .tv_nsec = 1'000'000};
          nanosleep(&pause, nullptr);
          break;
        }
      }
    }
  }

  const FileSet& files_;
  const DeviceOptions options_;
  ReadSlots slots_;
  std::uint32_t in_flight_ = 0;
  IndexRing submitted_;
  IndexRing reported_;

  Mutex mutex_;
  CondVar work_condition_;
  CondVar done_condition_;
  IndexRing waiting_ TIERCEL_GUARDED_BY(mutex_);
  IndexRing done_ TIERCEL_GUARDED_BY(mutex_);
  std::uint32_t idle_workers_ TIERCEL_GUARDED_BY(mutex_) = 0;
  bool owner_waits_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::uint32_t wake_at_ TIERCEL_GUARDED_BY(mutex_) = 1;  ///< Reads done that wake the owner.
  bool woken_ TIERCEL_GUARDED_BY(mutex_) = false;
  bool stopping_ TIERCEL_GUARDED_BY(mutex_) = false;

  std::vector<std::thread> workers_;
};

/// Threading: immutable.
class PreadDevice final : public Device {
 public:
  PreadDevice(FileSet files, const DeviceOptions& options)
      : files_(std::move(files)), options_(options) {}

  [[nodiscard]] Result<std::unique_ptr<ReadQueue>> NewQueue() override {
    Result<ReadSlots> slots = ReadSlots::Make(options_, files_.limits);
    if (!slots.ok()) return std::move(slots).TakeStatus();
    auto queue = std::make_unique<PreadQueue>(files_, options_, std::move(slots).value());
    if (Status status = queue->StartWorkers(); !status.ok()) return status;
    return std::unique_ptr<ReadQueue>(std::move(queue));
  }
  [[nodiscard]] DeviceEngine engine() const noexcept override { return DeviceEngine::kPread; }
  [[nodiscard]] std::string description() const override {
    return fmt::format("pread ({} threads a queue), {}", ThreadCount(options_),
                       files_.Description(options_));
  }
  [[nodiscard]] std::uint32_t read_size_bytes_max() const noexcept override {
    return options_.read_size_bytes_max;
  }
  [[nodiscard]] std::uint64_t queue_size_bytes() const noexcept override {
    // A worker touches about two pages of its stack, and the kernel keeps 16 KiB more.
    constexpr std::uint64_t kThreadBytes = 24 * 1024;
    return sizeof(PreadQueue) + ReadSlots::MemoryBytes(options_, files_.limits) +
           4 * sizeof(std::uint32_t) * (options_.depth + 1) +
           ThreadCount(options_) * (kThreadBytes + sizeof(std::thread));
  }
  [[nodiscard]] BlockSpan Blocks(const ReadRequest& request) const noexcept override {
    return Widen(request, files_.limits.block_bytes);
  }

 private:
  const FileSet files_;
  const DeviceOptions options_;
};

}  // namespace

Result<std::unique_ptr<Device>> OpenPreadDevice(const std::vector<std::string>& paths,
                                                const DeviceOptions& options) {
  Result<FileSet> files = OpenFileSet(paths, options);
  if (!files.ok()) return std::move(files).TakeStatus();
  return std::unique_ptr<Device>(std::make_unique<PreadDevice>(std::move(files).value(), options));
}

}  // namespace tiercel
