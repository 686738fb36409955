#ifndef TIERCEL_CUDA_HBM_DEVICE_H_
#define TIERCEL_CUDA_HBM_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "tiercel/hbm.h"
#include "tiercel/row_format.h"
#include "tiercel/status.h"

// What the HBM tier needs of a GPU. CudaHbmDevice (hbm_cuda_device.h) is the real one; the
// tests have one of host memory that delays and reorders. No CUDA header is included, so
// that everything above this seam builds and runs without one.

namespace tiercel {

/// A stream: of CUDA a cudaStream_t. Work on one stream runs in order, on several in any.
struct HbmStream {
  void* handle = nullptr;
};
/// An event: of CUDA a cudaEvent_t.
struct HbmEvent {
  void* handle = nullptr;
};

/// Host memory that kernels can read and write, at two addresses.
struct MappedMemory {
  std::byte* host = nullptr;
  std::byte* device = nullptr;
  std::uint64_t size_bytes = 0;
};

/// A place in MappedMemory that holds a T.
template <typename T>
struct Mapped {
  T* host = nullptr;
  T* device = nullptr;
};

/// Where the gather finds one group of a batch, and the slot that it fills on the way.
struct GroupSource {
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  static constexpr std::uint32_t kStaged = std::uint32_t{1} << 31;

  /// A slot; or kStaged | n, the n-th group of the batch's staging; or kNone: zeros.
  std::uint32_t source = kNone;
  std::uint32_t fill_slot = kNone;  ///< Slot to copy a staged group to, or kNone.
};
static_assert(sizeof(GroupSource) == 8);

/// What changes from batch to batch in one layer of a lane: read by the gather when it runs,
/// so that a captured launch works for the next batch.
struct BatchHeader {
  std::uint32_t sequence = 0;  ///< Written to `done` when the gather has ended.
  std::uint32_t token_count = 0;
  std::uint64_t staging_offset_bytes = 0;  ///< Of the batch's first staged group.
  std::byte* rows = nullptr;               ///< HbmOutput::rows.
  std::byte* scales = nullptr;             ///< HbmOutput::scales.
};
static_assert(sizeof(BatchHeader) == 32);

/// The launch of a gather. Pointers are the device's addresses.
struct GatherArguments {
  /// From one copy of a header to the next: blocks that read one line take turns.
  static constexpr std::uint32_t kHeaderStrideBytes = 128;

  /// Equal headers in mapped memory, for a launch whose batch changes; null: `batch` it is.
  const std::byte* headers = nullptr;
  BatchHeader batch;
  const GroupSource* groups = nullptr;  ///< Shape [token_capacity, order_count].
  /// Mapped: the gather itself waits until it is 1. For few blocks: each that waits takes its
  /// threads' room on a multiprocessor. Null: it does not wait.
  const std::uint32_t* flag = nullptr;
  std::byte* slots = nullptr;  ///< Shape [slot_count, slot_size_bytes].
  const std::byte* staging = nullptr;
  std::uint32_t* done = nullptr;      ///< Mapped: takes the header's sequence at the end.
  std::uint32_t* arrivals = nullptr;  ///< Device memory, 0 between launches.
  /// Rows of a group lie densely: a staged group takes rows_per_group of them, no more.
  RowShape shape;
  HbmFormat format = HbmFormat::kStored;
  std::uint32_t order_count = 0;
  std::uint32_t rows_per_group = 0;
  std::uint32_t slot_size_bytes = 0;  ///< From one slot to the next: a multiple of 16.
  std::uint32_t token_capacity = 0;
  std::uint32_t multiprocessors_max = 0;  ///< 0: all.
  std::uint32_t header_count = 1;         ///< At `headers`.

