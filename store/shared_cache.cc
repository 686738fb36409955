#include "tiercel/shared_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "cache/group_reader.h"
#include "cache/shared_header.h"
#include "cache/slot_version.h"
#include "store/hot_set_file.h"
#include "tiercel/hasher.h"
#include "tiercel/shared_slab.h"

namespace tiercel {
namespace {

/// Groups whose keys are put together before they are looked up.
constexpr std::size_t kSharedGroupsAtOnce = 128;

/// A layer, and what the recipe and the reader call it.
struct SharedServedLayer {
  std::uint32_t recipe_index = 0;
  /// Spaces of its orders, order 2 first.
  std::vector<std::uint32_t> spaces;
};

Status CheckSharedIdentity(const SharedHeader& header, const TableIdentity& identity,
                           const CheckpointInfo& checkpoint, const std::string& name) {
  const HeadShard shard = checkpoint.recipe.shard;
  if (header.shard != shard) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} has groups of head shard {}/{}, but {} is to be read as shard "
                              "{}/{}: groups of other heads; ranks of one shard alone can share",
                              name, header.shard.rank, header.shard.count, checkpoint.path,
                              shard.rank, shard.count));
  }
  if (header.table_id != identity.table_id) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} is the cache of other tables than {}: recipe, shapes, row format "
                              "or file sizes differ (table {:016x}, here {:016x})",
                              name, checkpoint.path, header.table_id, identity.table_id));
  }
  if (header.content_id != identity.content_id) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: files of {} are not those that the writer opened, or were "
                              "written since: its rows may be others; open the writer's store anew",
                              name, checkpoint.path));
  }
  return {};
}

/// What the memory has of one layer: nothing, or all of its orders, once each, in one pool, in
/// groups of the recipe's size. Returns the number of spaces.
Result<std::uint32_t> FindOrders(const SharedHeader& header, const CheckpointInfo& checkpoint,
                                 SharedServedLayer& layer, std::uint32_t& pool) {
  const LayerTable& table = checkpoint.layers[layer.recipe_index];
  const std::uint32_t order_count = checkpoint.recipe.order_count();
  const std::uint32_t group_size_bytes =
      checkpoint.recipe.parameters.head_count * table.shape.row_size_bytes();
  layer.spaces.assign(order_count, kSharedSpacesMax);
  std::uint32_t found = 0;
  for (std::uint32_t i = 0; i < header.spaces.size(); ++i) {
    const SharedSpace& space = header.spaces[i];
    if (space.layer_id != table.layer_id) continue;
    if (space.order < 2 || space.order - 2 >= order_count ||
        layer.spaces[space.order - 2] != kSharedSpacesMax ||
        space.group_size_bytes != group_size_bytes || (found > 0 && space.pool != pool)) {
      return Status(StatusCode::kCorruption,
                    fmt::format("the shared cache has groups of order {} and {} B for layer {}, "
                                "where {} has orders 2 to {} of {} B, once each",
                                space.order, space.group_size_bytes, table.layer_id,
                                checkpoint.path, order_count + 1, group_size_bytes));
    }
    layer.spaces[space.order - 2] = i;
    pool = space.pool;
    ++found;
  }
  if (found == 0 || found == order_count) return found;
  return Status(StatusCode::kCorruption,
                fmt::format("the shared cache has {} of the {} orders of layer {}", found,
                            order_count, table.layer_id));
}

/// Matches the memory's spaces with the recipe's layers.
Status FindLayers(const SharedHeader& header, const CheckpointInfo& checkpoint,
                  SharedCacheInfo& info, std::vector<SharedServedLayer>& layers) {
  std::size_t matched = 0;
  for (std::uint32_t i = 0; i < checkpoint.layers.size(); ++i) {
    SharedServedLayer layer{.recipe_index = i, .spaces = {}};
    std::uint32_t pool_index = 0;
    Result<std::uint32_t> found = FindOrders(header, checkpoint, layer, pool_index);
    if (!found.ok()) return std::move(found).TakeStatus();
    if (found.value() == 0) continue;
    matched += found.value();
    const SharedPool& pool = header.pools[pool_index];
    info.layers.push_back({.layer_id = checkpoint.layers[i].layer_id,
                           .order_count = found.value(),
                           .group_size_bytes = pool.layout.group_size_bytes,
                           .slots_offset_bytes = pool.offset_bytes,
                           .slot_stride_bytes = pool.layout.stride_bytes,
                           .slot_count = pool.layout.slot_count});
    layers.push_back(std::move(layer));
  }
  if (matched == header.spaces.size()) return {};
  return Status(StatusCode::kCorruption,
                fmt::format("the shared cache has layers that {} has not", checkpoint.path));
}

}  // namespace

