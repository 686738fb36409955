#ifndef TIERCEL_IO_URING_RING_H_
#define TIERCEL_IO_URING_RING_H_

#include <liburing.h>

#include <chrono>
#include <cstdint>
#include <memory>

#include "tiercel/status.h"

namespace tiercel {

/// Owns an io_uring, set up with the best flags that the kernel has.
///
/// Threading: one thread, from the first Enter() on. May be made on another.
class UringRing {
 public:
  /// Flags of io_uring_setup, best first: SINGLE_ISSUER | DEFER_TASKRUN (Linux 6.1),
  /// COOP_TASKRUN (5.19), none; SQPOLL in their place for `submission_poll`, IOPOLL
  /// besides for `io_poll`. Tries a ring of each, a no-op included, since some
  /// profiles forbid io_uring_enter alone.
  /// Errors: kUnavailable, with a sentence on the cause and the way out.
  [[nodiscard]] static Result<std::uint32_t> BestFlags(bool io_poll, bool submission_poll);

  /// A ring of `sq_entries` submissions and at least twice as many completions.
  /// Errors: as UringStatus().
  [[nodiscard]] static Result<std::unique_ptr<UringRing>> Make(std::uint32_t sq_entries,
                                                               std::uint32_t flags);

  UringRing(const UringRing&) = delete;
  UringRing& operator=(const UringRing&) = delete;
  ~UringRing();

  [[nodiscard]] io_uring& raw() noexcept { return ring_; }

  /// Binds the ring to the calling thread, if it is not bound yet.
  void Enable() noexcept {
    if (!enabled_) [[unlikely]]
      EnableSlow();
  }
  [[nodiscard]] bool enabled() const noexcept { return enabled_; }

  /// A submission to fill in. REQUIRES: fewer than sq_entries are unsubmitted.
  [[nodiscard]] io_uring_sqe* NextSubmission() noexcept;
  /// Submissions that the kernel has not taken yet. Under SQPOLL: that its thread has
  /// not been shown yet.
  [[nodiscard]] std::uint32_t unsubmitted() const noexcept {
    if (submission_poll()) return ring_.sq.sqe_tail - ring_.sq.sqe_head;
    return ring_.sq.sqe_tail - __atomic_load_n(ring_.sq.khead, __ATOMIC_ACQUIRE);
  }
  [[nodiscard]] bool io_poll() const noexcept { return (ring_.flags & IORING_SETUP_IOPOLL) != 0; }
  [[nodiscard]] bool submission_poll() const noexcept {
    return (ring_.flags & IORING_SETUP_SQPOLL) != 0;
  }

  struct EnterOptions {
    bool submit = true;
    std::uint32_t wait_count = 0;         ///< Completions to wait for.
    std::chrono::nanoseconds timeout{0};  ///< For the wait; negative: none. Unheeded under IOPOLL.
  };
  /// One io_uring_enter: submits, and waits for completions; runs the kernel's
  /// deferred work in any case. Returns the submissions taken, or a negative errno:
  /// -ETIME, -EINTR, -EAGAIN, -ENOMEM, -EBUSY are everyday ones. (A timeout after a
  /// submission returns the count.)
  [[nodiscard]] int Enter(const EnterOptions& options) noexcept;

  /// Completions that are there.
  [[nodiscard]] std::uint32_t ready() const noexcept { return io_uring_cq_ready(&ring_); }
  /// Copies the oldest out and frees its place. REQUIRES: ready() > 0.
  [[nodiscard]] io_uring_cqe TakeCompletion() noexcept;

 private:
  UringRing() = default;
  void EnableSlow() noexcept;
  [[nodiscard]] std::uint32_t Publish() noexcept;

  io_uring ring_{};
  bool enabled_ = true;
};

}  // namespace tiercel

#endif  // TIERCEL_IO_URING_RING_H_
