#ifndef TIERCEL_STORE_CHECKPOINT_SHARDS_H_
#define TIERCEL_STORE_CHECKPOINT_SHARDS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "store/checkpoint_match.h"
#include "store/safetensors.h"
#include "tiercel/checkpoint.h"
#include "tiercel/recipe.h"
#include "tiercel/status.h"

namespace tiercel {

/// A tensor of a table, found in a shard.
struct TableTensor {
  TableTensorName is;
  TensorInfo info;
  std::uint32_t file_index = 0;  ///< Into FoundTensors::files.
};

/// All table tensors of a checkpoint, and the shards that hold them.
struct FoundTensors {
  std::vector<TableFile> files;
  std::vector<TableTensor> tensors;
};

/// Where a checkpoint's parts are.
struct CheckpointPlace {
  std::string directory;     ///< As given, without '/' at the end unless it is "/".
  std::string single_shard;  ///< The .safetensors file, if one was given; else empty.
};

/// Tells a directory from a single .safetensors file.
/// Errors: kNotFound, kPermissionDenied, kInvalidArgument (neither), kIoError.
[[nodiscard]] Result<CheckpointPlace> LocateCheckpoint(const std::string& path);

/// Finds the table tensors of a model of that kind. With an index
/// (model.safetensors.index.json) only the shards that hold some are opened.
///
/// Errors: as InspectCheckpoint.
[[nodiscard]] Result<FoundTensors> FindTableTensors(const CheckpointPlace& place, RecipeKind kind);

/// A row of an index: this tensor is in that shard.
struct IndexEntry {
  std::string tensor;
  std::string shard;
};

/// Reads the weight_map of an index. Keeps the entries of wanted tensors alone.
/// Shard names must be plain file names.
/// Errors: kInvalidArgument.
[[nodiscard]] Result<std::vector<IndexEntry>> ParseIndexFile(std::string_view text,
                                                             std::string_view source_name,
                                                             const TensorFilter& wanted);

}  // namespace tiercel

#endif  // TIERCEL_STORE_CHECKPOINT_SHARDS_H_
