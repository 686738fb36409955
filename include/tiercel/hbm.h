#ifndef TIERCEL_HBM_H_
#define TIERCEL_HBM_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tiercel/prefetch.h"
#include "tiercel/row_format.h"
#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel {

/// How a group that was missed gets into its slot in HBM.
enum class HbmUpload : std::uint8_t {
  /// The gather kernel, which reads the group from mapped host memory anyhow, writes it to
  /// the slot as well: each missed group crosses PCIe once.
  kWithGather,
  /// Copy engines move it on a stream of the tier's own: it crosses PCIe twice, takes no
  /// multiprocessor, and 1.1 us a group (H100), which is 25 times what the gather takes.
  kCopyEngine,
};

/// Where a group is that HBM has fetched from disk.
enum class HbmResidency : std::uint8_t {
  kInclusive,  ///< In HBM and, as any other group that was read, in the DRAM cache.
  /// In HBM alone: it goes from disk through the staging into its slot, and is not offered to
  /// the DRAM cache (CacheUse::kKeepOut), unless somebody else waits for the same read. DRAM is
  /// left to what others ask for and to hot sets. A group that HBM finds in DRAM stays there:
  /// what HBM gives up it cannot give back, since its bytes are not on the host; so an evicted
  /// group is in DRAM only if it was before, else it is read from disk again. A group for
  /// which there was no slot is in neither.
  kExclusive,
};

/// How a stream waits for rows that are still on their way.
enum class FlagWait : std::uint8_t {
  kAuto,  ///< kStreamValue where the device has it, else kKernel.
  /// cuStreamWaitValue32: takes no multiprocessor. Or an error. In graphs of a driver that
  /// does not capture it, kKernel all the same.
  kStreamValue,
  kKernel,  ///< One thread that looks at the flag and sleeps up to 1 us in between.
  /// In lanes of up to 64 groups (21 tokens of three orders) one launch gathers all layers and
  /// its blocks wait, each for its layer: the shortest way. But then all layers are there when
  /// the last one is, and a gather that waits takes the room of up to four blocks a layer on
  /// multiprocessors from a model whose kernels need all of one. So for stores whose misses are
  /// in DRAM, not for waits for a disk. Other lanes, and tickets, get kStreamValue.
  kInGather,
};

/// What a gather writes for each row.
enum class HbmFormat : std::uint8_t {
  kStored,         ///< Stored rows, scales included: [t, columns, row_size_bytes].
  kRowsAndScales,  ///< kE4M3Block32: [t, columns, value_count] and [t, columns, value_count/32].
  kBf16,           ///< Dequantised: [t, columns, value_count] bfloat16. See row_format.h.
};

/// Sizes and choices of the HBM tier, all fixed at Open().
struct HbmOptions {
  /// Device memory for slots of groups. At least 16 groups.
  std::uint64_t hbm_budget_bytes = std::uint64_t{1} << 30;
  /// Pinned host memory for groups that were missed, shared by all tickets. A ticket takes
  /// the groups that it misses, once each, until its gathers have run.
  std::uint64_t staging_bytes = std::uint64_t{128} << 20;
  std::uint32_t tickets_max = 8;    ///< Of StartOnStream(), not dropped yet. In [1, 256].
  std::uint32_t tokens_max = 2048;  ///< Of one ticket of StartOnStream(). In [1, 65536].
  HbmFormat format = HbmFormat::kBf16;
  HbmUpload upload = HbmUpload::kWithGather;
  HbmResidency residency = HbmResidency::kInclusive;
  FlagWait flag_wait = FlagWait::kAuto;
  /// Multiprocessors that one gather may fill. 0: all of them. With fewer, what runs beside
  /// it on other streams keeps the rest.
  std::uint32_t gather_multiprocessors_max = 0;
  /// Keeps a mirror of the directory in device memory, 32 B a slot, for kernels that probe it:
  /// see HbmTier::SyncDirectoryOnStream(). Slots that are given up stay taken until the
  /// mirror has been told.
  bool device_directory = false;
  /// Layers to serve; empty means all that the store's recipe has.
  std::vector<std::uint32_t> layer_ids;
};