  [[nodiscard]] const BatchHeader& FirstHeader() const noexcept {
    return headers == nullptr ? batch : *reinterpret_cast<const BatchHeader*>(headers);
  }
};

/// Layers that one launch gathers.
inline constexpr std::uint32_t kGatherLayersMax = 4;

/// One copy of a group from mapped memory to device memory.
struct HbmCopy {
  const std::byte* source = nullptr;  ///< The host's address.
  std::byte* target = nullptr;
};

/// A group that came into a slot, or left it, for the mirror of the directory.
struct DeviceChange {
  std::uint64_t key = 0;
  std::uint32_t slot = 0;
  std::uint16_t space = 0;
  std::uint16_t added = 0;  ///< 1: came; 0: left.
};
static_assert(sizeof(DeviceChange) == 16);

/// The mirror: a hash table in device memory. device_hash.h has its layout.
struct MirrorTable {
  static constexpr std::uint64_t kBucketBytes = 128;
  std::byte* buckets = nullptr;  ///< Shape [bucket_count, kBucketBytes]; zeroed: empty.
  std::uint32_t bucket_count = 0;
};

/// A GPU. Calls that name a stream only enqueue; they may be captured where CUDA captures.
///
/// Errors, of all: as CudaStatus() makes them of CUDA's.
/// Threading: calls may run concurrently.
class HbmDevice {
 public:
  HbmDevice() = default;
  HbmDevice(const HbmDevice&) = delete;
  HbmDevice& operator=(const HbmDevice&) = delete;
  virtual ~HbmDevice() = default;

  /// Zeroed device memory, aligned to 256. May synchronize.
  [[nodiscard]] virtual Result<std::byte*> AllocateDevice(std::uint64_t size_bytes) = 0;
  virtual void FreeDevice(std::byte* memory) noexcept = 0;
  /// Zeroed pinned memory, aligned to 128. May synchronize.
  [[nodiscard]] virtual Result<MappedMemory> AllocateMapped(std::uint64_t size_bytes) = 0;
  virtual void FreeMapped(const MappedMemory& memory) noexcept = 0;
  [[nodiscard]] virtual Result<HbmStream> CreateStream() = 0;
  virtual void DestroyStream(HbmStream stream) noexcept = 0;
  [[nodiscard]] virtual Result<HbmEvent> CreateEvent() = 0;
  virtual void DestroyEvent(HbmEvent event) noexcept = 0;

  /// What comes after on `stream` runs once *flag is 1.
  [[nodiscard]] virtual Status WaitFlag(Mapped<std::uint32_t> flag, HbmStream stream) = 0;
  /// Gathers layers of a batch in one launch, each as its header says; then its *done = the
  /// header's sequence. REQUIRES: 1 to kGatherLayersMax layers, of the same format, row format,
  /// capacity and multiprocessors_max.
  [[nodiscard]] virtual Status Gather(std::span<const GatherArguments> layers,
                                      HbmStream stream) = 0;
  /// Copies `size_bytes` for each of `copies`, in any order.
  [[nodiscard]] virtual Status Copy(std::span<const HbmCopy> copies, std::uint64_t size_bytes,
                                    HbmStream stream) = 0;
  /// Takes changes into the mirror: first all that left, then all that came.
  ///   changes  mapped memory, the device's address; shape [change_count].
  [[nodiscard]] virtual Status ApplyChanges(const MirrorTable& table, const DeviceChange* changes,
                                            std::uint32_t change_count, HbmStream stream) = 0;
  [[nodiscard]] virtual Status RecordEvent(HbmEvent event, HbmStream stream) = 0;
  /// What comes after on `stream` runs once what was before RecordEvent() has.
  [[nodiscard]] virtual Status WaitEvent(HbmEvent event, HbmStream stream) = 0;
  /// Whether what was before RecordEvent() has run. Never blocks.
  [[nodiscard]] virtual Result<bool> QueryEvent(HbmEvent event) = 0;
  /// The error that earlier work left on the device, if any. Never blocks.
  [[nodiscard]] virtual Status Health() = 0;
  /// Waits for all that was enqueued on the device.
  [[nodiscard]] virtual Status Synchronize() = 0;

  /// For reports.
  [[nodiscard]] virtual std::string description() const = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_CUDA_HBM_DEVICE_H_
