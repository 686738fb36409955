#ifndef TIERCEL_STORE_HOT_SET_FILE_H_
#define TIERCEL_STORE_HOT_SET_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "cache/hot_set_coding.h"
#include "store/space.h"
#include "tiercel/checkpoint.h"
#include "tiercel/status.h"

namespace tiercel {

/// What a hot set is bound to.
struct TableIdentity {
  std::uint64_t table_id = 0;    ///< Recipe, shapes, row formats, extents, file sizes.
  std::uint64_t content_id = 0;  ///< The times at which the files were last written, too.
};

/// Errors: as ErrnoStatus, of a table file that cannot be looked at.
[[nodiscard]] Result<TableIdentity> IdentityOf(const CheckpointInfo& checkpoint);

/// The group spaces of `layout`, as a hot set file names them.
[[nodiscard]] std::vector<HotSetSpace> HotSetSpacesOf(const Layout& layout);

/// Reads a hot set's header and compares the file's size with it.
/// Errors: as InspectHotSet().
[[nodiscard]] Result<HotSetHeader> ReadHotSetHeader(const std::string& path);

/// OK if the hot set belongs to the tables and the shard. `use_bytes`: the groups' bytes are wanted
/// too. Errors: kInvalidArgument.
[[nodiscard]] Status CheckHotSetIdentity(const HotSetHeader& header, const TableIdentity& identity,
                                         bool use_bytes, const std::string& path,
                                         const CheckpointInfo& checkpoint);

}  // namespace tiercel

#endif  // TIERCEL_STORE_HOT_SET_FILE_H_
