#ifndef TIERCEL_CACHE_HOT_GROUP_H_
#define TIERCEL_CACHE_HOT_GROUP_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace tiercel {

/// A group's name, and how much it was used.
struct HotGroupId {
  std::uint64_t key = 0;
  std::uint32_t space = 0;
  std::uint8_t uses = 0;  ///< As the cache counts them: few, saturating.
};

/// What became of a group that was to be made resident.
enum class HotOutcome : std::uint8_t {
  kLoaded = 0,  ///< It is resident now.
  kPresent,     ///< It was resident already, and was left as it is.
  kNoRoom,      ///< No slot is free; nothing is dropped for a hot set.
};

/// A resident group as GroupExport shows it.
struct HotGroup {
  HotGroupId id;
  std::span<const std::byte> bytes;  ///< Good until the visitor returns.
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_HOT_GROUP_H_
