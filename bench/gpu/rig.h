#ifndef TIERCEL_BENCH_GPU_RIG_H_
#define TIERCEL_BENCH_GPU_RIG_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "bench/gpu/report.h"
#include "cuda/hbm_device.h"

namespace tiercel::bench {

/// How the groups of a gather are spread.
enum class GroupsFrom : std::uint8_t { kHbm, kPinned };

/// The memory of V4.1 gathers: a slab of slots, a pinned slab, outputs, and input sets, each
/// of which asks for other groups: so many that no cache of the GPU holds them.
class GatherRig {
 public:
  static constexpr std::uint32_t kOrders = 3;
  static constexpr std::uint32_t kHeads = 8;
  static constexpr std::uint32_t kGroupBytes = 2112;
  static constexpr std::uint32_t kSets = 8;

  GatherRig(std::uint64_t slab_bytes, std::uint64_t pinned_bytes);
  ~GatherRig();
  GatherRig(const GatherRig&) = delete;
  GatherRig& operator=(const GatherRig&) = delete;

  /// Draws the places of all sets. `fill`: staged groups also go to slots.
  void Draw(std::uint32_t token_count, HbmFormat format, GroupsFrom from, bool fill = false);
  /// The launch of a set: as a lane's, whose header is in memory; else as a ticket's.
  [[nodiscard]] GatherArguments Arguments(std::uint32_t set, bool lane) const;
  void Gather(std::uint32_t set, cudaStream_t stream, bool lane) const;
  /// Two sets, a step's two layers, in one launch, which itself looks at their flags.
  void GatherTwo(std::uint32_t set, cudaStream_t stream) const;
  /// The baseline over the same bytes: as many single rows, drawn alike.
  void GatherRows(std::uint32_t set, cudaStream_t stream) const;
  [[nodiscard]] Mapped<std::uint32_t> flag() const;
  [[nodiscard]] HbmDevice& device() const noexcept { return *device_; }
  [[nodiscard]] std::byte* slots() const noexcept { return slots_; }
  [[nodiscard]] std::byte* output() const noexcept { return output_; }
  [[nodiscard]] const MappedMemory& pinned() const noexcept { return pinned_; }
  [[nodiscard]] std::uint64_t slot_count() const noexcept { return slot_count_; }
  [[nodiscard]] std::uint64_t pinned_count() const noexcept { return pinned_count_; }

 private:
  static constexpr std::uint32_t kTokensMax = 8192;
  // Headers, flag, `done`, places.
  static constexpr std::uint32_t kHeaders = 32;
  static constexpr std::uint64_t kFlagAt = kHeaders * GatherArguments::kHeaderStrideBytes;
  static constexpr std::uint64_t kDoneAt = kFlagAt + GatherArguments::kHeaderStrideBytes;
  static constexpr std::uint64_t kPlacesAt = kDoneAt + GatherArguments::kHeaderStrideBytes;
  static constexpr std::uint64_t kSetBytes =
      kPlacesAt + std::uint64_t{kTokensMax} * kOrders * sizeof(GroupSource);
  /// Of the outputs of two layers, which run beside each other.
  static constexpr std::uint64_t kOutputBytes = std::uint64_t{kTokensMax} * kOrders * kHeads * 512;

  std::unique_ptr<HbmDevice> device_;
  std::uint64_t slot_count_;
  std::uint64_t pinned_count_;
  std::byte* slots_ = nullptr;
  std::byte* output_ = nullptr;
  std::byte* arrivals_ = nullptr;  ///< Shape [kSets], 64 bytes each.
  std::byte* rows_ = nullptr;      ///< Row numbers of the baseline, shape [kSets, rows].
  MappedMemory pinned_;
  MappedMemory sets_;
  std::uint32_t token_count_ = 0;
  HbmFormat format_ = HbmFormat::kStored;
  GroupsFrom from_ = GroupsFrom::kHbm;
};

}  // namespace tiercel::bench

#endif  // TIERCEL_BENCH_GPU_RIG_H_
