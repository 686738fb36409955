#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/errno_status.h"
#include "base/file.h"
#include "tiercel/disk_profile.h"

namespace tiercel {
namespace {

/// Longest word that goes into a name: a file name has 255 bytes in all.
constexpr std::size_t kWordSizeMax = 64;

/// What statfs(2) calls f_type, for the file systems that one meets.
std::string FileSystemName(std::uint64_t magic) {
  constexpr std::array<std::pair<std::uint64_t, std::string_view>, 11> kNames = {{
      {0xEF53, "ext4"},  // ext2 and ext3 have the same number.
      {0x58465342, "xfs"},
      {0x9123683E, "btrfs"},
      {0x01021994, "tmpfs"},
      {0x858458F6, "ramfs"},
      {0x794C7630, "overlay"},
      {0x6969, "nfs"},
      {0x2FC12FC1, "zfs"},
      {0xF2F52010, "f2fs"},
      {0x01021997, "9p"},
      {0x65735546, "fuse"},
  }};
  for (const auto& [number, name] : kNames) {
    if (number == magic) return std::string(name);
  }
  return fmt::format("fs{:x}", magic);
}

/// `text` with all that may not stand in a file name made '_', and cut to a sane length.
std::string NameWord(std::string_view text) {
  std::string word(text.substr(0, kWordSizeMax));
  for (char& c : word) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!plain && c != '-' && c != '.') c = '_';
  }
  return word;
}

/// The first line of a file in /sys without spaces at its ends; empty if there is none.
std::string SysValue(const std::string& path) {
  constexpr std::uint64_t kSizeBytesMax = 4096;
  Result<std::string> text = ReadWholeFile(path, kSizeBytesMax);
  if (!text.ok()) return "";
  std::string line = text.value().substr(0, text.value().find('\n'));
  const std::size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string::npos) return "";
  line = line.substr(begin, line.find_last_not_of(" \t") - begin + 1);
  const bool printable = std::all_of(line.begin(), line.end(), [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7F;
  });
  return printable ? line : "";
}

/// The first of `names` that the disk with this number, or the disk of this partition, has.
std::string DiskValue(dev_t device, std::initializer_list<std::string_view> names) {
  for (const std::string_view folder : {"", "../"}) {
    for (const std::string_view name : names) {
      std::string value = SysValue(
          fmt::format("/sys/dev/block/{}:{}/{}{}", major(device), minor(device), folder, name));
      if (!value.empty()) return value;
    }
  }
  return "";
}

}  // namespace

Result<DiskIdentity> IdentifyDisk(const std::string& path) {
  struct stat info {};
  struct statfs file_system {};
  if (stat(path.c_str(), &info) != 0 || statfs(path.c_str(), &file_system) != 0) {
    return ErrnoStatus(errno, "look up the disk of " + path);
  }
  const bool is_device = S_ISBLK(info.st_mode);
  const dev_t device = is_device ? info.st_rdev : info.st_dev;
  const std::string numbers = fmt::format("{}:{}", major(device), minor(device));
  DiskIdentity disk;
  if (is_device) {
    disk.name = fmt::format("block-{}-{}", major(device), minor(device));
    disk.description = "block device " + numbers;
  } else {
    const std::string kind = FileSystemName(static_cast<std::uint32_t>(file_system.f_type));
    disk.name = fmt::format(
        "{}-{:08x}{:08x}-{}-{}", kind, static_cast<std::uint32_t>(file_system.f_fsid.__val[0]),
        static_cast<std::uint32_t>(file_system.f_fsid.__val[1]), major(device), minor(device));
    disk.description = fmt::format("{} on device {}", kind, numbers);
  }
  // NVMe and SCSI disks say who they are in device/, virtio disks beside it; the device
  // mapper has a name of its own for each volume.
  const std::string model = DiskValue(device, {"device/model", "dm/name"});
  const std::string serial =
      DiskValue(device, {"device/serial", "serial", "dm/uuid", "device/wwid"});
  if (!model.empty()) disk.name += "-" + NameWord(model);
  if (!serial.empty()) disk.name += "-" + NameWord(serial);
  if (!model.empty() && !serial.empty()) {
    disk.description += fmt::format(" ({}, serial {})", model, serial);
  } else if (!model.empty() || !serial.empty()) {
    disk.description += fmt::format(" ({})", model.empty() ? serial : model);
  }
  return disk;
}

}  // namespace tiercel
