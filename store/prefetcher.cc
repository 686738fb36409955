#include "store/prefetcher.h"

#include <sys/resource.h>

#include <algorithm>

#include "base/numa.h"

namespace tiercel {
namespace {

constexpr int kNice = 10;  ///< A tenth of the CPU time of who is at 0, where both want it.

}  // namespace

Prefetcher::Prefetcher(std::uint32_t tickets_max, const MemoryOptions& memory) {
  queue_.reserve(tickets_max);
  thread_ = std::thread([this, memory] { Loop(memory); });
}

void Prefetcher::Stop() {
  if (!thread_.joinable()) return;
  {
    MutexLock lock(mutex_);
    stop_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

void Prefetcher::Add(Ticket::State& ticket) {
  MutexLock lock(mutex_);
  queue_.push_back(&ticket);
  ticket.queued.store(true, std::memory_order_seq_cst);
  queued_count_.fetch_add(1, std::memory_order_seq_cst);
  changed_.NotifyAll();
}

void Prefetcher::Remove(Ticket::State& ticket) {
  MutexLock lock(mutex_);
  while (running_ == &ticket) changed_.Wait(mutex_);
  if (ticket.queued.load(std::memory_order_relaxed)) Erase(ticket);
}

void Prefetcher::Poke() noexcept {
  // What changed was stored before, seq_cst: either the thread sees it when it looks
  // after Add(), or this sees what Add() counted.
  if (queued_count_.load(std::memory_order_seq_cst) == 0) return;
  MutexLock lock(mutex_);
  changed_.NotifyAll();
}

void Prefetcher::Erase(Ticket::State& ticket) {
  queue_.erase(std::ranges::find(queue_, &ticket));
  queued_count_.fetch_sub(1, std::memory_order_seq_cst);
  ticket.queued.store(false, std::memory_order_seq_cst);
}

Ticket::State* Prefetcher::PickReady() const noexcept {
  Ticket::State* best = nullptr;
  for (Ticket::State* const ticket : queue_) {
    if (best != nullptr && best->deadline_ns() <= ticket->deadline_ns()) continue;
    if (ticket->Ready(ticket->NextWindowGroups())) best = ticket;
  }
  return best;
}

Ticket::State* Prefetcher::PickToNote() const noexcept {
  const auto found = std::ranges::find_if(
      queue_, [](const Ticket::State* ticket) { return ticket->HasMoreToNote(); });
  return found == queue_.end() ? nullptr : *found;
}

bool Prefetcher::DoSomething() {
  Ticket::State* ticket = PickReady();
  bool note = false;
  if (ticket == nullptr || ticket->deadline_ns() >= kBackgroundDeadlineNs) {
    Ticket::State* const to_note = PickToNote();
    note = to_note != nullptr;
    if (note) ticket = to_note;
  }
  if (ticket == nullptr) return false;
  running_ = ticket;
  mutex_.Unlock();
  bool more = true;
  if (note) {
    ticket->NoteSome();
  } else {
    more = ticket->RunWindow(ticket->NextWindowGroups(), /*credits=*/0, /*may_block=*/true);
  }
  mutex_.Lock();
  running_ = nullptr;
  if (!more) Erase(*ticket);
  changed_.NotifyAll();
  return true;
}

void Prefetcher::Loop(const MemoryOptions& memory) noexcept {
  // The I/O threads say it aloud if this cannot be done.
  [[maybe_unused]] const Status bound = BindThread(memory);
  // What it does may take milliseconds and nobody waits for it, but for the I/O threads and
  // their callers, who may want its core. Of this thread alone, as Linux has it.
  setpriority(PRIO_PROCESS, 0, kNice);
  MutexLock lock(mutex_);
  while (!stop_) {
    if (!DoSomething()) changed_.Wait(mutex_);
  }
}

}  // namespace tiercel
