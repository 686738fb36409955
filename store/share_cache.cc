#include "store/share_cache.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "cache/shared_header.h"
#include "cache/slab.h"
#include "store/hot_set_file.h"
#include "tiercel/shared_slab.h"

namespace tiercel {
namespace {

/// Group keys that are put together before their uses are counted.
constexpr std::size_t kTouchedAtOnce = 128;

}  // namespace

Status TakeSharedMemory(Store::Impl& impl, const MemoryOptions& memory, std::uint64_t cache_bytes,
                        GroupCacheOptions& cache_options) {
  const std::uint64_t own_bytes = GroupCache::OwnBytes(impl.layout.group_space_count);
  const std::uint64_t size_bytes =
      Slab::RoundDown(cache_bytes - std::min(cache_bytes, own_bytes), memory.pages);
  if (size_bytes <= kSharedHeaderBytes) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("a DRAM budget that leaves {} B to the cache has no room for shared "
                              "memory: raise it",
                              cache_bytes));
  }
  Result<SharedSlab> slab = SharedSlab::Create(size_bytes, memory);
  if (!slab.ok()) return std::move(slab).TakeStatus();
  impl.cache_memory = std::move(slab).value();
  const std::span<std::byte> bytes = impl.cache_memory.writable_bytes();
  // A child that a fork(2) makes has no part in it but by the descriptor, to read: else it
  // would have the one mapping that can write.
  (void)madvise(bytes.data(), bytes.size(), MADV_DONTFORK);
  cache_options.shared_memory = bytes.subspan(kSharedHeaderBytes);
  cache_options.shared_pages = impl.cache_memory.pages();
  return {};
}

Status DescribeSharedMemory(Store::Impl& impl) {
  Result<TableIdentity> identity = IdentityOf(impl.checkpoint);
  if (!identity.ok()) return std::move(identity).TakeStatus();
  const std::span<std::byte> bytes = impl.cache_memory.writable_bytes();
  SharedHeader header{.size_bytes = bytes.size(),
                      .table_id = identity.value().table_id,
                      .content_id = identity.value().content_id,
                      .shard = impl.checkpoint.recipe.shard,
                      .has_updates = impl.overlay != nullptr,
                      .pools = {},
                      .spaces = {}};
  for (const SharedPoolPlace& pool : impl.cache->shared_pools()) {
    header.pools.push_back(
        {.offset_bytes = kSharedHeaderBytes + pool.offset_bytes,
         .layout = PoolLayout::Of(pool.group_size_bytes, pool.slot_count, /*shared=*/true)});
  }
  for (std::uint32_t i = 0; i < impl.layout.group_space_count; ++i) {
    const Space& space = impl.layout.spaces[i];
    header.spaces.push_back({.layer_id = impl.layout.layers[space.layer_index].layer_id,
                             .order = space.order_index + 2,
                             .group_size_bytes = space.size_bytes,
                             .pool = impl.cache->shared_pool_of(i)});
  }
  EncodeSharedHeader(header, bytes.first(kSharedHeaderBytes));
  return {};
}

Result<int> Store::ShareCache() const {
  if (impl_->cache_memory.fd() >= 0) return impl_->cache_memory.fd();
  return Status(StatusCode::kUnavailable,
                fmt::format("the cache of the store of {} is this process's own: open the store "
                            "with StoreOptions::memory.shared",
                            impl_->checkpoint.path));
}

Result<std::uint64_t> Store::Touch(std::uint32_t layer_id, std::span<const std::uint64_t> mixes) {
  Result<std::uint32_t> layer = impl_->FindLayer(layer_id);
  if (!layer.ok()) return std::move(layer).TakeStatus();
  const ServedLayer& served = impl_->layout.layers[layer.value()];
  const std::uint32_t order_count = impl_->layout.order_count;
  if (mixes.size() % order_count != 0) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} mixes of layer {} are not {} for each token", mixes.size(),
                              layer_id, order_count));
  }
  std::uint64_t touched = 0;
  std::array<std::uint64_t, kTouchedAtOnce> keys;
  for (std::uint32_t order = 0; order < order_count; ++order) {
    std::size_t count = 0;
    for (std::size_t i = order; i < mixes.size(); i += order_count) {
      keys[count++] = impl_->hasher.GroupKey(served.recipe_index, order, mixes[i]);
      if (count < kTouchedAtOnce && i + order_count < mixes.size()) continue;
      touched += impl_->cache->Touch(served.first_space + order, std::span(keys).first(count));
      count = 0;
    }
  }
  return touched;
}

}  // namespace tiercel
