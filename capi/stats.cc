// tiercel_store_get_stats, _metrics and _description.

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "capi/convert.h"
#include "capi/errors.h"
#include "capi/handles.h"
#include "capi/structs.h"
#include "tiercel/store.h"

using tiercel::Status;
using tiercel::StoreStats;
namespace capi = tiercel::capi;

namespace tiercel::capi {
namespace {

static_assert(sizeof(tiercel_order_stats) == 8 + 2 * 4 + 13 * 8 + 2 * 4);
static_assert(sizeof(tiercel_store_stats) == 15 * 8 + 6 * 4);

tiercel_order_stats ToStats(const OrderStats& from) {
  return {.struct_size = sizeof(tiercel_order_stats),
          .layer_id = from.layer_id,
          .order = from.order,
          .groups = from.groups,
          .dram_hits = from.dram_hits,
          .joined = from.joined,
          .fetches = from.fetches,
          .failed_groups = from.failed_groups,
          .cache_insertions = from.cache_insertions,
          .cache_evictions = from.cache_evictions,
          .cache_rejections = from.cache_rejections,
          .cache_ghost_hits = from.cache_ghost_hits,
          .cache_resident_groups = from.cache_resident_groups,
          .cache_pinned_groups = from.cache_pinned_groups,
          .dram_hit_bytes = from.dram_hit_bytes,
          .fetched_bytes = from.fetched_bytes,
          .group_size_bytes = from.group_size_bytes,
          .reserved = 0};
}

tiercel_store_stats ToStats(const StoreStats& from) {
  return {.struct_size = sizeof(tiercel_store_stats),
          .single_rows = from.single_rows,
          .device_reads = from.device_reads,
          .device_reads_shared = from.device_reads_shared,
          .device_read_bytes = from.device_read_bytes,
          .device_read_retries = from.device_read_retries,
          .device_read_failures = from.device_read_failures,
          .device_read_p50_ns = from.device_read_p50_ns,
          .device_read_p99_ns = from.device_read_p99_ns,
          .device_read_max_ns = from.device_read_max_ns,
          .dram_budget_bytes = from.dram_budget_bytes,
          .cache_bytes = from.cache_bytes,
          .resident_scale_bytes = from.resident_scale_bytes,
          .read_buffer_bytes = from.read_buffer_bytes,
          .ticket_bytes = from.ticket_bytes,
          .tickets = from.tickets,
          .io_thread_count = from.io_thread_count,
          .queue_depth = from.queue_depth,
          .read_block_bytes = from.read_block_bytes,
          .engine = from.engine == "io_uring" ? std::uint32_t{TIERCEL_ENGINE_URING}
                                              : std::uint32_t{TIERCEL_ENGINE_PREAD},
          .reserved = 0};
}

/// As many of `from` as fit into an array of `capacity`.
Status WriteOrders(const std::vector<OrderStats>& from, tiercel_order_stats* orders,
                   std::size_t capacity) {
  Status status = CheckArray(orders, capacity, "orders");
  const std::size_t count = std::min(from.size(), capacity);
  for (std::size_t i = 0; status.ok() && i < count; ++i) {
    // All elements are as long as the first says: the others may be uninitialised.
    tiercel_order_stats* order = ElementAt(orders, i);
    status = InitStruct(ToStats(from[i]), orders->struct_size, order);
  }
  return status;
}

std::string Describe(const StoreStats& stats) {
  std::string text = fmt::format("engine: {}, {}\n", stats.engine, stats.engine_description);
  if (!stats.engine_fallback.empty()) text += fmt::format("fallback: {}\n", stats.engine_fallback);
  if (!stats.disk_profile.empty()) text += fmt::format("profile: {}\n", stats.disk_profile);
  text += fmt::format("cache: {}\n", stats.cache_description);
  return text;
}

}  // namespace
}  // namespace tiercel::capi

tiercel_code tiercel_store_get_stats(const tiercel_store* store, tiercel_store_stats* stats,
                                     tiercel_order_stats* orders, size_t order_capacity,
                                     size_t* order_count) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (store == nullptr) return capi::IsNull("store");
    const StoreStats from = store->store->Stats();
    Status status = capi::WriteStruct(capi::ToStats(from), "stats", stats);
    if (status.ok()) status = capi::WriteOrders(from.orders, orders, order_capacity);
    if (status.ok() && order_count != nullptr) *order_count = from.orders.size();
    return status;
  });
}

tiercel_code tiercel_store_get_metrics(const tiercel_store* store, char** text,
                                       size_t* length) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (text == nullptr) return capi::IsNull("text");
    *text = nullptr;
    if (store == nullptr) return capi::IsNull("store");
    return capi::GiveString(store->store->WriteMetrics(), text, length);
  });
}

tiercel_code tiercel_store_get_description(const tiercel_store* store, char** text,
                                           size_t* length) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (text == nullptr) return capi::IsNull("text");
    *text = nullptr;
    if (store == nullptr) return capi::IsNull("store");
    return capi::GiveString(capi::Describe(store->store->Stats()), text, length);
  });
}
