#ifndef TIERCEL_STORE_MAKE_CHECKPOINT_PLAN_H_
#define TIERCEL_STORE_MAKE_CHECKPOINT_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "store/safetensors.h"
#include "store/synthetic.h"
#include "tiercel/status.h"
#include "tiercel/synthetic.h"

namespace tiercel {

/// A tensor that is going to be written: a literal, or synthetic rows.
struct PlannedTensor {
  std::string name;
  TensorType type = TensorType::kU8;
  std::vector<std::uint64_t> shape;
  std::uint64_t size_bytes = 0;
  std::string literal;  ///< The bytes themselves; empty: they are made by `source`.
  SyntheticTable source;
  std::uint32_t part = 0;
  std::uint64_t first_row = 0;
};

/// A file: its header's bytes, then its tensors, one after another.
struct PlannedFile {
  std::string name;
  std::string header;  ///< All that stands before the tensors, padding included.
  std::vector<PlannedTensor> tensors;
  std::uint64_t size_bytes = 0;
};

/// A small file, written whole.
struct PlannedText {
  std::string name;
  std::string text;
};

/// A checkpoint directory, down to the byte.
struct CheckpointPlan {
  std::vector<PlannedFile> files;
  std::vector<PlannedText> texts;
  std::uint64_t row_count = 0;
  std::uint64_t size_bytes = 0;  ///< Of all files and texts.
};

/// Lays out the checkpoint that `options` ask for. Errors: kInvalidArgument.
[[nodiscard]] Result<CheckpointPlan> PlanCheckpoint(const MakeCheckpointOptions& options);

/// Makes a planned file's bytes, from the first to the last.
///
/// Threading: one thread at a time. `file` must outlive it.
class PlannedFileStream {
 public:
  explicit PlannedFileStream(const PlannedFile& file);

  /// The next bytes.
  ///   bytes  any shape, as long as the file has that much left.
  void Next(std::span<std::byte> bytes) noexcept;

 private:
  void NextOfTensor(const PlannedTensor& tensor, std::span<std::byte> bytes) noexcept;

  const PlannedFile& file_;
  std::size_t tensor_index_ = 0;
  std::uint64_t offset_bytes_ = 0;  // In the header, then in the tensor.
  bool in_header_ = true;
  std::vector<std::byte> row_;  // A row that does not fit the caller's bytes whole.
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_MAKE_CHECKPOINT_PLAN_H_
