#ifndef TIERCEL_TESTS_SUPPORT_MADE_CHECKPOINT_H_
#define TIERCEL_TESTS_SUPPORT_MADE_CHECKPOINT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/scratch_dir.h"
#include "tiercel/checkpoint.h"
#include "tiercel/store.h"
#include "tiercel/synthetic.h"
#include "tiercel/types.h"

namespace tiercel::testing {

/// A small made checkpoint in a folder of its own, and what its rows must be.
class MadeCheckpoint {
 public:
  struct Options {
    CheckpointModel like = CheckpointModel::kDeepSeekV41Flash;
    std::uint64_t shrink = 20000;
    bool fp8 = false;
    bool tables_only = true;
    std::uint64_t seed = 7;
    std::optional<RowFormat> gguf = std::nullopt;  ///< Set: a GGUF model with rows of it.
    std::uint32_t split_count = 1;                 ///< Its files.
  };
  explicit MadeCheckpoint(const Options& options);

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] const CheckpointInfo& info() const noexcept { return info_; }
  /// Random token ids that the recipe's hash takes without a token map.
  [[nodiscard]] std::vector<std::int32_t> RandomTokens(std::uint64_t seed, std::size_t count) const;
  /// The stored bytes of a row.
  [[nodiscard]] std::vector<std::byte> Row(std::uint32_t layer_id, RowId row) const;
  /// What an output must hold for a row.
  [[nodiscard]] std::vector<std::byte> Output(std::uint32_t layer_id, RowId row,
                                              RowOutput format) const;

 private:
  ScratchDir scratch_;
  std::string path_;
  CheckpointInfo info_;
};

/// Buffers of one layer's lookup.
struct LayerBuffers {
  LayerBuffers(const Store& store, std::uint32_t layer_id, std::size_t row_count, RowOutput format);
  [[nodiscard]] LayerOutput Output() { return {layer_id, rows, row_status}; }
  [[nodiscard]] std::vector<std::byte> Row(std::size_t index) const;

  std::uint32_t layer_id;
  std::size_t row_size_bytes;
  std::vector<std::byte> rows;
  std::vector<RowStatus> row_status;
};

/// Rows of `buffers` that are right, marked as failed, or wrong.
struct RowTally {
  std::uint64_t right = 0;
  std::uint64_t marked = 0;
  std::uint64_t wrong = 0;
};
/// Compares every row with the generator: kOk must be the true bytes, all else zero.
///   ids  shape [rows of `buffers`].
[[nodiscard]] RowTally CheckRows(const MadeCheckpoint& made, const LayerBuffers& buffers,
                                 const std::vector<RowId>& ids, RowOutput format);

/// Row ids of `run`, by the store's hasher.
[[nodiscard]] std::vector<RowId> RowIdsOf(const Store& store, std::uint32_t layer_id,
                                          const TokenRun& run);

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_SUPPORT_MADE_CHECKPOINT_H_
