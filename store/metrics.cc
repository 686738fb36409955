// A store's statistics as Prometheus text. Names end in what they count, or in their unit;
// labels are layer, order, tier and engine.

#include <fmt/format.h>

#include "store/metrics_text.h"
#include "store/store_impl.h"

namespace tiercel {
namespace {

/// One family with a sample for each (layer, order).
void PerOrder(MetricsText& text, const StoreStats& stats, std::string_view name,
              std::string_view type, std::string_view tier, std::string_view help,
              std::uint64_t OrderStats::*field) {
  text.Family(name, type, help);
  for (const OrderStats& order : stats.orders) {
    const std::string layer_id = fmt::format("{}", order.layer_id);
    const std::string length = fmt::format("{}", order.order);
    if (tier.empty()) {
      text.Sample({{"layer", layer_id}, {"order", length}}, order.*field);
    } else {
      text.Sample({{"layer", layer_id}, {"order", length}, {"tier", tier}}, order.*field);
    }
  }
}

void GroupFamilies(MetricsText& text, const StoreStats& stats) {
  PerOrder(text, stats, "tiercel_groups_total", "counter", "",
           "Groups asked for, dead positions left out.", &OrderStats::groups);
  PerOrder(text, stats, "tiercel_group_hits_total", "counter", "dram",
           "Groups served from the tier at once.", &OrderStats::dram_hits);
  PerOrder(text, stats, "tiercel_group_hit_bytes_total", "counter", "dram",
           "Bytes of the groups served from the tier.", &OrderStats::dram_hit_bytes);
  PerOrder(text, stats, "tiercel_groups_joined_total", "counter", "nvme",
           "Groups that waited for a read under way for another.", &OrderStats::joined);
  PerOrder(text, stats, "tiercel_group_fetches_total", "counter", "nvme", "Groups read from disk.",
           &OrderStats::fetches);
  PerOrder(text, stats, "tiercel_group_fetched_bytes_total", "counter", "nvme",
           "Bytes of the groups read from disk, whole blocks not counted.",
           &OrderStats::fetched_bytes);
  PerOrder(text, stats, "tiercel_group_failures_total", "counter", "nvme",
           "Groups with a row that could not be read.", &OrderStats::failed_groups);
}

void CacheFamilies(MetricsText& text, const StoreStats& stats) {
  PerOrder(text, stats, "tiercel_cache_admissions_total", "counter", "dram",
           "Groups taken into the cache.", &OrderStats::cache_insertions);
  PerOrder(text, stats, "tiercel_cache_rejections_total", "counter", "dram",
           "Groups offered to the cache and not taken in.", &OrderStats::cache_rejections);
  PerOrder(text, stats, "tiercel_cache_evictions_total", "counter", "dram",
           "Groups dropped to make room.", &OrderStats::cache_evictions);
  PerOrder(text, stats, "tiercel_cache_ghost_hits_total", "counter", "dram",
           "Groups taken in again soon after they were dropped.", &OrderStats::cache_ghost_hits);
  PerOrder(text, stats, "tiercel_cache_resident_groups", "gauge", "dram",
           "Groups in the cache now.", &OrderStats::cache_resident_groups);
  PerOrder(text, stats, "tiercel_cache_pinned_groups", "gauge", "dram",
           "Groups in the cache that are never dropped.", &OrderStats::cache_pinned_groups);
  text.Family("tiercel_cache_resident_bytes", "gauge", "Bytes of the groups in the cache now.");
  for (const OrderStats& order : stats.orders) {
    text.Sample({{"layer", fmt::format("{}", order.layer_id)},
                 {"order", fmt::format("{}", order.order)},
                 {"tier", "dram"}},
                order.cache_resident_groups * order.group_size_bytes);
  }
}

void DeviceFamilies(MetricsText& text, const StoreStats& stats, const Histogram& latency_ns) {
  const auto family = [&](std::string_view name, std::string_view help, std::uint64_t value) {
    text.Family(name, "counter", help);
    text.Sample({{"engine", stats.engine}}, value);
  };
  family("tiercel_device_reads_total", "Reads sent to the device.", stats.device_reads);
  family("tiercel_device_reads_shared_total", "Rows served by a read that was under way.",
         stats.device_reads_shared);
  family("tiercel_device_read_bytes_total", "Bytes read, whole blocks.", stats.device_read_bytes);
  family("tiercel_device_read_retries_total", "Reads tried again.", stats.device_read_retries);
  family("tiercel_device_read_failures_total", "Reads that failed for good.",
         stats.device_read_failures);
  text.Family("tiercel_device_read_seconds", "histogram",
              "Latency of the reads that succeeded, from submission to completion.");
  text.LatencySamples({{"engine", stats.engine}}, latency_ns);
  text.Family("tiercel_single_rows_total", "counter", "Rows asked for outside of a group.");
  text.Sample({}, stats.single_rows);
}

void MemoryFamilies(MetricsText& text, const StoreStats& stats) {
  text.Family("tiercel_memory_budget_bytes", "gauge", "The DRAM budget.");
  text.Sample({}, stats.dram_budget_bytes);
  text.Family("tiercel_memory_bytes", "gauge", "Memory within the budget, by what it is for.");
  text.Sample({{"part", "cache"}}, stats.cache_bytes);
  text.Sample({{"part", "scales"}}, stats.resident_scale_bytes);
  text.Sample({{"part", "read_buffers"}}, stats.read_buffer_bytes);
  text.Sample({{"part", "tickets"}}, stats.ticket_bytes);
  text.Sample({{"part", "overlay"}}, stats.overlay.memory_bytes);
  text.Family("tiercel_tickets", "gauge", "Tickets that were started and not dropped yet.");
  text.Sample({}, std::uint64_t{stats.tickets});
  text.Family("tiercel_expected_groups", "gauge", "Groups that queued tickets will read.");
  text.Sample({}, stats.expected_groups);
}

/// Of a store with a state; without one there are no such families.
void OverlayFamilies(MetricsText& text, const OverlayStats& overlay) {
  if (overlay.state_path.empty()) return;
  const auto family = [&](std::string_view name, std::string_view type, std::string_view help,
                          std::uint64_t value) {
    text.Family(name, type, help);
    text.Sample({}, value);
  };
  family("tiercel_overlay_rows", "gauge", "Updated rows.", overlay.rows);
  family("tiercel_overlay_rows_max", "gauge", "Updated rows that there is room for.",
         overlay.rows_max);
  family("tiercel_overlay_sequence", "gauge", "The last batch of updates that is visible.",
         overlay.sequence);
  family("tiercel_overlay_state_bytes", "gauge", "Files and memory of the state.",
         overlay.state_bytes);
  family("tiercel_overlay_batches_total", "counter", "Batches of updates.", overlay.batches);
  family("tiercel_overlay_commits_total", "counter", "Writes that the batches shared.",
         overlay.commits);
  family("tiercel_overlay_rows_written_total", "counter", "Rows in the batches.",
         overlay.rows_written);
  family("tiercel_overlay_rows_merged_total", "counter",
         "Updated rows that were delivered in place of those of the table.", overlay.rows_merged);
  family("tiercel_overlay_groups_removed_total", "counter",
         "Groups that updates took out of the cache.", overlay.groups_removed);
}

void HotSetFamilies(MetricsText& text, const HotSetProgress& progress) {
  text.Family("tiercel_hot_set_groups", "gauge",
              "Groups of the hot set loaded last, by what became of them.");
  text.Sample({{"outcome", "loaded"}}, progress.groups_loaded);
  text.Sample({{"outcome", "present"}}, progress.groups_present);
  text.Sample({{"outcome", "left_out"}}, progress.groups_left_out);
  text.Sample({{"outcome", "damaged"}}, progress.groups_damaged);
  text.Family("tiercel_hot_set_read_bytes", "gauge", "Bytes read to load the hot set.");
  text.Sample({}, progress.read_bytes);
  text.Family("tiercel_hot_set_load_seconds", "gauge", "Time that loading the hot set took.");
  text.Sample({}, static_cast<double>(progress.elapsed_ns) * 1e-9);
  text.Family("tiercel_hot_set_loading", "gauge", "1 while a hot set is being loaded.");
  text.Sample({}, std::uint64_t{progress.state == HotSetState::kLoading ? 1U : 0U});
}

}  // namespace

std::string Store::WriteMetrics() const {
  const StoreStats stats = Stats();
  Histogram latency_ns;
  for (const auto& thread : impl_->io_threads) thread->MergeReadLatency(latency_ns);
  MetricsText text;
  text.Family("tiercel_store_info", "gauge", "The store: always 1.");
  text.Sample({{"checkpoint", impl_->checkpoint.path},
               {"layout", impl_->checkpoint.layout},
               {"engine", stats.engine}},
              std::uint64_t{1});
  GroupFamilies(text, stats);
  CacheFamilies(text, stats);
  DeviceFamilies(text, stats, latency_ns);
  MemoryFamilies(text, stats);
  HotSetFamilies(text, HotSet());
  OverlayFamilies(text, stats.overlay);
  return text.Take();
}

}  // namespace tiercel
