#include "io/uring_ring.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <iterator>
#include <vector>

#include "base/check.h"
#include "io/uring_errors.h"

namespace tiercel {
namespace {

/// Rings that have been unmapped. The kernel may map a new ring where another thread's
/// old one was; it orders the two, but liburing's system calls are its own, so a race
/// detector sees two threads write one address. This counter states the order: the
/// end of a ring releases, the making of one acquires.
std::atomic<std::uint64_t> g_ended_count{0};

/// How long the kernel's submission thread looks for work before it sleeps.
constexpr std::uint32_t kSubmissionThreadIdleMs = 50;

/// Submits a no-op and waits for it.
Status TryNop(UringRing& ring) {
  ring.Enable();
  io_uring_prep_nop(ring.NextSubmission());
  while (ring.ready() == 0) {
    const int taken = ring.Enter({.wait_count = 1, .timeout = std::chrono::seconds(1)});
    if (taken < 0 && taken != -EINTR && taken != -EBUSY) {
      return UringStatus(UringCall::kEnter, -taken);
    }
  }
  static_cast<void>(ring.TakeCompletion());
  return Status();
}

Status AsUnavailable(const Status& status) {
  return Status(StatusCode::kUnavailable, std::string(status.message()), status.os_error());
}

}  // namespace

Result<std::uint32_t> UringRing::BestFlags(bool io_poll, bool submission_poll) {
  std::vector<std::uint32_t> choices = {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
                                        IORING_SETUP_COOP_TASKRUN, 0};
  // The others say where the deferred work of completions runs: here on its thread.
  if (submission_poll) choices = {IORING_SETUP_SQPOLL};
  for (const std::uint32_t choice : choices) {
    const std::uint32_t flags = choice | (io_poll ? IORING_SETUP_IOPOLL : 0);
    Result<std::unique_ptr<UringRing>> ring = Make(4, flags);
    if (ring.ok()) {
      if (Status status = TryNop(*ring.value()); !status.ok()) return AsUnavailable(status);
      return flags;
    }
    // EINVAL: the kernel does not know the flags. All else is no better without them.
    if (ring.status().os_error() != EINVAL || choice == choices.back()) {
      return AsUnavailable(ring.status());
    }
  }
  return Status(StatusCode::kUnavailable, UringSentence(UringCall::kSetup, EINVAL), EINVAL);
}

Result<std::unique_ptr<UringRing>> UringRing::Make(std::uint32_t sq_entries, std::uint32_t flags) {
  std::unique_ptr<UringRing> made(new UringRing());
  io_uring_params params{};
  params.flags = flags | IORING_SETUP_CLAMP;
  params.sq_thread_idle = kSubmissionThreadIdleMs;
  if ((flags & IORING_SETUP_SINGLE_ISSUER) != 0) {
    // The thread that switches the ring on becomes its only issuer; the ring may be
    // made by another one.
    params.flags |= IORING_SETUP_R_DISABLED;
    made->enabled_ = false;
  }
  const int rc = io_uring_queue_init_params(sq_entries, &made->ring_, &params);
  if (rc < 0) {
    made->ring_.ring_fd = -1;
    return UringStatus(UringCall::kSetup, -rc);
  }
  static_cast<void>(g_ended_count.load(std::memory_order_acquire));
  // EXT_ARG (5.11): a timeout for io_uring_enter. NODROP (5.5): completions are kept
  // when the ring of them is full, though ours is never full (see UringQueue).
  constexpr std::uint32_t kNeeded = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP;
  if ((params.features & kNeeded) != kNeeded) return UringStatus(UringCall::kSetup, ENOSYS);
  if (made->ring_.sq.ring_entries < sq_entries) return UringStatus(UringCall::kSetup, EINVAL);
  // The indirection array stays as it is: submission i is entry i. (Newer versions of
  // liburing do this themselves.)
  for (unsigned i = 0; i < made->ring_.sq.ring_entries; ++i) made->ring_.sq.array[i] = i;
  return made;
}

UringRing::~UringRing() {
  if (ring_.ring_fd < 0) return;
  g_ended_count.fetch_add(1, std::memory_order_release);
  io_uring_queue_exit(&ring_);
}

void UringRing::EnableSlow() noexcept {
  // Can only fail for a ring that is on already.
  // (liburing 2.3 declares io_uring_enable_rings() but does not export it.)
  TIERCEL_CHECK(
      syscall(SYS_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) == 0);
  enabled_ = true;
}

io_uring_sqe* UringRing::NextSubmission() noexcept {
  io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
  TIERCEL_CHECK(sqe != nullptr);  // Each slot has at most one unsubmitted entry.
  return sqe;
}

/// Makes the filled-in submissions visible to the kernel. Returns how many it has
/// to take.
std::uint32_t UringRing::Publish() noexcept {
  const std::uint32_t unseen = ring_.sq.sqe_tail - ring_.sq.sqe_head;
  __atomic_store_n(ring_.sq.ktail, ring_.sq.sqe_tail, __ATOMIC_RELEASE);
  ring_.sq.sqe_head = ring_.sq.sqe_tail;
  return submission_poll() ? unseen : unsubmitted();
}

int UringRing::Enter(const EnterOptions& options) noexcept {
  const std::uint32_t submit_count = options.submit ? Publish() : 0;
  unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
  if (submission_poll()) {
    // The thread sets the flag, then looks at the tail once more, and sleeps; we have
    // set the tail and now look at the flag: one of us sees the other.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const unsigned state = __atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED);
    if ((state & IORING_SQ_NEED_WAKEUP) != 0) {
      flags |= IORING_ENTER_SQ_WAKEUP;
    } else if (options.wait_count == 0 && (state & IORING_SQ_CQ_OVERFLOW) == 0) {
      return static_cast<int>(submit_count);
    }
  }
  __kernel_timespec timeout{};
  io_uring_getevents_arg argument{};
  if (options.timeout >= std::chrono::nanoseconds::zero()) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(options.timeout);
    timeout.tv_sec = seconds.count();
    timeout.tv_nsec = (options.timeout - seconds).count();
    argument.ts = reinterpret_cast<std::uint64_t>(&timeout);
  }
  const long rc = syscall(SYS_io_uring_enter, ring_.ring_fd, submit_count, options.wait_count,
                          flags, &argument, sizeof(argument));
  return rc < 0 ? -errno : static_cast<int>(rc);
}

io_uring_cqe UringRing::TakeCompletion() noexcept {
  const unsigned head = *ring_.cq.khead;
  const io_uring_cqe cqe = ring_.cq.cqes[head & ring_.cq.ring_mask];
  __atomic_store_n(ring_.cq.khead, head + 1, __ATOMIC_RELEASE);
  return cqe;
}

}  // namespace tiercel