struct SharedCache::Impl {
  Impl(SharedSlab shared_slab, const SharedHeader& header, Hasher group_hasher)
      : slab(std::move(shared_slab)),
        reader(header, slab.bytes()),
        hasher(std::move(group_hasher)) {}

  SharedSlab slab;
  GroupReader reader;
  Hasher hasher;
  SharedCacheInfo info;
  std::vector<SharedServedLayer> layers;  ///< As info.layers.

  /// Index into `layers`. Errors: kNotFound; kInvalidArgument where `count` groups are not
  /// whole tokens or `lengths_fit` is false.
  [[nodiscard]] Result<std::uint32_t> CheckCall(std::uint32_t layer_id, std::size_t count,
                                                bool whole_tokens, bool lengths_fit) const;
  [[nodiscard]] std::uint64_t KeyOf(const SharedServedLayer& layer, std::size_t order_index,
                                    std::uint64_t mix) const noexcept {
    return hasher.GroupKey(layer.recipe_index, static_cast<std::uint32_t>(order_index), mix);
  }
};

Result<std::uint32_t> SharedCache::Impl::CheckCall(std::uint32_t layer_id, std::size_t count,
                                                   bool whole_tokens, bool lengths_fit) const {
  for (std::uint32_t i = 0; i < info.layers.size(); ++i) {
    if (info.layers[i].layer_id != layer_id) continue;
    if (lengths_fit && (!whole_tokens || count % info.layers[i].order_count == 0)) return i;
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("a shared cache was asked for {} groups of layer {}, with {} orders "
                    "and {} B a group, but a span has another length",
                    count, layer_id, info.layers[i].order_count, info.layers[i].group_size_bytes));
  }
  return Status(StatusCode::kNotFound,
                fmt::format("layer {} is not served by the store that shares its cache", layer_id));
}

Result<SharedCache> SharedCache::Open(int descriptor, const CheckpointInfo& checkpoint) {
  try {
    const std::string name = fmt::format("descriptor {}", descriptor);
    Result<SharedSlab> slab = SharedSlab::Open(descriptor);
    if (!slab.ok()) return std::move(slab).TakeStatus();
    const std::span<const std::byte> bytes = slab.value().bytes();
    if (bytes.size() < kSharedHeaderBytes) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("{} is not a shared cache: it has {} B", name, bytes.size()));
    }
    // A copy: what was checked cannot change under its user.
    std::vector<std::byte> copy(bytes.begin(), bytes.begin() + kSharedHeaderBytes);
    Result<SharedHeader> header = DecodeSharedHeader(copy, bytes.size(), name);
    if (!header.ok()) return std::move(header).TakeStatus();
    Result<TableIdentity> identity = IdentityOf(checkpoint);
    if (!identity.ok()) return std::move(identity).TakeStatus();
    Status status = CheckSharedIdentity(header.value(), identity.value(), checkpoint, name);
    if (!status.ok()) return status;
    Result<Hasher> hasher = Hasher::Create(checkpoint.recipe);
    if (!hasher.ok()) return std::move(hasher).TakeStatus();
    auto impl =
        std::make_unique<Impl>(std::move(slab).value(), header.value(), std::move(hasher).value());
    status = FindLayers(header.value(), checkpoint, impl->info, impl->layers);
    if (!status.ok()) return status;
    impl->info.size_bytes = header.value().size_bytes;
    impl->info.shard = header.value().shard;
    impl->info.has_updates = header.value().has_updates;
    return SharedCache(std::move(impl));
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kResourceExhausted, "no memory to open a shared cache");
  }
}

SharedCache::SharedCache(std::unique_ptr<const Impl> impl) noexcept : impl_(std::move(impl)) {}
SharedCache::SharedCache(SharedCache&& other) noexcept = default;
SharedCache& SharedCache::operator=(SharedCache&& other) noexcept = default;
SharedCache::~SharedCache() = default;

