#ifndef TIERCEL_HOT_SET_H_
#define TIERCEL_HOT_SET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tiercel/recipe.h"
#include "tiercel/status.h"

namespace tiercel {

// A hot set is a file that names the groups that a store's DRAM cache holds, the most used
// first, with or without their bytes: a store that loads it is warm without having served.
// docs/format.md has its bytes. Saved and loaded by Store (store.h).

struct HotSetSaveOptions {
  /// With the groups' bytes: an image, as large as what the cache holds, that is read back
  /// in one sequential sweep. Without: 16 B a group; the rows are read from the tables.
  bool bytes = true;
  /// At most so many groups, the most used ones.
  std::uint64_t group_count_max = ~std::uint64_t{0};
  /// Size of a block, which is checked and refused as one: a power of two from 4 KiB to
  /// 1 MiB. Raised where a group would not fit.
  std::uint32_t block_bytes = 1 << 20;
};

struct HotSetLoadOptions {
  /// Take the groups' bytes from the file, if it has them. False: read all rows from the
  /// tables.
  bool bytes = true;
  /// This share of the file's groups, the most used ones, is never evicted. In [0, 1]; half
  /// of the cache at most is ever pinned, and stays so until the store is closed.
  double pin_share = 0.0;
};

/// What a hot set file is, by its header.
struct HotSetInfo {
  struct Space {
    std::uint32_t layer_id = 0;
    std::uint32_t order = 0;
    std::uint32_t group_size_bytes = 0;
    std::uint64_t group_count = 0;
  };
  std::string path;
  std::uint32_t version = 0;
  bool has_bytes = false;
  std::uint64_t group_count = 0;
  std::uint64_t block_count = 0;
  std::uint32_t block_bytes = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t saved_at_s = 0;  ///< Unix time.
  std::uint64_t table_id = 0;    ///< Of recipe, shapes, row formats and file sizes.
  std::uint64_t content_id = 0;  ///< Of those and the times the files were changed.
  HeadShard shard;               ///< Of the store that saved it: whose heads a group has.
  std::vector<Space> spaces;
};

/// Reads the header of a hot set file and compares the file's size with it.
///
/// Errors: kInvalidArgument (not a hot set, another version), kCorruption (a damaged
/// header, a truncated file: the message names the first block that is missing),
/// kNotFound, kPermissionDenied, kIoError.
[[nodiscard]] Result<HotSetInfo> InspectHotSet(const std::string& path);

enum class HotSetState : std::uint8_t {
  kNone = 0,   ///< No load was begun.
  kLoading,    ///< A thread is at it.
  kLoaded,     ///< All of it was gone through.
  kFailed,     ///< Some of it could not be used; `message` says what and why.
  kCancelled,  ///< It was stopped.
};

/// "none", "loading", ...: stable names.
[[nodiscard]] const char* Name(HotSetState state) noexcept;

/// How far the last load has come.
struct HotSetProgress {
  HotSetState state = HotSetState::kNone;
  std::uint64_t group_count = 0;      ///< Groups that the file names.
  std::uint64_t groups_loaded = 0;    ///< Made resident.
  std::uint64_t groups_present = 0;   ///< Resident already: read by a lookup meanwhile.
  std::uint64_t groups_left_out = 0;  ///< No room, a layer that is not served, a bad row.
  std::uint64_t groups_damaged = 0;   ///< At least: in blocks that were refused.
  std::uint64_t blocks_damaged = 0;
  std::uint64_t groups_pinned = 0;
  std::uint64_t read_bytes = 0;   ///< Read so far, from the file and the tables.
  std::uint64_t total_bytes = 0;  ///< To read in all; of keys alone, at most so many.
  std::uint64_t elapsed_ns = 0;   ///< Since the load began, until it ended.
  std::string message;            ///< Of kFailed: the first reason.
};

/// What SaveHotSet() wrote.
struct HotSetSaved {
  std::uint64_t group_count = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t elapsed_ns = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_HOT_SET_H_
