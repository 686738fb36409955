#ifndef TIERCEL_STORE_GENERATION_WRITER_H_
#define TIERCEL_STORE_GENERATION_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "store/checksum_sidecar.h"
#include "store/file_writer.h"
#include "store/packed_manifest.h"
#include "store/row_stream.h"
#include "tiercel/checkpoint.h"
#include "tiercel/status.h"
#include "tiercel/verify.h"

namespace tiercel {

/// How far the files of a generation have been written, kept in pack-state.json so that a
/// kill loses the last piece at most.
struct GenerationProgress {
  /// Of source and options: what another call must agree with to go on.
  std::uint64_t job_id = 0;
  std::uint32_t layers_done = 0;
  std::uint64_t layer_bytes = 0;       ///< Of the next layer's file, on disk for good.
  std::vector<std::uint64_t> digests;  ///< Of the layers done, and of layer_bytes.

  [[nodiscard]] std::string Encode() const;
  /// Errors: kInvalidArgument, kCorruption.
  [[nodiscard]] static Result<GenerationProgress> Decode(std::string_view text,
                                                         const std::string& source_name);
};

/// Changes rows before they are written: those of a layer, ids from first_row on.
///   rows  shape [n, row size].
using PatchRows =
    std::function<Status(std::uint32_t layer_index, std::uint64_t first_row, std::span<std::byte>)>;

/// What to write.
struct GenerationJob {
  const CheckpointInfo& source;  ///< Layers are matched by id.
  const ChecksumSidecar* sums = nullptr;
  PackedManifest& manifest;  ///< Settled; gets the content digests.
  std::string directory;     ///< Of the manifest.
  PatchRows patch;           ///< May be null.
  Progress progress;
  std::uint64_t sync_bytes = std::uint64_t{1} << 30;
};

struct GenerationReport {
  std::uint64_t bytes_written = 0;
  std::uint64_t resumed_bytes = 0;
  bool direct_io = false;
};

/// Writes the files of a packed table's generation, all but the manifest: streams rows out
/// of the source into pages, layer by layer. Goes on from `progress`, and keeps it on disk.
/// What it returns with is durable, but for the directory itself.
///
/// Errors: as RowStream::Make() and FileWriter; kCorruption, kIoError (a row of the source
/// cannot be had).
[[nodiscard]] Result<GenerationReport> WriteGeneration(const GenerationJob& job,
                                                       GenerationProgress& progress);

}  // namespace tiercel

#endif  // TIERCEL_STORE_GENERATION_WRITER_H_
