#ifndef TIERCEL_PYTHON_DISPATCHER_H_
#define TIERCEL_PYTHON_DISPATCHER_H_

#include <pybind11/pybind11.h>
#include <sys/types.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace tiercel::python {

namespace py = pybind11;

/// A callable of Python's that threads of the library want called. They never touch it:
/// they post to the Dispatcher, which asks the slot, with the GIL, whether it is there.
///
/// Threading: every method needs the GIL. The destructor does not, and may run anywhere:
/// whoever set the callable clears it before.
class CallbackSlot {
 public:
  void Set(py::object callable) noexcept { callable_ = callable.release().ptr(); }
  /// The callable is not called from now on; one call may be under way in its thread.
  void Clear() noexcept { Py_CLEAR(callable_); }
  [[nodiscard]] PyObject* callable() const noexcept { return callable_; }

 private:
  PyObject* callable_ = nullptr;
};

/// The one thread of the module's own, which calls Python for the threads of the library:
/// those must not wait for the GIL, or all reads would stand still while Python computes.
/// Calls are made in the order in which they were posted.
///
/// It is started when it is first needed, and ends with the interpreter (atexit): what is
/// posted from then on is dropped.
class Dispatcher {
 public:
  /// The process's own; a fork gets another. Needs the GIL.
  static std::shared_ptr<Dispatcher> Get();

  ~Dispatcher();

  /// Has `call` called with the GIL, soon. Any thread, with the GIL or without; never
  /// blocks for longer than a mutex is held.
  void Post(std::function<void()> call);

  /// Returns when all that was posted before is done. At once in a call of the dispatcher's.
  /// The GIL must not be held.
  void Flush();

  /// Ends the thread after the call it is in. The GIL must not be held.
  void Close();

 private:
  Dispatcher();
  void Run();

  const pid_t pid_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> calls_;
  bool busy_ = false;
  bool closed_ = false;
  std::thread thread_;
};

}  // namespace tiercel::python

#endif  // TIERCEL_PYTHON_DISPATCHER_H_
