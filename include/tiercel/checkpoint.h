#ifndef TIERCEL_CHECKPOINT_H_
#define TIERCEL_CHECKPOINT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/recipe.h"
#include "tiercel/row_format.h"
#include "tiercel/status.h"
#include "tiercel/token_map.h"
#include "tiercel/types.h"

namespace tiercel {

/// A file that holds table bytes.
struct TableFile {
  std::string path;
  std::uint64_t size_bytes = 0;
};

/// Consecutive rows (or parts of rows) that lie densely in one file.
struct RowExtent {
  std::uint32_t file_index = 0;    ///< Into CheckpointInfo::files.
  std::uint64_t offset_bytes = 0;  ///< Of the extent's first row, from the start of the file.
  std::uint64_t first_row = 0;     ///< Row id of that row.
  std::uint64_t row_count = 0;     ///< Rows in the extent. > 0.
  std::string tensor;              ///< The tensor's name, for messages.
};

/// The pages of a packed table (docs/format.md): whole rows with their checksums.
struct RowPages {
  std::uint32_t rows_per_page = 0;    ///< 0: no pages, the rows lie densely.
  std::uint32_t page_size_bytes = 0;  ///< A multiple of 4,096.
  std::uint64_t tag = 0;              ///< What the file's page headers are made with.
};

/// A slice of every row, stored apart from the others: a V4.1 row is 256 weight
/// bytes from one tensor and 8 scale bytes from another.
struct RowPart {
  std::uint32_t size_bytes = 0;  ///< Bytes of one row in this part.
  /// By first_row; together they are [0, row_count), or the rows of PackedInfo::shard.
  std::vector<RowExtent> extents;
  RowPages pages;  ///< Each extent begins with a page.
};

/// One layer's table as it lies on disk.
struct LayerTable {
  std::uint32_t layer_id = 0;
  RowShape shape;
  std::uint64_t row_count = 0;
  std::vector<RowPart> parts;  ///< A row is its parts one after another.
};

/// What a packed table's manifest says beside its tables.
struct PackedInfo {
  std::uint64_t generation = 0;  ///< 1 for a table that `pack` made; `compact` adds one.
  HeadShard shard;               ///< Whose rows are there; of one rank: all rows.
  /// Shape [layers]: sums, modulo 2^64, of the checksums of all rows of a table: tables
  /// of the same rows have the same, in whatever pages and generation.
  std::vector<std::uint64_t> content_digests;
  std::string source_layout;  ///< CheckpointInfo::layout of what was packed.
};

/// A checkpoint's tables: what they are and where they lie.
struct CheckpointInfo {
  std::string path;  ///< As given to InspectCheckpoint.
  /// "deepseek-v4.1", "qwen3.8", "engram-demo", "gguf" or "packed".
  std::string layout;
  Recipe recipe;
  std::vector<TableFile> files;
  std::vector<LayerTable> layers;  ///< In the order of recipe.layers.
  std::uint64_t table_bytes = 0;   ///< All table rows, scales included.
  /// Set for a checkpoint made by MakeCheckpoint: each row's bytes are a function
  /// of this seed (see SyntheticRow in synthetic.h).
  std::optional<std::uint64_t> synthetic_seed;
  std::optional<PackedInfo> packed;  ///< Of a packed table alone.
  /// The token map that the checkpoint itself has (GGUF); null where it has none.
  std::shared_ptr<const TokenMap> token_map;
  /// What a person should know of it, in words: a recipe that differs from what the formulas
  /// give, a token map that is missing. Mostly empty.
  std::vector<std::string> notes;
};

/// Reads a Hugging Face checkpoint directory (or one .safetensors file beside its
/// config.json), the directory of a packed table (packed.h), or a GGUF model, given by its
/// file (any part of a split one) or by a directory that has one such model and no
/// config.json, and finds its Engram tables. Reads headers alone, never rows.
///
/// Tensors are matched by suffix, since exports put different prefixes before
/// them. Every header is treated as hostile.
///
/// Errors: kNotFound (no config, no shard, no table tensor), kInvalidArgument (a
/// header that lies, shapes or dtypes against the config, an unknown model,
/// a directory with several GGUF models),
/// kCorruption (a truncated file), kPermissionDenied, kIoError; the message names
/// file, tensor and offset.
[[nodiscard]] Result<CheckpointInfo> InspectCheckpoint(const std::string& path);

}  // namespace tiercel

#endif  // TIERCEL_CHECKPOINT_H_
