#include "bench/peers/memory_cgroup.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/errno_status.h"
#include "base/file.h"

namespace tiercel::peers {
namespace {

Status WriteText(const std::string& path, const std::string& text) {
  const FileDescriptor file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid() || write(file.get(), text.data(), text.size()) < 0) {
    return ErrnoStatus(errno, fmt::format("write '{}' to {}", text, path));
  }
  return {};
}

/// Mount point of a cgroup hierarchy: v1's memory controller, or v2's.
std::string MountPoint(int version) {
  std::ifstream mounts("/proc/self/mounts");
  std::string device;
  std::string point;
  std::string type;
  std::string options;
  for (std::string rest;
       mounts >> device >> point >> type >> options && std::getline(mounts, rest);) {
    if (version == 2 && type == "cgroup2") return point;
    if (version == 1 && type == "cgroup" &&
        ("," + options + ",").find(",memory,") != std::string::npos) {
      return point;
    }
  }
  return {};
}

/// This process's place in the hierarchy, from /proc/self/cgroup.
std::string OwnPath(int version) {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool ours = version == 2
                          ? controllers.empty()
                          : ("," + controllers + ",").find(",memory,") != std::string::npos;
    const std::string path = line.substr(second + 1);
    if (ours) return path == "/" ? "" : path;
  }
  return {};
}

}  // namespace

MemoryCgroup& MemoryCgroup::operator=(MemoryCgroup&& other) noexcept {
  if (this != &other) {
    Remove();
    path_ = std::exchange(other.path_, {});
    version_ = other.version_;
  }
  return *this;
}

MemoryCgroup::~MemoryCgroup() {
  Remove();
}

void MemoryCgroup::Remove() noexcept {
  // A process that has just been reaped may still be counted for a moment.
  for (int i = 0; !path_.empty() && i < 100; ++i) {
    if (rmdir(path_.c_str()) == 0 || errno == ENOENT) path_.clear();
    if (!path_.empty()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  if (!path_.empty()) {
    fmt::print(stderr, "tiercel-peers: cannot remove {}: {}\n", path_, ErrnoName(errno));
    path_.clear();
  }
}

std::uint64_t MemoryCgroup::KillCount() const {
  std::ifstream file(path_ + (version_ == 1 ? "/memory.oom_control" : "/memory.events"));
  std::string key;
  for (std::uint64_t value = 0; file >> key >> value;) {
    if (key == "oom_kill") return value;
  }
  return 0;
}

Result<MemoryCgroup> MemoryCgroupParent::Make(const std::string& name,
                                              std::uint64_t limit_bytes) const {
  const std::string path = fmt::format("{}/tiercel-peers-{}-{}", path_, getpid(), name);
  if (mkdir(path.c_str(), 0755) != 0) return ErrnoStatus(errno, "make the cgroup " + path);
  MemoryCgroup group(path, version_);
  const std::string file = path + (version_ == 1 ? "/memory.limit_in_bytes" : "/memory.max");
  if (Status status = WriteText(file, std::to_string(limit_bytes)); !status.ok()) return status;
  return group;
}

MemoryCgroupParent MemoryCgroupParent::Find() {
  MemoryCgroupParent parent;
  parent.description_ = "not enforced: no memory cgroup is mounted";
  for (const int version : {1, 2}) {
    const std::string mount = MountPoint(version);
    if (mount.empty()) continue;
    const std::string own = mount + OwnPath(version);
    std::vector<std::string> places = {own};
    if (version == 2 && own != mount) {
      places.push_back(std::filesystem::path(own).parent_path().string());
    }
    for (const std::string& place : places) {
      parent.path_ = place;
      parent.version_ = version;
      Result<MemoryCgroup> group = parent.Make("try", std::uint64_t{1} << 30);
      if (group.ok()) {
        parent.description_ = fmt::format("cgroup v{} below {}", version, place);
        return parent;
      }
      parent.description_ = fmt::format("not enforced: {}", group.status().message());
      parent.path_.clear();
    }
  }
  return parent;
}

}  // namespace tiercel::peers
