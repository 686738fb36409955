#ifndef TIERCEL_STORE_HOT_ROWS_H_
#define TIERCEL_STORE_HOT_ROWS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cache/group_cache.h"
#include "store/hot_set_loader.h"
#include "tiercel/status.h"

namespace tiercel {

/// A key that waits for its rows, in the bytes of the slot that they will be written to:
/// a list of millions takes no memory but that of the cache. Groups are larger than this.
struct HotKeyNote {
  std::uint64_t key;
  std::uint32_t next_slot;  ///< kNone at the end.
  std::uint8_t uses;
  std::uint8_t pin;
  std::uint8_t spare[2];
};
static_assert(sizeof(HotKeyNote) == 16);

/// Reads the rows of saved keys in the order in which they lie on disk, column by column:
/// rows that lie side by side, or nearly, are read as one.
///
/// Threading: one thread at a time.
class HotRows final : private ReadSink {
 public:
  HotRows(const HotSetContext& context, HotSetCounts& counts, const std::atomic<bool>& stop);
  ~HotRows() override;

  /// Opens the table files. Errors: as OpenDevice().
  [[nodiscard]] Status Open();

  /// Fills the slots of one space that hang on `chain`, which it empties, and makes their
  /// groups resident. At most kGroupsAtOnce at a time. A group with a row that cannot be
  /// read is left out, and the first reason is kept for TakeFailure(). Once `stop` is set, the
  /// rest is given back. Throws std::bad_alloc: then what was taken off `chain` was given back.
  void Load(std::uint32_t space, HotSlot& chain);

  /// OK, or why the first row of all could not be read.
  [[nodiscard]] Status TakeFailure() { return std::move(failure_); }

  /// 2^20 groups take 40 MB here, and their rows are so dense that one sweep more a column
  /// hardly costs: 2^20 of 16 million rows are one row in each page of 4 KiB.
  static constexpr std::uint32_t kGroupsAtOnce = 1U << 20;

 private:
  /// Rows [first, first + count) of pending_, read as one.
  struct Run {
    std::size_t first = 0;
    std::size_t count = 0;
    std::uint64_t offset_bytes = 0;
    std::uint32_t size_bytes = 0;
    std::uint32_t file_index = 0;
    std::uint32_t attempts = 0;
  };
  struct Group {
    std::uint64_t key;
    std::uint32_t slot;
    std::uint8_t uses;
    bool pin;
    bool failed;
  };
  static_assert(sizeof(Group) == 16);

  void TakeChunk(HotSlot& chain);
  [[nodiscard]] std::uint64_t FirstRowOf(std::uint32_t head) const noexcept;
  void SortColumn(std::uint32_t head, std::vector<std::uint64_t>& order) const;
  void LoadColumns();
  void LoadColumn(std::uint32_t head);
  void LoadPart();
  void Refill();
  void PrefetchSlots(std::span<const std::uint64_t> entries, std::size_t first) const noexcept;
  void CopyResident();
  [[nodiscard]] RowId RowOf(std::uint64_t entry) const noexcept;
  [[nodiscard]] std::span<std::byte> RowBytes(std::uint64_t entry) const noexcept;
  [[nodiscard]] std::size_t NextRun(std::size_t first, Run& run) const;
  void Submit(std::uint32_t run_index);
  void OnRead(const ReadCompletion& completion) noexcept override;
  void Fail(const Run& run, int os_error);
  void Publish();

  const HotSetContext& context_;
  HotSetCounts& counts_;
  const std::atomic<bool>& stop_;
  OpenedDevice device_;
  std::unique_ptr<ReadQueue> queue_;
  std::vector<Group> groups_;  ///< Of the chunk.
  /// Of the column: row in it << 20 | index into groups_, sorted. A row is below 2^40.
  std::vector<std::uint64_t> order_;
  std::vector<std::uint64_t> next_order_;  ///< Of the next column: sorted while this one is read.
  std::vector<std::uint64_t> pending_;     ///< Those of them whose part is not in DRAM.
  std::vector<Run> runs_;                  ///< One a read that may be in flight.
  std::vector<std::uint32_t> free_runs_;
  std::vector<std::uint32_t> retries_;
  // What is being read, for OnRead().
  std::uint32_t space_ = 0;
  std::uint32_t head_ = 0;
  std::uint32_t part_ = 0;
  std::size_t next_ = 0;         ///< First row of pending_ that no read was made for.
  std::uint64_t first_row_ = 0;  ///< Of the column.
  Status failure_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_HOT_ROWS_H_
