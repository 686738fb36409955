#ifndef TIERCEL_STORE_PACK_H_
#define TIERCEL_STORE_PACK_H_

#include <cstdint>
#include <string>

#include "base/file.h"
#include "store/generation_writer.h"
#include "store/packed_manifest.h"
#include "tiercel/checkpoint.h"
#include "tiercel/packed.h"
#include "tiercel/status.h"

namespace tiercel {

/// What a table is packed with beside PackOptions.
struct PackExtras {
  std::uint64_t sync_bytes = std::uint64_t{1} << 30;  ///< That a kill may cost.
  PatchRows patch;                                    ///< Changes rows; may be null.
  std::uint64_t patch_id = 0;                         ///< Another one for another patch.
};

/// PackTable() with more to say.
[[nodiscard]] Result<PackReport> PackTableWith(const PackOptions& options,
                                               const PackExtras& extras);

/// The manifest of the tables of `source` in packed form, settled, without digests.
/// Errors: kNotFound (no such layer), kInvalidArgument (a shard out of range; rows that the
/// source has not; a row too large).
[[nodiscard]] Result<PackedManifest> ManifestFor(const CheckpointInfo& source,
                                                 const std::vector<std::uint32_t>& layer_ids,
                                                 HeadShard shard, std::uint64_t generation);

/// Tells a job that writes a generation from others: by source, manifest and patch.
/// Errors: as IdentityOf().
[[nodiscard]] Result<std::uint64_t> PackJobId(const CheckpointInfo& source,
                                              const PackedManifest& manifest,
                                              std::uint64_t patch_id);

/// The progress that a job left in pack-state.json; fresh where it left none, or where
/// another job did (`foreign` says so).
struct FoundProgress {
  GenerationProgress progress;
  bool foreign = false;
};
[[nodiscard]] Result<FoundProgress> ReadProgress(const std::string& directory,
                                                 std::uint64_t job_id);

/// Whether the disk has room for what is still missing of the manifest's files.
/// Errors: kResourceExhausted, with the figures.
[[nodiscard]] Status CheckRoomFor(const std::string& directory, const PackedManifest& manifest);

/// Puts the manifest in place, which makes its generation the table, and removes the state.
[[nodiscard]] Status PublishManifest(const std::string& directory, const PackedManifest& manifest);

/// An exclusive lock on a directory that is written to, held until it is closed.
/// Errors: kUnavailable (another process has it).
[[nodiscard]] Result<FileDescriptor> LockDirectory(const std::string& directory);

}  // namespace tiercel

#endif  // TIERCEL_STORE_PACK_H_
