#include "python/ticket_core.h"

#include <algorithm>

namespace tiercel::python {

TicketCore::Call::Call(TicketCore& core) : core_(core) {
  std::unique_lock lock(core.mutex_);
  core.changed_.wait(lock, [&] { return !core.cancelling_; });
  ++core.calls_;
}

TicketCore::Call::~Call() {
  bool wake = false;
  {
    const std::lock_guard lock(core_.mutex_);
    wake = --core_.calls_ == 0 && core_.cancelling_;
  }
  if (wake) core_.changed_.notify_all();
}

TicketCore::~TicketCore() {
  const py::gil_scoped_release release;
  ticket_ = Ticket();
}

std::optional<Status> TicketCore::WaitFor(std::uint32_t layer_id,
                                          std::chrono::nanoseconds timeout) {
  const Call call(*this);
  return ticket_.WaitFor(layer_id, std::min<std::chrono::nanoseconds>(timeout, kSlice));
}

std::optional<Status> TicketCore::TryWait(std::uint32_t layer_id) {
  {
    // Cancel() waits for others without the GIL, so that waiting for it here, with the
    // GIL, would keep those from ending.
    const std::lock_guard lock(mutex_);
    if (cancelling_) return std::nullopt;
    ++calls_;
  }
  std::optional<Status> outcome = ticket_.TryWait(layer_id);
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    wake = --calls_ == 0 && cancelling_;
  }
  if (wake) changed_.notify_all();
  return outcome;
}

void TicketCore::Promote() {
  const Call call(*this);
  ticket_.Promote();
}

void TicketCore::Cancel() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !cancelling_; });
  cancelling_ = true;
  changed_.wait(lock, [this] { return calls_ == 0; });
  lock.unlock();
  ticket_.Cancel();
  lock.lock();
  cancelling_ = false;
  lock.unlock();
  changed_.notify_all();
}

Result<TicketRows> TicketCore::Rows(std::uint32_t layer_id) {
  const Call call(*this);
  return ticket_.Rows(layer_id);
}

Result<TicketStats> TicketCore::Stats(std::uint32_t layer_id) {
  const Call call(*this);
  return ticket_.Stats(layer_id);
}

}  // namespace tiercel::python
