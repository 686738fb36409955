#ifndef TIERCEL_CUDA_HBM_LANE_H_
#define TIERCEL_CUDA_HBM_LANE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/range_allocator.h"
#include "cuda/hbm_device.h"
#include "tiercel/hbm.h"
#include "tiercel/prefetch.h"
#include "tiercel/types.h"

namespace tiercel {

/// A word that the device reads or writes too.
[[nodiscard]] inline std::atomic_ref<std::uint32_t> Shared(
    const Mapped<std::uint32_t>& word) noexcept {
  return std::atomic_ref<std::uint32_t>(*word.host);
}

/// The groups that a batch misses in one layer, each once: finds the number of a group that
/// was noted before.
///
/// Threading: one thread at a time. Allocates nothing after it was made.
class MissTable {
 public:
  explicit MissTable(std::size_t groups_max);

  struct Miss {
    std::uint32_t order_index = 0;
    std::uint64_t key = 0;
    std::uint64_t mix = 0;  ///< One that gives the group's rows.
  };

  void Clear() noexcept;
  /// Number of the group, and whether it is new.
  struct Noted {
    std::uint32_t number = 0;
    bool is_new = false;
  };
  Noted Note(const Miss& miss) noexcept;
  /// The same, but each gets a number of its own: its place in the order of the calls.
  Noted NoteAnyhow(const Miss& miss) noexcept;
  [[nodiscard]] std::span<const Miss> misses() const noexcept { return misses_; }

 private:
  /// Emptied by a new stamp, so that a batch of one token does not pay for the table's size.
  struct Cell {
    std::uint32_t stamp = 0;
    std::uint32_t number = 0;
  };
  [[nodiscard]] Cell& Find(const Miss& miss) noexcept;

  std::vector<Cell> cells_;
  std::vector<Miss> misses_;
  std::uint32_t stamp_ = 0;
};

/// Groups of one layer of a batch on their way into slots by copy engine. Outlives the
/// batch: a lane need not wait for it.
struct PendingUpload {
  struct Fill {
    std::uint32_t slot = 0;
    std::uint32_t space = 0;
    std::uint64_t key = 0;
    bool good = false;  ///< All rows of the group could be had, and none was updated since.
  };
  HbmEvent ended;
  Range staging;
  std::vector<Fill> fills;
};

/// One layer of a lane: fixed memory for the layer's part of one batch at a time.
///
/// Life of a batch in it: planned and started under the cache's lock; `flag` is set by
/// whichever thread brings the last missed row (or at once); the gather runs when its stream
/// gets there and writes `done`; then, under the lock again, it is reaped: slots unpinned,
/// filled slots published, staging given back (or handed to the upload).
struct LaneLayer {
  LaneLayer(std::uint32_t layer_slot, std::size_t groups_max, std::uint32_t rows_per_group);

  /// A slot that the batch fills with its n-th missed group.
  struct Fill {
    std::uint32_t slot = 0;
    std::uint32_t number = 0;
    bool stale = false;  ///< A row of the group was updated since: it is not kept.
  };

  const std::uint32_t slot_of_layer;  ///< Into HbmCache's layers.
  // Fixed memory, the device's too.
  Mapped<BatchHeader> header;  ///< The first of `header_count`; see GatherArguments.
  std::uint32_t header_count = 1;
  Mapped<GroupSource> groups;  ///< Shape [token_capacity, orders].
  Mapped<std::uint32_t> flag;  ///< 1: the staging is in place.
  Mapped<std::uint32_t> done;  ///< Sequence of the last batch that was gathered.
  std::uint32_t* arrivals = nullptr;
  HbmEvent gathered;

  // Of the batch.
  MissTable misses;
  std::vector<std::uint32_t> pinned;  ///< Slots, once for each use.
  std::vector<Fill> fills;
  std::vector<RowStatus> staged_status;  ///< Shape [misses, heads].
  Range staging;
  Ticket ticket;                          ///< Of the misses.
  std::unique_ptr<PendingUpload> upload;  ///< HbmUpload::kCopyEngine: it is on its stream.
  bool enqueued = false;                  ///< The gather is on a stream, or in a graph.
  bool cancelled = false;
  bool recorded = false;   ///< Of the lane: `gathered` has been recorded, or captured.
  bool in_flight = false;  ///< Planned and not reaped yet.

  [[nodiscard]] bool Gathered() const noexcept {
    return Shared(done).load(std::memory_order_acquire) == header.host->sequence;
  }
  [[nodiscard]] bool Staged() const noexcept {
    return Shared(flag).load(std::memory_order_acquire) != 0;
  }
};

/// Fixed memory for one batch at a time: of a ticket, or of a CUDA graph.
struct Lane {
  enum class State : std::uint8_t {
    kFree,
    kIdle,     ///< A graph's, with no batch in it.
    kStarted,  ///< Has a batch.
  };

  std::uint32_t token_capacity = 0;
  bool fixed = false;    ///< Of OpenLane(): gone when it is dropped.
  bool probed = false;   ///< Of FetchMissesOnStream(): the host cannot see where its groups are.
  bool dropped = false;  ///< Nobody has its ticket any more.
  State state = State::kFree;
  std::uint32_t sequence = 0;
  std::uint32_t token_count = 0;
  std::vector<HbmOutput> outputs;     ///< Of the batch, by `layers`.
  std::vector<std::uint32_t> active;  ///< Indices of `layers` that the batch has, in order.
  std::vector<std::unique_ptr<LaneLayer>> layers;  ///< Every layer that is served.
  MappedMemory memory;
  std::byte* counters = nullptr;  ///< Device memory.
  // Of a lane of OpenLane(), whose layers are branches of its graph.
  std::vector<HbmStream> branches;  ///< Of all layers but the first.
  HbmEvent forked;

  [[nodiscard]] bool InFlight() const noexcept {
    for (const auto& layer : layers) {
      if (layer->in_flight) return true;
    }
    return false;
  }
};

}  // namespace tiercel

#endif  // TIERCEL_CUDA_HBM_LANE_H_
