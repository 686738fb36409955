#include "store/apply_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "tiercel/disk_profile.h"

namespace tiercel {
namespace {

using Log = std::function<void(std::string_view)>;

struct FoundProfile {
  std::string path;
  DiskProfile profile;
};

/// The disks of the files, by name. A file that is not there is left out: the device has
/// the better words for it.
std::map<std::string, DiskIdentity> DisksOf(const std::vector<std::string>& paths) {
  std::map<std::string, DiskIdentity> disks;
  for (const std::string& path : paths) {
    Result<DiskIdentity> disk = IdentifyDisk(path);
    if (disk.ok()) disks.emplace(disk.value().name, std::move(disk).value());
  }
  return disks;
}

/// The profile in the default place of `disk`, if there is a good one.
std::optional<FoundProfile> FindProfile(const DiskIdentity& disk, const Log& log) {
  Result<std::string> path = DefaultDiskProfilePath(disk);
  if (!path.ok()) return std::nullopt;
  Result<DiskProfile> profile = LoadDiskProfile(path.value());
  if (profile.ok()) return FoundProfile{std::move(path).value(), std::move(profile).value()};
  if (profile.status().code() != StatusCode::kNotFound) {
    log(fmt::format("the disk's profile is ignored: {}", profile.status().message()));
  }
  return std::nullopt;
}

/// All profiles that might be applied. Errors: a named one cannot be loaded.
Result<std::vector<FoundProfile>> FindProfiles(const StoreOptions& options,
                                               const std::map<std::string, DiskIdentity>& disks,
                                               const Log& log) {
  std::vector<FoundProfile> found;
  if (!options.disk_profile_path.empty()) {
    Result<DiskProfile> profile = LoadDiskProfile(options.disk_profile_path);
    if (!profile.ok()) return std::move(profile).TakeStatus();
    found.push_back({options.disk_profile_path, std::move(profile).value()});
    return found;
  }
  for (const auto& [name, disk] : disks) {
    if (std::optional<FoundProfile> profile = FindProfile(disk, log)) {
      found.push_back(std::move(*profile));
    }
  }
  return found;
}

/// Whether the profile is of what is read here; `log` hears why not.
bool Fits(const FoundProfile& found, const std::map<std::string, DiskIdentity>& disks,
          std::string_view engine, const Log& log) {
  const DiskProfile& profile = found.profile;
  if (!disks.contains(profile.disk.name)) {
    log(
        fmt::format("the profile {} is of another disk ({}; the tables lie on {}) and is not "
                    "applied",
                    found.path, profile.disk.description,
                    disks.empty() ? "none" : disks.begin()->second.description));
    return false;
  }
  if (profile.engine != engine) {
    log(
        fmt::format("the profile {} was measured with {}, but {} reads here: it is not applied; "
                    "calibrate with that engine",
                    found.path, profile.engine, engine));
    return false;
  }
  return true;
}

}  // namespace

ReadSettings ReadSettingsOf(const StoreOptions& options) {
  return {.queue_depth = options.queue_depth != 0 ? options.queue_depth : kDefaultQueueDepth,
          .block_bytes = options.read_block_bytes,
          .profile_paths = ""};
}

Result<ReadSettings> ResolveReadSettings(const StoreOptions& options,
                                         const std::vector<std::string>& paths,
                                         const std::function<Result<std::string>()>& engine_name,
                                         const Log& log) {
  ReadSettings settings = ReadSettingsOf(options);
  const bool all_given = options.queue_depth != 0 && options.read_block_bytes != 0;
  if (all_given && options.disk_profile_path.empty()) return settings;
  const std::map<std::string, DiskIdentity> disks = DisksOf(paths);
  Result<std::vector<FoundProfile>> found = FindProfiles(options, disks, log);
  if (!found.ok()) return std::move(found).TakeStatus();
  if (found.value().empty() || all_given) return settings;
  Result<std::string> engine = engine_name();
  if (!engine.ok()) return std::move(engine).TakeStatus();

  std::uint32_t queue_depth = 0;
  std::uint32_t block_bytes = 0;
  std::size_t applied_count = 0;
  for (const FoundProfile& profile : found.value()) {
    if (!Fits(profile, disks, engine.value(), log)) continue;
    queue_depth = std::max(queue_depth, profile.profile.queue_depth);
    block_bytes = std::max(block_bytes, profile.profile.block_bytes);
    if (applied_count++ > 0) settings.profile_paths += ", ";
    settings.profile_paths += profile.path;
  }
  if (applied_count == 0) return settings;
  if (options.queue_depth == 0) settings.queue_depth = queue_depth;
  if (options.read_block_bytes == 0) settings.block_bytes = block_bytes;
  if (disks.size() > 1) {
    log(
        fmt::format("the tables lie on {} disks, {} of which have a profile: all are read with the "
                    "deepest queue ({}) and the largest block ({} B) of these",
                    disks.size(), applied_count, settings.queue_depth, settings.block_bytes));
  }
  return settings;
}

}  // namespace tiercel
