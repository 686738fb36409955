#ifndef TIERCEL_IO_URING_QUEUE_H_
#define TIERCEL_IO_URING_QUEUE_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/file.h"
#include "io/device.h"
#include "io/file_set.h"
#include "io/read_slots.h"
#include "io/uring_ring.h"

namespace tiercel {

/// What queues have to tell their device's description().
///
/// Threading: all atomic.
struct UringNotes {
  std::atomic<bool> buffers_unregistered{false};
  std::atomic<std::uint32_t> depth_min{~0U};  ///< Smallest depth that a queue shrank to.
};

/// A ReadQueue on an io_uring.
///
/// Life of a slot: free -> an SQE (unsubmitted) -> in the kernel -> reported and
/// free, or back to an SQE for the rest of a short read, or parked when the kernel
/// has no room. Each slot has at most one SQE or CQE, and so has the eventfd's poll:
/// with more submission entries than that, and twice as many for completions,
/// neither ring can be full.
///
/// Waking. Wake() sets wake_pending_, then looks at owner_waits_. The owner sets
/// owner_waits_, then looks at wake_pending_, and only then sleeps. All four are
/// sequentially consistent, so in their one total order either the waker's store of
/// wake_pending_ comes before the owner's look, who does not sleep, or the owner's
/// store of owner_waits_ comes before the waker's look, who writes the eventfd. A
/// write that comes late makes one later Run() return early, which is allowed.
///
/// Under IOPOLL a ring takes nothing but reads, so the eventfd has no poll in it: with
/// reads in flight the kernel looks for their completions until one is there, and
/// with none the owner sleeps on the eventfd itself.
///
/// Threading: as ReadQueue. Between the threads there are only the two flags and
/// the eventfd.
class UringQueue final : public ReadQueue {
 public:
  /// `files` and `notes` outlive the queue. Errors: kResourceExhausted, kUnavailable.
  [[nodiscard]] static Result<std::unique_ptr<UringQueue>> Make(const FileSet& files,
                                                                const DeviceOptions& options,
                                                                std::uint32_t ring_flags,
                                                                UringNotes& notes);
  ~UringQueue() override;

  [[nodiscard]] std::uint32_t depth() const noexcept override { return depth_; }
  [[nodiscard]] std::uint32_t in_flight() const noexcept override { return in_flight_; }
  void Submit(const ReadRequest& request) noexcept override;
  void Flush() noexcept override;
  void Run(ReadSink& sink, std::chrono::nanoseconds timeout) noexcept override;
  void Wake() noexcept override;

  /// Submission entries that a queue of `depth` asks for: one a slot, one for the poll.
  [[nodiscard]] static std::uint32_t SubmissionEntries(std::uint32_t depth) noexcept {
    return depth + 2;
  }

 private:
  using Clock = std::chrono::steady_clock;

  UringQueue(const FileSet& files, const DeviceOptions& options, ReadSlots slots,
             std::unique_ptr<UringRing> ring, FileDescriptor event, UringNotes& notes);

  [[nodiscard]] Status RegisterFiles();
  void RegisterBuffers();
  void PrepareRead(std::uint32_t index) noexcept;
  void PreparePoll() noexcept;
  void Enter(std::chrono::nanoseconds wait) noexcept;
  void WaitForEvent(std::chrono::nanoseconds wait) noexcept;
  void TakeEnterResult(int result) noexcept;
  void Reap(ReadSink& sink) noexcept;
  void TakeReadResult(ReadSink& sink, std::uint32_t index, int result) noexcept;
  void Report(ReadSink& sink, std::uint32_t index) noexcept;
  void NoteNoRoom() noexcept;
  void ResumeParked() noexcept;
  [[nodiscard]] bool DrainKernel() noexcept;

  const FileSet& files_;
  const DeviceOptions options_;
  ReadSlots slots_;
  std::unique_ptr<UringRing> ring_;
  FileDescriptor event_;
  UringNotes& notes_;
  std::uint32_t slots_per_buffer_ = 0;  ///< 0: buffers are not registered.

  std::uint32_t depth_;
  std::uint32_t in_flight_ = 0;
  std::uint32_t in_kernel_ = 0;  ///< Submitted and not completed, the poll included.
  std::uint32_t reported_in_run_ = 0;
  bool poll_prepared_ = false;
  bool woken_in_run_ = false;
  bool timed_out_ = false;

  std::vector<std::uint32_t> refused_;  ///< Slots whose read is not to be started.
  std::vector<std::uint32_t> parked_;   ///< Slots that wait for room in the kernel.
  bool hold_ = false;                   ///< Nothing is submitted until hold_until_.
  Clock::time_point hold_until_;

  // On a line of their own: other threads write here.
  alignas(64) std::atomic<bool> wake_pending_{false};
  std::atomic<bool> owner_waits_{false};
};

}  // namespace tiercel

#endif  // TIERCEL_IO_URING_QUEUE_H_
