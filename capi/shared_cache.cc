// tiercel_shared_cache_*, and the store's side of it: one DRAM cache for several processes.

#include "tiercel/shared_cache.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "capi/convert.h"
#include "capi/errors.h"
#include "capi/handles.h"
#include "capi/structs.h"

using tiercel::CheckpointInfo;
using tiercel::Recipe;
using tiercel::Result;
using tiercel::SharedCache;
using tiercel::SharedCacheLayer;
using tiercel::Status;
using tiercel::StatusCode;
namespace capi = tiercel::capi;

static_assert(TIERCEL_NO_SLOT == SharedCache::kNoSlot);

namespace tiercel::capi {
namespace {

/// Writes the number where it is wanted, or tells why there is none.
Status Take(Result<std::uint64_t> result, std::uint64_t* number) {
  if (!result.ok()) return std::move(result).TakeStatus();
  if (number != nullptr) *number = result.value();
  return {};
}

}  // namespace
}  // namespace tiercel::capi

tiercel_code tiercel_store_share_cache(const tiercel_store* store, int32_t* descriptor) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (descriptor == nullptr) return capi::IsNull("descriptor");
    *descriptor = -1;
    if (store == nullptr) return capi::IsNull("store");
    Result<int> shared = store->store->ShareCache();
    if (!shared.ok()) return std::move(shared).TakeStatus();
    *descriptor = shared.value();
    return {};
  });
}

tiercel_code tiercel_store_touch(tiercel_store* store, uint32_t layer_id, const uint64_t* mixes,
                                 size_t mix_count, uint64_t* present) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (store == nullptr) return capi::IsNull("store");
    Status status = capi::CheckArray(mixes, mix_count, "mixes");
    if (!status.ok()) return status;
    return capi::Take(store->store->Touch(layer_id, {mixes, mix_count}), present);
  });
}

tiercel_code tiercel_shared_cache_open(int32_t descriptor, const tiercel_checkpoint* checkpoint,
                                       uint32_t shard_rank, uint32_t shard_count,
                                       tiercel_shared_cache** cache) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (cache == nullptr) return capi::IsNull("cache");
    *cache = nullptr;
    if (checkpoint == nullptr) return capi::IsNull("checkpoint");
    CheckpointInfo info = *checkpoint->info;
    if (shard_rank != 0 || shard_count != 1) {
      Result<Recipe> shard =
          tiercel::ShardRecipe(info.recipe, {.rank = shard_rank, .count = shard_count});
      if (!shard.ok()) return std::move(shard).TakeStatus();
      info.recipe = std::move(shard).value();
    }
    Result<SharedCache> opened = SharedCache::Open(descriptor, info);
    if (!opened.ok()) return std::move(opened).TakeStatus();
    *cache = new tiercel_shared_cache{.cache = std::move(opened).value()};
    return {};
  });
}

tiercel_code tiercel_shared_cache_get_info(const tiercel_shared_cache* cache,
                                           tiercel_shared_cache_info* info) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (cache == nullptr) return capi::IsNull("cache");
    const tiercel::SharedCacheInfo& from = cache->cache.info();
    tiercel_shared_cache_info value = {};
    value.size_bytes = from.size_bytes;
    value.layer_count = static_cast<uint32_t>(from.layers.size());
    value.shard_rank = from.shard.rank;
    value.shard_count = from.shard.count;
    value.has_updates = from.has_updates ? 1 : 0;
    return capi::WriteStruct(value, "info", info);
  });
}

tiercel_code tiercel_shared_cache_get_layer(const tiercel_shared_cache* cache, uint32_t layer_index,
                                            tiercel_shared_cache_layer* layer) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (cache == nullptr) return capi::IsNull("cache");
    const std::span<const SharedCacheLayer> layers = cache->cache.info().layers;
    if (layer_index >= layers.size()) {
      return {StatusCode::kNotFound, fmt::format("layer_index is {}, but the shared cache has {} "
                                                 "layers",
                                                 layer_index, layers.size())};
    }
    const SharedCacheLayer& from = layers[layer_index];
    tiercel_shared_cache_layer value = {};
    value.layer_id = from.layer_id;
    value.order_count = from.order_count;
    value.group_size_bytes = from.group_size_bytes;
    value.slot_count = from.slot_count;
    value.slots_offset_bytes = from.slots_offset_bytes;
    value.slot_stride_bytes = from.slot_stride_bytes;
    return capi::WriteStruct(value, "layer", layer);
  });
}

tiercel_code tiercel_shared_cache_lookup(const tiercel_shared_cache* cache, uint32_t layer_id,
                                         const uint64_t* mixes, size_t mix_count, void* rows,
                                         size_t row_bytes, uint8_t* hits,
                                         uint64_t* hit_count) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (cache == nullptr) return capi::IsNull("cache");
    Status status = capi::CheckArray(mixes, mix_count, "mixes");
    if (status.ok()) status = capi::CheckArray(rows, row_bytes, "rows");
    if (status.ok()) status = capi::CheckArray(hits, mix_count, "hits");
    if (!status.ok()) return status;
    return capi::Take(
        cache->cache.Lookup(layer_id, {mixes, mix_count},
                            {static_cast<std::byte*>(rows), row_bytes}, {hits, mix_count}),
        hit_count);
  });
}

tiercel_code tiercel_shared_cache_find(const tiercel_shared_cache* cache, uint32_t layer_id,
                                       const uint64_t* mixes, size_t mix_count, uint32_t* slots,
                                       uint64_t* versions, uint64_t* found) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (cache == nullptr) return capi::IsNull("cache");
    Status status = capi::CheckArray(mixes, mix_count, "mixes");
    if (status.ok()) status = capi::CheckArray(slots, mix_count, "slots");
    if (status.ok()) status = capi::CheckArray(versions, mix_count, "versions");
    if (!status.ok()) return status;
    return capi::Take(
        cache->cache.Find(layer_id, {mixes, mix_count}, {slots, mix_count}, {versions, mix_count}),
        found);
  });
}

tiercel_code tiercel_shared_cache_recheck(const tiercel_shared_cache* cache, uint32_t layer_id,
                                          const uint32_t* slots, const uint64_t* versions,
                                          size_t count, uint8_t* unchanged,
                                          uint64_t* unchanged_count) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (cache == nullptr) return capi::IsNull("cache");
    Status status = capi::CheckArray(slots, count, "slots");
    if (status.ok()) status = capi::CheckArray(versions, count, "versions");
    if (status.ok()) status = capi::CheckArray(unchanged, count, "unchanged");
    if (!status.ok()) return status;
    return capi::Take(
        cache->cache.Recheck(layer_id, {slots, count}, {versions, count}, {unchanged, count}),
        unchanged_count);
  });
}

tiercel_code tiercel_shared_cache_get_bytes(const tiercel_shared_cache* cache, const void** bytes,
                                            size_t* size_bytes) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (cache == nullptr) return capi::IsNull("cache");
    if (bytes == nullptr) return capi::IsNull("bytes");
    if (size_bytes == nullptr) return capi::IsNull("size_bytes");
    const std::span<const std::byte> all = cache->cache.bytes();
    *bytes = all.data();
    *size_bytes = all.size();
    return {};
  });
}

tiercel_code tiercel_shared_cache_writer_closed(const tiercel_shared_cache* cache,
                                                int32_t* closed) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (cache == nullptr) return capi::IsNull("cache");
    if (closed == nullptr) return capi::IsNull("closed");
    *closed = cache->cache.WriterClosed() ? 1 : 0;
    return {};
  });
}

void tiercel_shared_cache_close(tiercel_shared_cache* cache) noexcept {
  delete cache;
}
