#ifndef TIERCEL_SYNTHETIC_H_
#define TIERCEL_SYNTHETIC_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "tiercel/checkpoint.h"
#include "tiercel/recipe.h"
#include "tiercel/row_format.h"
#include "tiercel/status.h"
#include "tiercel/token_map.h"
#include "tiercel/types.h"
#include "tiercel/verify.h"

namespace tiercel {

/// The bytes of one row of a made checkpoint: a pure function of its arguments,
/// so that any row can be checked from nothing. Values are finite and their
/// scales moderate, as in a trained table.
///
///   row_bytes  shape [shape.row_size_bytes()].
///
/// Never blocks or allocates.
void SyntheticRow(std::uint64_t seed, std::uint32_t layer_id, RowId row, const RowShape& shape,
                  std::span<std::byte> row_bytes) noexcept;

/// What MakeCheckpoint imitates.
enum class CheckpointModel : std::uint8_t { kDeepSeekV41Flash, kQwen38FlashNext, kEngramDemo };

/// "deepseek-v4.1-flash", "qwen3.8-flash-next", "engram-demo".
[[nodiscard]] std::string_view Name(CheckpointModel model) noexcept;

/// The files of a made checkpoint.
enum class CheckpointFormat : std::uint8_t {
  kSafetensors,  ///< A Hugging Face directory, as the model was published.
  kGguf,         ///< GGUF v3 with Engram keys (docs/format.md). DeepSeek-V4.1 alone.
};

struct MakeCheckpointOptions {
  CheckpointModel like = CheckpointModel::kDeepSeekV41Flash;
  /// Head sizes start at the model's base divided by this. >= 1.
  std::uint64_t shrink = 1;
  std::uint64_t seed = 1;
  std::string out_dir;  ///< Must not exist yet. Its parent must.
  /// Qwen3.8: E4M3 rows with one scale instead of bf16 rows.
  bool fp8 = false;
  /// Leave out the projections and norms that stand beside the tables.
  bool tables_only = false;
  CheckpointFormat format = CheckpointFormat::kSafetensors;
  /// GGUF: how rows are stored. kFp32, kFp16, kBf16, kQ8_0, kQ4_K, kQ3_K or kQ2_K.
  RowFormat gguf_row_format = RowFormat::kQ8_0;
  /// GGUF: files that the tensors are split over. In [1, 1000].
  std::uint32_t gguf_split_count = 1;
  /// GGUF: the map that goes into the file; vocabulary and classes are its own. Null: one of
  /// the model's sizes, the identity up to the last class and then around again.
  std::shared_ptr<const TokenMap> gguf_token_map;
  Progress progress;
};

struct MakeCheckpointReport {
  std::uint64_t file_count = 0;
  std::uint64_t bytes_written = 0;
  std::uint64_t row_count = 0;
  bool direct_io = false;  ///< False where the file system has no O_DIRECT.
};

/// Parameters of the model at the given shrink.
[[nodiscard]] Result<RecipeParameters> ModelParameters(CheckpointModel model, std::uint64_t shrink);

/// Writes a checkpoint directory of the model's real format: the same names,
/// dtypes, shapes (head sizes aside), sharding, index and config.json. In GGUF: model.gguf, or
/// its parts model-00001-of-0000N.gguf, and nothing else.
///
/// Writes beside `out_dir` and renames at the end: a failure, a cancellation or a
/// kill leaves nothing at `out_dir`. Blocks until all is on disk.
///
/// Errors: kInvalidArgument (shrink 0, or so large that no head is left; a model
/// or row format that GGUF is not made of, or parts out of range),
/// kAlreadyExists (`out_dir` is there), kNotFound (its parent is not), kResourceExhausted (not
/// enough free space, told before anything is written, with the figures; or the disk filled up),
/// kPermissionDenied, kIoError, kCancelled.
[[nodiscard]] Result<MakeCheckpointReport> MakeCheckpoint(const MakeCheckpointOptions& options);

/// VerifyTable() of a checkpoint that must have been made by MakeCheckpoint(), or packed
/// from such a one. Errors: as there; kInvalidArgument (it was not).
[[nodiscard]] Result<VerifyReport> VerifySynthetic(const CheckpointInfo& checkpoint,
                                                   const Progress& progress);

}  // namespace tiercel

#endif  // TIERCEL_SYNTHETIC_H_
