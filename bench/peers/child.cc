#include "bench/peers/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "base/errno_status.h"
#include "tools/command_line.h"

namespace tiercel::peers {
namespace {

/// Parent to child: run this slice.
struct Order {
  const Workload* workload = nullptr;  ///< In memory that both have, as it was at the fork.
  std::uint64_t seed = 0;
};

/// Child to parent. Smaller than PIPE_BUF, so that it is written in one piece.
struct Message {
  StatusCode code = StatusCode::kOk;
  SliceFigures figures;
  std::array<char, 2048> text{};  ///< The error, or the arm's description. Ends with a 0.
};
static_assert(sizeof(Message) < 4096);

void SetText(Message& message, std::string_view text) {
  const std::size_t size = std::min(text.size(), message.text.size() - 1);
  std::copy_n(text.begin(), size, message.text.begin());
}

/// Reads or writes a whole struct; false when the other end is gone.
template <typename T>
bool ReadWhole(int fd, T& value) {
  auto* at = reinterpret_cast<char*>(&value);
  std::size_t left = sizeof(T);
  while (left > 0) {
    const ssize_t got = read(fd, at, left);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    left -= static_cast<std::size_t>(got);
  }
  return true;
}

template <typename T>
bool WriteWhole(int fd, const T& value) {
  ssize_t put = 0;
  do {
    put = write(fd, &value, sizeof(T));
  } while (put < 0 && errno == EINTR);
  return put == sizeof(T);
}

Message ErrorMessage(const Status& status) {
  Message message{.code = status.code()};
  SetText(message, status.message());
  return message;
}

/// The life of a child: opens the arm, runs slices until the parent closes the pipe.
void Live(const ArmEntry& entry, const ArmOptions& options, const RunContext& context,
          const MemoryCgroup& group, int in, int out) {
  if (group.valid()) {
    const FileDescriptor procs(open(group.ProcsPath().c_str(), O_WRONLY | O_CLOEXEC));
    if (!procs.valid() || write(procs.get(), "0", 1) != 1) {
      WriteWhole(out, ErrorMessage(ErrnoStatus(errno, "enter " + group.ProcsPath())));
      return;
    }
  }
  Result<std::unique_ptr<Arm>> arm = entry.open(*context.table, options);
  if (!arm.ok()) {
    WriteWhole(out, ErrorMessage(arm.status()));
    return;
  }
  Message opened;
  SetText(opened, arm.value()->description());
  if (!WriteWhole(out, opened)) return;
  for (Order order; ReadWhole(in, order);) {
    Result<SliceFigures> figures =
        RunSlice(*arm.value(), entry, context, *order.workload, order.seed);
    Message message;
    if (figures.ok()) {
      message.figures = figures.value();
      SetText(message, arm.value()->description());
    } else {
      message = ErrorMessage(figures.status());
    }
    if (!WriteWhole(out, message)) return;
  }
}

}  // namespace

Result<std::unique_ptr<ArmProcess>> ArmProcess::Start(const ArmEntry& arm,
                                                      const ArmOptions& options,
                                                      const RunContext& context,
                                                      MemoryCgroup group) {
  std::unique_ptr<ArmProcess> process(new ArmProcess);
  process->name_ = arm.name;
  process->group_ = std::move(group);
  std::array<int, 2> orders{};
  std::array<int, 2> messages{};
  if (pipe2(orders.data(), O_CLOEXEC) != 0) return ErrnoStatus(errno, "make a pipe");
  const FileDescriptor orders_read(orders[0]);
  process->to_child_ = FileDescriptor(orders[1]);
  if (pipe2(messages.data(), O_CLOEXEC) != 0) return ErrnoStatus(errno, "make a pipe");
  process->from_child_ = FileDescriptor(messages[0]);
  FileDescriptor messages_write(messages[1]);
  std::fflush(nullptr);  // Or the child would have what is still in the buffers, too.
  const pid_t pid = fork();
  if (pid < 0) return ErrnoStatus(errno, "start a process for " + arm.name);
  if (pid == 0) {
    // A group of its own: a Ctrl-C reaches the parent alone, which ends the whole group.
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    process->to_child_ = {};
    Live(arm, options, context, process->group_, orders_read.get(), messages_write.get());
    _exit(0);
  }
  setpgid(pid, pid);
  process->pid_ = pid;
  messages_write = {};  // The child's alone, so that its death ends the pipe.
  Result<SliceFigures> opened = process->Await();
  if (!opened.ok()) return std::move(opened).TakeStatus();
  return process;
}

ArmProcess::~ArmProcess() {
  if (pid_ <= 0) return;
  kill(-pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

Result<SliceFigures> ArmProcess::RunSlice(const Workload& workload, std::uint64_t seed) {
  if (!WriteWhole(to_child_.get(), Order{&workload, seed})) return DescribeDeath();
  return Await();
}

Result<SliceFigures> ArmProcess::Await() {
  pollfd polled{from_child_.get(), POLLIN, 0};
  while (poll(&polled, 1, 100) <= 0) {
    if (tools::Interrupted()) return Status(StatusCode::kCancelled, "stopped by a signal");
  }
  Message message;
  if (!ReadWhole(from_child_.get(), message)) return DescribeDeath();
  if (message.code != StatusCode::kOk) return Status(message.code, message.text.data());
  description_ = message.text.data();
  return message.figures;
}

Status ArmProcess::DescribeDeath() {
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  kill(-pid_, SIGKILL);  // What it had started.
  pid_ = -1;
  if (group_.valid() && group_.KillCount() > 0) {
    return Status(StatusCode::kResourceExhausted,
                  name_ + " died: killed by the kernel at its memory limit");
  }
  if (WIFSIGNALED(status)) {
    return Status(StatusCode::kUnavailable,
                  fmt::format("{} died: {}", name_, strsignal(WTERMSIG(status))));
  }
  return Status(StatusCode::kUnavailable,
                fmt::format("{} ended with code {} before it was done", name_,
                            WIFEXITED(status) ? WEXITSTATUS(status) : -1));
}

}  // namespace tiercel::peers
