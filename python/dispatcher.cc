#include "python/dispatcher.h"

#include <unistd.h>

#include <utility>

namespace tiercel::python {

std::shared_ptr<Dispatcher> Dispatcher::Get() {
  // Never destroyed: threads of stores that are never closed may post to it to the end.
  static auto* const current = new std::shared_ptr<Dispatcher>();
  if (*current == nullptr || (*current)->pid_ != getpid()) {
    // After a fork the old one has no thread, and perhaps a mutex that is never unlocked.
    if (*current != nullptr) new std::shared_ptr<Dispatcher>(*current);
    *current = std::shared_ptr<Dispatcher>(new Dispatcher());
    const std::weak_ptr<Dispatcher> started = *current;
    py::module_::import("atexit").attr("register")(py::cpp_function([started] {
      const std::shared_ptr<Dispatcher> dispatcher = started.lock();
      if (dispatcher == nullptr || dispatcher->pid_ != getpid()) return;
      const py::gil_scoped_release release;
      dispatcher->Close();
    }));
  }
  return *current;
}

Dispatcher::Dispatcher() : pid_(getpid()), thread_([this] { Run(); }) {}

Dispatcher::~Dispatcher() {
  Close();
}

void Dispatcher::Post(std::function<void()> call) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    calls_.push_back(std::move(call));
  }
  changed_.notify_all();
}

void Dispatcher::Flush() {
  if (std::this_thread::get_id() == thread_.get_id()) return;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return closed_ || (calls_.empty() && !busy_); });
}

void Dispatcher::Close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Dispatcher::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return closed_ || !calls_.empty(); });
    if (closed_) return;
    std::function<void()> call = std::move(calls_.front());
    calls_.pop_front();
    busy_ = true;
    lock.unlock();
    {
      const py::gil_scoped_acquire acquire;
      try {
        call();
      } catch (py::error_already_set& error) {
        error.discard_as_unraisable("a callback of tiercel");
      } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
        PyErr_WriteUnraisable(nullptr);
      }
      call = nullptr;
    }
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

}  // namespace tiercel::python
