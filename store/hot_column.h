#ifndef TIERCEL_STORE_HOT_COLUMN_H_
#define TIERCEL_STORE_HOT_COLUMN_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "io/device.h"
#include "store/hot_set_loader.h"
#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel {

/// Groups of one space whose slots are being filled.
struct HotChunk {
  /// 2^20 groups take 16 MB here and 8 in each reader, and their rows are so dense that
  /// one sweep more a column hardly costs: 2^20 of 16 million rows are one row in each page of
  /// 4 KiB.
  static constexpr std::uint32_t kGroupsMax = 1U << 20;

  struct Group {
    std::uint64_t key;
    std::uint32_t slot;
    std::uint8_t uses;
    bool pin;
    bool failed;  ///< Set by any reader: see Fail().
  };
  static_assert(sizeof(Group) == 16);

  /// The group is not whole. Threading: any number at a time.
  void Fail(std::uint32_t index) noexcept {
    std::atomic_ref<bool>(groups[index].failed).store(true, std::memory_order_relaxed);
  }

  std::uint32_t space = 0;
  std::vector<Group> groups;
};

/// Reads the rows of a chunk's groups that lie in one column to where they belong in the
/// groups' slots, in the order in which they lie on disk: rows that lie side by side, or
/// nearly, are read as one.
///
/// Threading: one thread at a time. Several readers may work on one chunk, each on a column of
/// its own: they write to other bytes.
class HotColumnReader final : private ReadSink {
 public:
  /// What is given must outlive the reader.
  HotColumnReader(const HotSetContext& context, HotSetCounts& counts, const std::atomic<bool>& stop,
                  HotChunk& chunk);

  /// Takes a queue of the tables' device. Errors: as Device::NewQueue().
  [[nodiscard]] Status Open(Device& device);

  /// Loads the column `head` of the chunk. A group whose row cannot be read is failed, and
  /// the first reason is kept for TakeFailure(). Returns early once `stop` is set. Throws
  /// std::bad_alloc, before it has read anything.
  void Load(std::uint32_t head);

  /// OK, or why the first row of all could not be read.
  [[nodiscard]] Status TakeFailure() { return std::move(failure_); }

  static constexpr std::uint32_t kReadBytes = 256 << 10;  ///< At most, at a time.

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

  void Sort();
  void CopyRest(std::uint64_t& entry) const noexcept;
  void LoadPart();
  void Refill();
  void PrefetchSlots(std::span<const std::uint64_t> entries, std::size_t first) const noexcept;
  [[nodiscard]] RowId RowOf(std::uint64_t entry) const noexcept;
  [[nodiscard]] std::span<std::byte> RowBytes(std::uint64_t entry) const noexcept;
  [[nodiscard]] std::size_t NextRun(std::size_t first, Run& run) const;
  void Submit(std::uint32_t run_index);
  void OnRead(const ReadCompletion& completion) noexcept override;
  void Fail(const Run& run, int os_error);

  const HotSetContext& context_;
  HotSetCounts& counts_;
  const std::atomic<bool>& stop_;
  HotChunk& chunk_;
  std::unique_ptr<ReadQueue> queue_;
  /// Row in the column << 20 | index into the chunk's groups, sorted. A row is below 2^40.
  std::vector<std::uint64_t> order_;
  std::vector<Run> runs_;  ///< One a read that may be in flight.
  std::vector<std::uint32_t> free_runs_;
  std::vector<std::uint32_t> retries_;
  // What is being read, for OnRead().
  std::uint32_t layer_index_ = 0;  ///< Into Layout::layers.
  std::uint32_t head_ = 0;
  std::uint32_t part_ = 0;
  std::span<std::uint64_t> pending_;  ///< order_: once its first part is read, what lacks others.
  std::size_t next_ = 0;              ///< First row of pending_ that no read was made for.
  std::uint64_t first_row_ = 0;       ///< Of the column.
  Status failure_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_HOT_COLUMN_H_
