#ifndef TIERCEL_CUDA_GATHER_KERNEL_CUH_
#define TIERCEL_CUDA_GATHER_KERNEL_CUH_

#include <cstddef>
#include <cstdint>

#include "cuda/copy_group.cuh"
#include "cuda/dequantize_values.cuh"
#include "cuda/hbm_device.h"

// A warp a group: 2,112 bytes are five loads of 16 bytes a thread, all in flight before the
// first store. Header and places lie in host memory, over a microsecond away, and what counts
// there is the number of requests, the more so of requests for one line, which take turns
// (some 0.06 us each on an H200). So a block reads, in one access, the places of sixteen groups,
// a line of 128 bytes, and a header that few others read. The header of a launch that is no
// graph's is among its arguments.
//
// What is missed is read from pinned host memory at its own address (UVA), in whole lines, and
// goes to its slot and to the output out of registers: it crosses PCIe once. Where values are
// converted, a group's bytes come by way of shared memory, so that what they look like has no
// part in how they are loaded.
//
// No launch is in here and no CUDA header: tests/cuda/kernels_on_host_test.cc runs the same
// text with threads of the host.

namespace tiercel {

/// Groups whose places a block reads at once: a line.
inline constexpr std::uint32_t kGroupsPerBlock = 16;
/// Warps of a block, unless its groups are fewer.
inline constexpr std::uint32_t kWarpsPerBlock = 8;
inline constexpr std::uint32_t kBlockThreads = kWarpsPerBlock * kWarpThreads;
/// Blocks that one multiprocessor holds at once: with more, registers for the loads in flight
/// run out. Three are 50 KB in flight, several times what it takes to keep HBM busy.
inline constexpr std::uint32_t kBlocksPerMultiprocessor = 3;
/// Shared memory of a warp, for the bytes of rows that are converted: a V4.1 group, and what
/// its first and last units of 16 bytes have besides.
inline constexpr std::uint32_t kRoomUnits = 134;

/// Dequantises `row_count` rows that lie or go where accesses cannot be wide.
template <RowFormat kRow>
__device__ __noinline__ void DequantizeOneByOne(const RowScales& scales, const std::byte* rows,
                                                std::uint32_t row_count, std::uint16_t* target,
                                                std::uint32_t row_size_bytes,
                                                std::uint32_t thread) {
  const std::uint32_t count = row_count * scales.value_count;
  for (std::uint32_t i = thread; i < count; i += kWarpThreads) {
    const std::uint32_t row = i / scales.value_count;
    const std::uint32_t column = i - row * scales.value_count;
    const std::byte* const at = rows + std::uint64_t{row} * row_size_bytes;
    const std::uint8_t scale = LoadScale<kRow>(scales, at, column);
    target[i] = Bf16FromStored<kRow>(LoadStored<kRow>(at, column), FactorOf<kRow>(scales, scale));
  }
}

/// Dequantises `row_count` rows to `target`. Eight values a thread where all is aligned.
template <RowFormat kRow>
__device__ void DequantizeRows(const GatherArguments& arguments, const std::byte* rows,
                               std::uint32_t row_count, std::uint16_t* target,
                               std::uint32_t row_size_bytes, std::uint32_t thread) {
  const RowScales scales = {.value_count = arguments.shape.value_count,
                            .tensor_scale = arguments.shape.tensor_scale};
  const std::uint32_t value_count = scales.value_count;
  const std::uint64_t load_bits = reinterpret_cast<std::uintptr_t>(rows) | row_size_bytes;
  const bool eight = load_bits % kLoadSizeBytes<kRow> == 0 && value_count % kValuesAtOnce == 0 &&
                     reinterpret_cast<std::uintptr_t>(target) % 16 == 0;
  if (!eight) {
    DequantizeOneByOne<kRow>(scales, rows, row_count, target, row_size_bytes, thread);
    return;
  }
  for (std::uint32_t column = thread * kValuesAtOnce; column < value_count;
       column += kWarpThreads * kValuesAtOnce) {
    // Rows at once, so that the loads of several are in flight.
#pragma unroll 2
    for (std::uint32_t row = 0; row < row_count; ++row) {
      const std::byte* const at = rows + std::uint64_t{row} * row_size_bytes;
      const EightValues<kRow> loaded = LoadEight<kRow>(at, column);
      const std::uint8_t scale = LoadScale<kRow>(scales, at, column);
      StoreEight<kRow>(loaded, FactorOf<kRow>(scales, scale),
                       target + std::uint64_t{row} * value_count + column);
    }
  }
}

/// Where the rows of a group go, in the output's format.
struct GroupTarget {
  std::byte* rows = nullptr;
  std::byte* scales = nullptr;
  std::uint32_t row_size_bytes = 0;
  std::uint32_t scale_size_bytes = 0;  ///< Of a row; HbmFormat::kRowsAndScales.
};

template <HbmFormat kFormat>
__device__ GroupTarget TargetOf(const GatherArguments& arguments, const BatchHeader& header,
                                std::uint64_t group_index, std::uint32_t row_size_bytes) {
  const std::uint32_t value_count = arguments.shape.value_count;
  GroupTarget target = {.row_size_bytes = kFormat == HbmFormat::kStored          ? row_size_bytes
                                          : kFormat == HbmFormat::kRowsAndScales ? value_count
                                                                                 : 2 * value_count};
  const std::uint64_t first_row = group_index * arguments.rows_per_group;
  target.rows = header.rows + first_row * target.row_size_bytes;
  if constexpr (kFormat == HbmFormat::kRowsAndScales) {
    target.scale_size_bytes = value_count / 32;
    target.scales = header.scales + first_row * target.scale_size_bytes;
  }
  return target;
}

/// Writes `row_count` stored rows, from `first_row` of their group on, in the output's format.
template <HbmFormat kFormat, RowFormat kRow>
__device__ void WriteRows(const GatherArguments& arguments, const GroupTarget& target,
                          const std::byte* rows, std::uint32_t first_row, std::uint32_t row_count,
                          std::uint32_t row_size_bytes, std::uint32_t thread) {
  const std::uint32_t value_count = arguments.shape.value_count;
  std::byte* const out = target.rows + std::uint64_t{first_row} * target.row_size_bytes;
  if constexpr (kFormat == HbmFormat::kRowsAndScales) {
    std::byte* const scales = target.scales + std::uint64_t{first_row} * target.scale_size_bytes;
    CopyRows(out, rows, row_count, value_count, row_size_bytes, thread);
    CopyRows(scales, rows + value_count, row_count, target.scale_size_bytes, row_size_bytes,
             thread);
  } else {
    DequantizeRows<kRow>(arguments, rows, row_count, reinterpret_cast<std::uint16_t*>(out),
                         row_size_bytes, thread);
  }
}

/// Writes one group of the batch in the output's format.
///
///   group  null: zeros.
///   slot   gets the group's bytes too, unless it is null.
///   room   shape [kRoomUnits], shared memory of the warp; formats that convert.
template <HbmFormat kFormat, RowFormat kRow>
__device__ void WriteGroup(const GatherArguments& arguments, const GroupTarget& target,
                           const std::byte* group, std::byte* slot, std::uint32_t row_size_bytes,
                           uint4* room, std::uint32_t thread) {
  const std::uint32_t rows = arguments.rows_per_group;
  if (group == nullptr) {
    ZeroBytes(target.rows, rows * target.row_size_bytes, thread);
    if (kFormat == HbmFormat::kRowsAndScales) {
      ZeroBytes(target.scales, rows * target.scale_size_bytes, thread);
    }
    return;
  }
  if constexpr (kFormat == HbmFormat::kStored) {
    CopyBytes(target.rows, group, rows * row_size_bytes, thread, slot);
    return;
  }
  const std::uint32_t rows_at_once = (kRoomUnits - 2) * 16 / row_size_bytes;
  // Into the slot on the way where the group comes in one go, else before.
  const std::uint64_t bits = AddressBits(slot, group) | std::uint64_t{rows} * row_size_bytes;
  const bool on_the_way = rows_at_once >= rows && bits % 16 == 0;
  if (slot != nullptr && !on_the_way) {
    CopyBytes(slot, group, rows * row_size_bytes, thread);
    __syncwarp();
    group = slot;  // Out of the L2.
  }
  if (rows_at_once == 0) {
    WriteRows<kFormat, kRow>(arguments, target, group, 0, rows, row_size_bytes, thread);
    return;
  }
  for (std::uint32_t first = 0; first < rows; first += rows_at_once) {
    const std::uint32_t count = rows - first < rows_at_once ? rows - first : rows_at_once;
    const std::byte* const begin = group + std::uint64_t{first} * row_size_bytes;
    // Whole units of 16 bytes: rows may begin and end within one.
    const auto before = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(begin) % 16);
    CopyUnits<uint4, false>(reinterpret_cast<std::byte*>(room), begin - before,
                            (before + count * row_size_bytes + 15) / 16, 0, 0, thread,
                            on_the_way ? slot : nullptr);
    __syncwarp();
    WriteRows<kFormat, kRow>(arguments, target, reinterpret_cast<const std::byte*>(room) + before,
                             first, count, row_size_bytes, thread);
    __syncwarp();  // Before the next rows overwrite these.
  }
}

