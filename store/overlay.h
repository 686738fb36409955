#ifndef TIERCEL_STORE_OVERLAY_H_
#define TIERCEL_STORE_OVERLAY_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "cache/group_cache.h"
#include "store/counters.h"
#include "store/overlaid_rows.h"
#include "store/pending_rows.h"
#include "store/space.h"
#include "store/state_db.h"
#include "tiercel/hasher.h"
#include "tiercel/overlay.h"
#include "tiercel/recipe.h"
#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel {

/// The updated rows of a store: what makes of the bytes that were read the bytes that are
/// delivered, and the order in which an update becomes visible.
///
/// Rows are merged when a group is *delivered*: between the last read of a group and its
/// insertion into the cache. So a group in the cache is merged already, a hit costs nothing,
/// and a store without an overlay asks one pointer a read group whether it is null. Which
/// rows to look for is told by OverlaidRows, in memory; their bytes are read from the
/// database as of *the view*: a snapshot of it that all deliveries share.
///
/// An update is made by one thread at a time, for all callers that wait (group commit):
///
///   1. Write   the batches go to the database, synced. Nobody sees them: the view is older.
///   2. Mark    each row is put into rows_ with the mark `pending`, and every delivery that
///              may not have seen the mark is waited for (the gate is closed and opened).
///              From here on nobody inserts a group with such a row into the cache.
///   3. Sweep   the groups in the cache that have such a row are dropped; observers, such as
///              the HBM tier, do so with theirs. A row's groups cannot be found by the row,
///              which is a residue of any number of mixes: the rows of each cached group are
///              computed from its key instead.
///   4. Show    the gate is closed, the view is replaced by a newer one, the marks are taken
///              away, the gate is opened. Observers hear that it is over.
///
/// The gate is held, shared, by each delivery from before it looks at the view until its
/// group is out of the fetch table: until then others may join the fetch, later nobody can.
///
/// Invariants:
///  - A row that the view has is in rows_. So is one that any delivery ever saw.
///  - While the gate is open, a cached group has each of its rows as the view has it, unless
///    the row is pending and the group has not been swept yet; then as the view had it
///    before the update, which is still the view.
///  - A delivery's rows are those of one view, and whoever joins its fetch began before that
///    view was replaced.
/// Hence: a lookup that begins after Update() returned sees the new row, be it a hit (the
/// old group was dropped and never came back), a fetch of its own, or one that it joins
/// (merged after step 4). A lookup that begins after another saw the new row sees it too:
/// that one came after step 4. A row is copied whole from one view: never a mixture.
///
/// After a write has failed, the next update first opens the database anew, within step 4 of
/// the rows that failed: they may have reached the log after all. (RocksDB's own way to go on
/// appends to the log behind what may be torn, where recovery does not look.)
///
/// The hot set's loader inserts groups as deliveries do, through the same gate.
///
/// Observers are called with no gate held: they may wait for lookups, and those for deliveries.
/// observers_mutex_ comes before the gates, and before all locks of observers.
///
/// Threading: all methods may run concurrently, but for those that say otherwise.
class Overlay {
 public:
  /// What it works on. All of it outlives the overlay.
  struct Context {
    const Layout& layout;
    const Recipe& recipe;
    const Hasher& hasher;
  };

  /// Memory for `row_count_max` rows, besides the database's own.
  [[nodiscard]] static std::uint64_t MemoryBytes(std::uint64_t row_count_max) noexcept;

  Overlay(const Context& context, std::unique_ptr<StateDb> db, bool writable,
          std::uint64_t row_count_max);
  Overlay(const Overlay&) = delete;
  Overlay& operator=(const Overlay&) = delete;
  ~Overlay();

  /// Reads which rows there are. Before all that follows. Logs its progress if it takes long.
  /// Errors: kResourceExhausted (more rows than fit; the message says what would), kCorruption
  /// (a row of another size, beyond the table), as StateDb.
  [[nodiscard]] Status Load(const std::function<void(std::string_view)>& log);
  /// The cache that updates sweep. Before the first delivery.
  void SetCache(GroupCache& cache) noexcept { cache_ = &cache; }

  [[nodiscard]] StateDb& db() noexcept { return *db_; }

  /// A delivery's stay at the gate.
  ///
  /// Threading: one thread's, for as short as can be.
  class Delivery {
   public:
    /// `overlay` null: nothing to merge.
    explicit Delivery(Overlay* overlay) noexcept;
    Delivery(const Delivery&) = delete;
    Delivery& operator=(const Delivery&) = delete;
    ~Delivery();