/// Where one layer's rows of a batch go: device memory of the caller's.
struct HbmOutput {
  std::uint32_t layer_id = 0;
  /// Shape as HbmFormat says, t tokens of all runs one after another. Fastest at a multiple
  /// of 16 bytes. Must hold the ticket's token capacity.
  std::byte* rows = nullptr;
  /// kRowsAndScales alone: the scale bytes.
  std::byte* scales = nullptr;
  /// How long after the call the rows are needed: orders the reads, as in PrefetchLayer.
  std::chrono::nanoseconds needed_after{0};
};

/// Counters of one (layer, order). A group is the H rows of one n-gram.
struct HbmOrderStats {
  std::uint32_t layer_id = 0;
  std::uint32_t order = 0;       ///< n of the n-gram.
  std::uint64_t groups = 0;      ///< Groups asked for, dead positions left out.
  std::uint64_t hits = 0;        ///< Of them in HBM.
  std::uint64_t staged = 0;      ///< Fetched from the store into the staging, once a batch.
  std::uint64_t insertions = 0;  ///< Groups taken into HBM.
  std::uint64_t rejections = 0;  ///< Offered and not taken in.
  std::uint64_t evictions = 0;   ///< Dropped to make room.
  std::uint64_t removals = 0;    ///< Dropped because a row of theirs was updated.
  std::uint64_t refusals = 0;    ///< Fetched while a row of theirs was updated, so not taken in.
  std::uint64_t resident_groups = 0;
};

struct HbmStats {
  std::vector<HbmOrderStats> orders;  ///< By layer, then order.
  std::uint64_t slot_count = 0;
  std::uint32_t slot_size_bytes = 0;
  std::uint64_t hbm_bytes = 0;   ///< Device memory taken.
  std::uint64_t host_bytes = 0;  ///< Pinned host memory and the directory.
  std::uint64_t staging_used_bytes = 0;
  std::uint64_t slots_in_flight = 0;  ///< Pinned by work on a stream, or being filled.
  std::uint64_t mirror_lag = 0;       ///< Changes that the mirror was not told of yet.
  std::uint32_t tickets = 0;          ///< Lanes that are in use.
  std::string description;            ///< For reports.
};

/// Groups of rows out of one slab, by number: HBM, or pinned or registered host memory, which
/// is then read over PCIe. For tables that are wholly in memory, and for slabs that several
/// processes share (shared_slab.h).
struct SlabGather {
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};  ///< As a number: zeros.

  const std::byte* slab = nullptr;        ///< The device's address. Fastest at a multiple of 16.
  std::uint64_t group_stride_bytes = 0;   ///< From one group to the next.
  const std::uint32_t* groups = nullptr;  ///< Device or mapped memory, shape [group_count].
  std::uint64_t group_count = 0;
  RowShape shape;
  std::uint32_t rows_per_group = 1;
  HbmFormat format = HbmFormat::kBf16;
  /// Device memory, shapes as HbmFormat says: group after group.
  std::byte* rows = nullptr;
  std::byte* scales = nullptr;            ///< kRowsAndScales alone.
  std::uint32_t multiprocessors_max = 0;  ///< As HbmOptions::gather_multiprocessors_max.
};

/// Tokens on the device. Each has a place in `ids`, where what came before it in its run
/// lies right before it.
struct DeviceTokens {
  const std::int32_t* ids = nullptr;         ///< Device memory, shape [n].
  const std::uint32_t* position = nullptr;   ///< Device memory, shape [t]: into `ids`.
  const std::uint32_t* run_start = nullptr;  ///< Device memory, shape [t]: where its run,
                                             ///< history included, begins in `ids`.
  std::uint32_t token_count = 0;             ///< t.
};