/// Gathers one group: from where its place says, to the output and to the slot that it fills.
template <HbmFormat kFormat, RowFormat kRow>
__device__ void GatherGroup(const GatherArguments& arguments, const BatchHeader& header,
                            const GroupSource& place, std::uint64_t group_index,
                            std::uint32_t row_size_bytes, uint4* room, std::uint32_t thread) {
  const std::uint32_t group_size_bytes = arguments.rows_per_group * row_size_bytes;
  const GroupTarget target = TargetOf<kFormat>(arguments, header, group_index, row_size_bytes);
  const std::byte* group = nullptr;
  if (place.source == GroupSource::kNone) {
    // Zeros.
  } else if ((place.source & GroupSource::kStaged) == 0) {
    group = arguments.slots + std::uint64_t{place.source} * arguments.slot_size_bytes;
  } else {
    group = arguments.staging + header.staging_offset_bytes +
            std::uint64_t{place.source & ~GroupSource::kStaged} * group_size_bytes;
  }
  std::byte* slot = nullptr;
  if (place.fill_slot != GroupSource::kNone) {
    slot = arguments.slots + std::uint64_t{place.fill_slot} * arguments.slot_size_bytes;
  }
  WriteGroup<kFormat, kRow>(arguments, target, group, slot, row_size_bytes, room, thread);
}

