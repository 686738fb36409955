#include "tiercel/store.h"

#include <fmt/format.h>

#include <new>
#include <utility>

#include "cache/shared_header.h"
#include "store/store_impl.h"

namespace tiercel {
namespace {

Status OutOfMemory() {
  return Status(StatusCode::kResourceExhausted, "no memory for the scratch of a lookup or ticket");
}

}  // namespace

Store::Impl::Impl(CheckpointInfo checkpoint_info, Hasher row_hasher, Layout served)
    : checkpoint(std::move(checkpoint_info)),
      hasher(std::move(row_hasher)),
      layout(std::move(served)),
      locator(checkpoint, layout),
      counters(layout.spaces.size()) {}

Store::Impl::~Impl() {
  if (tickets != nullptr) tickets->Shutdown();
  if (prefetcher != nullptr) prefetcher->Stop();  // It wakes I/O threads, so it goes first.
  if (cache_memory.fd() < 0) return;
  // Whoever may still insert goes first, as the members would.
  {
    MutexLock lock(hot_set_mutex);
    hot_set.reset();
  }
  io_threads.clear();
  TellWriterClosed(cache_memory.writable_bytes());
}

Store::Store(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Store::~Store() = default;

Status Store::Lookup(std::span<const TokenRun> runs, std::span<const LayerOutput> outputs,
                     RowOutput format) {
  try {
    return impl_->Lookup(runs, outputs, format);
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  }
}

Status Store::LookupRows(std::span<const RowId> rows, const LayerOutput& output, RowOutput format) {
  try {
    return impl_->LookupRows(rows, output, format);
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  }
}

Result<Ticket> Store::Start(std::span<const TokenRun> runs, std::span<const PrefetchLayer> layers,
                            const PrefetchOptions& options) {
  try {
    return impl_->Start(runs, {}, layers, options);
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  }
}

Result<Ticket> Store::StartRows(std::span<const RowId> rows, const PrefetchLayer& layer,
                                const PrefetchOptions& options) {
  try {
    return impl_->Start({}, rows, {&layer, 1}, options);
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  }
}

Result<std::uint32_t> Store::Impl::FindLayer(std::uint32_t layer_id) const {
  for (std::uint32_t i = 0; i < layout.layers.size(); ++i) {
    if (layout.layers[i].layer_id == layer_id) return i;
  }
  return Status(StatusCode::kNotFound, fmt::format("layer {} is not served by the store of {}",
                                                   layer_id, checkpoint.path));
}

Result<std::uint32_t> Store::OutputRowSizeBytes(std::uint32_t layer_id, RowOutput format) const {
  Result<std::uint32_t> layer = impl_->FindLayer(layer_id);
  if (!layer.ok()) return std::move(layer).TakeStatus();
  return impl_->OutputRowSizeBytes(layer.value(), format);
}

const CheckpointInfo& Store::checkpoint() const noexcept {
  return impl_->checkpoint;
}
const Hasher& Store::hasher() const noexcept {
  return impl_->hasher;
}

StoreStats Store::Stats() const {
  const Impl& impl = *impl_;
  StoreStats stats;
  stats.shard = impl.checkpoint.recipe.shard;
  for (std::uint32_t i = 0; i < impl.layout.spaces.size(); ++i) {
    const Space& space = impl.layout.spaces[i];
    const SpaceCounters& counters = impl.counters.spaces[i];
    if (space.single_rows()) {
      stats.single_rows += counters.lookups.Get();
      continue;
    }
    const GroupSpaceStats cache = impl.cache->Stats(i);
    stats.orders.push_back(OrderStats{.layer_id = impl.layout.layers[space.layer_index].layer_id,
                                      .order = space.order_index + 2,
                                      .groups = counters.lookups.Get(),
                                      .dram_hits = counters.dram_hits.Get(),
                                      .joined = counters.joined.Get(),
                                      .fetches = counters.fetches.Get(),
                                      .failed_groups = counters.failed.Get(),
                                      .cache_insertions = cache.insertions,
                                      .cache_evictions = cache.evictions,
                                      .cache_rejections = cache.rejections,
                                      .cache_ghost_hits = cache.ghost_hits,
                                      .cache_resident_groups = cache.resident_groups,
                                      .cache_pinned_groups = cache.pinned_groups,
                                      .group_size_bytes = space.size_bytes,
                                      .dram_hit_bytes = counters.dram_hits.Get() * space.size_bytes,
                                      .fetched_bytes = counters.fetches.Get() * space.size_bytes});
  }
  stats.device_reads = impl.counters.device_reads.Get();
  stats.io_thread_count = static_cast<std::uint32_t>(impl.io_threads.size());
  stats.device_reads_shared = impl.counters.device_reads_shared.Get();
  Histogram latency_ns;
  for (const auto& thread : impl.io_threads) thread->MergeReadLatency(latency_ns);
  stats.device_read_p50_ns = latency_ns.Percentile(0.5);
  stats.device_read_p99_ns = latency_ns.Percentile(0.99);
  stats.device_read_max_ns = latency_ns.max();
  stats.device_read_bytes = impl.counters.device_read_bytes.Get();
  stats.device_read_retries = impl.counters.device_read_retries.Get();
  stats.device_read_failures = impl.counters.device_read_failures.Get();
  stats.dram_budget_bytes = impl.plan.budget_bytes;
  stats.cache_bytes = impl.cache->memory_bytes();
  if (impl.cache_memory.fd() >= 0) stats.cache_bytes += kSharedHeaderBytes;
  stats.resident_scale_bytes = impl.locator.resident_bytes();
  stats.checksum_bytes = impl.plan.checksum_bytes;
  stats.read_buffer_bytes = impl.plan.read_bytes;
  stats.ticket_bytes = impl.plan.ticket_bytes;
  stats.tickets = impl.tickets->tickets_in_use();
  stats.expected_groups = impl.cache->expected_groups();
  stats.engine = Name(impl.opened.device->engine());
  stats.engine_description = impl.opened.device->description();
  stats.engine_fallback = impl.opened.fallback_reason;
  stats.queue_depth = impl.queue_depth;
  stats.read_block_bytes = impl.opened.device->Blocks({.size_bytes = 1}).size_bytes;
  stats.disk_profile = impl.disk_profile;
  stats.cache_description = impl.cache->description();
  if (impl.overlay != nullptr) {
    stats.overlay = impl.overlay->Stats();
    stats.overlay.memory_bytes = impl.plan.overlay_bytes;
  }
  return stats;
}

}  // namespace tiercel