const SharedCacheInfo& SharedCache::info() const noexcept {
  return impl_->info;
}
std::span<const std::byte> SharedCache::bytes() const noexcept {
  return impl_->slab.bytes();
}
bool SharedCache::WriterClosed() const noexcept {
  return IsWriterClosed(impl_->slab.bytes());
}

Result<std::uint64_t> SharedCache::Lookup(std::uint32_t layer_id,
                                          std::span<const std::uint64_t> mixes,
                                          std::span<std::byte> rows,
                                          std::span<std::uint8_t> hits) const {
  Result<std::uint32_t> index =
      impl_->CheckCall(layer_id, mixes.size(), /*whole_tokens=*/true, hits.size() == mixes.size());
  if (!index.ok()) return std::move(index).TakeStatus();
  const SharedServedLayer& layer = impl_->layers[index.value()];
  const std::size_t group_size_bytes = impl_->info.layers[index.value()].group_size_bytes;
  index = impl_->CheckCall(layer_id, mixes.size(), /*whole_tokens=*/true,
                           rows.size() == mixes.size() * group_size_bytes);
  if (!index.ok()) return std::move(index).TakeStatus();
  std::array<std::uint32_t, kSharedGroupsAtOnce> spaces;
  std::array<GroupTarget, kSharedGroupsAtOnce> targets;
  const CopyStores stores = StoresForOutput(rows.size());
  std::uint64_t hit_count = 0;
  for (std::size_t first = 0; first < mixes.size(); first += kSharedGroupsAtOnce) {
    const std::size_t count = std::min(kSharedGroupsAtOnce, mixes.size() - first);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t order = (first + i) % layer.spaces.size();
      spaces[i] = layer.spaces[order];
      targets[i] = {.key = impl_->KeyOf(layer, order, mixes[first + i]),
                    .destination = rows.data() + (first + i) * group_size_bytes};
    }
    hit_count +=
        impl_->reader.Lookup(std::span(spaces).first(count), std::span(targets).first(count),
                             hits.subspan(first, count), stores);
  }
  return hit_count;
}

Result<std::uint64_t> SharedCache::Find(std::uint32_t layer_id,
                                        std::span<const std::uint64_t> mixes,
                                        std::span<std::uint32_t> slots,
                                        std::span<std::uint64_t> versions) const {
  Result<std::uint32_t> index =
      impl_->CheckCall(layer_id, mixes.size(), /*whole_tokens=*/true,
                       slots.size() == mixes.size() && versions.size() == mixes.size());
  if (!index.ok()) return std::move(index).TakeStatus();
  const SharedServedLayer& layer = impl_->layers[index.value()];
  std::uint64_t found_count = 0;
  for (std::size_t i = 0; i < mixes.size(); ++i) {
    const std::size_t order = i % layer.spaces.size();
    const FoundSlot found =
        impl_->reader.Find(layer.spaces[order], impl_->KeyOf(layer, order, mixes[i]));
    slots[i] = found.slot;
    versions[i] = found.version;
    found_count += found.slot != kNoSlot ? 1 : 0;
  }
  return found_count;
}

Result<std::uint64_t> SharedCache::Recheck(std::uint32_t layer_id,
                                           std::span<const std::uint32_t> slots,
                                           std::span<const std::uint64_t> versions,
                                           std::span<std::uint8_t> unchanged) const {
  Result<std::uint32_t> index =
      impl_->CheckCall(layer_id, slots.size(), /*whole_tokens=*/false,
                       versions.size() == slots.size() && unchanged.size() == slots.size());
  if (!index.ok()) return std::move(index).TakeStatus();
  // Its orders have one pool.
  const std::uint32_t space = impl_->layers[index.value()].spaces[0];
  std::uint64_t count = 0;
  EndSharedLoads();  // Of a caller who read bytes() himself.
  for (std::size_t i = 0; i < slots.size(); ++i) {
    unchanged[i] =
        impl_->reader.IsUnchanged(space, {.slot = slots[i], .version = versions[i]}) ? 1 : 0;
    count += unchanged[i];
  }
  return count;
}

}  // namespace tiercel
