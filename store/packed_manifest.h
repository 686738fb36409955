#ifndef TIERCEL_STORE_PACKED_MANIFEST_H_
#define TIERCEL_STORE_PACKED_MANIFEST_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/resident_part.h"
#include "tiercel/checkpoint.h"
#include "tiercel/recipe.h"
#include "tiercel/row_format.h"
#include "tiercel/status.h"

namespace tiercel {

inline constexpr std::string_view kManifestName = "manifest.json";
inline constexpr std::string_view kPackStateName = "pack-state.json";
inline constexpr std::string_view kPackedTokenMapName = "token_map.u32";

/// A tensor that rows were packed from: `unpack` makes it again.
struct PackedTensor {
  std::uint32_t part = 0;  ///< Of the rows: V4.1 has values and scales.
  std::string name;
  std::uint64_t first_row = 0;
  std::uint64_t row_count = 0;

  friend bool operator==(const PackedTensor&, const PackedTensor&) = default;
};

/// The rows of one layer in one file.
struct PackedLayer {
  std::uint32_t layer_id = 0;
  RowShape shape;
  std::uint64_t row_count = 0;   ///< Of the table, whatever part of it is here.
  std::vector<RowRange> ranges;  ///< Rising, apart: what is here. Each begins with a page.
  std::string file_name;         ///< "gen-000001/layer-1.rows", from the manifest's directory.
  RowPages pages;
  std::uint64_t content_digest = 0;
  std::vector<PackedTensor> tensors;
  /// The source's parts, bytes of each: where `tensors` split a row. Sum: the row's size.
  std::vector<std::uint32_t> part_size_bytes;

  [[nodiscard]] std::uint64_t page_count() const noexcept;
  /// Header page and pages.
  [[nodiscard]] std::uint64_t file_bytes() const noexcept {
    return (page_count() + 1) * pages.page_size_bytes;
  }
  [[nodiscard]] std::uint64_t packed_row_count() const noexcept;
};

/// The token map that a packed table carries, in a file of its own.
struct PackedTokenMap {
  std::uint64_t entry_count = 0;
  std::uint64_t checksum = 0;  ///< Of the file.
};

/// A packed table: all that its manifest.json says (docs/format.md).
struct PackedManifest {
  std::uint64_t generation = 1;
  std::string source_layout;
  std::optional<std::uint64_t> synthetic_seed;
  Recipe recipe;    ///< Of the layers that are here; of all heads.
  HeadShard shard;  ///< Whose rows are here.
  std::optional<PackedTokenMap> token_map;
  std::vector<PackedLayer> layers;
};

/// Sets file names and pages (with their tags) of all layers, from the rest.
void SettlePages(PackedManifest& manifest);

/// The manifest as a file's text; the last thing in it is a checksum of all before.
[[nodiscard]] std::string EncodeManifest(const PackedManifest& manifest);

/// Errors: kInvalidArgument (no manifest, another version, parts that contradict each
/// other), kCorruption (the checksum does not hold).
[[nodiscard]] Result<PackedManifest> DecodeManifest(std::string_view text,
                                                    const std::string& source_name);

/// The first page of a layer's file: shape [pages.page_size_bytes].
void EncodeFileHeader(const PackedManifest& manifest, const PackedLayer& layer,
                      std::span<std::byte> page) noexcept;

/// The directory of a packed table that is given by it or by its manifest.
[[nodiscard]] std::string PackedDirectory(const std::string& path);

/// Whether there is a manifest at `path`, a directory (or the manifest itself).
[[nodiscard]] bool IsPackedTable(const std::string& path);

/// Reads and checks manifest and file headers of the packed table at `path`.
/// Errors: as InspectCheckpoint; kCorruption (a file's size or header is not what the
/// manifest says).
[[nodiscard]] Result<CheckpointInfo> InspectPacked(const std::string& path);

/// The manifest of the packed table at `path`. Errors: as DecodeManifest, ReadWholeFile.
[[nodiscard]] Result<PackedManifest> ReadManifest(const std::string& path);

}  // namespace tiercel

#endif  // TIERCEL_STORE_PACKED_MANIFEST_H_
