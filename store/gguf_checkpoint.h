#ifndef TIERCEL_STORE_GGUF_CHECKPOINT_H_
#define TIERCEL_STORE_GGUF_CHECKPOINT_H_

#include <optional>
#include <string>

#include "store/gguf.h"
#include "tiercel/checkpoint.h"
#include "tiercel/row_format.h"
#include "tiercel/status.h"

namespace tiercel {

/// Metadata of a made GGUF file: the seed of its rows, and the generator that made them.
inline constexpr std::string_view kGgufSeedKey = "tiercel.synthetic.seed";
inline constexpr std::string_view kGgufGeneratorKey = "tiercel.synthetic.generator";

/// How rows of that tensor type are stored; nothing for a type that is not read.
[[nodiscard]] std::optional<RowFormat> RowFormatOfGguf(const GgufTensorType& type) noexcept;
/// The tensor type whose rows are stored so; nothing for a format that GGUF has not.
[[nodiscard]] std::optional<GgufTensorType> GgufTypeOf(RowFormat format) noexcept;

/// "blk.L.engram_embd.weight".
[[nodiscard]] std::string GgufTableName(std::uint32_t layer_id);

/// InspectCheckpoint() of a GGUF model.
///
///   path       as the caller gave it: CheckpointInfo::path.
///   gguf_path  the file, or any part of a split one.
///
/// Errors: as InspectCheckpoint().
[[nodiscard]] Result<CheckpointInfo> InspectGguf(const std::string& path,
                                                 const std::string& gguf_path);

}  // namespace tiercel

#endif  // TIERCEL_STORE_GGUF_CHECKPOINT_H_