/// One launch: the layers' blocks, one layer's after the other's.
struct GatherLaunch {
  GatherArguments layers[kGatherLayersMax];
  std::uint32_t blocks_per_layer = 0;
};

/// The last block of a layer to come here tells the host that all of it is written.
__device__ inline void Arrive(const GatherArguments& arguments, std::uint32_t block_count,
                              std::uint32_t sequence) {
  __syncthreads();
  if (threadIdx.x != 0) return;
  if (block_count > 1) {
    __threadfence();
    // Wraps to 0, for the next launch.
    if (atomicInc(arguments.arrivals, block_count - 1) != block_count - 1) return;
  }
  __threadfence_system();
  *static_cast<volatile std::uint32_t*>(arguments.done) = sequence;
}

/// Until *flag, in mapped memory, is 1; what was written before that is seen.
__device__ inline void AwaitFlag(const std::uint32_t* flag) {
#ifdef __CUDACC__
  std::uint32_t pause_ns = 20;
  for (;;) {
    std::uint32_t value;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
    if (value != 0) return;
    __nanosleep(pause_ns);
    if (pause_ns < 1000) pause_ns *= 2;
  }
#else
  auto* const word = const_cast<std::uint32_t*>(flag);
  while (std::atomic_ref<std::uint32_t>(*word).load(std::memory_order_acquire) == 0) {
    std::this_thread::yield();
  }
#endif
}

inline constexpr std::uint32_t kHeaderWords = sizeof(BatchHeader) / sizeof(std::uint64_t);

/// What a thread reads of a header in memory (the first threads) and of places; null: nothing.
__device__ inline const std::uint64_t* WordOf(const GatherArguments& arguments, std::uint32_t block,
                                              std::uint64_t first_group, std::uint32_t number) {
  if (number < kHeaderWords) {
    if (arguments.headers == nullptr) return nullptr;
    const std::uint32_t copy = block % arguments.header_count;
    return reinterpret_cast<const std::uint64_t*>(arguments.headers +
                                                  copy * GatherArguments::kHeaderStrideBytes) +
           number;
  }
  const std::uint64_t group = first_group + number - kHeaderWords;
  const std::uint64_t capacity = std::uint64_t{arguments.token_capacity} * arguments.order_count;
  if (number >= kHeaderWords + kGroupsPerBlock || group >= capacity) return nullptr;
  return reinterpret_cast<const std::uint64_t*>(arguments.groups) + group;
}

