#include "store/generation_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "store/packed_manifest.h"

namespace tiercel {
namespace {

constexpr std::string_view kFolderPrefix = "gen-";

Status Superseded(const CheckpointInfo& checkpoint) {
  return Status(StatusCode::kUnavailable,
                fmt::format("generation {} of {} was superseded while it was being opened: open it "
                            "again",
                            checkpoint.packed->generation, checkpoint.path));
}

}  // namespace

Result<FileDescriptor> HoldGeneration(const CheckpointInfo& checkpoint) {
  if (!checkpoint.packed || checkpoint.files.empty()) return FileDescriptor();
  const std::string folder =
      std::filesystem::path(checkpoint.files.front().path).parent_path().string();
  Result<FileDescriptor> held = OpenFile(folder, O_RDONLY | O_DIRECTORY);
  if (!held.ok()) {
    if (held.status().code() == StatusCode::kNotFound) return Superseded(checkpoint);
    return held;
  }
  if (flock(held.value().get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    return Superseded(checkpoint);
  }
  // Deleted after it was inspected and before it was locked?
  Result<PackedManifest> manifest = ReadManifest(checkpoint.path);
  if (!manifest.ok()) return std::move(manifest).TakeStatus();
  if (manifest.value().generation != checkpoint.packed->generation) return Superseded(checkpoint);
  return held;
}

GenerationsRemoved RemoveOldGenerations(const std::string& directory, std::uint64_t current) {
  std::vector<std::string> old;
  std::error_code error;
  for (std::filesystem::directory_iterator at(directory, error);
       !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (!name.starts_with(kFolderPrefix)) continue;
    std::uint64_t generation = 0;
    const char* const begin = name.data() + kFolderPrefix.size();
    const char* const end = name.data() + name.size();
    const auto [reached, what] = std::from_chars(begin, end, generation);
    if (what == std::errc() && reached == end && generation != current) {
      old.push_back(at->path().string());
    }
  }
  GenerationsRemoved result;
  for (const std::string& folder : old) {
    const Result<FileDescriptor> lock = OpenFile(folder, O_RDONLY | O_DIRECTORY);
    if (!lock.ok() || flock(lock.value().get(), LOCK_EX | LOCK_NB) != 0) {
      ++result.in_use;
      continue;
    }
    std::filesystem::remove_all(folder, error);
    ++(error ? result.in_use : result.removed);
  }
  return result;
}

}  // namespace tiercel
