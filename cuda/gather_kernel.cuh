#ifndef TIERCEL_CUDA_GATHER_KERNEL_CUH_
#define TIERCEL_CUDA_GATHER_KERNEL_CUH_

#include <cstddef>
#include <cstdint>

#include "cuda/copy_group.cuh"
#include "cuda/dequantize_values.cuh"
#include "cuda/hbm_device.h"

// A warp a group: 2,112 bytes are five loads of 16 bytes a thread, all in flight before the
// first store. A block of eight warps reads the places of eight groups in one access, since
// places and header lie in host memory: a microsecond away, and most blocks of a launch pay
// it at the same time.
//
// What is missed is read from pinned host memory at its own address (UVA). A group that gets
// a slot is written there first and then read back from it, out of the L2: it crosses PCIe
// once, whatever the output's format.
//
// No launch is in here and no CUDA header: tests/cuda/kernels_on_host_test.cc runs the same
// text with threads of the host.

namespace tiercel {

inline constexpr std::uint32_t kWarpsPerBlock = 8;
inline constexpr std::uint32_t kBlockThreads = kWarpsPerBlock * kWarpThreads;
/// Blocks that one multiprocessor holds at once: with more, registers for the loads in flight
/// run out. Three are 60 KB in flight, several times what it takes to keep HBM busy.
inline constexpr std::uint32_t kBlocksPerMultiprocessor = 3;

struct Group {
  const std::byte* bytes = nullptr;  ///< Null: zeros.
  std::uint64_t index = 0;           ///< In the batch: token * orders + order.
};

/// Dequantises the rows of a group to `target`. Eight values a thread where all is aligned.
template <RowFormat kRow>
__device__ void DequantizeGroup(const GatherArguments& arguments, const std::byte* group,
                                std::uint16_t* target, std::uint32_t row_size_bytes,
                                std::uint32_t thread) {
  constexpr std::uint32_t kInFlight = kValueSizeBytes<kRow> == 1 ? 4 : 2;
  const RowScales scales = {.value_count = arguments.shape.value_count,
                            .tensor_scale = arguments.shape.tensor_scale};
  const std::uint32_t value_count = scales.value_count;
  const std::uint64_t load_bits = reinterpret_cast<std::uintptr_t>(group) | row_size_bytes;
  const bool eight = load_bits % kLoadSizeBytes<kRow> == 0 && value_count % kValuesAtOnce == 0 &&
                     reinterpret_cast<std::uintptr_t>(target) % 16 == 0;
  if (!eight) {
    const std::uint32_t count = arguments.rows_per_group * value_count;
    for (std::uint32_t i = thread; i < count; i += kWarpThreads) {
      const std::uint32_t row = i / value_count;
      const std::uint32_t column = i - row * value_count;
      const std::byte* const at = group + std::uint64_t{row} * row_size_bytes;
      target[i] =
          Bf16FromStored<kRow>(LoadStored<kRow>(at, column), FactorOf<kRow>(scales, at, column));
    }
    return;
  }
  const std::uint32_t units_per_row = value_count / kValuesAtOnce;
  const std::uint32_t unit_count = arguments.rows_per_group * units_per_row;
  for (std::uint32_t first = thread; first < unit_count; first += kWarpThreads * kInFlight) {
    EightValues<kRow> loaded[kInFlight];
    float factors[kInFlight];
#pragma unroll
    for (std::uint32_t i = 0; i < kInFlight; ++i) {
      const std::uint32_t unit = first + i * kWarpThreads;
      if (unit >= unit_count) break;
      const std::uint32_t row = unit / units_per_row;
      const std::uint32_t column = (unit - row * units_per_row) * kValuesAtOnce;
      const std::byte* const at = group + std::uint64_t{row} * row_size_bytes;
      loaded[i] = LoadEight<kRow>(at, column);
      factors[i] = FactorOf<kRow>(scales, at, column);
    }
#pragma unroll
    for (std::uint32_t i = 0; i < kInFlight; ++i) {
      const std::uint32_t unit = first + i * kWarpThreads;
      if (unit >= unit_count) break;
      StoreEight<kRow>(loaded[i], factors[i], target + std::uint64_t{unit} * kValuesAtOnce);
    }
  }
}

/// Writes one group of the batch in the output's format.
template <HbmFormat kFormat, RowFormat kRow>
__device__ void WriteGroup(const GatherArguments& arguments, const BatchHeader& header,
                           const Group& group, std::uint32_t row_size_bytes, std::uint32_t thread) {
  const std::uint32_t rows = arguments.rows_per_group;
  const std::uint32_t value_count = arguments.shape.value_count;
  const std::uint32_t out_row_bytes = kFormat == HbmFormat::kStored          ? row_size_bytes
                                      : kFormat == HbmFormat::kRowsAndScales ? value_count
                                                                             : 2 * value_count;
  std::byte* const target = header.rows + group.index * rows * out_row_bytes;
  if constexpr (kFormat == HbmFormat::kRowsAndScales) {
    const std::uint32_t scale_count = value_count / 32;
    std::byte* const scales = header.scales + group.index * rows * scale_count;
    if (group.bytes == nullptr) {
      ZeroBytes(target, rows * value_count, thread);
      ZeroBytes(scales, rows * scale_count, thread);
    } else {
      CopyRows(target, group.bytes, rows, value_count, row_size_bytes, thread);
      CopyRows(scales, group.bytes + value_count, rows, scale_count, row_size_bytes, thread);
    }
  } else if (group.bytes == nullptr) {
    ZeroBytes(target, rows * out_row_bytes, thread);
  } else if constexpr (kFormat == HbmFormat::kStored) {
    CopyBytes(target, group.bytes, rows * row_size_bytes, thread);
  } else {
    DequantizeGroup<kRow>(arguments, group.bytes, reinterpret_cast<std::uint16_t*>(target),
                          row_size_bytes, thread);
  }
}

/// The last block to come here tells the host that all is written.
__device__ inline void Arrive(const GatherArguments& arguments, std::uint32_t sequence) {
  __syncthreads();
  if (threadIdx.x != 0) return;
  __threadfence();
  if (atomicAdd(arguments.arrivals, 1U) != gridDim.x - 1) return;
  atomicExch(arguments.arrivals, 0U);  // For the next launch.
  __threadfence_system();
  *static_cast<volatile std::uint32_t*>(arguments.done) = sequence;
}

template <HbmFormat kFormat, RowFormat kRow>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerMultiprocessor)
    GatherKernel(const __grid_constant__ GatherArguments arguments, std::uint32_t row_size_bytes) {
  // As words, since shared memory takes no initial values.
  __shared__ std::uint64_t header_words[sizeof(BatchHeader) / sizeof(std::uint64_t)];
  __shared__ std::uint64_t place_words[kWarpsPerBlock];
  BatchHeader& header = *reinterpret_cast<BatchHeader*>(header_words);
  auto* const places = reinterpret_cast<GroupSource*>(place_words);
  const std::uint32_t warp = threadIdx.x / kWarpThreads;
  const std::uint32_t thread = threadIdx.x % kWarpThreads;
  const std::uint32_t group_size_bytes = arguments.rows_per_group * row_size_bytes;
  const std::uint64_t capacity = std::uint64_t{arguments.token_capacity} * arguments.order_count;
  // Beside the places, not before them.
  if (threadIdx.x == kWarpThreads) header = *arguments.header;
  for (std::uint64_t first = std::uint64_t{blockIdx.x} * kWarpsPerBlock;;
       first += std::uint64_t{gridDim.x} * kWarpsPerBlock) {
    if (threadIdx.x < kWarpsPerBlock && first + threadIdx.x < capacity) {
      places[threadIdx.x] = arguments.groups[first + threadIdx.x];
    }
    __syncthreads();
    const std::uint64_t count = std::uint64_t{header.token_count} * arguments.order_count;
    if (first >= count) break;
    Group group = {.bytes = nullptr, .index = first + warp};
    if (group.index < count) {
      const GroupSource place = places[warp];
      if (place.source == GroupSource::kNone) {
        // Zeros.
      } else if ((place.source & GroupSource::kStaged) == 0) {
        group.bytes = arguments.slots + std::uint64_t{place.source} * arguments.slot_size_bytes;
      } else {
        group.bytes = arguments.staging + header.staging_offset_bytes +
                      std::uint64_t{place.source & ~GroupSource::kStaged} * group_size_bytes;
      }
      if (place.fill_slot != GroupSource::kNone) {
        std::byte* const slot =
            arguments.slots + std::uint64_t{place.fill_slot} * arguments.slot_size_bytes;
        CopyBytes(slot, group.bytes, group_size_bytes, thread);
        __syncwarp();
        group.bytes = slot;
      }
      WriteGroup<kFormat, kRow>(arguments, header, group, row_size_bytes, thread);
    }
    __syncthreads();  // Before the places are overwritten.
  }
  Arrive(arguments, header.sequence);
}

template <HbmFormat kFormat, RowFormat kRow>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerMultiprocessor)
    SlabGatherKernel(const __grid_constant__ SlabGather gather, std::uint32_t row_size_bytes) {
  const std::uint32_t thread = threadIdx.x % kWarpThreads;
  const GatherArguments arguments = {.shape = gather.shape,
                                     .rows_per_group = gather.rows_per_group};
  const BatchHeader header = {.rows = gather.rows, .scales = gather.scales};
  for (std::uint64_t index =
           std::uint64_t{blockIdx.x} * kWarpsPerBlock + threadIdx.x / kWarpThreads;
       index < gather.group_count; index += std::uint64_t{gridDim.x} * kWarpsPerBlock) {
    const std::uint32_t number = gather.groups[index];
    Group group = {.bytes = nullptr, .index = index};
    if (number != SlabGather::kNone) {
      group.bytes = gather.slab + std::uint64_t{number} * gather.group_stride_bytes;
    }
    WriteGroup<kFormat, kRow>(arguments, header, group, row_size_bytes, thread);
  }
}

}  // namespace tiercel

#endif  // TIERCEL_CUDA_GATHER_KERNEL_CUH_