    /// Puts the updated rows of a group, or of single rows, in the place of those that were
    /// read. A row whose base could not be read is good if it was updated; one that the
    /// overlay fails to give is marked.
    ///
    ///   rows         shape [space.row_count].
    ///   bytes        shape [space.size_bytes].
    ///   statuses     shape [space.row_count].
    ///   failed_rows  how many of them are not kOk; kept so.
    ///
    /// Returns whether the group may go to the cache, as far as the overlay is concerned.
    [[nodiscard]] bool Merge(const Space& space, std::span<const RowId> rows,
                             std::span<std::byte> bytes, std::span<RowStatus> statuses,
                             std::uint32_t& failed_rows) noexcept;
    /// The same for a group whose rows are all good, by its key. False also where a row
    /// cannot be had.
    [[nodiscard]] bool MergeGroup(std::uint32_t space_index, std::uint64_t key,
                                  std::span<std::byte> bytes) noexcept;

   private:
    Overlay* const overlay_;
    std::mutex* gate_ = nullptr;
  };

  /// Makes `rows` durable and visible. Blocks. Errors: as Store::Update().
  [[nodiscard]] Status Update(std::span<const RowUpdate> rows) TIERCEL_EXCLUDES(mutex_);

  /// See Store::AddUpdateObserver().
  [[nodiscard]] Status AddObserver(UpdateObserver& observer) TIERCEL_EXCLUDES(observers_mutex_);
  void RemoveObserver(UpdateObserver& observer) noexcept TIERCEL_EXCLUDES(observers_mutex_);

  /// Whether a row may be an updated one. Whoever got bytes with an updated row before asks
  /// after that is told so.
  [[nodiscard]] bool MayHave(std::uint32_t layer_index, RowId row) const noexcept {
    return rows_.Has(MakeOverlaidKey(layer_index, row));
  }
  /// The same of any row of a group.
  [[nodiscard]] bool MayHaveRowOf(std::uint32_t space_index, std::uint64_t key) const noexcept;

  /// What is visible at one moment.
  struct View {
    std::shared_ptr<const StateSnapshot> snapshot;
    std::uint64_t sequence = 0;
  };
  [[nodiscard]] View CurrentView() noexcept;

  [[nodiscard]] OverlayStats Stats() const;

 private:
  static constexpr std::size_t kGates = 32;
  static constexpr std::size_t kObserversMax = 64;
  struct alignas(64) Gate {
    std::mutex mutex;
  };
  /// A caller of Update() who waits.
  struct Pending {
    std::span<const RowUpdate> rows;
    Status status;
    bool done = false;
    Pending* next = nullptr;
  };

  [[nodiscard]] Result<bool> GetRow(std::uint32_t layer_id, RowId row,
                                    std::span<std::byte> bytes) const;
  [[nodiscard]] Status Check(std::span<const RowUpdate> rows) const;
  [[nodiscard]] OverlaidKey KeyOf(const RowUpdate& update) const noexcept;
  void Commit(Pending* first, Pending* last) noexcept;
  [[nodiscard]] Status Write(Pending* first, Pending* last);
  [[nodiscard]] Status Admit(std::span<const RowUpdate> rows, std::uint64_t& room) const;
  [[nodiscard]] Status Show(bool reopen) TIERCEL_EXCLUDES(observers_mutex_);
  [[nodiscard]] Status ReopenAtClosedGate() noexcept;
  void CloseGate() noexcept;
  void OpenGate() noexcept;

  const Context context_;
  const bool writable_;
  const std::uint64_t row_count_max_;
  std::unique_ptr<StateDb> db_;
  GroupCache* cache_ = nullptr;
  OverlaidRows rows_;
  PendingRows pending_;  ///< Of unshown_, while they are marked.
  std::array<Gate, kGates> gates_;
  View view_;  ///< Read with one gate held, written with all of them.
  std::atomic<std::uint64_t> visible_sequence_ = 0;  ///< view_'s, for reports.
  // Of the one who writes:
  std::uint64_t last_sequence_ = 0;
  std::vector<OverlaidKey> unshown_;  ///< Rows that are written and not in the view.

  Mutex observers_mutex_;  ///< Held while an update is shown.
  std::array<UpdateObserver*, kObserversMax> observers_ TIERCEL_GUARDED_BY(observers_mutex_) = {};
  /// They were told of an update that has not ended.
  bool observers_told_ TIERCEL_GUARDED_BY(observers_mutex_) = false;

  mutable Mutex mutex_;
  CondVar changed_;
  Pending* queue_first_ TIERCEL_GUARDED_BY(mutex_) = nullptr;  ///< It, or a leader's, writes.
  Pending* queue_last_ TIERCEL_GUARDED_BY(mutex_) = nullptr;

  Counter batches_;
  Counter commits_;
  Counter rows_written_;
  Counter rows_merged_;
  Counter groups_removed_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_OVERLAY_H_
