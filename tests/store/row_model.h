#ifndef TIERCEL_TESTS_STORE_ROW_MODEL_H_
#define TIERCEL_TESTS_STORE_ROW_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/support/fault_device.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/witness_device.h"
#include "tiercel/store.h"

namespace tiercel::testing {

/// Rows of many batches, by what became of them.
struct RowTallies {
  std::uint64_t batches = 0;
  std::uint64_t right = 0;
  std::uint64_t flipped = 0;  ///< Wrong in just the bits that the device gave wrong.
  std::uint64_t io_error = 0;
  std::uint64_t corruption = 0;
  std::uint64_t dead = 0;
  std::uint64_t out_of_range = 0;
  std::uint64_t wrong = 0;
  std::string first_wrong;  ///< In words.

  void Add(const RowTallies& other);
  /// Counts something that must not be, and keeps the words of the first.
  void Wrong(std::string what);
};

/// What a row may be, by the generator of the made checkpoint and by the log of what the
/// store's device told.
///
/// Threading: all methods may run concurrently.
class RowModel {
 public:
  /// All arguments must outlive the model.
  RowModel(const MadeCheckpoint& made, const WitnessLog& log, const FaultOptions& faults,
           ScalePlacement scales)
      : made_(made), log_(log), faults_(faults), scales_(scales) {}

  /// Judges a row of an answer and adds it to `tallies`.
  ///   want   what its place calls for: kOk where a row of the table is wanted.
  ///   bytes  shape [output_row_size_bytes].
  void Judge(std::uint32_t layer_id, RowId row, RowStatus want, RowStatus status,
             std::span<const std::byte> bytes, RowOutput format, RowTallies& tallies) const;

 private:
  struct Told {
    bool io_error = false;
    bool no_data = false;
    bool bad_for_ever = false;              ///< It lies in a range that always fails.
    std::vector<std::uint32_t> wrong_bits;  ///< Of the stored row.
  };

  [[nodiscard]] const LayerTable& LayerOf(std::uint32_t layer_id) const;
  [[nodiscard]] Told ToldOf(std::uint32_t layer_id, RowId row) const;
  [[nodiscard]] const char* JudgeBytes(std::uint32_t layer_id, RowId row,
                                       std::span<const std::byte> bytes, RowOutput format,
                                       RowTallies& tallies) const;

  const MadeCheckpoint& made_;
  const WitnessLog& log_;
  const FaultOptions& faults_;
  const ScalePlacement scales_;
};

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_STORE_ROW_MODEL_H_
