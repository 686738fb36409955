#include "bench/peers/subprocess.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/errno_status.h"
#include "base/file.h"

namespace tiercel::peers {
namespace {

constexpr int kCannotStart = 127;  // As shells have it.

[[noreturn]] void Execute(const std::vector<std::string>& arguments, int out, int error) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  dup2(out, STDOUT_FILENO);
  dup2(error, STDERR_FILENO);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execvp(argv[0], argv.data());
  _exit(kCannotStart);
}

/// Reads both pipes to their ends.
void Drain(const FileDescriptor& out, const FileDescriptor& error, std::string& out_text,
           std::string& error_text) {
  std::array<pollfd, 2> polled{{{out.get(), POLLIN, 0}, {error.get(), POLLIN, 0}}};
  const std::array<std::string*, 2> texts{&out_text, &error_text};
  std::array<char, 65536> buffer;
  while (polled[0].fd >= 0 || polled[1].fd >= 0) {
    if (poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) return;
    for (std::size_t i = 0; i < polled.size(); ++i) {
      if (polled[i].fd < 0 || polled[i].revents == 0) continue;
      const ssize_t got = read(polled[i].fd, buffer.data(), buffer.size());
      if (got > 0) texts[i]->append(buffer.data(), static_cast<std::size_t>(got));
      if (got == 0 || (got < 0 && errno != EINTR)) polled[i].fd = -1;
    }
  }
}

}  // namespace

Result<std::string> RunProgram(const std::vector<std::string>& arguments) {
  std::array<int, 2> out{};
  std::array<int, 2> error{};
  if (pipe2(out.data(), O_CLOEXEC) != 0) return ErrnoStatus(errno, "make a pipe");
  const FileDescriptor out_read(out[0]);
  FileDescriptor out_write(out[1]);
  if (pipe2(error.data(), O_CLOEXEC) != 0) return ErrnoStatus(errno, "make a pipe");
  const FileDescriptor error_read(error[0]);
  FileDescriptor error_write(error[1]);
  const pid_t child = fork();
  if (child < 0) return ErrnoStatus(errno, "start " + arguments[0]);
  if (child == 0) Execute(arguments, out[1], error[1]);
  out_write = {};
  error_write = {};
  std::string out_text;
  std::string error_text;
  Drain(out_read, error_read, out_text, error_text);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == kCannotStart && out_text.empty()) {
    return Status(StatusCode::kNotFound, arguments[0] + " is not installed");
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return Status(StatusCode::kIoError,
                  fmt::format("{} failed: {}", arguments[0],
                              error_text.empty() ? out_text.substr(0, 500) : error_text));
  }
  return out_text;
}

}  // namespace tiercel::peers
