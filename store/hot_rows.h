#ifndef TIERCEL_STORE_HOT_ROWS_H_
#define TIERCEL_STORE_HOT_ROWS_H_

#include <atomic>
#include <cstdint>

#include "cache/group_cache.h"
#include "store/hot_column.h"
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

/// Fills slots from saved keys. The columns of a chunk of groups are read side by side, by up
/// to four threads: to copy rows to slots that lie anywhere takes one core longer than
/// a fast disk takes to read them.
///
/// Threading: one thread at a time, which is one of those that read.
class HotRows {
 public:
  HotRows(const HotSetContext& context, HotSetCounts& counts, const std::atomic<bool>& stop);

  /// Opens the table files. Errors: as OpenDevice().
  [[nodiscard]] Status Open();

  /// Fills the slots of one space that hang on `chain`, which it empties, and makes their
  /// groups resident, a chunk at a time. A group with a row that cannot be
  /// read is left out, and the first reason is kept for TakeFailure(). Once `stop` is set, the
  /// rest is given back. Throws std::bad_alloc: then what was taken off `chain` was given back.
  void Load(std::uint32_t space, HotSlot& chain);

  /// OK, or why a row could not be read.
  [[nodiscard]] Status TakeFailure() { return std::move(failure_); }

 private:
  void TakeChunk(HotSlot& chain);
  void LoadColumns();
  void Keep(Status failure);
  void Publish();

  const HotSetContext& context_;
  HotSetCounts& counts_;
  const std::atomic<bool>& stop_;
  OpenedDevice device_;
  HotChunk chunk_;
  std::uint32_t reader_count_ = 1;
  HotColumnReader reader_;  ///< Of the thread that calls; the others come and go.
  Status failure_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_HOT_ROWS_H_
