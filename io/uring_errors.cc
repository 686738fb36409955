#include "io/uring_errors.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>

#include "base/errno_status.h"

namespace tiercel {
namespace {

std::string_view Name(UringCall call) {
  switch (call) {
    case UringCall::kSetup:
      return "io_uring_setup";
    case UringCall::kEnter:
      return "io_uring_enter";
    case UringCall::kRegister:
      return "io_uring_register";
  }
  return "io_uring";
}

/// Value of the sysctl kernel.io_uring_disabled (Linux 6.6 on); -1 if there is none.
int DisabledSysctl() {
  std::FILE* const file = std::fopen("/proc/sys/kernel/io_uring_disabled", "re");
  if (file == nullptr) return -1;
  int value = -1;
  if (std::fscanf(file, "%d", &value) != 1) value = -1;  // NOLINT(cert-err34-c)
  std::fclose(file);
  return value;
}

std::string NotPermittedSentence() {
  switch (DisabledSysctl()) {
    case 2:
      return "io_uring is switched off for everyone: kernel.io_uring_disabled is 2; an "
             "administrator can allow it with 'sysctl kernel.io_uring_disabled=0'";
    case 1:
      return "io_uring is switched off for unprivileged processes: kernel.io_uring_disabled is 1; "
             "join the group of kernel.io_uring_group, or 'sysctl kernel.io_uring_disabled=0'";
    default:
      return "a seccomp profile or security module forbids it (the default profiles of Docker and "
             "containerd do; the sysctl kernel.io_uring_disabled is not the cause); run the "
             "container with a profile that allows io_uring_setup, io_uring_enter and "
             "io_uring_register";
  }
}

}  // namespace

std::string UringSentence(UringCall call, int os_error) {
  switch (os_error) {
    case ENOSYS:
      return "this kernel has no io_uring (Linux 5.11 or later is needed), or a seccomp profile "
             "hides it; update the kernel or allow the io_uring calls in the container's profile";
    case EPERM:
    case EACCES:
      return NotPermittedSentence();
    case ENOMEM:
      return "no memory for the ring, or the limit of locked memory is too low: raise "
             "'ulimit -l' or lower the depth";
    case EMFILE:
      return call == UringCall::kRegister
                 ? "more files than 'ulimit -n' lets a ring register: raise it"
                 : "too many open files in this process: raise 'ulimit -n'";
    case ENFILE:
      return "the system's file table is full: raise the sysctl fs.file-max";
    case EINVAL:
      return "this kernel's io_uring is too old: Linux 5.11 or later is needed";
    case EAGAIN:
      return "the kernel has no room for more requests now: lower the depth";
    case EBUSY:
      return "completions were not collected in time";
    case EEXIST:
      return "a ring is used by a second thread: a read queue belongs to one";
    case EBADFD:
      return "the ring was not switched on yet";
    case EBADR:
      return "the kernel dropped completions for want of memory";
    case EBADF:
    case EOPNOTSUPP:
      return "the descriptor is not a ring: something closed a file of the library";
    case EFAULT:
      return "a buffer is not mapped";
    case EOVERFLOW:
      return "the buffers are larger than the kernel can register";
    case EOWNERDEAD:
      return "the kernel's submission thread died";
    case ENXIO:
      return "the ring is being torn down";
    default:
      return "unexpected: please report it with the kernel's version";
  }
}

Status UringStatus(UringCall call, int os_error) {
  StatusCode code = StatusCode::kUnavailable;
  if (os_error == ENOMEM || os_error == EMFILE || os_error == ENFILE || os_error == EAGAIN) {
    code = StatusCode::kResourceExhausted;
  }
  return Status(
      code,
      fmt::format("{}: {}: {}", Name(call), ErrnoName(os_error), UringSentence(call, os_error)),
      os_error);
}

}  // namespace tiercel