/// Where a hash goes: device memory, each null where it is not wanted.
struct DeviceHashOutput {
  std::uint64_t* keys = nullptr;  ///< Shape [t, orders]: group keys, order 2 first.
  RowId* rows = nullptr;          ///< Shape [t, columns].
  std::uint8_t* dead = nullptr;   ///< Shape [t]: 1 where no rows are wanted.
  /// One word: tokens that are none of the recipe's, or have such a one right before them in
  /// their n-grams, are added to it. They count as dead.
  std::uint32_t* unknown_count = nullptr;
};

/// A group that a probe did not find. Its rows are those of the mix (Hasher::RowsOfMix());
/// HbmTier::FetchMissesOnStream() brings them.
struct DeviceMiss {
  std::uint64_t key = 0;
  std::uint64_t mix = 0;
  std::uint32_t order_index = 0;
};

/// Where a probe goes: device or mapped memory.
struct DeviceProbeOutput {
  /// Shape [t, orders, 2]: the group's slot, or 2^31 | its number in `misses`, or 2^32 - 1
  /// where the token is dead; and 2^32 - 1.
  std::uint32_t* places = nullptr;
  DeviceMiss* misses = nullptr;         ///< Shape [t * orders]: as many as were missed.
  std::uint32_t* miss_count = nullptr;  ///< One word, which must be 0 before.
};

/// A probe whose misses have come to the host; see HbmTier::FetchMissesOnStream().
struct ProbedTokens {
  /// DeviceProbeOutput::places as the probe wrote them, shape [t, orders, 2]. Device or mapped
  /// memory at a multiple of 8, which must stay until the stream has passed.
  const std::uint32_t* places = nullptr;
  std::uint32_t token_count = 0;  ///< t.
  /// DeviceProbeOutput::misses, all of them in their order: host memory, looked at in the call
  /// alone.
  std::span<const DeviceMiss> misses;
};

class HbmCache;

/// One batch on its way into device memory, or the fixed place of such batches (a lane) that
/// a CUDA graph has captured. Move-only. Dropping it does not stop what is on a stream:
/// the outputs are written all the same, and its memory is taken back when that has ended.
///
/// Threading: methods of one ticket take turns; different tickets are independent.
class HbmTicket {
 public:
  HbmTicket() noexcept = default;  ///< Of no batch.
  HbmTicket(HbmTicket&& other) noexcept;
  HbmTicket& operator=(HbmTicket&& other) noexcept;
  HbmTicket(const HbmTicket&) = delete;
  HbmTicket& operator=(const HbmTicket&) = delete;
  ~HbmTicket();

  [[nodiscard]] bool valid() const noexcept { return cache_ != nullptr; }

  /// Whether the device has written the layer's rows, and how they are. Never blocks, never
  /// synchronizes. Nothing: the gather has not ended yet (or its graph was not launched).
  ///
  /// Errors: kPartial (some rows could not be read: they are zero, see RowStatuses()),
  /// kCancelled (rows may be zero), kNotFound (not a layer of the ticket), kInvalidArgument
  /// (not valid, or no batch was started in the lane).
  [[nodiscard]] std::optional<Status> TryStatus(std::uint32_t layer_id) const;

  /// What became of each row of the batch. Never blocks.
  ///
  ///   row_status  shape [t, columns]; of FetchMissesOnStream(), which knows of no others, those
  ///               of the misses, shape [misses, rows of a group].
  ///
  /// Errors: kUnavailable (TryStatus() has nothing yet), kNotFound, kInvalidArgument (also a
  /// span of another length); row_status is then left alone.
  [[nodiscard]] Status RowStatuses(std::uint32_t layer_id, std::span<RowStatus> row_status) const;

 private:
  friend class HbmCache;
  HbmTicket(std::shared_ptr<HbmCache> cache, std::uint32_t lane) noexcept;
  void Drop() noexcept;

  std::shared_ptr<HbmCache> cache_;
  std::uint32_t lane_ = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_HBM_H_
