#ifndef TIERCEL_CUDA_HBM_CACHE_H_
#define TIERCEL_CUDA_HBM_CACHE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/range_allocator.h"
#include "cuda/hbm_device.h"
#include "cuda/hbm_directory.h"
#include "cuda/hbm_lane.h"
#include "tiercel/hbm.h"
#include "tiercel/overlay.h"
#include "tiercel/status.h"
#include "tiercel/store.h"

namespace tiercel {

/// All of the HBM tier that is decided on the host. tiercel/cuda.h has its public face and
/// the contract (HbmTier); hbm_start.cc is the tour: the life of a batch.
///
/// Threading: all methods may run concurrently, and take turns. I/O threads of the store
/// write to staging and flags without the lock.
class HbmCache final : public std::enable_shared_from_this<HbmCache>, private UpdateObserver {
 public:
  /// Takes all memory. `store` must outlive Close().
  /// Errors: as HbmTier::Open().
  [[nodiscard]] static Result<std::shared_ptr<HbmCache>> Create(Store& store,
                                                                std::unique_ptr<HbmDevice> device,
                                                                const HbmOptions& options);
  ~HbmCache();

  /// See HbmTier.
  [[nodiscard]] Result<HbmTicket> StartOnStream(std::span<const TokenRun> runs,
                                                std::span<const HbmOutput> outputs,
                                                HbmStream stream) TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] Status WaitOnStream(const HbmTicket& ticket, std::uint32_t layer_id,
                                    HbmStream stream) TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] Result<HbmTicket> OpenLane(std::uint32_t token_capacity,
                                           std::span<const HbmOutput> outputs)
      TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] Status EnqueueOnStream(const HbmTicket& lane, HbmStream stream)
      TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] Status Restart(const HbmTicket& lane, std::span<const TokenRun> runs)
      TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] Status Cancel(const HbmTicket& ticket) TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] Status SyncDirectoryOnStream(HbmStream stream) TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] Result<HbmTicket> FetchMissesOnStream(const ProbedTokens& probed,
                                                      const HbmOutput& output, HbmStream stream)
      TIERCEL_EXCLUDES(mutex_);
  /// What kernels probe. REQUIRES: HbmOptions::device_directory.
  [[nodiscard]] const MirrorTable& mirror() const noexcept { return mirror_; }
  [[nodiscard]] const Store& store() const noexcept { return store_; }
  /// Space of the layer's order 2 in the mirror. Errors: kNotFound.
  [[nodiscard]] Result<std::uint32_t> FirstSpaceOf(std::uint32_t layer_id) const;
  [[nodiscard]] HbmStats Stats() TIERCEL_EXCLUDES(mutex_);
  /// Cancels all tickets, waits for the device, gives back its memory. Tickets that are
  /// about are of no use any more: kCancelled.
  void Close() noexcept TIERCEL_EXCLUDES(mutex_);

  // ---- tickets ----
  [[nodiscard]] std::optional<Status> TryStatus(std::uint32_t lane, std::uint32_t layer_id)
      TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] Status RowStatuses(std::uint32_t lane, std::uint32_t layer_id,
                                   std::span<RowStatus> row_status) TIERCEL_EXCLUDES(mutex_);
  void Drop(std::uint32_t lane) noexcept TIERCEL_EXCLUDES(mutex_);

  [[nodiscard]] HbmDevice& device() noexcept { return *device_; }

 private:
  /// A layer that is served.
  struct Layer {
    std::uint32_t layer_id = 0;
    std::uint32_t recipe_index = 0;
    RowShape shape;
    std::uint32_t row_size_bytes = 0;
    std::uint32_t group_size_bytes = 0;
  };
  struct OrderCounts {
    std::uint64_t groups = 0;
    std::uint64_t hits = 0;
    std::uint64_t staged = 0;
    std::uint64_t refusals = 0;
  };

  HbmCache(Store& store, std::unique_ptr<HbmDevice> device, const HbmOptions& options);

  // hbm_cache.cc
  [[nodiscard]] Status Init();
  [[nodiscard]] Status FindLayers();
  [[nodiscard]] Status MakeMirror() TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Result<std::unique_ptr<Lane>> MakeLane(std::uint32_t token_capacity, bool fixed);
  [[nodiscard]] Status MakeBranches(Lane& lane);
  void MapLane(Lane& lane) noexcept;
  void FreeLane(Lane& lane) noexcept;
  [[nodiscard]] std::uint32_t SpaceOf(std::uint32_t layer_slot,
                                      std::uint32_t order_index) const noexcept {
    return layer_slot * order_count_ + order_index;
  }
  /// Index into Lane::active; nothing if the batch does not have the layer.
  [[nodiscard]] Result<LaneLayer*> FindLaneLayer(Lane& lane, std::uint32_t layer_id)
      TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Result<Lane*> LaneOf(const HbmTicket& ticket) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Result<Lane*> LaneAt(std::uint32_t lane) TIERCEL_REQUIRES(mutex_);

  // hbm_start.cc
  [[nodiscard]] Status CheckOutputs(Lane& lane, std::span<const HbmOutput> outputs)
      TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Result<std::uint32_t> FreeLaneIndex() TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Status StartBatch(Lane& lane, std::span<const TokenRun> runs)
      TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Status Hash(const Layer& layer, std::span<const TokenRun> runs)
      TIERCEL_REQUIRES(mutex_);
  void BeginPlan(Lane& lane, LaneLayer& part) TIERCEL_REQUIRES(mutex_);
  void Plan(Lane& lane, LaneLayer& part) TIERCEL_REQUIRES(mutex_);
  void TakeSlot(LaneLayer& part, std::uint32_t number) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Status Fetch(Lane& lane, LaneLayer& part, const HbmOutput& output)
      TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Status Upload(LaneLayer& part, HbmStream stream) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Result<std::unique_ptr<PendingUpload>> TakeUpload() TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Status Enqueue(Lane& lane, HbmStream stream) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] bool WaitsInGather(const Lane& lane) const TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] bool FitsOneLaunch(const Lane& lane) const TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] GatherArguments ArgumentsOf(const Lane& lane, const LaneLayer& part,
                                            const GroupSource* groups) const
      TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Status EnqueueTogether(Lane& lane, HbmStream stream) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Status EnqueueBranches(Lane& lane, HbmStream stream) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Status EnqueueGather(Lane& lane, LaneLayer& part, const GroupSource* groups,
                                     HbmStream stream) TIERCEL_REQUIRES(mutex_);

  // hbm_probed.cc
  [[nodiscard]] Status CheckProbed(const Lane& lane, const Layer& layer, const ProbedTokens& probed)
      TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Status StartProbed(Lane& lane, LaneLayer& part, const ProbedTokens& probed,
                                   HbmStream stream) TIERCEL_REQUIRES(mutex_);

  // hbm_reap.cc
  void ReapAll() TIERCEL_REQUIRES(mutex_);
  void Reap(Lane& lane) TIERCEL_REQUIRES(mutex_);
  void ReapLayer(LaneLayer& part) TIERCEL_REQUIRES(mutex_);
  void Undo(LaneLayer& part) TIERCEL_REQUIRES(mutex_);
  void CancelLayer(LaneLayer& part) TIERCEL_REQUIRES(mutex_);
  void ReapUploads() TIERCEL_REQUIRES(mutex_);

  // hbm_update.cc
  void OnUpdateBegins(const ChangingRows& rows) noexcept override TIERCEL_EXCLUDES(mutex_);
  void OnUpdateEnds() noexcept override TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] std::uint32_t BeginChange(const ChangingRows& rows) noexcept
      TIERCEL_EXCLUDES(mutex_);

  // hbm_mirror.cc
  /// Changes that are on their way to the mirror.
  struct MirrorUpdate {
    HbmEvent applied;
    Mapped<DeviceChange> changes;     ///< Shape [kMirrorChangesMax].
    std::vector<std::uint32_t> left;  ///< Slots to unpin when it has run.
    bool under_way = false;
    bool failed = false;  ///< It stays under way for good.
  };
  static constexpr std::size_t kMirrorChangesMax = 32768;
  void ReapMirror() TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] std::uint32_t WriteChanges(MirrorUpdate& update) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Status StatusOf(const LaneLayer& part) const TIERCEL_REQUIRES(mutex_);

  Store& store_;
  const std::unique_ptr<HbmDevice> device_;
  const HbmOptions options_;
  std::vector<Layer> layers_;
  std::uint32_t order_count_ = 0;
  std::uint32_t head_count_ = 0;
  std::uint32_t slot_size_bytes_ = 0;
  std::byte* slots_ = nullptr;  ///< Device memory, shape [slot_count, slot_size_bytes].
  MappedMemory staging_memory_;
  HbmStream upload_stream_;
  MirrorTable mirror_;
  MappedMemory mirror_memory_;

  Mutex mutex_;
  bool closed_ TIERCEL_GUARDED_BY(mutex_) = false;
  /// Rows of an update under way: no group with one is taken in.
  const ChangingRows* changing_ TIERCEL_GUARDED_BY(mutex_) = nullptr;
  std::unique_ptr<HbmDirectory> directory_ TIERCEL_GUARDED_BY(mutex_);
  RangeAllocator staging_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Lane>> lanes_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<OrderCounts> counts_ TIERCEL_GUARDED_BY(mutex_);  ///< Shape [spaces].
  // Scratch of one Start at a time.
  std::vector<std::uint64_t> mixes_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<std::uint8_t> dead_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<RowId> rows_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<PendingUpload>> uploads_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<PendingUpload>> free_uploads_ TIERCEL_GUARDED_BY(mutex_);
  std::array<MirrorUpdate, 2> mirror_updates_ TIERCEL_GUARDED_BY(mutex_);
  Status mirror_failure_ TIERCEL_GUARDED_BY(mutex_);          ///< Of the update that was lost.
  std::deque<HbmChange> changes_ TIERCEL_GUARDED_BY(mutex_);  ///< Not on their way yet.
  /// Changes that the mirror has to hear of before it is free of rows that were updated.
  std::size_t untold_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::vector<HbmCopy> copies_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel

#endif  // TIERCEL_CUDA_HBM_CACHE_H_
