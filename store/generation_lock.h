#ifndef TIERCEL_STORE_GENERATION_LOCK_H_
#define TIERCEL_STORE_GENERATION_LOCK_H_

#include <cstdint>
#include <string>

#include "base/file.h"
#include "tiercel/checkpoint.h"
#include "tiercel/status.h"

namespace tiercel {

// Who has the files of a packed table's generation open holds a shared lock on its folder
// (gen-000001); who would delete them must get an exclusive one. Locks go with the process,
// so that a crash leaves none. Where a file system has no locks, old generations stay.

/// Holds the generation that `checkpoint` describes until the descriptor is closed. Invalid
/// for a table that is not packed.
/// Errors: kUnavailable (the table has a newer generation by now: inspect it again).
[[nodiscard]] Result<FileDescriptor> HoldGeneration(const CheckpointInfo& checkpoint);

/// What RemoveOldGenerations() came to.
struct GenerationsRemoved {
  std::uint64_t removed = 0;
  std::uint64_t in_use = 0;
};

/// Deletes the folders of all generations of the packed table at `directory` but `current`,
/// except for those that somebody holds.
[[nodiscard]] GenerationsRemoved RemoveOldGenerations(const std::string& directory,
                                                      std::uint64_t current);

}  // namespace tiercel

#endif  // TIERCEL_STORE_GENERATION_LOCK_H_