/// Reads header and places into shared memory and waits for what the launch is to wait for,
/// all at the same time. Shape of words: [kHeaderWords + kGroupsPerBlock].
__device__ inline void ReadBatch(const GatherArguments& arguments, std::uint32_t block,
                                 std::uint64_t first_group, std::uint64_t* words) {
  const std::uint64_t* const at = WordOf(arguments, block, first_group, threadIdx.x);
  std::uint64_t word = 0;
  if (at != nullptr) word = *at;
  // By another warp, where there is one, than reads the words.
  const std::uint32_t waiting = blockDim.x > kWarpThreads ? kWarpThreads : kWarpThreads - 1;
  if (arguments.flag != nullptr && threadIdx.x == waiting) AwaitFlag(arguments.flag);
  if (at != nullptr) words[threadIdx.x] = word;
  if (arguments.headers == nullptr && threadIdx.x == 0) {
    *reinterpret_cast<BatchHeader*>(words) = arguments.batch;
  }
  __syncthreads();
}

/// Grid: blocks_per_layer for each layer, of 1 to kWarpsPerBlock warps.
template <HbmFormat kFormat, RowFormat kRow>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerMultiprocessor)
    GatherKernel(const __grid_constant__ GatherLaunch launch, std::uint32_t row_size_bytes) {
  // As words, since shared memory takes no initial values.
  __shared__ std::uint64_t words[kHeaderWords + kGroupsPerBlock];
  __shared__ uint4 rooms[kFormat == HbmFormat::kStored ? 1 : kWarpsPerBlock * kRoomUnits];
  const BatchHeader& header = *reinterpret_cast<const BatchHeader*>(words);
  const auto* const places = reinterpret_cast<const GroupSource*>(words + kHeaderWords);
  const std::uint32_t warp = threadIdx.x / kWarpThreads;
  const std::uint32_t thread = threadIdx.x % kWarpThreads;
  uint4* const room = kFormat == HbmFormat::kStored ? nullptr : rooms + warp * kRoomUnits;
  const std::uint32_t layer = blockIdx.x / launch.blocks_per_layer;
  const std::uint32_t block = blockIdx.x - layer * launch.blocks_per_layer;
  const GatherArguments& arguments = launch.layers[layer];
  for (std::uint64_t first = std::uint64_t{block} * kGroupsPerBlock;;
       first += std::uint64_t{launch.blocks_per_layer} * kGroupsPerBlock) {
    ReadBatch(arguments, block, first, words);
    const std::uint64_t count = std::uint64_t{header.token_count} * arguments.order_count;
    if (first >= count) break;
    for (std::uint32_t i = warp; i < kGroupsPerBlock && first + i < count;
         i += blockDim.x / kWarpThreads) {
      GatherGroup<kFormat, kRow>(arguments, header, places[i], first + i, row_size_bytes, room,
                                 thread);
    }
    __syncthreads();  // Before the places are overwritten.
  }
  Arrive(arguments, launch.blocks_per_layer, header.sequence);
}

template <HbmFormat kFormat, RowFormat kRow>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerMultiprocessor)
    SlabGatherKernel(const __grid_constant__ SlabGather gather, std::uint32_t row_size_bytes) {
  __shared__ std::uint32_t numbers[kWarpsPerBlock];
  __shared__ uint4 rooms[kFormat == HbmFormat::kStored ? 1 : kWarpsPerBlock * kRoomUnits];
  const std::uint32_t warp = threadIdx.x / kWarpThreads;
  const std::uint32_t thread = threadIdx.x % kWarpThreads;
  uint4* const room = kFormat == HbmFormat::kStored ? nullptr : rooms + warp * kRoomUnits;
  const GatherArguments arguments = {.shape = gather.shape,
                                     .rows_per_group = gather.rows_per_group};
  const BatchHeader header = {.rows = gather.rows, .scales = gather.scales};
  for (std::uint64_t first = std::uint64_t{blockIdx.x} * kWarpsPerBlock; first < gather.group_count;
       first += std::uint64_t{gridDim.x} * kWarpsPerBlock) {
    // The numbers may be in host memory too: one request for those of all warps.
    if (threadIdx.x < kWarpsPerBlock && first + threadIdx.x < gather.group_count) {
      numbers[threadIdx.x] = gather.groups[first + threadIdx.x];
    }
    __syncthreads();
    if (const std::uint64_t index = first + warp; index < gather.group_count) {
      const GroupTarget target = TargetOf<kFormat>(arguments, header, index, row_size_bytes);
      const std::byte* group = nullptr;
      if (numbers[warp] != SlabGather::kNone) {
        group = gather.slab + std::uint64_t{numbers[warp]} * gather.group_stride_bytes;
      }
      WriteGroup<kFormat, kRow>(arguments, target, group, nullptr, row_size_bytes, room, thread);
    }
    __syncthreads();  // Before the numbers are overwritten.
  }
}

}  // namespace tiercel

#endif  // TIERCEL_CUDA_GATHER_KERNEL_CUH_
