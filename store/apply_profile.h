#ifndef TIERCEL_STORE_APPLY_PROFILE_H_
#define TIERCEL_STORE_APPLY_PROFILE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/status.h"
#include "tiercel/store.h"

namespace tiercel {

/// The depth where neither the caller nor a profile says one: what cloud disks and NVMe
/// drives alike have their knee at or before.
inline constexpr std::uint32_t kDefaultQueueDepth = 128;

/// What a store reads with, and by whose word.
struct ReadSettings {
  std::uint32_t queue_depth = kDefaultQueueDepth;
  std::uint32_t block_bytes = 0;  ///< As DeviceOptions::block_bytes: 0 is the disk's own.
  std::string profile_paths;      ///< Of the profiles that were applied; empty for none.
};

/// Settings from the options, and what these leave open (0) from the profiles of the
/// disks that hold `paths`: options.disk_profile_path, or each disk's default place.
/// Several disks share the deepest queue and the largest block of their profiles.
///
/// `engine_name` is called at most once, if there is a profile: which engine the files
/// will be read with. A profile of another engine or disk is not applied; `log` hears of
/// that, and of a damaged one in a default place.
///
/// Errors: of a named profile, as LoadDiskProfile(); engine_name()'s.
[[nodiscard]] Result<ReadSettings> ResolveReadSettings(
    const StoreOptions& options, const std::vector<std::string>& paths,
    const std::function<Result<std::string>()>& engine_name,
    const std::function<void(std::string_view)>& log);

/// The settings of the options alone: no file is looked at.
[[nodiscard]] ReadSettings ReadSettingsOf(const StoreOptions& options);

}  // namespace tiercel

#endif  // TIERCEL_STORE_APPLY_PROFILE_H_
