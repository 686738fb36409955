#ifndef TIERCEL_CUDA_DEVICE_HASH_KERNEL_CUH_
#define TIERCEL_CUDA_DEVICE_HASH_KERNEL_CUH_

#include <cstdint>

#include "cache/group_hash.h"
#include "cuda/device_hash_arguments.h"
#include "cuda/ngram_hash.h"

// The host's own code (engram/window.h, reduce.h, group_space.h), constexpr and therefore
// callable here: what is bit-exact there is bit-exact here. A thread an n-gram: each feeds
// the window anew, at most order_max ids, rather than share it.
//
// No launch is in here and no CUDA header: tests/cuda/kernels_on_host_test.cc runs the same
// text with threads of the host.

namespace tiercel {

inline constexpr std::uint32_t kHashThreads = 128;

/// The two buckets of a group.
__device__ inline std::uint32_t BucketOf(const DeviceTable& table, std::uint64_t hash,
                                         std::uint32_t choice) {
  return ReduceHash(choice == 0 ? hash : SplitMix64(hash + choice), table.bucket_count);
}

__device__ inline std::uint32_t FindSlot(const DeviceTable& table, std::uint32_t space,
                                         std::uint64_t key) {
  const std::uint64_t hash = HashGroup(space, key);
  for (std::uint32_t choice = 0; choice < 2; ++choice) {
    const DeviceEntry* const bucket =
        table.entries + std::uint64_t{BucketOf(table, hash, choice)} * DeviceTable::kWays;
    for (std::uint32_t way = 0; way < DeviceTable::kWays; ++way) {
      if (bucket[way].space_plus_1 == space + 1 && bucket[way].key == key) {
        return bucket[way].slot;
      }
    }
  }
  return GroupSource::kNone;
}

/// Notes where a group is, or that it is missing.
__device__ inline void Probe(const ProbeArguments& probe, std::uint64_t group_index,
                             std::uint32_t order_index, std::uint64_t key, std::uint64_t mix,
                             bool live) {
  GroupSource place;
  if (live) {
    place.source = FindSlot(probe.table, probe.first_space + order_index, key);
    if (place.source == GroupSource::kNone) {
      const std::uint32_t number = atomicAdd(probe.output.miss_count, 1U);
      place.source = GroupSource::kStaged | number;
      probe.output.misses[number] = {.key = key, .mix = mix, .order_index = order_index};
    }
  }
  probe.output.places[2 * group_index] = place.source;
  probe.output.places[2 * group_index + 1] = place.fill_slot;
}

template <RecipeKind kKind, bool kProbe>
__global__ void __launch_bounds__(kHashThreads)
    HashKernel(const __grid_constant__ HashArguments arguments,
               const __grid_constant__ ProbeArguments probe) {
  const std::uint32_t orders = arguments.order_max - 1;
  const std::uint64_t index = std::uint64_t{blockIdx.x} * kHashThreads + threadIdx.x;
  if (index >= std::uint64_t{arguments.tokens.token_count} * orders) return;
  const auto token = static_cast<std::uint32_t>(index / orders);
  const auto order_index = static_cast<std::uint32_t>(index - std::uint64_t{token} * orders);
  const NgramHash hash =
      HashNgram<kKind>(arguments.rules, arguments.tokens.ids, arguments.tokens.run_start[token],
                       arguments.tokens.position[token], arguments.order_max, order_index,
                       arguments.layer.multipliers);
  const std::uint64_t mix = hash.mix;
  if (order_index == 0) {
    if (arguments.output.dead != nullptr) arguments.output.dead[token] = hash.dead ? 1 : 0;
    if (hash.unknown && arguments.output.unknown_count != nullptr) {
      atomicAdd(arguments.output.unknown_count, 1U);
    }
  }
  const std::uint64_t key = arguments.layer.key_rules[order_index].KeyOf(mix);
  if (arguments.output.keys != nullptr) arguments.output.keys[index] = key;
  if (arguments.output.rows != nullptr) {
    const Head* const heads = arguments.layer.heads + order_index * arguments.head_count;
    for (std::uint32_t head = 0; head < arguments.head_count; ++head) {
      const std::uint64_t remainder = kKind == RecipeKind::kEngramDemo
                                          ? heads[head].size.FloorRemainder(mix)
                                          : heads[head].size.Remainder(mix);
      arguments.output.rows[index * arguments.head_count + head] =
          RowId{remainder + heads[head].offset};
    }
  }
  if constexpr (kProbe) Probe(probe, index, order_index, key, mix, !hash.dead);
}

/// One thread a change. kAdded: those that came; else those that went. In two launches, so
/// that what went has made room.
template <bool kAdded>
__global__ void ApplyChangesKernel(DeviceTable table, const DeviceChange* changes,
                                   std::uint32_t change_count) {
  const std::uint32_t index = blockIdx.x * kHashThreads + threadIdx.x;
  if (index >= change_count) return;
  const DeviceChange change = changes[index];
  if ((change.added != 0) != kAdded) return;
  const std::uint32_t space = change.space;
  const std::uint64_t hash = HashGroup(space, change.key);
  for (std::uint32_t choice = 0; choice < 2; ++choice) {
    DeviceEntry* const bucket =
        table.entries + std::uint64_t{BucketOf(table, hash, choice)} * DeviceTable::kWays;
    for (std::uint32_t way = 0; way < DeviceTable::kWays; ++way) {
      DeviceEntry& entry = bucket[way];
      if constexpr (kAdded) {
        // Whoever turns a free entry's 0 into its space has it.
        if (atomicCAS(&entry.space_plus_1, 0U, space + 1) != 0) continue;
        entry.key = change.key;
        entry.slot = change.slot;
        return;
      } else {
        // Keys stay as they are here; only the words that others look at too are atomic.
        if (entry.key != change.key) continue;
        if (atomicCAS(&entry.space_plus_1, space + 1, 0U) == space + 1) return;
      }
    }
  }
}

}  // namespace tiercel

#endif  // TIERCEL_CUDA_DEVICE_HASH_KERNEL_CUH_
