#ifndef TIERCEL_PYTHON_TICKET_CORE_H_
#define TIERCEL_PYTHON_TICKET_CORE_H_

#include <pybind11/pybind11.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "tiercel/prefetch.h"

namespace tiercel::python {

namespace py = pybind11;

/// A ticket, and the Python objects whose memory it writes to. A tiercel.Ticket and every
/// array over its rows share one: the last of them drops the ticket.
///
/// Threading: methods may run concurrently, Cancel() included, which a bare Ticket does not
/// allow: it waits until no other method runs, and none takes longer than a slice. The
/// GIL may be held, but where it says so. Whoever calls holds a shared_ptr.
class TicketCore {
 public:
  /// No call to the library waits longer than this: then signals are looked at, and
  /// Cancel() of another thread gets its turn.
  static constexpr std::chrono::milliseconds kSlice{50};

  TicketCore(Ticket ticket, std::vector<py::object> owners) noexcept
      : ticket_(std::move(ticket)), owners_(std::move(owners)) {}
  /// Needs the GIL, which it gives up until nothing writes any more.
  ~TicketCore();
  TicketCore(const TicketCore&) = delete;
  TicketCore& operator=(const TicketCore&) = delete;

  /// As Ticket::WaitFor(). The GIL must not be held.
  [[nodiscard]] std::optional<Status> WaitFor(std::uint32_t layer_id,
                                              std::chrono::nanoseconds timeout);
  /// As Ticket::TryWait(). Nothing also while the ticket is being cancelled.
  [[nodiscard]] std::optional<Status> TryWait(std::uint32_t layer_id);
  void Promote();
  /// The GIL must not be held.
  void Cancel();
  [[nodiscard]] Result<TicketRows> Rows(std::uint32_t layer_id);
  [[nodiscard]] Result<TicketStats> Stats(std::uint32_t layer_id);

 private:
  /// Counts a method in and out. Waits while Cancel() runs, which is short.
  class Call {
   public:
    explicit Call(TicketCore& core);
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    TicketCore& core_;
  };

  Ticket ticket_;
  std::vector<py::object> owners_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int calls_ = 0;
  bool cancelling_ = false;
};

}  // namespace tiercel::python

#endif  // TIERCEL_PYTHON_TICKET_CORE_H_
