#ifndef TIERCEL_STORE_PACK_H_
#define TIERCEL_STORE_PACK_H_

#include <cstdint>
#include <string>

#include "base/file.h"
#include "store/packed_manifest.h"
#include "tiercel/checkpoint.h"
#include "tiercel/packed.h"
#include "tiercel/status.h"

namespace tiercel {

/// PackTable() with the size of the pieces that a kill may cost.
[[nodiscard]] Result<PackReport> PackTableInPieces(const PackOptions& options,
                                                   std::uint64_t sync_bytes);

/// The manifest of the tables of `source` in packed form, settled, without digests.
/// Errors: kNotFound (no such layer), kInvalidArgument (a shard out of range; rows that the
/// source has not; a row too large).
[[nodiscard]] Result<PackedManifest> ManifestFor(const CheckpointInfo& source,
                                                 const std::vector<std::uint32_t>& layer_ids,
                                                 HeadShard shard, std::uint64_t generation);

/// Puts the manifest in place, which makes its generation the table, and removes the state.
[[nodiscard]] Status PublishManifest(const std::string& directory, const PackedManifest& manifest);

/// An exclusive lock on a directory that is written to, held until it is closed.
/// Errors: kUnavailable (another process has it).
[[nodiscard]] Result<FileDescriptor> LockDirectory(const std::string& directory);

}  // namespace tiercel

#endif  // TIERCEL_STORE_PACK_H_
