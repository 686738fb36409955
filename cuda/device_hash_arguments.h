#ifndef TIERCEL_CUDA_DEVICE_HASH_ARGUMENTS_H_
#define TIERCEL_CUDA_DEVICE_HASH_ARGUMENTS_H_

#include <cstdint>

#include "cuda/hbm_device.h"
#include "engram/key_rule.h"
#include "engram/window.h"
#include "tiercel/hbm.h"
#include "tiercel/recipe.h"

// What the kernels of device_hash_kernel.cuh get. No CUDA header is included.

namespace tiercel {

/// One layer's hash, in device memory.
struct DeviceHashLayer {
  const std::uint64_t* multipliers = nullptr;  ///< Shape [order_max].
  const Head* heads = nullptr;                 ///< Shape [columns].
  const KeyRule* key_rules = nullptr;          ///< Shape [orders].
};

/// An entry of the directory that kernels probe. All zero: free.
struct DeviceEntry {
  std::uint64_t key = 0;
  std::uint32_t slot = 0;
  std::uint32_t space_plus_1 = 0;
};
static_assert(sizeof(DeviceEntry) == 16);

/// A hash table of two choices: each group may lie in one of two buckets of a line each. One
/// that finds both full is not in it, and a miss.
struct DeviceTable {
  static constexpr std::uint32_t kWays = 8;
  DeviceEntry* entries = nullptr;  ///< Shape [bucket_count, kWays].
  std::uint32_t bucket_count = 0;
};

[[nodiscard]] inline DeviceTable TableOf(const MirrorTable& mirror) noexcept {
  static_assert(DeviceTable::kWays * sizeof(DeviceEntry) == MirrorTable::kBucketBytes);
  return {.entries = reinterpret_cast<DeviceEntry*>(mirror.buckets),
          .bucket_count = mirror.bucket_count};
}

struct HashArguments {
  RecipeKind kind = RecipeKind::kDeepSeekV41;
  std::uint32_t order_max = 0;
  std::uint32_t head_count = 0;
  WindowRules rules;  ///< `classes` in device memory.
  DeviceHashLayer layer;
  DeviceTokens tokens;
  DeviceHashOutput output;
};

struct ProbeArguments {
  DeviceTable table;
  std::uint32_t first_space = 0;  ///< Of the layer's orders.
  DeviceProbeOutput output;
};

}  // namespace tiercel

#endif  // TIERCEL_CUDA_DEVICE_HASH_ARGUMENTS_H_
