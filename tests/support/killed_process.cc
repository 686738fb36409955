#include "tests/support/killed_process.h"

#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>

#include "base/check.h"

extern char** environ;

namespace tiercel::testing {

KilledProcess RunAndKill(const std::vector<std::string>& arguments,
                         std::chrono::microseconds delay) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t pid = 0;
  TIERCEL_CHECK(posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), environ) == 0);
  const auto end = std::chrono::steady_clock::now() + delay;
  int status = 0;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() >= end) {
      kill(pid, SIGKILL);
      TIERCEL_CHECK(waitpid(pid, &status, 0) == pid);
      break;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  return {.killed = WIFSIGNALED(status), .exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1};
}

std::uint32_t KillCount(std::uint32_t count) {
  const char* const text = std::getenv("TIERCEL_KILL_ROUNDS");
  return text == nullptr ? count : static_cast<std::uint32_t>(std::strtoul(text, nullptr, 10));
}

SmallFileSystem::SmallFileSystem(std::string path, std::uint64_t size_bytes)
    : path_(std::move(path)) {
  std::filesystem::create_directory(path_);
  const std::string options = fmt::format("size={}", size_bytes);
  if (mount("tmpfs", path_.c_str(), "tmpfs", 0, options.c_str()) != 0) {
    why_not_ = fmt::format("no small file system: mount: {}", std::strerror(errno));
  }
}

SmallFileSystem::~SmallFileSystem() {
  if (why_not_.empty()) umount2(path_.c_str(), MNT_DETACH);
}

}  // namespace tiercel::testing
