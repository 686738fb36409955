#include "cache/memory_limit.h"

#include <unistd.h>

#include <charconv>
#include <string_view>

#include "base/file.h"

namespace tiercel {
namespace {

/// Lowers `limit` to the number in the file `path`, if there is one: version 2 says
/// "max" for none, version 1 a number near 2^63.
void Lower(MemoryLimit& limit, const std::string& path) {
  const std::string text = ReadKernelFile(path);
  std::uint64_t bytes = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bytes);
  if (error == std::errc() && bytes < limit.bytes) limit = {.bytes = bytes, .source = path};
}

/// Walks from `cgroup` up to the root. Inside a container the path may be the host's
/// and exist nowhere; the root is then the container's own cgroup.
void LowerAlongPath(MemoryLimit& limit, const std::string& root, std::string cgroup,
                    const std::string& file) {
  for (;;) {
    while (!cgroup.empty() && cgroup.back() == '/') cgroup.pop_back();
    Lower(limit, root + cgroup + "/" + file);
    const std::size_t slash = cgroup.rfind('/');
    if (slash == std::string::npos) return;
    cgroup.resize(slash);
  }
}

/// Whether the comma-separated `list` names `word`.
bool Lists(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    if (list.substr(0, comma) == word) return true;
    if (comma == std::string_view::npos) return false;
    list.remove_prefix(comma + 1);
  }
  return false;
}

}  // namespace

MemoryLimit ReadMemoryLimit(const std::string& proc_root, const std::string& cgroup_root) {
  MemoryLimit limit{
      .bytes = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
               static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)),
      .source = "physical memory",
  };
  // Lines "ID:CONTROLLERS:PATH"; version 2 has one, "0::PATH".
  const std::string text = ReadKernelFile(proc_root + "/self/cgroup");
  std::string_view rest = text;
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string cgroup(line.substr(second + 1));
    if (controllers.empty()) {
      LowerAlongPath(limit, cgroup_root, cgroup, "memory.max");
      LowerAlongPath(limit, cgroup_root + "/unified", cgroup, "memory.max");  // Both versions.
    } else if (Lists(controllers, "memory")) {
      LowerAlongPath(limit, cgroup_root + "/memory", cgroup, "memory.limit_in_bytes");
    }
  }
  return limit;
}

}  // namespace tiercel
