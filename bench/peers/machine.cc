#include "bench/peers/machine.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/file.h"

namespace tiercel::peers {
namespace {

/// The value behind `key` in a file of "key: value" lines.
std::string ValueOf(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t at = line.find_first_not_of(" \t:", key.size());
    return at == std::string::npos ? "" : line.substr(at);
  }
  return {};
}

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line.substr(0, line.find_last_not_of(' ') + 1);
}

std::uint64_t MemoryBytes(std::string_view key) {
  return std::strtoull(ValueOf("/proc/meminfo", key).c_str(), nullptr, 10) * 1024;
}

std::string DiskOf(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return "unknown";
  std::error_code error;
  std::filesystem::path device = std::filesystem::canonical(
      fmt::format("/sys/dev/block/{}:{}", major(status.st_dev), minor(status.st_dev)), error);
  if (error) return "no block device: a network, overlay or memory file system";
  // A partition's queue is its disk's.
  if (!std::filesystem::exists(device / "queue")) device = device.parent_path();
  const std::string model = FirstLine(device / "device" / "model");
  return fmt::format("{}{}, physical block {} B, read-ahead {} KiB", device.filename().string(),
                     model.empty() ? "" : " (" + model + ")",
                     FirstLine(device / "queue" / "physical_block_size"),
                     FirstLine(device / "queue" / "read_ahead_kb"));
}

std::string FileSystemOf(const std::string& path) {
  std::error_code error;
  const std::string real = std::filesystem::canonical(path, error).string();
  std::ifstream mounts("/proc/self/mounts");
  std::string best;
  std::string type = "unknown";
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string device;
    std::string point;
    std::string name;
    words >> device >> point >> name;
    const bool inside = real.starts_with(point) &&
                        (point == "/" || real.size() == point.size() || real[point.size()] == '/');
    if (inside && point.size() >= best.size()) {
      best = point;
      type = name;
    }
  }
  return type;
}

}  // namespace

std::uint64_t AvailableMemoryBytes() {
  return MemoryBytes("MemAvailable");
}

Machine DescribeMachine(const std::string& path) {
  Machine machine;
  machine.cpu = ValueOf("/proc/cpuinfo", "model name");
  machine.core_count = std::thread::hardware_concurrency();
  machine.memory_bytes = MemoryBytes("MemTotal");
  utsname names{};
  if (uname(&names) == 0) machine.kernel = fmt::format("{} {}", names.sysname, names.release);
  machine.disk = DiskOf(path);
  machine.file_system = FileSystemOf(path);
  std::array<double, 1> load{};
  if (getloadavg(load.data(), 1) == 1) machine.load = load[0];
  return machine;
}

PageCache::PageCache(bool everything) : everything_(everything) {
  if (!everything) {
    description_ = "posix_fadvise(DONTNEED) on the files, as asked for";
    return;
  }
  const int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
  const FileDescriptor file(fd);
  if (fd >= 0) {
    description_ = "/proc/sys/vm/drop_caches, and posix_fadvise(DONTNEED) on the files";
    return;
  }
  everything_ = false;
  description_ = fmt::format(
      "posix_fadvise(DONTNEED) on the files alone: /proc/sys/vm/drop_caches: {} (run as root)",
      std::strerror(errno));
}

void PageCache::Drop(const std::vector<std::string>& paths) const {
  for (const std::string& path : paths) {
    Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
    if (file.ok()) (void)posix_fadvise(file.value().get(), 0, 0, POSIX_FADV_DONTNEED);
  }
  if (!everything_) return;
  const FileDescriptor file(open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC));
  // A failure shows in nobody's figures but the page cache's users', who get better.
  if (file.valid()) (void)!write(file.get(), "1", 1);
}

}  // namespace tiercel::peers
