#include "bench/gpu/rig.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/prng.h"
#include "cuda/hbm_cuda_device.h"

namespace tiercel::bench {
namespace {

template <typename T>
T Must(Result<T> result) {
  if (!result.ok()) {
    fmt::print(stderr, "gpu_bench: {}\n", result.status().ToString());
    std::exit(3);
  }
  return std::move(result).value();
}

void Must(const Status& status) {
  if (status.ok()) return;
  fmt::print(stderr, "gpu_bench: {}\n", status.ToString());
  std::exit(3);
}

}  // namespace

GatherRig::GatherRig(std::uint64_t slab_bytes, std::uint64_t pinned_bytes)
    : device_(Must(OpenCudaHbmDevice(FlagWait::kAuto))),
      slot_count_(slab_bytes / kGroupBytes),
      pinned_count_(pinned_bytes / kGroupBytes) {
  slots_ = Must(device_->AllocateDevice(slot_count_ * kGroupBytes));
  output_ = Must(device_->AllocateDevice(2 * kOutputBytes));
  arrivals_ = Must(device_->AllocateDevice(kSets * 64));
  rows_ = Must(device_->AllocateDevice(std::uint64_t{kSets} * kTokensMax * kOrders * kHeads *
                                       sizeof(std::uint32_t)));
  pinned_ = Must(device_->AllocateMapped(pinned_count_ * kGroupBytes));
  sets_ = Must(device_->AllocateMapped(kSets * kSetBytes));
  Prng prng(1);
  // Bytes of any kind but NaN, of values and of scales: there are none in a table, and they go
  // a longer way.
  constexpr std::uint64_t kNotNan = 0xBFBFBFBFBFBFBFBF;
  auto* const words = reinterpret_cast<std::uint64_t*>(pinned_.host);
  for (std::uint64_t i = 0; i < pinned_.size_bytes / 8; ++i) words[i] = prng() & kNotNan;
  for (std::uint64_t at = 0; at < slot_count_ * kGroupBytes;) {
    const std::uint64_t size = std::min(pinned_.size_bytes, slot_count_ * kGroupBytes - at);
    Check(cudaMemcpy(slots_ + at, pinned_.host, size, cudaMemcpyHostToDevice), "filling of slots");
    at += size;
  }
}

GatherRig::~GatherRig() {
  for (std::byte* memory : {slots_, output_, arrivals_, rows_}) device_->FreeDevice(memory);
  device_->FreeMapped(pinned_);
  device_->FreeMapped(sets_);
}

void GatherRig::Draw(std::uint32_t token_count, HbmFormat format, GroupsFrom from, bool fill) {
  token_count_ = token_count;
  format_ = format;
  from_ = from;
  Prng prng(token_count);
  const std::uint64_t group_count = std::uint64_t{token_count} * kOrders;
  const std::uint64_t source_count = from == GroupsFrom::kHbm ? slot_count_ : pinned_count_;
  std::vector<std::uint32_t> rows(group_count * kHeads);
  for (std::uint32_t set = 0; set < kSets; ++set) {
    std::byte* const at = sets_.host + set * kSetBytes;
    auto* const places = reinterpret_cast<GroupSource*>(at + kPlacesAt);
    for (std::uint64_t i = 0; i < group_count; ++i) {
      const auto source = static_cast<std::uint32_t>(prng.Below(source_count));
      places[i] = {.source = from == GroupsFrom::kHbm ? source : GroupSource::kStaged | source};
      if (fill) places[i].fill_slot = static_cast<std::uint32_t>(prng.Below(slot_count_));
    }
    std::byte* const output = output_ + set % 2 * kOutputBytes;
    const BatchHeader header = {.sequence = set + 1,
                                .token_count = token_count,
                                .rows = output,
                                .scales = format == HbmFormat::kRowsAndScales
                                              ? output + group_count * kHeads * 256
                                              : nullptr};
    for (std::uint32_t i = 0; i < kHeaders; ++i) {
      std::memcpy(at + i * GatherArguments::kHeaderStrideBytes, &header, sizeof(header));
    }
    *reinterpret_cast<std::uint32_t*>(at + kFlagAt) = 1;
    for (std::uint32_t& row : rows) {
      row = static_cast<std::uint32_t>(prng.Below(source_count * kHeads));
    }
    Check(cudaMemcpy(rows_ + set * rows.size() * sizeof(std::uint32_t), rows.data(),
                     rows.size() * sizeof(std::uint32_t), cudaMemcpyHostToDevice),
          "copy of row numbers");
  }
}

GatherArguments GatherRig::Arguments(std::uint32_t set, bool lane) const {
  set %= kSets;
  std::byte* const at = sets_.device + set * kSetBytes;
  return {.headers = lane ? at : nullptr,
          .batch = *reinterpret_cast<const BatchHeader*>(sets_.host + set * kSetBytes),
          .groups = reinterpret_cast<const GroupSource*>(at + kPlacesAt),
          .slots = slots_,
          .staging = pinned_.device,
          .done = reinterpret_cast<std::uint32_t*>(at + kDoneAt),
          .arrivals = reinterpret_cast<std::uint32_t*>(arrivals_ + set * 64),
          .shape = {.format = RowFormat::kE4M3Block32, .value_count = 256},
          .format = format_,
          .order_count = kOrders,
          .rows_per_group = kHeads,
          .slot_size_bytes = kGroupBytes,
          .token_capacity = token_count_,
          .header_count = kHeaders};
}

void GatherRig::Gather(std::uint32_t set, cudaStream_t stream, bool lane) const {
  const GatherArguments arguments = Arguments(set, lane);
  Must(device_->Gather({&arguments, 1}, HbmStream{stream}));
}

void GatherRig::GatherTwo(std::uint32_t set, cudaStream_t stream) const {
  std::array<GatherArguments, 2> layers;
  for (std::uint32_t i = 0; i < layers.size(); ++i) {
    layers[i] = Arguments(set + i, /*lane=*/true);
    layers[i].flag = reinterpret_cast<const std::uint32_t*>(
        sets_.device + (set + i) % kSets * kSetBytes + kFlagAt);
  }
  Must(device_->Gather(layers, HbmStream{stream}));
}

void GatherRig::GatherRows(std::uint32_t set, cudaStream_t stream) const {
  const std::uint64_t count = std::uint64_t{token_count_} * kOrders * kHeads;
  LaunchRowGather(from_ == GroupsFrom::kHbm ? slots_ : pinned_.device,
                  reinterpret_cast<const std::uint32_t*>(rows_) + set % kSets * count, count,
                  kGroupBytes / kHeads, output_, stream);
}

Mapped<std::uint32_t> GatherRig::flag() const {
  return {reinterpret_cast<std::uint32_t*>(sets_.host + kFlagAt),
          reinterpret_cast<std::uint32_t*>(sets_.device + kFlagAt)};
}

}  // namespace tiercel::bench
